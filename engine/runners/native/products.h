/* Matrix products, computed in tiles: some panels of output channels by some rows. */
#pragma once

#include <immintrin.h>
#include <string.h>

#include "team.h"

/* The rows of a tile: as floats, or quantized, with the scale and the sum of each group. */
typedef struct {
    const float *x;
    const int8_t *quantized;
    const float *scales;
    const int32_t *sums;
} Inputs;

/* Prefetch weights. With few rows, memory is the limit, and one prefetch, to the nearest cache, is best. Many rows keep the core
 * busy for longer, so that a second one, to the next cache, pays. */
INLINE void prefetch_weights(int rows, const uint8_t *weights) {
    _mm_prefetch((const char *)weights + (rows <= FEW_ROWS ? PREFETCH_BYTES : PREFETCH_BYTES / 2), _MM_HINT_T0);
    if (rows > FEW_ROWS) _mm_prefetch((const char *)weights + 4 * PREFETCH_BYTES, _MM_HINT_T1);
}

/* Load one register of weights from each panel. */
INLINE void read_panels(int rows, int panels, const uint8_t *weights, size_t stride, __m512i *out) {
#pragma GCC unroll 4
    for (int p = 0; p < panels; p++) {
        prefetch_weights(rows, weights + p * stride);
        out[p] = _mm512_loadu_si512(weights + p * stride);
    }
}

/* Add the products of four inputs of each row with each panel's weights. */
INLINE void add_dots(int rows, int panels, const __m512i *weight, const int8_t *inputs, __m512i (*dots)[PIECE_PANELS]) {
#pragma GCC unroll 18
    for (int r = 0; r < rows; r++) {
        __m512i input = four_bytes(inputs + r * INPUT_STRIDE);
#pragma GCC unroll 4
        for (int p = 0; p < panels; p++) dots[r][p] = dot(dots[r][p], weight[p], input);
    }
}

INLINE __m512 widen(int kind, const uint8_t *weights, int at) {
    if (kind == FLOATS) return _mm512_loadu_ps((const float *)weights + at);
    __m256i halves = _mm256_loadu_si256((const __m256i *)((const uint16_t *)weights + at));
    if (kind == HALVES) return _mm512_cvtph_ps(halves);
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(halves), 16));
}

INLINE void multiply_floats(int kind, int rows, int panels, const Product *product, int panel, Inputs in,
                            __m512 (*sums)[PIECE_PANELS]) {
    size_t size = kind == FLOATS ? 4 : 2, stride = size * LANES * product->inputs;
    const uint8_t *weights = product->weights + panel * stride;
    for (int i = 0; i < product->inputs; i += 2) { /* two registers of 16-bit weights fill a cache line */
#pragma GCC unroll 4
        for (int p = 0; p < panels; p++) {
            prefetch_weights(rows, weights + p * stride + size * LANES * i);
            if (kind == FLOATS) prefetch_weights(rows, weights + p * stride + size * LANES * (i + 1));
        }
#pragma GCC unroll 2
        for (int j = i; j < i + 2; j++) {
            __m512 weight[PIECE_PANELS];
#pragma GCC unroll 4
            for (int p = 0; p < panels; p++) weight[p] = widen(kind, weights + p * stride, j * LANES);
#pragma GCC unroll 18
            for (int r = 0; r < rows; r++) {
                __m512 input = _mm512_set1_ps(in.x[r * INPUT_STRIDE + j]);
#pragma GCC unroll 4
                for (int p = 0; p < panels; p++) sums[r][p] = _mm512_fmadd_ps(weight[p], input, sums[r][p]);
            }
        }
    }
}

/* Weights are stored as 0 to 255 for -128 to 127; sums start with what that offset adds, negated. */
INLINE void multiply_int8(int rows, int panels, const Product *product, int panel, Inputs in, __m512 (*sums)[PIECE_PANELS]) {
    size_t stride = (size_t)LANES * product->inputs;
    const uint8_t *weights = product->weights + panel * stride;
    for (int group = 0; group < product->groups; group++) {
        __m512i dots[MAX_TILE_ROWS][PIECE_PANELS];
#pragma GCC unroll 18
        for (int r = 0; r < rows; r++)
#pragma GCC unroll 4
            for (int p = 0; p < panels; p++) dots[r][p] = _mm512_set1_epi32(-128 * in.sums[r * MAX_GROUPS + group]);
        for (int i = group * GROUP; i < (group + 1) * GROUP; i += 4, weights += 4 * LANES) {
            __m512i weight[PIECE_PANELS];
            read_panels(rows, panels, weights, stride, weight);
            add_dots(rows, panels, weight, in.quantized + i, dots);
        }
#pragma GCC unroll 18
        for (int r = 0; r < rows; r++) {
            __m512 scale = _mm512_set1_ps(in.scales[r * MAX_GROUPS + group]);
#pragma GCC unroll 4
            for (int p = 0; p < panels; p++) sums[r][p] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(dots[r][p]), scale, sums[r][p]);
        }
    }
#pragma GCC unroll 18
    for (int r = 0; r < rows; r++)
#pragma GCC unroll 4
        for (int p = 0; p < panels; p++)
            sums[r][p] = _mm512_mul_ps(sums[r][p], _mm512_loadu_ps(product->scales + (panel + p) * LANES));
}

INLINE __m512 bytes_as_floats(const uint8_t *bytes) {
    return _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i *)bytes)));
}

INLINE void multiply_int4(int rows, int panels, const Product *product, int panel, Inputs in, __m512 (*sums)[PIECE_PANELS]) {
    size_t stride = (size_t)LANES * product->inputs / 2;
    const uint8_t *weights = product->weights + panel * stride;
    __m512i low_bits = _mm512_set1_epi8(15);
    for (int group = 0; group < product->groups; group++) {
        __m512i dots[MAX_TILE_ROWS][PIECE_PANELS];
#pragma GCC unroll 18
        for (int r = 0; r < rows; r++)
#pragma GCC unroll 4
            for (int p = 0; p < panels; p++) dots[r][p] = _mm512_setzero_si512();
        for (int i = group * GROUP; i < (group + 1) * GROUP; i += 8, weights += 4 * LANES) {
            __m512i both[PIECE_PANELS];
            read_panels(rows, panels, weights, stride, both);
#pragma GCC unroll 2
            for (int high = 0; high < 2; high++) {
                __m512i weight[PIECE_PANELS];
#pragma GCC unroll 4
                for (int p = 0; p < panels; p++)
                    weight[p] = _mm512_and_si512(high ? _mm512_srli_epi16(both[p], 4) : both[p], low_bits);
                add_dots(rows, panels, weight, in.quantized + i + 4 * high, dots);
            }
        }
        __m512 zero[PIECE_PANELS], weight_scale[PIECE_PANELS];
#pragma GCC unroll 4
        for (int p = 0; p < panels; p++) {
            size_t offset = ((size_t)(panel + p) * product->groups + group) * LANES;
            zero[p] = bytes_as_floats(product->zeros + offset);
            weight_scale[p] = _mm512_loadu_ps(product->scales + offset);
        }
#pragma GCC unroll 18
        for (int r = 0; r < rows; r++) {
            __m512 scale = _mm512_set1_ps(in.scales[r * MAX_GROUPS + group]);
            __m512 sum = _mm512_set1_ps((float)in.sums[r * MAX_GROUPS + group]);
#pragma GCC unroll 4
            for (int p = 0; p < panels; p++) {
                __m512 dot = _mm512_fnmadd_ps(zero[p], sum, _mm512_cvtepi32_ps(dots[r][p])); /* whole numbers below 2^24: exact */
                sums[r][p] = _mm512_fmadd_ps(_mm512_mul_ps(dot, weight_scale[p]), scale, sums[r][p]);
            }
        }
    }
}

/* `rows` and `panels` are compile-time constants, so that the sums stay in registers. */
INLINE void multiply_tile(int rows, int panels, const Product *product, int panel, Inputs in, float *out, int out_stride) {
    __m512 sums[MAX_TILE_ROWS][PIECE_PANELS];
#pragma GCC unroll 18
    for (int r = 0; r < rows; r++)
#pragma GCC unroll 4
        for (int p = 0; p < panels; p++) sums[r][p] = _mm512_setzero_ps();
    switch (product->kind) {
    case FLOATS: multiply_floats(FLOATS, rows, panels, product, panel, in, sums); break;
    case HALVES: multiply_floats(HALVES, rows, panels, product, panel, in, sums); break;
    case BFLOATS: multiply_floats(BFLOATS, rows, panels, product, panel, in, sums); break;
    case INT8: multiply_int8(rows, panels, product, panel, in, sums); break;
    case INT4: multiply_int4(rows, panels, product, panel, in, sums); break;
    }
#pragma GCC unroll 18
    for (int r = 0; r < rows; r++)
#pragma GCC unroll 4
        for (int p = 0; p < panels; p++) _mm512_storeu_ps(out + (size_t)r * out_stride + p * LANES, sums[r][p]);
}

static int tiles_of(int rows) { return (rows + MAX_TILE_ROWS - 1) / MAX_TILE_ROWS; }

/* Return how many panels are computed together: the fewer rows, the more panels, so that sums take at most 24 of the 32
 * registers. A tile of more than 12 rows takes one panel, which reads weights at a steady pace; two panels for half of the rows
 * read them in bursts. */
static int panels_at_once(int rows) {
    int tall = (rows + tiles_of(rows) - 1) / tiles_of(rows);
    return tall <= FEW_ROWS ? 4 : tall <= 12 ? 2 : 1;
}

static void multiply_panels(const Product *product, int panel, const Buffers *buffers, int rows, float *out, int out_stride) {
    int tiles = tiles_of(rows), panels = panels_at_once(rows);
    for (int p = panel; p < panel + PIECE_PANELS; p += panels)
        for (int tile = 0; tile < tiles; tile++) {
            int row = rows * tile / tiles, count = rows * (tile + 1) / tiles - row;
            size_t at = (size_t)row * INPUT_STRIDE;
            int group = row * MAX_GROUPS;
            Inputs in = {buffers->inputs + at, buffers->quantized + at, buffers->scales + group, buffers->sums + group};
            float *to = out + (size_t)row * out_stride + p * LANES;
#define CASE(count, panels) case 8 * count + panels: multiply_tile(count, panels, product, p, in, to, out_stride); break;
            switch (8 * count + panels) {
                CASE(1, 4) CASE(2, 4) CASE(3, 4) CASE(4, 4) CASE(5, 4) CASE(6, 4)
                CASE(7, 2) CASE(8, 2) CASE(9, 2) CASE(10, 2) CASE(11, 2) CASE(12, 2)
                CASE(12, 1) CASE(13, 1) CASE(14, 1) CASE(15, 1) CASE(16, 1) CASE(17, 1) CASE(18, 1)
            }
#undef CASE
        }
}

static size_t panel_bytes(const Product *product) {
    static const double sizes[] = {[FLOATS] = 4, [HALVES] = 2, [BFLOATS] = 2, [INT8] = 1, [INT4] = 0.5};
    return (size_t)(product->inputs * LANES * sizes[product->kind]);
}

/* Prefetch the first weights of a piece. */
static void prefetch_piece(const Product *product, int piece, int rows) {
    size_t bytes = panel_bytes(product);
    for (int p = 0; p < panels_at_once(rows); p++)
        prefetch(product->weights + (piece * PIECE_PANELS + p) * bytes, PREFETCH_BYTES);
}

/* Multiply all rows by a product's weights; `after` is the product that follows. */
static void multiply(Team *team, int thread, const Product *product, const Product *after, float *out, int out_stride) {
    int pieces = round_up(product->outputs, PIECE) / PIECE;
    for (int piece = thread; piece < pieces;) {
        int next = take_next_piece(team);
        if (next < pieces) prefetch_piece(product, next, team->rows->count);
        else prefetch_piece(after, thread, team->rows->count);
        multiply_panels(product, piece * PIECE_PANELS, &team->buffers, team->rows->count, out, out_stride);
        piece = next;
    }
    barrier(team);
}
