/* How keys and values are kept. */
#pragma once

#include <immintrin.h>
#include <string.h>

#include "rows.h"

enum { AS_FLOATS, AS_HALVES, AS_INT8 };

/* A head's keys and values lie in blocks of 16 positions, so that one stream of memory serves all:
 *   keys [head width, 16]: 16 scores are summed side by side; in 8 bits [head width / 4, 16, 4], and 128 more than they are;
 *   values [16, head width]; in 8 bits [4, head width, 4]: four positions are summed at once;
 *   in 8 bits, what each position's are multiplied by: 16 floats for the keys, 16 for the values. */
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
    return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)((const uint16_t *)part + at)));
}

ALWAYS void store(int kept, __m512 numbers, uint8_t *part, int at) {
    if (kept == AS_FLOATS) _mm512_storeu_ps((float *)part + at, numbers);
    else _mm256_storeu_si256((__m256i *)((uint16_t *)part + at), _mm512_cvtps_ph(numbers, 0));
}

ALWAYS void keep_numbers(int kept, int width, uint8_t *block, int lane, const float *keys, const float *values) {
    size_t part = part_bytes(kept, width), size = part / LANES / width;
    for (int j = 0; j < width; j += LANES) {
        uint8_t column[LANES * 4];
        store(kept, _mm512_loadu_ps(keys + j), column, 0);
        for (int k = 0; k < LANES; k++) memcpy(block + ((j + k) * LANES + lane) * size, column + k * size, size);
        store(kept, _mm512_loadu_ps(values + j), block + part, lane * width + j);
    }
}

ALWAYS void keep_rounded(int width, uint8_t *block, int lane, const float *keys, const float *values) {
    size_t part = part_bytes(AS_INT8, width);
    float *scales = (float *)(block + 2 * part);
    scales[lane] = scale_of(keys, width), scales[LANES + lane] = scale_of(values, width);
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

ALWAYS void keep(int kept, int width, uint8_t *head, int position, const float *keys, const float *values) {
    uint8_t *block = head + position / LANES * block_bytes(kept, width);
    if (kept == AS_INT8) keep_rounded(width, block, position % LANES, keys, values);
    else keep_numbers(kept, width, block, position % LANES, keys, values);
}
