/* Convolutions, computed in tiles: some panels of output channels by some pixels of a row. */
#pragma once

#include "picture.h"
#include "products.h"

#define PIECE_ROWS 8 /* rows that a thread computes at a time, for */
#define ROW_PANELS 2 /* so many panels */

/* Pixels and panels of a tile; their sums are in registers. */
#if LANES == 16
#define TILE_PIXELS 8
#define TILE_PANELS 2
#else
#define TILE_PIXELS 4
#define TILE_PANELS 1
#endif
#define TILE_COLUMNS (TILE_PANELS * PARTS)

/* The inputs of a tile's first pixel; from one to the next, to the next row; and how many numbers of a row belong to a pixel. */
typedef struct {
    const uint8_t *numbers;
    size_t pixel_bytes, row_bytes;
    int rows, count;
} Window;

INLINE void multiply_window_int8(int panels, const uint8_t *weights, size_t panel_bytes, Window in, Ints (*sums)[TILE_COLUMNS]) {
    int columns = panels * PARTS;
    UNROLL for (int p = 0; p < TILE_PIXELS; p++)
        UNROLL for (int c = 0; c < columns; c++) sums[p][c] = (Ints){0};
    for (int row = 0; row < in.rows; row++, in.numbers += in.row_bytes)
        for (int i = 0; i < in.count; i += 4 * FOURS)
            UNROLL for (int four = 0; four < FOURS; four++, weights += 4 * PANEL) {
                Kernel8 weight[TILE_COLUMNS];
                UNROLL for (int c = 0; c < columns; c++) weight[c] = load_kernel(column_at(weights, panel_bytes, c, 4 * LANES));
                UNROLL for (int p = 0; p < TILE_PIXELS; p++) {
                    Inputs inputs = load_byte_inputs(in.numbers + p * in.pixel_bytes, i, four);
                    UNROLL for (int c = 0; c < columns; c++) sums[p][c] = dot_kernel(sums[p][c], weight[c], inputs, four);
                }
            }
}

INLINE void multiply_window_floats(int panels, const uint8_t *weights, size_t panel_bytes, Window in,
                                   Floats (*sums)[TILE_COLUMNS]) {
    int columns = panels * PARTS;
    UNROLL for (int p = 0; p < TILE_PIXELS; p++)
        UNROLL for (int c = 0; c < columns; c++) sums[p][c] = splat(0);
    for (int row = 0; row < in.rows; row++, in.numbers += in.row_bytes)
        for (int i = 0; i < in.count; i++, weights += 4 * PANEL) {
            Floats weight[TILE_COLUMNS];
            UNROLL for (int c = 0; c < columns; c++) weight[c] = load_floats(column_at(weights, panel_bytes, c, 4 * LANES));
            UNROLL for (int p = 0; p < TILE_PIXELS; p++) {
                float number;
                memcpy(&number, in.numbers + p * in.pixel_bytes + 4 * i, 4);
                Floats input = splat(number);
                UNROLL for (int c = 0; c < columns; c++) sums[p][c] = add_product(sums[p][c], weight[c], input);
            }
        }
}

/* Where a tile's outputs go, and what belongs to its channels. */
typedef struct {
    float *numbers;
    const float *added; /* or NULL */
    size_t pixel;       /* numbers from one output to the next */
    const float *scales, *bias;
    const int32_t *sums;
    float unit;
    int32_t zero;
} Target;

/* Store the first `count` pixels of a tile, and add them to the row's statistics. */
INLINE void store_tile(int panels, int count, Floats (*values)[TILE_COLUMNS], Target to, Floats (*statistics)[TILE_COLUMNS]) {
    UNROLL for (int c = 0; c < panels * PARTS; c++) {
        Floats sum = statistics[SUM][c], squares = statistics[SQUARES][c];
        Floats least = statistics[LEAST][c], largest = statistics[LARGEST][c]; /* the least is negated */
        for (int p = 0; p < count; p++) {
            size_t at = p * to.pixel + c * LANES;
            Floats y = values[p][c];
            if (to.added) y += load_floats(to.added + at);
            store_floats(to.numbers + at, y);
            sum += y, squares = add_product(squares, y, y);
            least = larger(least, splat(0) - y), largest = larger(largest, y);
        }
        statistics[SUM][c] = sum, statistics[SQUARES][c] = squares;
        statistics[LEAST][c] = least, statistics[LARGEST][c] = largest;
    }
}

/* Turn a tile's sums of whole numbers into outputs. */
INLINE void scale_sums(int panels, Ints (*sums)[TILE_COLUMNS], Target to, Floats (*values)[TILE_COLUMNS]) {
    UNROLL for (int c = 0; c < panels * PARTS; c++) {
        Ints excess;
        memcpy(&excess, to.sums + c * LANES, sizeof(excess));
        excess *= (Ints){0} + to.zero;
        Floats scale = load_floats(to.scales + c * LANES) * splat(to.unit), bias = load_floats(to.bias + c * LANES);
        UNROLL for (int p = 0; p < TILE_PIXELS; p++) values[p][c] = add_product(bias, to_floats(sums[p][c] - excess), scale);
    }
}

INLINE void convolve_tile(int kind, int panels, int count, const uint8_t *weights, size_t panel_bytes, Window in, Target to,
                          Floats (*statistics)[TILE_COLUMNS]) {
    Floats values[TILE_PIXELS][TILE_COLUMNS];
    if (kind == AS_INT8) {
        Ints sums[TILE_PIXELS][TILE_COLUMNS];
        multiply_window_int8(panels, weights, panel_bytes, in, sums);
        scale_sums(panels, sums, to, values);
    } else {
        multiply_window_floats(panels, weights, panel_bytes, in, values);
        UNROLL for (int c = 0; c < panels * PARTS; c++)
            UNROLL for (int p = 0; p < TILE_PIXELS; p++) values[p][c] += load_floats(to.bias + c * LANES);
    }
    store_tile(panels, count, values, to, statistics);
}

/* Some panels of one phase of a stage's convolution. */
typedef struct {
    const Picture *picture;
    const Stage *stage;
    Quantization quantization;
    int phase, panel;
} Part;

static size_t panel_size(const Convolution *convolution) {
    return (size_t)convolution->side * convolution->side * convolution->inputs * PANEL * (convolution->kind == AS_INT8 ? 1 : 4);
}

static const uint8_t *weights_of(const Part *part) {
    const Convolution *convolution = &part->stage->convolution;
    return convolution->weights + (size_t)(part->phase * convolution->outputs / PANEL + part->panel) * panel_size(convolution);
}

/* Return what belongs to a part's channels; `aim` sets the rest. */
INLINE Target target_of(const Part *part) {
    const Convolution *convolution = &part->stage->convolution;
    size_t channel = (size_t)part->phase * convolution->outputs + part->panel * PANEL;
    return (Target){NULL, NULL, (size_t)convolution->phases * convolution->outputs, convolution->scales + channel,
                    convolution->bias + channel, convolution->sums + channel, part->quantization.unit,
                    part->quantization.zero + PIXEL_OFFSET};
}

/* Point a target at one of a phase's pixels. */
INLINE void aim(Target *to, const Part *part, int row, int column) {
    const Stage *stage = part->stage;
    const Features *out = &part->picture->features[stage->to];
    int phases = stage->convolution.phases;
    size_t pixel = ((size_t)row * phases + part->phase / phases) * out->columns + column * phases + part->phase % phases;
    size_t at = pixel * out->channels + part->panel * PANEL;
    to->numbers = out->numbers + at;
    to->added = stage->added < 0 ? NULL : part->picture->features[stage->added].numbers + at;
}

/* Return where the statistics of one of a phase's rows are stored. */
INLINE float *statistics_of(const Part *part, int row) {
    const Features *out = &part->picture->features[part->stage->to];
    int phases = part->stage->convolution.phases, out_row = row * phases + part->phase / phases;
    return out->statistics + (size_t)(out_row * phases + part->phase % phases) * STATISTICS * out->channels + part->panel * PANEL;
}

INLINE void start_statistics(int panels, Floats (*statistics)[TILE_COLUMNS]) {
    UNROLL for (int c = 0; c < panels * PARTS; c++) {
        statistics[SUM][c] = statistics[SQUARES][c] = splat(0);
        statistics[LEAST][c] = statistics[LARGEST][c] = splat(-INFINITY);
    }
}

INLINE void store_statistics(int panels, Floats (*statistics)[TILE_COLUMNS], float *to, int channels) {
    UNROLL for (int c = 0; c < panels * PARTS; c++) {
        statistics[LEAST][c] = splat(0) - statistics[LEAST][c];
        for (int s = 0; s < STATISTICS; s++) store_floats(to + s * channels + c * LANES, statistics[s][c]);
    }
}

/* Convolve some rows to some panels of one phase. `panels` is a compile-time constant. */
INLINE void convolve_rows(int kind, int panels, Part part, int first, int end) {
    const Convolution *convolution = &part.stage->convolution;
    const Features *out = &part.picture->features[part.stage->to];
    int phases = convolution->phases, columns = out->columns / phases, side = convolution->side;
    int start_row = side == 1 ? 1 : side == 2 ? part.phase / phases : 0;
    int start_column = side == 1 ? 1 : side == 2 ? part.phase % phases : 0;
    size_t pixel = convolution->inputs * (kind == AS_INT8 ? 1 : 4), panel_bytes = panel_size(convolution);
    const uint8_t *weights = weights_of(&part);
    Window in = {NULL, convolution->stride * pixel, input_stride(columns * convolution->stride) * pixel, side,
                 side * convolution->inputs};
    Target to = target_of(&part);
    for (int row = first; row < end; row++) {
        Floats statistics[STATISTICS][TILE_COLUMNS];
        start_statistics(panels, statistics);
        const uint8_t *from = part.picture->inputs + (row * convolution->stride + start_row) * in.row_bytes + start_column * pixel;
        for (int column = 0; column < columns; column += TILE_PIXELS) {
            in.numbers = from + column * in.pixel_bytes;
            aim(&to, &part, row, column);
            convolve_tile(kind, panels, min_int(TILE_PIXELS, columns - column), weights, panel_bytes, in, to, statistics);
        }
        store_statistics(panels, statistics, statistics_of(&part, row), out->channels);
    }
}

static void convolve_piece(Part part, int panels, int first, int end) {
    int kind = part.stage->convolution.kind;
    for (int last = part.panel + panels; part.panel < last; part.panel += TILE_PANELS) {
        if (last - part.panel >= TILE_PANELS && kind == AS_INT8) convolve_rows(AS_INT8, TILE_PANELS, part, first, end);
        else if (last - part.panel >= TILE_PANELS) convolve_rows(AS_FLOATS, TILE_PANELS, part, first, end);
        else if (kind == AS_INT8) convolve_rows(AS_INT8, 1, part, first, end);
        else convolve_rows(AS_FLOATS, 1, part, first, end);
    }
}

/* Run a stage that convolves. */
static void convolve(Team *team, Picture *picture, const Stage *stage, int rows, Quantization quantization) {
    const Convolution *convolution = &stage->convolution;
    int panels = convolution->outputs / PANEL, pairs = (panels + ROW_PANELS - 1) / ROW_PANELS;
    int out_rows = rows / convolution->stride, blocks = (out_rows + PIECE_ROWS - 1) / PIECE_ROWS;
    int phases = convolution->phases * convolution->phases;
    SHARE(team, piece, blocks * phases * pairs) {
        int pair = piece % pairs, phase = piece / pairs % phases, first = piece / pairs / phases * PIECE_ROWS;
        Part part = {picture, stage, quantization, phase, ROW_PANELS * pair};
        convolve_piece(part, min_int(ROW_PANELS, panels - part.panel), first, min_int(first + PIECE_ROWS, out_rows));
    }
}
