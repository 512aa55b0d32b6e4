/* Operations on one row, between two products. */
#pragma once

#include <math.h>
#include <string.h>

#include "model.h"

/* x / 2 (1 + erf(x / sqrt 2)), with erf by Abramowitz and Stegun 7.1.26, to 1.5e-7. */
INLINE Floats gelu(Floats x) {
    Floats z = absolute(x) * splat(0.70710678118654752f), one = splat(1.0f);
    Floats t = one / add_product(one, z, splat(0.3275911f));
    Floats y = splat(1.061405429f);
    y = add_product(splat(-1.453152027f), y, t);
    y = add_product(splat(1.421413741f), y, t);
    y = add_product(splat(-0.284496736f), y, t);
    y = add_product(splat(0.254829592f), y, t);
    Floats erf = subtract_product(one, y * t, exp_floats(subtract_product(splat(0), z, z))); /* of |x| */
    return x * splat(0.5f) * (one + flip_sign(erf, x));
}

/* Normalise as torch.nn.LayerNorm does; in place if `out` is `x`. */
static void normalise(const float *x, int count, Norm norm, float epsilon, float *out) {
    Floats sums[PARTS] = {{0}}, squares[PARTS] = {{0}};
    for (int i = 0; i < count; i += PANEL)
        UNROLL for (int p = 0; p < PARTS; p++) sums[p] += load_first(x + i + p * LANES, count - i - p * LANES);
    Floats mean = splat(sum_floats(sums) / count);
    for (int i = 0; i < count; i += PANEL)
        UNROLL for (int p = 0; p < PARTS; p++) {
            int at = i + p * LANES;
            Floats centred = keep_first(load_first(x + at, count - at) - mean, splat(0), count - at);
            squares[p] = add_product(squares[p], centred, centred);
        }
    Floats factor = splat(1.0f / sqrtf(sum_floats(squares) / count + epsilon));
    for (int i = 0; i < count; i += LANES) {
        Floats y = (load_first(x + i, count - i) - mean) * factor;
        y = add_product(load_first(norm.bias + i, count - i), y, load_first(norm.scale + i, count - i));
        store_first(out + i, y, count - i);
    }
}

INLINE Floats load_embedding(Table table, size_t at) {
    return table.are_halves ? load_halves(table.numbers + 2 * at) : load_floats(table.numbers + 4 * at);
}

/* Write the embedding of a token at a position, normalised. */
static void embed(const Model *model, int token, int position, float *state) {
    size_t width = model->width;
    for (size_t i = 0; i < width; i += LANES)
        store_floats(state + i, load_embedding(model->tokens, token * width + i) +
                                    load_embedding(model->positions, position * width + i));
    normalise(state, model->width, model->embedding_norm, model->epsilon, state);
}

static void add(float *state, const float *x, int count) {
    for (int i = 0; i < count; i++) state[i] += x[i];
}

/* Multiply GELU of a row's first half by its second half, in place. */
static void gate(float *gates, int count) {
    for (int i = 0; i < count; i += LANES) {
        Floats value = load_first(gates + count + i, count - i);
        store_first(gates + i, gelu(load_first(gates + i, count - i)) * value, count - i);
    }
}

/* Prefetch memory to the nearest cache. */
INLINE void prefetch(const uint8_t *memory, size_t bytes) {
    for (size_t i = 0; i < bytes; i += 64) __builtin_prefetch(memory + i, 0, 3);
}

/* Return the scale that maps the largest magnitude among `count` numbers, a multiple of PANEL, to 127. */
static float int8_scale(const float *x, int count) {
    Floats largest[PARTS] = {{0}};
    for (int i = 0; i < count; i += PANEL)
        UNROLL for (int p = 0; p < PARTS; p++) largest[p] = larger(largest[p], absolute(load_floats(x + i + p * LANES)));
    return greater_of(largest_float(largest) / 127, 1e-30f);
}

/* Quantize a row's inputs to int8, each group with its own scale. */
static void quantize_row(Buffers *buffers, int row, const Product *product, int count) {
    float *x = buffers->inputs + (size_t)row * INPUT_STRIDE;
    uint8_t *quantized = buffers->quantized + (size_t)row * INPUT_STRIDE * INPUT_BYTES;
    for (int i = count; i < product->inputs; i++) x[i] = 0;
    for (int group = 0; group < product->groups; group++) {
        float scale = int8_scale(x + group * GROUP, GROUP);
        Floats inverse = splat(1 / scale);
        Ints sum = {0};
        for (int i = group * GROUP; i < (group + 1) * GROUP; i += LANES) {
            Ints y = round_to_ints(load_floats(x + i) * inverse);
            sum += y;
            if (product->kind == AS_INT8) store_inputs(quantized, i, y);
            else store_low_bytes(quantized + i, y);
        }
        buffers->scales[row * MAX_GROUPS + group] = scale;
        buffers->sums[row * MAX_GROUPS + group] = (float)sum_ints(sum);
    }
}
