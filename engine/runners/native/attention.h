/* Attention with one query for each row and head. */
#pragma once

#include <immintrin.h>
#include <math.h>

#include "cache.h"
#include "team.h"

#define QUERY_STEPS 16256 /* the largest number of a quantized query: high * 128 + low, 8 bits each */

/* A query. For int8 keys, its numbers are also quantized to 15 bits. */
typedef struct {
    const float *numbers;
    float scale; /* what scores are multiplied by */
    int32_t sum;
    _Alignas(64) int8_t high[MAX_HEAD_WIDTH], low[MAX_HEAD_WIDTH];
} Query;

/* The softmax weights of the values. For int8 values, they are also quantized to 16 bits. */
typedef struct {
    float scale; /* what the weighted sum is multiplied by */
    _Alignas(64) float numbers[MAX_LENGTH];
    _Alignas(64) uint8_t high[MAX_LENGTH], low[MAX_LENGTH];
} Weights;

INLINE void prepare_query(int cache_type, Query *query, const float *numbers, int width) {
    query->numbers = numbers, query->scale = 1 / sqrtf((float)width);
    if (cache_type != CACHE_INT8) return;
    float unit = int8_scale(numbers, width) * 127 / QUERY_STEPS;
    __m512 inverse = _mm512_set1_ps(1 / unit);
    __m512i sum = _mm512_setzero_si512();
    for (int j = 0; j < width; j += LANES) {
        __m512i number = _mm512_cvtps_epi32(_mm512_mul_ps(_mm512_loadu_ps(numbers + j), inverse));
        __m512i high = _mm512_srai_epi32(_mm512_add_epi32(number, _mm512_set1_epi32(64)), 7);
        sum = _mm512_add_epi32(sum, number);
        _mm_store_si128((__m128i *)(query->high + j), _mm512_cvtepi32_epi8(high));
        __m512i low = _mm512_sub_epi32(number, _mm512_slli_epi32(high, 7));
        _mm_store_si128((__m128i *)(query->low + j), _mm512_cvtepi32_epi8(low));
    }
    query->scale *= unit, query->sum = _mm512_reduce_add_epi32(sum);
}

/* Multiply a query by a block's keys, without the query's scale. Prefetches the block's values. */
INLINE __m512 score(int cache_type, int width, const Query *query, const uint8_t *block) {
    size_t part = part_bytes(cache_type, width), line = part / width;
    if (cache_type == CACHE_INT8) {
        __m512i high = _mm512_setzero_si512(), low = _mm512_set1_epi32(-128 * query->sum);
#pragma GCC unroll 4
        for (int j = 0; j < width; j += 4) {
            prefetch(block + part + j * line, 4 * line);
            __m512i keys = _mm512_loadu_si512(block + j * line);
            high = dot(high, keys, four_bytes(query->high + j));
            low = dot(low, keys, four_bytes(query->low + j));
        }
        __m512 sum = _mm512_cvtepi32_ps(_mm512_add_epi32(_mm512_slli_epi32(high, 7), low));
        return _mm512_mul_ps(sum, _mm512_loadu_ps(block + 2 * part));
    }
    __m512 sums[2] = {_mm512_setzero_ps(), _mm512_setzero_ps()};
    for (int j = 0; j < width; j += 4) {
        prefetch(block + part + j * line, 4 * line);
#pragma GCC unroll 4
        for (int k = j; k < j + 4; k++)
            sums[k % 2] =
                _mm512_fmadd_ps(load_cached(cache_type, block, k * LANES), _mm512_set1_ps(query->numbers[k]), sums[k % 2]);
    }
    return _mm512_add_ps(sums[0], sums[1]);
}

/* Turn scores into softmax weights; positions past the last get zero. */
INLINE void softmax(int cache_type, int width, const uint8_t *cached, int length, Weights *weights) {
    size_t bytes = block_bytes(cache_type, width), part = part_bytes(cache_type, width);
    __m512 largest = _mm512_set1_ps(-INFINITY), sum = _mm512_setzero_ps(), most = sum;
    for (int i = 0; i < length; i += LANES) largest = _mm512_max_ps(largest, _mm512_load_ps(weights->numbers + i));
    largest = _mm512_set1_ps(_mm512_reduce_max_ps(largest));
    for (int i = 0; i < length; i += LANES, cached += bytes) {
        __m512 weight = exp_ps(_mm512_sub_ps(_mm512_load_ps(weights->numbers + i), largest));
        weight = _mm512_maskz_mov_ps(lane_mask(length - i), weight);
        sum = _mm512_add_ps(sum, weight);
        if (cache_type == CACHE_INT8) {
            weight = _mm512_maskz_mul_ps(lane_mask(length - i), weight, _mm512_loadu_ps(cached + 2 * part + LANES * 4));
            most = _mm512_max_ps(most, weight);
        }
        _mm512_store_ps(weights->numbers + i, weight);
    }
    weights->scale = 1 / _mm512_reduce_add_ps(sum);
    if (cache_type != CACHE_INT8) return;
    float unit = _mm512_reduce_max_ps(most) / 65535;
    __m512 inverse = _mm512_set1_ps(1 / unit);
    for (int i = 0; i < length; i += LANES) {
        __m512i weight = _mm512_cvtps_epi32(_mm512_mul_ps(_mm512_load_ps(weights->numbers + i), inverse));
        _mm_store_si128((__m128i *)(weights->high + i), _mm512_cvtepi32_epi8(_mm512_srli_epi32(weight, 8)));
        _mm_store_si128((__m128i *)(weights->low + i), _mm512_cvtepi32_epi8(weight));
    }
    weights->scale *= unit;
}

/* Sum a head's values, each times its weight: `registers` * LANES numbers of the output, from the j-th on. Prefetches a part of
 * the next head's keys. */
INLINE void sum_values(int cache_type, int registers, int width, const uint8_t *cached, int j, int length, const Weights *weights,
                       const uint8_t *next, float *out) {
    size_t bytes = block_bytes(cache_type, width), part = part_bytes(cache_type, width);
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
        prefetch(next, part / width * registers * LANES);
        int count = min_int(LANES, length - first);
        for (int i = 0; cache_type == CACHE_INT8 && i < count; i += 4) {
            __m512i by_high = four_bytes(weights->high + first + i), by_low = four_bytes(weights->low + first + i);
#pragma GCC unroll 4
            for (int r = 0; r < registers; r++) {
                __m512i four = _mm512_loadu_si512(values + (i / 4 * width + j + r * LANES) * 4);
                high[r] = dot(high[r], by_high, four);
                low[r] = dot(low[r], by_low, four);
            }
        }
        for (int i = 0; cache_type != CACHE_INT8 && i < count; i++) {
            __m512 weight = _mm512_set1_ps(weights->numbers[first + i]), *to = sums[i % 2];
#pragma GCC unroll 4
            for (int r = 0; r < registers; r++)
                to[r] = _mm512_fmadd_ps(load_cached(cache_type, values, i * width + j + r * LANES), weight, to[r]);
        }
    }
#pragma GCC unroll 4
    for (int r = 0; r < registers; r++) {
        __m512 sum = _mm512_add_ps(sums[0][r], sums[1][r]);
        if (cache_type == CACHE_INT8)
            sum = _mm512_fmadd_ps(_mm512_cvtepi32_ps(high[r]), _mm512_set1_ps(256), _mm512_cvtepi32_ps(low[r]));
        _mm512_storeu_ps(out + j + r * LANES, _mm512_mul_ps(sum, scale));
    }
}

/* Attend to the first `length` positions of a head; `next` is the head that follows. */
INLINE void attend(int cache_type, int width, const float *numbers, const uint8_t *cached, int length, const uint8_t *next,
                   float *out) {
    Query query;
    Weights weights;
    prepare_query(cache_type, &query, numbers, width);
    const uint8_t *block = cached;
    for (int i = 0; i < length; i += LANES, block += block_bytes(cache_type, width)) {
        __m512 scores = _mm512_mul_ps(score(cache_type, width, &query, block), _mm512_set1_ps(query.scale));
        _mm512_store_ps(weights.numbers + i, _mm512_mask_mov_ps(_mm512_set1_ps(-INFINITY), lane_mask(length - i), scores));
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
