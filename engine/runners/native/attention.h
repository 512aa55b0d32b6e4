/* Keys and values, and attention: one query for a row and a head. */
#pragma once

#include <immintrin.h>
#include <math.h>
#include <string.h>

#include "rows.h"
#include "team.h"

/* How a model keeps keys and values. */
enum { AS_FLOATS, AS_HALVES, AS_INT8 };

/* A head's keys and values lie in blocks of 16 positions: keys [head width, 16], then values [16, head width], then, where
 * they are rounded, what each position's are multiplied by: 16 floats for the keys, 16 for the values. So one stream of memory
 * serves all, and 16 scores are summed side by side. */
ALWAYS size_t part_bytes(int kept, int width) {
    return (size_t)LANES * width * (kept == AS_FLOATS ? 4 : kept == AS_HALVES ? 2 : 1);
}

ALWAYS size_t block_bytes(int kept, int width) { return 2 * part_bytes(kept, width) + (kept == AS_INT8 ? 2 * LANES * 4 : 0); }

static size_t head_at(const Model *model, int layer, int head, int length) {
    size_t bytes = block_bytes(model->kept, model->width / model->heads);
    return ((size_t)layer * model->heads + head) * (whole(length, LANES) / LANES) * bytes;
}

ALWAYS __m512 load(int kept, const uint8_t *part, int at) {
    if (kept == AS_FLOATS) return _mm512_loadu_ps((const float *)part + at);
    if (kept == AS_HALVES) return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)((const uint16_t *)part + at)));
    return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i *)(part + at))));
}

/* Write 16 numbers in the form that they are kept in. */
ALWAYS void shorten(int kept, const float *x, __m512 factor, uint8_t *to) {
    __m512 numbers = _mm512_loadu_ps(x);
    if (kept == AS_FLOATS) _mm512_storeu_ps(to, numbers);
    else if (kept == AS_HALVES) _mm256_storeu_si256((__m256i *)to, _mm512_cvtps_ph(numbers, 0));
    else _mm_storeu_si128((__m128i *)to, _mm512_cvtsepi32_epi8(_mm512_cvtps_epi32(_mm512_mul_ps(numbers, factor))));
}

ALWAYS void keep(int kept, int width, uint8_t *head, int position, const float *keys, const float *values) {
    int lane = position % LANES;
    size_t part = part_bytes(kept, width), size = part / LANES / width;
    uint8_t *block = head + position / LANES * block_bytes(kept, width);
    __m512 key_factor = _mm512_setzero_ps(), value_factor = key_factor;
    if (kept == AS_INT8) {
        float *scales = (float *)(block + 2 * part);
        scales[lane] = scale_of(keys, width), scales[LANES + lane] = scale_of(values, width);
        key_factor = _mm512_set1_ps(1 / scales[lane]), value_factor = _mm512_set1_ps(1 / scales[LANES + lane]);
    }
    for (int j = 0; j < width; j += LANES) {
        uint8_t column[LANES * 4];
        shorten(kept, keys + j, key_factor, column);
        for (int k = 0; k < LANES; k++) memcpy(block + ((j + k) * LANES + lane) * size, column + k * size, size);
        shorten(kept, values + j, value_factor, block + part + (lane * width + j) * size);
    }
}

/* Sum the values by their weights, in some registers from the j-th number on. */
ALWAYS void mix(int kept, int registers, int width, const uint8_t *cached, int j, const float *weights, int length, __m512 factor,
                float *out) {
    __m512 sums[2][2] = {{_mm512_setzero_ps(), _mm512_setzero_ps()}, {_mm512_setzero_ps(), _mm512_setzero_ps()}};
    for (int first = 0; first < length; first += LANES) {
        const uint8_t *values = cached + first / LANES * block_bytes(kept, width) + part_bytes(kept, width);
        for (int i = 0; i < least(LANES, length - first); i++) {
            __m512 weight = _mm512_set1_ps(weights[first + i]), *to = sums[i % 2];
#pragma GCC unroll 2
            for (int r = 0; r < registers; r++)
                to[r] = _mm512_fmadd_ps(load(kept, values, i * width + j + r * LANES), weight, to[r]);
        }
    }
    for (int r = 0; r < registers; r++)
        _mm512_storeu_ps(out + j + r * LANES, _mm512_mul_ps(_mm512_add_ps(sums[0][r], sums[1][r]), factor));
}

/* Attend to a head's first `length` positions. */
ALWAYS void attend(int kept, int width, const float *query, const uint8_t *cached, int length, float *out) {
    size_t bytes = block_bytes(kept, width), part = part_bytes(kept, width);
    float weights[LONGEST];
    __m512 scale = _mm512_set1_ps(1 / sqrtf((float)width)), largest = _mm512_set1_ps(-INFINITY), sum = _mm512_setzero_ps();
    const uint8_t *block = cached;
    for (int i = 0; i < length; i += LANES, block += bytes) {
        __m512 sums[2] = {_mm512_setzero_ps(), _mm512_setzero_ps()};
        for (int j = 0; j < width; j += 4) {
            const char *line = (const char *)block + j * part / width;
            for (size_t ahead = 0; ahead < 4 * part / width; ahead += 64) {
                _mm_prefetch(line + part + ahead, _MM_HINT_T0);  /* this block's values */
                _mm_prefetch(line + bytes + ahead, _MM_HINT_T0); /* the next block's keys */
            }
#pragma GCC unroll 4
            for (int k = 0; k < 4; k++)
                sums[k % 2] = _mm512_fmadd_ps(load(kept, block, (j + k) * LANES), _mm512_set1_ps(query[j + k]), sums[k % 2]);
        }
        __m512 score = _mm512_mul_ps(_mm512_add_ps(sums[0], sums[1]), scale);
        if (kept == AS_INT8) score = _mm512_mul_ps(score, _mm512_loadu_ps(block + 2 * part));
        score = _mm512_mask_mov_ps(_mm512_set1_ps(-INFINITY), lanes(length - i), score);
        largest = _mm512_max_ps(largest, score);
        _mm512_storeu_ps(weights + i, score);
    }
    largest = _mm512_set1_ps(_mm512_reduce_max_ps(largest));
    block = cached;
    for (int i = 0; i < length; i += LANES, block += bytes) {
        __m512 weight = exp_of(_mm512_sub_ps(_mm512_loadu_ps(weights + i), largest));
        weight = _mm512_maskz_mov_ps(lanes(length - i), weight);
        sum = _mm512_add_ps(sum, weight);
        if (kept == AS_INT8) weight = _mm512_mul_ps(weight, _mm512_loadu_ps(block + 2 * part + LANES * 4));
        _mm512_storeu_ps(weights + i, weight);
    }
    __m512 factor = _mm512_set1_ps(1 / _mm512_reduce_add_ps(sum));
    int j = 0;
    for (; j + 2 * LANES <= width; j += 2 * LANES) mix(kept, 2, width, cached, j, weights, length, factor, out);
    for (; j < width; j += LANES) mix(kept, 1, width, cached, j, weights, length, factor, out);
}

ALWAYS void attend_row(int kept, Team *team, int layer, int to_text, int row, int head) {
    const Model *model = team->model;
    const Rows *rows = team->rows;
    int width = model->width / model->heads;
    const float *query = team->space.outputs + (size_t)row * team->space.widest_out + head * width;
    float *out = team->space.mixed + (size_t)row * model->width + head * width;
    if (to_text) {
        int length = rows->text_lengths[row];
        attend(kept, width, query, rows->text[row] + head_at(model, layer, head, length), length, out);
    } else {
        uint8_t *own = rows->own[row] + head_at(model, layer, head, model->own_length);
        keep(kept, width, own, rows->positions[row], query + model->width, query + 2 * model->width);
        attend(kept, width, query, own, rows->positions[row] + 1, out);
    }
}

static void attend_all(Team *team, int layer, int to_text) {
    int heads = team->model->heads;
    SHARE(team, piece, team->rows->count * heads) {
        int row = piece / heads, head = piece % heads;
        switch (team->model->kept) {
        case AS_FLOATS: attend_row(AS_FLOATS, team, layer, to_text, row, head); break;
        case AS_HALVES: attend_row(AS_HALVES, team, layer, to_text, row, head); break;
        case AS_INT8: attend_row(AS_INT8, team, layer, to_text, row, head); break;
        }
    }
}
