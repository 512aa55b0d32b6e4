/* Convolutions of 3 x 3 by Winograd's F(4 x 4, 3 x 3) (Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks", 2015):
 * 36 multiplications for 16 outputs, not 144. Channels lie side by side. */
#pragma once

#include <immintrin.h>
#include <string.h>

#include "rows.h"
#include "team.h"

#define TILES 32      /* of 4 x 4 outputs, side by side, that a thread computes at once */
#define TOGETHER 32   /* outputs that are multiplied at once */
#define TURNED 36     /* numbers of a tile between the transforms */

struct Convolution {
    int32_t height, width, inputs, outputs; /* of what comes out; height and width in fours, channels in 32s */
    int32_t is_doubled;                     /* each pixel that comes in is taken for 2 x 2 */
    const float *x;                         /* [height, width, inputs], or half of both */
    const float *scale, *shift;             /* NULL, or [inputs]: applied to x, and then swish */
    const float *weights, *bias;            /* [outputs / TOGETHER, TURNED, inputs, TOGETHER], [outputs] */
    const float *added;                     /* NULL, or [height, width, outputs] */
    float *out;                             /* [height, width, outputs] */
    float *sums;                            /* [pieces, 2, outputs]: each piece's sum of what comes out, and of its squares */
};

/* A thread's numbers on the way. */
typedef struct {
    float *strip;    /* [6, 4 TILES + 2, inputs]: what the tiles see */
    float *turned;   /* [TURNED, TILES, inputs] */
    float *products; /* [TURNED, TILES, TOGETHER] */
} Bench;

static size_t strip_size(int inputs) { return (size_t)6 * (4 * TILES + 2) * inputs; }
static size_t turned_size(int inputs) { return (size_t)TURNED * TILES * inputs; }
static size_t bench_size(int inputs) { return strip_size(inputs) + turned_size(inputs) + TURNED * TILES * TOGETHER; }

static int pieces_across(const Convolution *own) { return (own->width + 4 * TILES - 1) / (4 * TILES); }

ALWAYS __m512 swish(__m512 x) {
    return _mm512_div_ps(x, _mm512_add_ps(_mm512_set1_ps(1), exp_of(_mm512_sub_ps(_mm512_setzero_ps(), x))));
}

/* Transform six inputs, `step` apart. */
ALWAYS void turn_in(const __m512 *x, int step, __m512 *out) {
    __m512 two = _mm512_set1_ps(2), four = _mm512_set1_ps(4), five = _mm512_set1_ps(5);
    __m512 x1 = x[step], x2 = x[2 * step], x3 = x[3 * step], x4 = x[4 * step];
    __m512 even = _mm512_fnmadd_ps(four, x2, x4), odd = _mm512_fnmadd_ps(four, x1, x3);
    __m512 wide_even = _mm512_sub_ps(x4, x2), wide_odd = _mm512_mul_ps(two, _mm512_sub_ps(x3, x1));
    out[0] = _mm512_fmadd_ps(four, x[0], _mm512_fnmadd_ps(five, x2, x4));
    out[1] = _mm512_add_ps(even, odd);
    out[2] = _mm512_sub_ps(even, odd);
    out[3] = _mm512_add_ps(wide_even, wide_odd);
    out[4] = _mm512_sub_ps(wide_even, wide_odd);
    out[5] = _mm512_fmadd_ps(four, x1, _mm512_fnmadd_ps(five, x3, x[5 * step]));
}

/* Transform six products, `step` apart, to four outputs. */
ALWAYS void turn_out(const __m512 *x, int step, __m512 *out) {
    __m512 two = _mm512_set1_ps(2), four = _mm512_set1_ps(4), eight = _mm512_set1_ps(8);
    __m512 even = _mm512_add_ps(x[step], x[2 * step]), odd = _mm512_sub_ps(x[step], x[2 * step]);
    __m512 wide_even = _mm512_add_ps(x[3 * step], x[4 * step]), wide_odd = _mm512_sub_ps(x[3 * step], x[4 * step]);
    out[0] = _mm512_add_ps(_mm512_add_ps(x[0], even), wide_even);
    out[1] = _mm512_fmadd_ps(two, wide_odd, odd);
    out[2] = _mm512_fmadd_ps(four, wide_even, even);
    out[3] = _mm512_add_ps(_mm512_fmadd_ps(eight, wide_odd, odd), x[5 * step]);
}

/* Fetch what some tiles see: normalised, and zero outside of the picture. */
static void fill_strip(const Convolution *own, int row, int column, int tiles, float *to) {
    int half = own->is_doubled, inputs = own->inputs;
    for (int y = row - 1; y < row + 5; y++)
        for (int x = column - 1; x < column + 4 * tiles + 1; x++, to += inputs) {
            if (y < 0 || x < 0 || y >= own->height || x >= own->width) {
                memset(to, 0, inputs * sizeof(float));
                continue;
            }
            const float *from = own->x + ((size_t)(y >> half) * (own->width >> half) + (x >> half)) * inputs;
            for (int i = 0; i < inputs; i += LANES) {
                __m512 number = _mm512_loadu_ps(from + i);
                if (own->scale)
                    number = swish(_mm512_fmadd_ps(number, _mm512_loadu_ps(own->scale + i), _mm512_loadu_ps(own->shift + i)));
                _mm512_store_ps(to + i, number);
            }
        }
}

static void turn_tiles_in(const Bench *bench, int inputs, int tiles) {
    for (int tile = 0; tile < tiles; tile++)
        for (int k = 0; k < inputs; k += LANES) {
            __m512 x[36], turned[36], column[6];
            for (int i = 0; i < 36; i++)
                x[i] = _mm512_load_ps(bench->strip + ((size_t)(i / 6) * (4 * tiles + 2) + 4 * tile + i % 6) * inputs + k);
            for (int i = 0; i < 6; i++) turn_in(x + 6 * i, 1, turned + 6 * i);
            for (int j = 0; j < 6; j++) {
                turn_in(turned + j, 6, column);
                for (int i = 0; i < 6; i++)
                    _mm512_store_ps(bench->turned + ((size_t)(i * 6 + j) * TILES + tile) * inputs + k, column[i]);
            }
        }
}

/* Multiply eight tiles' numbers [8, inputs] by weights [inputs, TOGETHER]. */
ALWAYS void multiply_tiles(const float *x, int inputs, const float *weights, float *out) {
    __m512 sums[8][2];
#pragma GCC unroll 8
    for (int r = 0; r < 8; r++) sums[r][0] = sums[r][1] = _mm512_setzero_ps();
    for (int i = 0; i < inputs; i++, weights += TOGETHER) {
        __m512 first = _mm512_loadu_ps(weights), second = _mm512_loadu_ps(weights + LANES);
#pragma GCC unroll 8
        for (int r = 0; r < 8; r++) {
            __m512 number = _mm512_set1_ps(x[(size_t)r * inputs + i]);
            sums[r][0] = _mm512_fmadd_ps(number, first, sums[r][0]);
            sums[r][1] = _mm512_fmadd_ps(number, second, sums[r][1]);
        }
    }
#pragma GCC unroll 8
    for (int r = 0; r < 8; r++) {
        _mm512_store_ps(out + r * TOGETHER, sums[r][0]);
        _mm512_store_ps(out + r * TOGETHER + LANES, sums[r][1]);
    }
}

/* Finish 16 outputs, from the first on, of some tiles. */
static void turn_tiles_out(const Convolution *own, const Bench *bench, int row, int column, int tiles, int first, float *sums) {
    __m512 sum = _mm512_setzero_ps(), squares = sum, bias = _mm512_loadu_ps(own->bias + first);
    for (int tile = 0; tile < tiles; tile++) {
        __m512 x[36], turned[24], four[4];
        for (int i = 0; i < 36; i++) x[i] = _mm512_load_ps(bench->products + (i * TILES + tile) * TOGETHER + first % TOGETHER);
        for (int i = 0; i < 6; i++) turn_out(x + 6 * i, 1, turned + 4 * i);
        for (int j = 0; j < 4; j++) {
            turn_out(turned + j, 4, four);
            for (int i = 0; i < 4; i++) {
                size_t at = ((size_t)(row + i) * own->width + column + 4 * tile + j) * own->outputs + first;
                __m512 number = _mm512_add_ps(four[i], bias);
                if (own->added) number = _mm512_add_ps(number, _mm512_loadu_ps(own->added + at));
                sum = _mm512_add_ps(sum, number);
                squares = _mm512_fmadd_ps(number, number, squares);
                _mm512_storeu_ps(own->out + at, number);
            }
        }
    }
    _mm512_storeu_ps(sums + first, sum);
    _mm512_storeu_ps(sums + own->outputs + first, squares);
}

/* All threads run this, side by side. Which of them takes a piece changes no number. */
static void run_convolution(Team *team, int self) {
    const Convolution *own = team->convolution;
    int inputs = own->inputs, across = pieces_across(own);
    float *memory = team->benches + self * bench_size(inputs);
    Bench bench = {memory, memory + strip_size(inputs), memory + strip_size(inputs) + turned_size(inputs)};
    SHARE(team, piece, own->height / 4 * across) {
        int row = piece / across * 4, column = piece % across * 4 * TILES, tiles = least(TILES, (own->width - column) / 4);
        fill_strip(own, row, column, tiles, bench.strip);
        turn_tiles_in(&bench, inputs, tiles);
        for (int first = 0; first < own->outputs; first += TOGETHER) {
            const float *weights = own->weights + (size_t)first * TURNED * inputs;
            for (int i = 0; i < TURNED; i++)
                for (int tile = 0; tile < tiles; tile += 8) /* up to seven more than there are: nobody reads them */
                    multiply_tiles(bench.turned + (size_t)(i * TILES + tile) * inputs, inputs,
                                   weights + (size_t)i * inputs * TOGETHER, bench.products + (i * TILES + tile) * TOGETHER);
            for (int k = first; k < first + TOGETHER; k += LANES)
                turn_tiles_out(own, &bench, row, column, tiles, k, own->sums + (size_t)piece * 2 * own->outputs);
        }
    }
}
