/* What a detokenizer's convolutions read and write: features, [rows, columns, channels], with their statistics. */
#pragma once

#include <math.h>

#include "team.h"

#define NORM_GROUPS 32
#define SWISH_LOW -0.27846455f /* the least value of swish */
/* The steps of a quantized range. One less than -127 to 127 has, as both of its ends are rounded. */
#define RANGE_STEPS 253

/* A convolution of `side` by `side` pixels, or several: `phases` by `phases`, each of which writes every `phases`-th row and
 * column, so that a picture grows. Inputs have an edge of one pixel of zeros. The convolution begins there if `side` is 3 or 4, one
 * pixel further in if it is 1, and if it is 2, at the phase's own row and column. */
typedef struct {
    int32_t kind, inputs, outputs; /* AS_FLOATS or AS_INT8; whole panels */
    int32_t side, stride, phases;
    const uint8_t *weights; /* [phases * phases, panels, side * side * inputs / 4, PANEL, 4] int8, or [.., PANEL] floats */
    const float *scales, *bias; /* [phases * phases, outputs] */
    const int32_t *sums;        /* of the int8 weights, [phases * phases, outputs] */
} Convolution;

enum { CONVOLVE, ATTEND };
enum { TOKENS = -1, FEATURE_SETS = 3 };

/* A convolution, its inputs normalised and swished if the stage says so, and the features that are added to its outputs. Or
 * attention from all positions to all, whose inputs are queries, keys and values side by side. */
typedef struct {
    int32_t kind, from, to, added; /* numbers of features; -1 of `from` are the tokens, and of `added` nothing */
    int32_t is_normalised, is_swished;
    Norm norm;
    Convolution convolution;
} Stage;

typedef struct {
    int32_t stage_count;
    float epsilon;      /* of norms */
    const float *table; /* embedded tokens, [tokens, inputs of the first convolution] */
    const Stage *stages;
} Detokenizer;

/* Features, and for each row and channel the sum, the sum of squares, the least and the largest. A convolution of several phases
 * sums up each of its columns' phases apart, so that there are `summed_rows` rows. */
enum { SUM, SQUARES, LEAST, LARGEST, STATISTICS };
typedef struct {
    int32_t rows, columns, channels, summed_rows;
    float *numbers;
    float *statistics; /* [summed_rows, STATISTICS, channels] */
} Features;

/* A picture on its way from tokens to pixels. */
typedef struct Picture {
    const Detokenizer *detokenizer;
    int32_t rows, columns; /* tokens */
    const int64_t *tokens;
    uint8_t *pixels;
    Features features[FEATURE_SETS];
    uint8_t *inputs;          /* of a convolution, with their edge */
    float *factors, *offsets; /* of a norm, [channels] */
    float lows[NORM_GROUPS], highs[NORM_GROUPS]; /* the ranges of a norm's groups */
    float *scratch;           /* of attention, for each thread `scratch_size` numbers */
    size_t scratch_size;
} Picture;

static int rows_of(const Picture *picture, const Stage *stage) {
    return stage->from == TOKENS ? picture->rows : picture->features[stage->from].rows;
}
static int columns_of(const Picture *picture, const Stage *stage) {
    return stage->from == TOKENS ? picture->columns : picture->features[stage->from].columns;
}

/* A range of numbers in steps: number / unit + zero. */
typedef struct {
    float unit;
    int32_t zero;
} Quantization;

/* Sum up the statistics of a group's channels, and find the factors and offsets that normalise them as torch.nn.GroupNorm does,
 * if the stage normalises; and the range of what comes out. */
static void summarise_group(Picture *picture, const Stage *stage, int group) {
    const Features *from = &picture->features[stage->from];
    int channels = from->channels, width = channels / NORM_GROUPS;
    double sum = 0, squares = 0;
    float low = INFINITY, high = -INFINITY;
    if (stage->is_normalised) {
        for (int row = 0; row < from->summed_rows; row++) {
            const float *sums = from->statistics + (size_t)row * STATISTICS * channels + group * width;
            for (int c = 0; c < width; c++) sum += sums[SUM * channels + c], squares += sums[SQUARES * channels + c];
        }
    }
    double count = (double)from->rows * from->columns * width, mean = sum / count;
    double deviation = sqrt(fmax(squares / count - mean * mean, 0) + picture->detokenizer->epsilon);
    for (int c = group * width; c < (group + 1) * width; c++) {
        float factor = 1, offset = 0, least = INFINITY, largest = -INFINITY;
        if (stage->is_normalised) {
            factor = (float)(stage->norm.scale[c] / deviation);
            offset = (float)(stage->norm.bias[c] - mean * factor);
        }
        picture->factors[c] = factor, picture->offsets[c] = offset;
        for (int row = 0; row < from->summed_rows; row++) {
            const float *sums = from->statistics + (size_t)row * STATISTICS * channels + c;
            least = smaller_of(least, sums[LEAST * channels]), largest = greater_of(largest, sums[LARGEST * channels]);
        }
        float ends[] = {fmaf(least, factor, offset), fmaf(largest, factor, offset)};
        low = smaller_of(low, smaller_of(ends[0], ends[1])), high = greater_of(high, greater_of(ends[0], ends[1]));
    }
    picture->lows[group] = low, picture->highs[group] = high;
}

INLINE Floats swish(Floats x) {
    x = larger(x, splat(-80.0f));
    return x / (splat(1.0f) + exp_floats(splat(0) - x));
}

/* Return how a stage's inputs are quantized. Zero, which is at the edge, stays exact. */
static Quantization quantization_of(const Picture *picture, const Stage *stage) {
    float low = 0, high = 1e-20f;
    for (int group = 0; group < NORM_GROUPS; group++)
        low = smaller_of(low, picture->lows[group]), high = greater_of(high, picture->highs[group]);
    if (stage->is_swished) low = SWISH_LOW, high = swish(splat(high))[0];
    float unit = (high - low) / RANGE_STEPS;
    return (Quantization){unit, (int32_t)rintf(-low / unit) - 127};
}

/* Pixels from one row of inputs to the next: an edge of one on the left, and room for the last tile and the edge on the right. */
static int input_stride(int columns) { return round_up(columns, 16) + 4; }

static size_t input_size(const Convolution *convolution, int rows, int columns) {
    size_t bytes = convolution->kind == AS_INT8 ? 1 : 4;
    return ((size_t)(rows + 2) * input_stride(columns) + 32) * convolution->inputs * bytes;
}

INLINE void prepare_pixels(int kind, int is_swished, const float *from, int count, int channels, const float *factors,
                           const float *offsets, Quantization quantization, uint8_t *to) {
    Floats inverse = splat(1 / quantization.unit);
    Ints zero = (Ints){0} + (quantization.zero + PIXEL_OFFSET);
    for (int pixel = 0; pixel < count; pixel++, from += channels)
        for (int c = 0; c < channels; c += LANES) {
            Floats x = load_floats(from + c);
            if (factors) x = add_product(load_floats(offsets + c), x, load_floats(factors + c));
            if (is_swished) x = swish(x);
            size_t at = (size_t)pixel * channels + c;
            if (kind == AS_INT8) store_low_bytes(to + at, round_to_ints(x * inverse) + zero);
            else store_floats(to + 4 * at, x);
        }
}

/* Write one row of a convolution's inputs; rows from -1 on, as there is an edge. */
static void prepare_row(const Picture *picture, const Stage *stage, int rows, int columns, Quantization quantization, int row) {
    const Convolution *convolution = &stage->convolution;
    int channels = convolution->inputs;
    size_t pixel = channels * (convolution->kind == AS_INT8 ? 1 : 4);
    uint8_t *to = picture->inputs + (size_t)(row + 1) * input_stride(columns) * pixel;
    int zero = convolution->kind == AS_INT8 ? quantization.zero + PIXEL_OFFSET : 0;
    if (row < 0 || row == rows) {
        memset(to, zero, input_stride(columns) * pixel);
        return;
    }
    memset(to, zero, pixel);
    memset(to + (columns + 1) * pixel, zero, (input_stride(columns) - columns - 1) * pixel);
    to += pixel;
    if (stage->from == TOKENS) {
        for (int i = 0; i < columns; i++)
            memcpy(to + i * pixel, picture->detokenizer->table + picture->tokens[(size_t)row * columns + i] * channels, pixel);
        return;
    }
    const float *from = picture->features[stage->from].numbers + (size_t)row * columns * channels;
    const float *factors = stage->is_normalised ? picture->factors : NULL, *offsets = picture->offsets;
#define PREPARE(kind, is_swished) prepare_pixels(kind, is_swished, from, columns, channels, factors, offsets, quantization, to)
    if (convolution->kind == AS_INT8 && stage->is_swished) PREPARE(AS_INT8, 1);
    else if (convolution->kind == AS_INT8) PREPARE(AS_INT8, 0);
    else if (stage->is_swished) PREPARE(AS_FLOATS, 1);
    else PREPARE(AS_FLOATS, 0);
#undef PREPARE
}

/* Prepare a stage's inputs with all threads; return how they are quantized. */
static Quantization prepare_inputs(Team *team, Picture *picture, const Stage *stage, int rows, int columns) {
    Quantization quantization = {1, 0};
    if (stage->from != TOKENS && (stage->is_normalised || stage->convolution.kind == AS_INT8)) {
        SHARE(team, group, NORM_GROUPS) summarise_group(picture, stage, group);
        if (stage->convolution.kind == AS_INT8) quantization = quantization_of(picture, stage);
    }
    SHARE(team, row, rows + 2) prepare_row(picture, stage, rows, columns, quantization, row - 1);
    return quantization;
}
