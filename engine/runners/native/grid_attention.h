/* Attention from each position of a grid to all, with one head. */
#pragma once

#include "convolution.h"

/* Keys in panels of positions, [panels, channels, PANEL], and values in panels of channels, [panels, positions, PANEL]. Positions
 * are filled up with zeros to whole panels. */
typedef struct {
    int positions, padded, channels;
    const float *from; /* queries, keys and values: [positions, 3 * channels] */
    float *keys, *values;
} Grid;

/* Return how many numbers the keys and values take. */
static size_t grid_size(int positions, int channels) { return (size_t)2 * round_up(positions, PANEL) * channels; }

/* Return how many numbers of scratch a thread needs. */
static size_t scratch_size(int positions, int channels) {
    return (size_t)TILE_PIXELS * (round_up(positions, PANEL) + channels);
}

static void pack_keys(const Grid *grid, int panel) {
    float *to = grid->keys + (size_t)panel * grid->channels * PANEL;
    for (int i = 0; i < PANEL; i++) {
        int position = panel * PANEL + i;
        const float *from = grid->from + ((size_t)3 * position + 1) * grid->channels;
        for (int c = 0; c < grid->channels; c++) to[c * PANEL + i] = position < grid->positions ? from[c] : 0;
    }
}

static void pack_values(const Grid *grid, int panel) {
    float *to = grid->values + (size_t)panel * grid->padded * PANEL;
    for (int position = 0; position < grid->padded; position++, to += PANEL) {
        const float *from = grid->from + ((size_t)3 * position + 2) * grid->channels + panel * PANEL;
        if (position < grid->positions) memcpy(to, from, PANEL * sizeof(float));
        else memset(to, 0, PANEL * sizeof(float));
    }
}

/* Multiply a tile's rows by panels of `inputs` numbers: [TILE_PIXELS, outputs]. */
static void multiply_by_panels(const float *in, int in_stride, const float *panels, int inputs, int outputs, float *out,
                               int out_stride) {
    size_t panel_bytes = (size_t)inputs * PANEL * sizeof(float);
    Window window = {(const uint8_t *)in, in_stride * sizeof(float), 0, 1, inputs};
    int panel = 0;
#define MULTIPLY(panels_at_once)                                                                  \
    for (; panel + panels_at_once <= outputs / PANEL; panel += panels_at_once) {                  \
        Floats sums[TILE_PIXELS][TILE_COLUMNS];                                                   \
        multiply_window_floats(panels_at_once, (const uint8_t *)panels + panel * panel_bytes, panel_bytes, window, sums); \
        UNROLL for (int p = 0; p < TILE_PIXELS; p++)                                              \
            UNROLL for (int c = 0; c < panels_at_once * PARTS; c++)                               \
                store_floats(out + (size_t)p * out_stride + panel * PANEL + c * LANES, sums[p][c]); \
    }
    MULTIPLY(TILE_PANELS)
    MULTIPLY(1)
#undef MULTIPLY
}

/* Turn a row of scores into softmax weights. */
static void weigh(float *scores, const Grid *grid) {
    Floats highest[PARTS], sum[PARTS], factor = splat(1 / sqrtf((float)grid->channels));
    UNROLL for (int p = 0; p < PARTS; p++) highest[p] = splat(-INFINITY), sum[p] = splat(0);
    for (int i = 0; i < grid->padded; i += PANEL)
        UNROLL for (int p = 0; p < PARTS; p++) {
            int at = i + p * LANES;
            Floats score = keep_first(load_floats(scores + at) * factor, splat(-INFINITY), grid->positions - at);
            highest[p] = larger(highest[p], score);
            store_floats(scores + at, score);
        }
    Floats top = splat(largest_float(highest));
    for (int i = 0; i < grid->padded; i += PANEL)
        UNROLL for (int p = 0; p < PARTS; p++) {
            int at = i + p * LANES;
            Floats weight = keep_first(exp_floats(load_floats(scores + at) - top), splat(0), grid->positions - at);
            sum[p] += weight;
            store_floats(scores + at, weight);
        }
    Floats inverse = splat(1 / sum_floats(sum));
    for (int i = 0; i < grid->padded; i += LANES) store_floats(scores + i, load_floats(scores + i) * inverse);
}

/* Attend from a tile's positions. `scratch` holds the scores, [TILE_PIXELS, padded], then the result, [TILE_PIXELS, channels]. */
static void attend_from(const Grid *grid, int first, float *scratch, float *out) {
    float *result = scratch + (size_t)TILE_PIXELS * grid->padded;
    int channels = grid->channels, count = min_int(TILE_PIXELS, grid->positions - first);
    multiply_by_panels(grid->from + (size_t)3 * first * channels, 3 * channels, grid->keys, channels, grid->padded, scratch,
                       grid->padded);
    for (int i = 0; i < count; i++) weigh(scratch + (size_t)i * grid->padded, grid);
    multiply_by_panels(scratch, grid->padded, grid->values, grid->padded, channels, result, channels);
    memcpy(out + (size_t)first * channels, result, (size_t)count * channels * sizeof(float));
}

/* Run a stage that attends. */
static void attend_over_grid(Team *team, int thread, Picture *picture, const Stage *stage) {
    const Features *from = &picture->features[stage->from];
    int positions = from->rows * from->columns, channels = from->channels / 3, padded = round_up(positions, PANEL);
    float *keys = (float *)picture->inputs;
    Grid grid = {positions, padded, channels, from->numbers, keys, keys + (size_t)padded * channels};
    SHARE(team, panel, padded / PANEL) pack_keys(&grid, panel);
    SHARE(team, panel, channels / PANEL) pack_values(&grid, panel);
    float *scratch = picture->scratch + (size_t)thread * picture->scratch_size;
    SHARE(team, tile, (positions + TILE_PIXELS - 1) / TILE_PIXELS)
        attend_from(&grid, tile * TILE_PIXELS, scratch, picture->features[stage->to].numbers);
}
