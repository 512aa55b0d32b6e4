/* Attention with one query for each row and head. */
#pragma once

#include <math.h>

#include "cache.h"
#include "team.h"

#define QUERY_STEPS 16256 /* the largest number of a quantized query */
#define VALUE_WEIGHT_STEPS 65535

/* A query. For int8 keys, its numbers are also quantized to 15 bits. */
typedef struct {
    const float *numbers;
    float scale; /* what scores are multiplied by */
    int32_t sum;
    _Alignas(64) uint8_t quantized[2 * MAX_HEAD_WIDTH];
} Query;

/* The softmax weights of the values. For int8 values, they are also quantized to 16 bits. */
typedef struct {
    float scale; /* what the weighted sum is multiplied by */
    _Alignas(64) float numbers[MAX_LENGTH];
    _Alignas(64) uint8_t quantized[2 * MAX_LENGTH];
} Weights;

INLINE void prepare_query(int cache_type, Query *query, const float *numbers, int width) {
    query->numbers = numbers, query->scale = 1 / sqrtf((float)width);
    if (cache_type != CACHE_INT8) return;
    float unit = int8_scale(numbers, width) * 127 / QUERY_STEPS;
    Floats inverse = splat(1 / unit);
    Ints sum = {0};
    for (int j = 0; j < width; j += LANES) {
        Ints number = round_to_ints(load_floats(numbers + j) * inverse);
        sum += number;
        store_query(query->quantized, MAX_HEAD_WIDTH, j, number);
    }
    query->scale *= unit, query->sum = sum_ints(sum);
}

/* Multiply a query by a block's keys: PANEL scores, without the query's scale. Prefetches the block's values. */
INLINE void score(int cache_type, int width, const Query *query, const uint8_t *block, Floats *out) {
    size_t part = part_bytes(cache_type, width), line = part / width;
    if (cache_type == CACHE_INT8) {
        WideSums sums[PARTS];
        UNROLL for (int p = 0; p < PARTS; p++) sums[p] = start_keys(query->sum);
        for (int j = 0; j < width; j += 16) {
            UNROLL for (int k = j; k < j + 16; k += 4) {
                prefetch(block + part + k * line, 4 * line);
                UNROLL for (int p = 0; p < PARTS; p++)
                    sums[p] = add_keys(sums[p], block + k * line + p * 4 * LANES, query->quantized, MAX_HEAD_WIDTH, k);
            }
        }
        const float *scales = (const float *)(block + 2 * part);
        UNROLL for (int p = 0; p < PARTS; p++) out[p] = to_floats(key_sums(sums[p])) * load_floats(scales + p * LANES);
        return;
    }
    Floats sums[2][PARTS] = {{{0}}};
    for (int j = 0; j < width; j += 4) {
        prefetch(block + part + j * line, 4 * line);
        UNROLL for (int k = j; k < j + 4; k++) {
            Floats number = splat(query->numbers[k]);
            UNROLL for (int p = 0; p < PARTS; p++)
                sums[k % 2][p] = add_product(sums[k % 2][p], load_cached(cache_type, block, k * PANEL + p * LANES), number);
        }
    }
    UNROLL for (int p = 0; p < PARTS; p++) out[p] = sums[0][p] + sums[1][p];
}

/* Turn scores into softmax weights; positions past the last get zero. */
INLINE void softmax(int cache_type, int width, const uint8_t *cached, int length, Weights *weights) {
    size_t bytes = block_bytes(cache_type, width), part = part_bytes(cache_type, width);
    Floats highest[PARTS], sum[PARTS] = {{0}}, most[PARTS] = {{0}};
    UNROLL for (int p = 0; p < PARTS; p++) highest[p] = splat(-INFINITY);
    for (int i = 0; i < length; i += PANEL)
        UNROLL for (int p = 0; p < PARTS; p++)
            highest[p] = larger(highest[p], load_floats(weights->numbers + i + p * LANES));
    Floats top = splat(largest_float(highest));
    for (int i = 0; i < length; i += PANEL, cached += bytes)
        UNROLL for (int p = 0; p < PARTS; p++) {
            int at = i + p * LANES;
            Floats weight = keep_first(exp_floats(load_floats(weights->numbers + at) - top), splat(0), length - at);
            sum[p] += weight;
            if (cache_type == CACHE_INT8) {
                const float *scales = (const float *)(cached + 2 * part) + PANEL;
                weight = keep_first(weight * load_floats(scales + p * LANES), splat(0), length - at);
                most[p] = larger(most[p], weight);
            }
            store_floats(weights->numbers + at, weight);
        }
    weights->scale = 1 / sum_floats(sum);
    if (cache_type != CACHE_INT8) return;
    float unit = largest_float(most) / VALUE_WEIGHT_STEPS;
    Floats inverse = splat(1 / unit);
    for (int i = 0; i < round_up(length, PANEL); i += LANES)
        store_value_weights(weights->quantized, MAX_LENGTH, i, round_to_ints(load_floats(weights->numbers + i) * inverse));
    weights->scale *= unit;
}

/* Sum a head's values, each times its weight: `registers` * LANES numbers of the output, from the j-th on. Prefetches a part of
 * the next head's keys. */
INLINE void sum_values(int cache_type, int registers, int width, const uint8_t *cached, int j, int length, const Weights *weights,
                       const uint8_t *next, float *out) {
    size_t bytes = block_bytes(cache_type, width), part = part_bytes(cache_type, width);
    const uint8_t *values = cached + part;
    next += part / width * j;
    Floats sums[2][4];
    ValueSums whole[4];
    UNROLL for (int r = 0; r < registers; r++) {
        sums[0][r] = sums[1][r] = splat(0);
        whole[r] = start_values();
    }
    for (int first = 0; first < length; first += PANEL, values += bytes, next += bytes) {
        prefetch(next, part / width * registers * LANES);
        int count = min_int(PANEL, length - first);
        for (int i = 0; cache_type == CACHE_INT8 && i < count; i += 4) {
            ValueWeights four = load_value_weights(weights->quantized, MAX_LENGTH, first + i);
            UNROLL for (int r = 0; r < registers; r++)
                whole[r] = add_values(whole[r], values + (i / 4 * width + j + r * LANES) * 4, four);
        }
        for (int i = 0; cache_type != CACHE_INT8 && i < count; i++) {
            Floats weight = splat(weights->numbers[first + i]), *to = sums[i % 2];
            UNROLL for (int r = 0; r < registers; r++)
                to[r] = add_product(to[r], load_cached(cache_type, values, i * width + j + r * LANES), weight);
        }
    }
    UNROLL for (int r = 0; r < registers; r++) {
        Floats sum = cache_type == CACHE_INT8 ? to_floats(value_sums(whole[r])) : sums[0][r] + sums[1][r];
        store_floats(out + j + r * LANES, sum * splat(weights->scale));
    }
}

/* Attend to the first `length` positions of a head; `next` is the head that follows. */
INLINE void attend(int cache_type, int width, const float *numbers, const uint8_t *cached, int length, const uint8_t *next,
                   float *out) {
    Query query;
    Weights weights;
    prepare_query(cache_type, &query, numbers, width);
    const uint8_t *block = cached;
    for (int i = 0; i < length; i += PANEL, block += block_bytes(cache_type, width)) {
        Floats scores[PARTS];
        score(cache_type, width, &query, block, scores);
        UNROLL for (int p = 0; p < PARTS; p++) {
            int at = i + p * LANES;
            store_floats(weights.numbers + at, keep_first(scores[p] * splat(query.scale), splat(-INFINITY), length - at));
        }
    }
    softmax(cache_type, width, cached, length, &weights);
    int j = 0;
    for (; j + 4 * LANES <= width; j += 4 * LANES) sum_values(cache_type, 4, width, cached, j, length, &weights, next, out);
    for (; j < width; j += LANES) sum_values(cache_type, 1, width, cached, j, length, &weights, next, out);
}

static uint8_t *cached_head(const Team *team, int layer, int to_text, int row, int head) {
    const Rows *rows = team->rows;
    int length = to_text ? rows->text_lengths[row] : team->model->image_length;
    return (to_text ? rows->text_cache : rows->image_cache)[row] + head_offset(team->model, layer, head, length);
}

/* Return the number of positions that a row attends to. */
static int attention_length(const Team *team, int to_text, int row) {
    return to_text ? team->rows->text_lengths[row] : team->rows->positions[row] + 1;
}

/* Attend with the heads from `first` to `end`, counted over all rows. */
INLINE void attend_heads(int cache_type, Team *team, int layer, int to_text, int first, int end) {
    const Model *model = team->model;
    int heads = model->heads, width = model->width / heads;
    for (int i = first; i < end; i++) {
        int row = i / heads, head = i % heads, next_index = min_int(i + 1, end - 1);
        const float *query = team->buffers.outputs + (size_t)row * team->buffers.output_stride + head * width;
        float *out = team->buffers.attended + (size_t)row * model->width + head * width;
        uint8_t *cached = cached_head(team, layer, to_text, row, head);
        int length = attention_length(team, to_text, row);
        const uint8_t *next = cached_head(team, layer, to_text, next_index / heads, next_index % heads);
        if (!to_text) store_position(cache_type, width, cached, length - 1, query + model->width, query + 2 * model->width);
        attend(cache_type, width, query, cached, length, next, out);
    }
}

/* Return the first head of a thread's share. All shares have the same number of positions. */
static int share_start(const Team *team, int thread, int to_text) {
    int count = team->rows->count, heads = team->model->heads;
    int64_t all = 0, before = 0;
    for (int row = 0; row < count; row++) all += attention_length(team, to_text, row) * heads;
    int64_t start = all * thread / team->count;
    for (int row = 0; row < count; row++) {
        int length = attention_length(team, to_text, row);
        if (start < before + length * heads) return row * heads + (int)(start - before) / length;
        before += length * heads;
    }
    return count * heads;
}

/* Attend with all heads. As far as shares allow, a row goes to the same thread at each step: its data is in that core's cache. */
static void attend_all(Team *team, int thread, int layer, int to_text) {
    int first = share_start(team, thread, to_text), end = share_start(team, thread + 1, to_text);
    switch (team->model->cache_type) {
    case CACHE_FLOATS: attend_heads(CACHE_FLOATS, team, layer, to_text, first, end); break;
    case CACHE_HALVES: attend_heads(CACHE_HALVES, team, layer, to_text, first, end); break;
    case CACHE_INT8: attend_heads(CACHE_INT8, team, layer, to_text, first, end); break;
    }
    barrier(team);
}
