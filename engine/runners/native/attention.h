/* Attention: one query for a row and a head. */
#pragma once

#include <immintrin.h>
#include <math.h>

#include "cache.h"
#include "team.h"

#define FINE 16256 /* a rounded query's largest number: high * 128 + low, of 8 bits each */

/* A query; beside keys of 8 bits, its numbers are rounded to 15. */
typedef struct {
    const float *numbers;
    float scale; /* of the scores */
    int32_t sum;
    _Alignas(64) int8_t high[WIDEST_HEAD], low[WIDEST_HEAD];
} Query;

/* What values are multiplied by; beside values of 8 bits, rounded to 16. */
typedef struct {
    float scale; /* of what they make */
    _Alignas(64) float numbers[LONGEST];
    _Alignas(64) uint8_t high[LONGEST], low[LONGEST];
} Weights;

ALWAYS void ask(int kept, Query *query, const float *numbers, int width) {
    query->numbers = numbers, query->scale = 1 / sqrtf((float)width);
    if (kept != AS_INT8) return;
    float unit = scale_of(numbers, width) * 127 / FINE;
    __m512 inverse = _mm512_set1_ps(1 / unit);
    __m512i sum = _mm512_setzero_si512();
    for (int j = 0; j < width; j += LANES) {
        __m512i number = _mm512_cvtps_epi32(_mm512_mul_ps(_mm512_loadu_ps(numbers + j), inverse));
        __m512i high = _mm512_srai_epi32(_mm512_add_epi32(number, _mm512_set1_epi32(64)), 7);
        sum = _mm512_add_epi32(sum, number);
        _mm_store_si128((__m128i *)(query->high + j), _mm512_cvtepi32_epi8(high));
        _mm_store_si128((__m128i *)(query->low + j), _mm512_cvtepi32_epi8(_mm512_sub_epi32(number, _mm512_slli_epi32(high, 7))));
    }
    query->scale *= unit, query->sum = _mm512_reduce_add_epi32(sum);
}

/* Multiply a query by a block's keys, not yet by its scale. Asks for the block's values. */
ALWAYS __m512 score(int kept, int width, const Query *query, const uint8_t *block) {
    size_t part = part_bytes(kept, width), line = part / width;
    if (kept == AS_INT8) {
        __m512i high = _mm512_setzero_si512(), low = _mm512_set1_epi32(-128 * query->sum);
#pragma GCC unroll 4
        for (int j = 0; j < width; j += 4) {
            call(block + part + j * line, 4 * line);
            __m512i keys = _mm512_loadu_si512(block + j * line);
            high = dot(high, keys, four_bytes(query->high + j));
            low = dot(low, keys, four_bytes(query->low + j));
        }
        __m512 sum = _mm512_cvtepi32_ps(_mm512_add_epi32(_mm512_slli_epi32(high, 7), low));
        return _mm512_mul_ps(sum, _mm512_loadu_ps(block + 2 * part));
    }
    __m512 sums[2] = {_mm512_setzero_ps(), _mm512_setzero_ps()};
    for (int j = 0; j < width; j += 4) {
        call(block + part + j * line, 4 * line);
#pragma GCC unroll 4
        for (int k = j; k < j + 4; k++)
            sums[k % 2] = _mm512_fmadd_ps(load(kept, block, k * LANES), _mm512_set1_ps(query->numbers[k]), sums[k % 2]);
    }
    return _mm512_add_ps(sums[0], sums[1]);
}

/* Turn scores into weights; those of positions past the last are zero. */
ALWAYS void soften(int kept, int width, const uint8_t *cached, int length, Weights *weights) {
    size_t bytes = block_bytes(kept, width), part = part_bytes(kept, width);
    __m512 largest = _mm512_set1_ps(-INFINITY), sum = _mm512_setzero_ps(), most = sum;
    for (int i = 0; i < length; i += LANES) largest = _mm512_max_ps(largest, _mm512_load_ps(weights->numbers + i));
    largest = _mm512_set1_ps(_mm512_reduce_max_ps(largest));
    for (int i = 0; i < length; i += LANES, cached += bytes) {
        __m512 weight = exp_of(_mm512_sub_ps(_mm512_load_ps(weights->numbers + i), largest));
        weight = _mm512_maskz_mov_ps(lanes(length - i), weight);
        sum = _mm512_add_ps(sum, weight);
        if (kept == AS_INT8) {
            weight = _mm512_maskz_mul_ps(lanes(length - i), weight, _mm512_loadu_ps(cached + 2 * part + LANES * 4));
            most = _mm512_max_ps(most, weight);
        }
        _mm512_store_ps(weights->numbers + i, weight);
    }
    weights->scale = 1 / _mm512_reduce_add_ps(sum);
    if (kept != AS_INT8) return;
    float unit = _mm512_reduce_max_ps(most) / 65535;
    __m512 inverse = _mm512_set1_ps(1 / unit);
    for (int i = 0; i < length; i += LANES) {
        __m512i weight = _mm512_cvtps_epi32(_mm512_mul_ps(_mm512_load_ps(weights->numbers + i), inverse));
        _mm_store_si128((__m128i *)(weights->high + i), _mm512_cvtepi32_epi8(_mm512_srli_epi32(weight, 8)));
        _mm_store_si128((__m128i *)(weights->low + i), _mm512_cvtepi32_epi8(weight));
    }
    weights->scale *= unit;
}

/* Sum values by their weights, in some registers from the j-th number on. Asks for a part of the next head's keys. */
ALWAYS void mix(int kept, int registers, int width, const uint8_t *cached, int j, int length, const Weights *weights,
                const uint8_t *next, float *out) {
    size_t bytes = block_bytes(kept, width), part = part_bytes(kept, width);
    const uint8_t *values = cached + part;
    next += part / width * j;
    __m512 sums[2][4], scale = _mm512_set1_ps(weights->scale);
    __m512i high[4], low[4];
#pragma GCC unroll 4
    for (int r = 0; r < registers; r++) {
        sums[0][r] = sums[1][r] = _mm512_setzero_ps();
        high[r] = low[r] = _mm512_setzero_si512();
    }
    for (int first = 0; first < length; first += LANES, values += bytes, next += bytes) {
        call(next, part / width * registers * LANES);
        int count = least(LANES, length - first);
        for (int i = 0; kept == AS_INT8 && i < count; i += 4) {
            __m512i by_high = four_bytes(weights->high + first + i), by_low = four_bytes(weights->low + first + i);
#pragma GCC unroll 4
            for (int r = 0; r < registers; r++) {
                __m512i four = _mm512_loadu_si512(values + (i / 4 * width + j + r * LANES) * 4);
                high[r] = dot(high[r], by_high, four);
                low[r] = dot(low[r], by_low, four);
            }
        }
        for (int i = 0; kept != AS_INT8 && i < count; i++) {
            __m512 weight = _mm512_set1_ps(weights->numbers[first + i]), *to = sums[i % 2];
#pragma GCC unroll 4
            for (int r = 0; r < registers; r++)
                to[r] = _mm512_fmadd_ps(load(kept, values, i * width + j + r * LANES), weight, to[r]);
        }
    }
#pragma GCC unroll 4
    for (int r = 0; r < registers; r++) {
        __m512 sum = _mm512_add_ps(sums[0][r], sums[1][r]);
        if (kept == AS_INT8) sum = _mm512_fmadd_ps(_mm512_cvtepi32_ps(high[r]), _mm512_set1_ps(256), _mm512_cvtepi32_ps(low[r]));
        _mm512_storeu_ps(out + j + r * LANES, _mm512_mul_ps(sum, scale));
    }
}

/* Attend to a head's first `length` positions; `next` is what is attended to afterwards. */
ALWAYS void attend(int kept, int width, const float *numbers, const uint8_t *cached, int length, const uint8_t *next, float *out) {
    Query query;
    Weights weights;
    ask(kept, &query, numbers, width);
    const uint8_t *block = cached;
    for (int i = 0; i < length; i += LANES, block += block_bytes(kept, width)) {
        __m512 scores = _mm512_mul_ps(score(kept, width, &query, block), _mm512_set1_ps(query.scale));
        _mm512_store_ps(weights.numbers + i, _mm512_mask_mov_ps(_mm512_set1_ps(-INFINITY), lanes(length - i), scores));
    }
    soften(kept, width, cached, length, &weights);
    int j = 0;
    for (; j + 4 * LANES <= width; j += 4 * LANES) mix(kept, 4, width, cached, j, length, &weights, next, out);
    for (; j < width; j += LANES) mix(kept, 1, width, cached, j, length, &weights, next, out);
}

static uint8_t *head_of(const Team *team, int layer, int to_text, int row, int head) {
    const Rows *rows = team->rows;
    int length = to_text ? rows->text_lengths[row] : team->model->own_length;
    return (to_text ? rows->text : rows->own)[row] + head_at(team->model, layer, head, length);
}

/* Return how many positions a row attends to. */
static int length_of(const Team *team, int to_text, int row) {
    return to_text ? team->rows->text_lengths[row] : team->rows->positions[row] + 1;
}

/* Attend with some of all rows' heads, one after the other. */
ALWAYS void attend_some(int kept, Team *team, int layer, int to_text, int first, int end) {
    const Model *model = team->model;
    int heads = model->heads, width = model->width / heads;
    for (int i = first; i < end; i++) {
        int row = i / heads, head = i % heads, later = least(i + 1, end - 1);
        const float *query = team->space.outputs + (size_t)row * team->space.widest_out + head * width;
        float *out = team->space.mixed + (size_t)row * model->width + head * width;
        uint8_t *cached = head_of(team, layer, to_text, row, head);
        int length = length_of(team, to_text, row);
        if (!to_text) keep(kept, width, cached, length - 1, query + model->width, query + 2 * model->width);
        attend(kept, width, query, cached, length, head_of(team, layer, to_text, later / heads, later % heads), out);
    }
}

/* Return where a thread's share of all rows' heads begins: all have as many positions to attend to. */
static int share_begins(const Team *team, int self, int to_text) {
    int count = team->rows->count, heads = team->model->heads;
    int64_t all = 0, before = 0;
    for (int row = 0; row < count; row++) all += length_of(team, to_text, row) * heads;
    int64_t begins = all * self / team->count;
    for (int row = 0; row < count; row++) {
        int length = length_of(team, to_text, row);
        if (begins < before + length * heads) return row * heads + (int)(begins - before) / length;
        before += length * heads;
    }
    return count * heads;
}

/* Always the same thread attends to a row, as nearly as can be: what it knows of it is still in its cache. */
static void attend_all(Team *team, int self, int layer, int to_text) {
    int first = share_begins(team, self, to_text), end = share_begins(team, self + 1, to_text);
    switch (team->model->kept) {
    case AS_FLOATS: attend_some(AS_FLOATS, team, layer, to_text, first, end); break;
    case AS_HALVES: attend_some(AS_HALVES, team, layer, to_text, first, end); break;
    case AS_INT8: attend_some(AS_INT8, team, layer, to_text, first, end); break;
    }
    meet(team);
}
