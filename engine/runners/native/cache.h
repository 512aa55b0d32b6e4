/* The layout of cached keys and values. */
#pragma once

#include <immintrin.h>
#include <string.h>

#include "rows.h"

enum { CACHE_FLOATS, CACHE_HALVES, CACHE_INT8 };

/* The keys and values of a head lie in blocks of 16 positions, so that attention reads one stream of memory. A block is
 *   keys [head width, 16], as 16 scores are summed side by side; in int8 [head width / 4, 16, 4], with an offset of 128;
 *   values [16, head width]; in int8 [4, head width, 4], as four positions are summed at once;
 *   in int8, each position's scales: 16 floats for keys, then 16 for values. */
INLINE size_t part_bytes(int cache_type, int width) {
    return (size_t)LANES * width * (cache_type == CACHE_FLOATS ? 4 : cache_type == CACHE_HALVES ? 2 : 1);
}

INLINE size_t block_bytes(int cache_type, int width) {
    return 2 * part_bytes(cache_type, width) + (cache_type == CACHE_INT8 ? 2 * LANES * 4 : 0);
}

static size_t head_offset(const Model *model, int layer, int head, int length) {
    size_t bytes = block_bytes(model->cache_type, model->width / model->heads);
    return ((size_t)layer * model->heads + head) * (round_up(length, LANES) / LANES) * bytes;
}

INLINE __m512 load_cached(int cache_type, const uint8_t *part, int at) {
    if (cache_type == CACHE_FLOATS) return _mm512_loadu_ps((const float *)part + at);
    return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)((const uint16_t *)part + at)));
}

INLINE void store_cached(int cache_type, __m512 numbers, uint8_t *part, int at) {
    if (cache_type == CACHE_FLOATS) _mm512_storeu_ps((float *)part + at, numbers);
    else _mm256_storeu_si256((__m256i *)((uint16_t *)part + at), _mm512_cvtps_ph(numbers, 0));
}

INLINE void store_floats(int cache_type, int width, uint8_t *block, int lane, const float *keys, const float *values) {
    size_t part = part_bytes(cache_type, width), size = part / LANES / width;
    for (int j = 0; j < width; j += LANES) {
        uint8_t column[LANES * 4];
        store_cached(cache_type, _mm512_loadu_ps(keys + j), column, 0);
        for (int k = 0; k < LANES; k++) memcpy(block + ((j + k) * LANES + lane) * size, column + k * size, size);
        store_cached(cache_type, _mm512_loadu_ps(values + j), block + part, lane * width + j);
    }
}

INLINE void store_int8(int width, uint8_t *block, int lane, const float *keys, const float *values) {
    size_t part = part_bytes(CACHE_INT8, width);
    float *scales = (float *)(block + 2 * part);
    scales[lane] = int8_scale(keys, width), scales[LANES + lane] = int8_scale(values, width);
    __m512 key_factor = _mm512_set1_ps(1 / scales[lane]), value_factor = _mm512_set1_ps(1 / scales[LANES + lane]);
    for (int j = 0; j < width; j += LANES) {
        int8_t column[LANES];
        __m128i key = _mm512_cvtsepi32_epi8(_mm512_cvtps_epi32(_mm512_mul_ps(_mm512_loadu_ps(keys + j), key_factor)));
        _mm_storeu_si128((__m128i *)column, _mm_xor_si128(key, _mm_set1_epi8(-128)));
        for (int k = 0; k < LANES; k += 4) memcpy(block + (j + k) * LANES + 4 * lane, column + k, 4);
        __m512i value = _mm512_cvtps_epi32(_mm512_mul_ps(_mm512_loadu_ps(values + j), value_factor));
        value = _mm512_sll_epi32(value, _mm_cvtsi32_si128(lane % 4 * 8));
        _mm512_mask_storeu_epi8(block + part + (lane / 4 * width + j) * 4, 0x1111111111111111u << lane % 4, value);
    }
}

INLINE void store_position(int cache_type, int width, uint8_t *head, int position, const float *keys, const float *values) {
    uint8_t *block = head + position / LANES * block_bytes(cache_type, width);
    if (cache_type == CACHE_INT8) store_int8(width, block, position % LANES, keys, values);
    else store_floats(cache_type, width, block, position % LANES, keys, values);
}
