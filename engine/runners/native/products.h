/* Products: some panels of output channels at once, for some rows at once. */
#pragma once

#include <immintrin.h>
#include <string.h>

#include "team.h"

/* What rows are multiplied by: as they are or rounded, and of the rounded ones the scale and sum of each group. */
typedef struct {
    const float *x;
    const int8_t *rounded;
    const float *scales;
    const int32_t *sums;
} Inputs;

/* Ask for weights that come later. Few rows wait for memory only: one request, for the nearest cache. Many keep the core busy
 * for so long that a second one, for the next cache, comes in time. */
ALWAYS void ask_ahead(int rows, const uint8_t *weights) {
    _mm_prefetch((const char *)weights + (rows <= FEW ? AHEAD : AHEAD / 2), _MM_HINT_T0);
    if (rows > FEW) _mm_prefetch((const char *)weights + 4 * AHEAD, _MM_HINT_T1);
}

/* Read a register of each panel's weights. */
ALWAYS void read_panels(int rows, int panels, const uint8_t *weights, size_t stride, __m512i *out) {
#pragma GCC unroll 4
    for (int p = 0; p < panels; p++) {
        ask_ahead(rows, weights + p * stride);
        out[p] = _mm512_loadu_si512(weights + p * stride);
    }
}

/* Add what four inputs of each row make with each panel's weights. */
ALWAYS void add_dots(int rows, int panels, const __m512i *weight, const int8_t *inputs, __m512i (*dots)[WIDE]) {
#pragma GCC unroll 18
    for (int r = 0; r < rows; r++) {
        __m512i input = four_bytes(inputs + r * STRIDE);
#pragma GCC unroll 4
        for (int p = 0; p < panels; p++) dots[r][p] = dot(dots[r][p], weight[p], input);
    }
}

ALWAYS __m512 widen(int kind, const uint8_t *weights, int at) {
    if (kind == FLOATS) return _mm512_loadu_ps((const float *)weights + at);
    __m256i short_ones = _mm256_loadu_si256((const __m256i *)((const uint16_t *)weights + at));
    if (kind == HALVES) return _mm512_cvtph_ps(short_ones);
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(short_ones), 16));
}

ALWAYS void multiply_floats(int kind, int rows, int panels, const Product *product, int panel, Inputs in, __m512 (*sums)[WIDE]) {
    size_t size = kind == FLOATS ? 4 : 2, stride = size * LANES * product->inputs;
    const uint8_t *weights = product->weights + panel * stride;
    for (int i = 0; i < product->inputs; i += 2) { /* two, because two of 16 bits fill a cache line */
#pragma GCC unroll 4
        for (int p = 0; p < panels; p++) {
            ask_ahead(rows, weights + p * stride + size * LANES * i);
            if (kind == FLOATS) ask_ahead(rows, weights + p * stride + size * LANES * (i + 1));
        }
#pragma GCC unroll 2
        for (int j = i; j < i + 2; j++) {
            __m512 weight[WIDE];
#pragma GCC unroll 4
            for (int p = 0; p < panels; p++) weight[p] = widen(kind, weights + p * stride, j * LANES);
#pragma GCC unroll 18
            for (int r = 0; r < rows; r++) {
                __m512 input = _mm512_set1_ps(in.x[r * STRIDE + j]);
#pragma GCC unroll 4
                for (int p = 0; p < panels; p++) sums[r][p] = _mm512_fmadd_ps(weight[p], input, sums[r][p]);
            }
        }
    }
}

/* Weights 0 to 255 stand for -128 to 127: what that adds is taken away beforehand. */
ALWAYS void multiply_int8(int rows, int panels, const Product *product, int panel, Inputs in, __m512 (*sums)[WIDE]) {
    size_t stride = (size_t)LANES * product->inputs;
    const uint8_t *weights = product->weights + panel * stride;
    for (int group = 0; group < product->groups; group++) {
        __m512i dots[TALL][WIDE];
#pragma GCC unroll 18
        for (int r = 0; r < rows; r++)
#pragma GCC unroll 4
            for (int p = 0; p < panels; p++) dots[r][p] = _mm512_set1_epi32(-128 * in.sums[r * GROUPS + group]);
        for (int i = group * GROUP; i < (group + 1) * GROUP; i += 4, weights += 4 * LANES) {
            __m512i weight[WIDE];
            read_panels(rows, panels, weights, stride, weight);
            add_dots(rows, panels, weight, in.rounded + i, dots);
        }
#pragma GCC unroll 18
        for (int r = 0; r < rows; r++) {
            __m512 scale = _mm512_set1_ps(in.scales[r * GROUPS + group]);
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

ALWAYS __m512 bytes_as_floats(const uint8_t *bytes) {
    return _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i *)bytes)));
}

ALWAYS void multiply_int4(int rows, int panels, const Product *product, int panel, Inputs in, __m512 (*sums)[WIDE]) {
    size_t stride = (size_t)LANES * product->inputs / 2;
    const uint8_t *weights = product->weights + panel * stride;
    __m512i low_bits = _mm512_set1_epi8(15);
    for (int group = 0; group < product->groups; group++) {
        __m512i dots[TALL][WIDE];
#pragma GCC unroll 18
        for (int r = 0; r < rows; r++)
#pragma GCC unroll 4
            for (int p = 0; p < panels; p++) dots[r][p] = _mm512_setzero_si512();
        for (int i = group * GROUP; i < (group + 1) * GROUP; i += 8, weights += 4 * LANES) {
            __m512i both[WIDE];
            read_panels(rows, panels, weights, stride, both);
#pragma GCC unroll 2
            for (int high = 0; high < 2; high++) {
                __m512i weight[WIDE];
#pragma GCC unroll 4
                for (int p = 0; p < panels; p++)
                    weight[p] = _mm512_and_si512(high ? _mm512_srli_epi16(both[p], 4) : both[p], low_bits);
                add_dots(rows, panels, weight, in.rounded + i + 4 * high, dots);
            }
        }
        __m512 zero[WIDE], weight_scale[WIDE];
#pragma GCC unroll 4
        for (int p = 0; p < panels; p++) {
            size_t about = ((size_t)(panel + p) * product->groups + group) * LANES;
            zero[p] = bytes_as_floats(product->zeros + about);
            weight_scale[p] = _mm512_loadu_ps(product->scales + about);
        }
#pragma GCC unroll 18
        for (int r = 0; r < rows; r++) {
            __m512 scale = _mm512_set1_ps(in.scales[r * GROUPS + group]);
            __m512 sum = _mm512_set1_ps((float)in.sums[r * GROUPS + group]);
#pragma GCC unroll 4
            for (int p = 0; p < panels; p++) {
                __m512 dot = _mm512_fnmadd_ps(zero[p], sum, _mm512_cvtepi32_ps(dots[r][p])); /* exact */
                sums[r][p] = _mm512_fmadd_ps(_mm512_mul_ps(dot, weight_scale[p]), scale, sums[r][p]);
            }
        }
    }
}

/* The compiler knows the numbers of rows and panels, and keeps the sums in registers. */
ALWAYS void multiply_tile(int rows, int panels, const Product *product, int panel, Inputs in, float *out, int out_stride) {
    __m512 sums[TALL][WIDE];
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

static int tiles_of(int rows) { return (rows + TALL - 1) / TALL; }

/* Return how many panels are computed together: few rows take many, so that at most 24 of 32 registers hold sums. A tile of more
 * than 12 rows takes one, which reads the weights at the pace that memory has; two for half of the rows each did by fits and
 * starts. */
static int panels_at_once(int rows) {
    int tall = (rows + tiles_of(rows) - 1) / tiles_of(rows);
    return tall <= FEW ? 4 : tall <= 12 ? 2 : 1;
}

static void multiply_panels(const Product *product, int panel, const Space *space, int rows, float *out, int out_stride) {
    int tiles = tiles_of(rows), panels = panels_at_once(rows);
    for (int p = panel; p < panel + WIDE; p += panels)
        for (int tile = 0; tile < tiles; tile++) {
            int row = rows * tile / tiles, count = rows * (tile + 1) / tiles - row;
            size_t at = (size_t)row * STRIDE;
            Inputs in = {space->inputs + at, space->rounded + at, space->scales + row * GROUPS, space->sums + row * GROUPS};
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

/* Ask for the first weights of a piece. */
static void call_piece(const Product *product, int piece, int rows) {
    size_t bytes = panel_bytes(product);
    for (int p = 0; p < panels_at_once(rows); p++) call(product->weights + (piece * WIDE + p) * bytes, AHEAD);
}

/* `after` is the product that comes next. */
static void multiply(Team *team, int self, const Product *product, const Product *after, float *out, int out_stride) {
    int pieces = whole(product->outputs, WIDE * LANES) / (WIDE * LANES);
    for (int piece = self; piece < pieces;) {
        int next = take_after_first(team);
        if (next < pieces) call_piece(product, next, team->rows->count);
        else call_piece(after, self, team->rows->count);
        multiply_panels(product, piece * WIDE, &team->space, team->rows->count, out, out_stride);
        piece = next;
    }
    meet(team);
}
