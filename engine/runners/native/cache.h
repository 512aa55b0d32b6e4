/* The layout of cached keys and values. */
#pragma once

#include <string.h>

#include "rows.h"

enum { CACHE_FLOATS, CACHE_HALVES, CACHE_INT8 };

/* The keys and values of a head lie in blocks of 16 positions, so that attention reads one stream of memory. A block is
 *   keys [head width, 16], as 16 scores are summed side by side; in int8 [head width / 4, 16, 4], with an offset of 128;
 *   values [16, head width]; in int8 [4, head width, 4], as four positions are summed at once;
 *   in int8, each position's scales: 16 floats for keys, then 16 for values. */
INLINE size_t part_bytes(int cache_type, int width) {
    return (size_t)PANEL * width * (cache_type == CACHE_FLOATS ? 4 : cache_type == CACHE_HALVES ? 2 : 1);
}

INLINE size_t block_bytes(int cache_type, int width) {
    return 2 * part_bytes(cache_type, width) + (cache_type == CACHE_INT8 ? 2 * PANEL * 4 : 0);
}

static size_t head_offset(const Model *model, int layer, int head, int length) {
    size_t bytes = block_bytes(model->cache_type, model->width / model->heads);
    return ((size_t)layer * model->heads + head) * (round_up(length, PANEL) / PANEL) * bytes;
}

INLINE Floats load_cached(int cache_type, const uint8_t *part, int at) {
    return cache_type == CACHE_FLOATS ? load_floats(part + 4 * at) : load_halves(part + 2 * at);
}

INLINE void store_exact(int cache_type, int width, uint8_t *block, int lane, const float *keys, const float *values) {
    size_t part = part_bytes(cache_type, width), size = part / PANEL / width;
    for (int j = 0; j < width; j += LANES) {
        uint8_t column[LANES * 4], *to = block + part + (lane * width + j) * size;
        if (cache_type == CACHE_FLOATS) store_floats(column, load_floats(keys + j)), store_floats(to, load_floats(values + j));
        else store_halves(column, load_floats(keys + j)), store_halves(to, load_floats(values + j));
        for (int k = 0; k < LANES; k++) memcpy(block + ((j + k) * PANEL + lane) * size, column + k * size, size);
    }
}

INLINE void store_int8(int width, uint8_t *block, int lane, const float *keys, const float *values) {
    size_t part = part_bytes(CACHE_INT8, width);
    float *scales = (float *)(block + 2 * part);
    scales[lane] = int8_scale(keys, width), scales[PANEL + lane] = int8_scale(values, width);
    Floats key_factor = splat(1 / scales[lane]), value_factor = splat(1 / scales[PANEL + lane]);
    int shift = lane % 4 * 8;
    for (int j = 0; j < width; j += LANES) {
        uint8_t key[LANES], *fours = block + part + (lane / 4 * width + j) * 4;
        store_low_bytes(key, round_to_ints(load_floats(keys + j) * key_factor) ^ 128);
        for (int k = 0; k < LANES; k += 4) memcpy(block + (j + k) * PANEL + 4 * lane, key + k, 4);
        Ints value = round_to_ints(load_floats(values + j) * value_factor) & 255;
        store_bytes(fours, (Bytes)(((Ints)load_bytes(fours) & ~(255 << shift)) | value << shift));
    }
}

INLINE void store_position(int cache_type, int width, uint8_t *head, int position, const float *keys, const float *values) {
    uint8_t *block = head + position / PANEL * block_bytes(cache_type, width);
    if (cache_type == CACHE_INT8) store_int8(width, block, position % PANEL, keys, values);
    else store_exact(cache_type, width, block, position % PANEL, keys, values);
}
