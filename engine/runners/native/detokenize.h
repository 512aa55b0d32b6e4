/* From tokens to pixels: a detokenizer's stages, one after the other. */
#pragma once

#include "grid_attention.h"
#if WINOGRAD
#include "winograd.h"
#endif

/* Run a stage that convolves. */
static void run_convolution(Team *team, int thread, Picture *picture, const Stage *stage, int rows, int columns,
                            Quantization quantization) {
#if WINOGRAD
    if (is_transformed(&stage->convolution)) {
        convolve_tiles(team, thread, picture, stage, rows, columns, quantization);
        return;
    }
#endif
    (void)thread, (void)columns;
    convolve(team, picture, stage, rows, quantization);
}

/* Return how many numbers of scratch a thread needs for a stage. */
static size_t stage_scratch(const Stage *stage, int positions, int channels) {
    if (stage->kind == ATTEND) return scratch_size(positions, channels);
#if WINOGRAD
    if (is_transformed(&stage->convolution)) return workspace_size(stage->convolution.inputs) / sizeof(float);
#endif
    return 0;
}

/* Set the sizes of a stage's outputs. */
static void size_outputs(Picture *picture, const Stage *stage) {
    const Convolution *convolution = &stage->convolution;
    Features *to = &picture->features[stage->to];
    int attends = stage->kind == ATTEND, phases = attends ? 1 : convolution->phases, stride = attends ? 1 : convolution->stride;
    to->rows = rows_of(picture, stage) / stride * phases;
    to->columns = columns_of(picture, stage) / stride * phases;
    to->channels = attends ? picture->features[stage->from].channels / 3 : convolution->outputs;
    to->summed_rows = to->rows * phases;
}

/* Set the sizes of all that a picture's stages need, in numbers or bytes. */
static void size_picture(Picture *picture, const Detokenizer *detokenizer, size_t *numbers, size_t *statistics, size_t *inputs,
                         size_t *channels) {
    picture->scratch_size = 0;
    for (int i = 0; i < detokenizer->stage_count; i++) {
        const Stage *stage = &detokenizer->stages[i];
        Features *to = &picture->features[stage->to];
        int rows = rows_of(picture, stage), columns = columns_of(picture, stage);
        size_outputs(picture, stage);
        size_t needed = stage->kind == ATTEND ? sizeof(float) * grid_size(rows * columns, to->channels)
                                              : input_size(&stage->convolution, rows, columns);
        size_t scratch = (stage_scratch(stage, rows * columns, to->channels) + 15) / 16 * 16; /* whole cache lines */
        if (scratch > picture->scratch_size) picture->scratch_size = scratch;
        /* Attention reads a whole tile past the last position. */
        size_t outputs = ((size_t)to->rows * to->columns + TILE_PIXELS) * to->channels;
        size_t sums = (size_t)to->summed_rows * STATISTICS * to->channels;
        if (outputs > numbers[stage->to]) numbers[stage->to] = outputs;
        if (sums > statistics[stage->to]) statistics[stage->to] = sums;
        if (needed > *inputs) *inputs = needed;
        if ((size_t)to->channels > *channels) *channels = to->channels;
    }
}

static void release_picture(Picture *picture) {
    for (int i = 0; i < FEATURE_SETS; i++) {
        release(picture->features[i].numbers), release(picture->features[i].statistics);
        picture->features[i] = (Features){0};
    }
    release(picture->inputs), release(picture->factors), release(picture->offsets), release(picture->scratch);
    picture->inputs = NULL, picture->factors = picture->offsets = picture->scratch = NULL;
    picture->rows = picture->columns = 0;
}

/* Allocate what a picture of this size needs, if the last one had another size; return 0 if out of memory. */
static int reserve_picture(const Team *team, Picture *picture, int rows, int columns) {
    if (picture->rows == rows && picture->columns == columns) return 1;
    release_picture(picture);
    picture->rows = rows, picture->columns = columns;
    size_t numbers[FEATURE_SETS] = {0}, statistics[FEATURE_SETS] = {0}, inputs = 0, channels = 0;
    size_picture(picture, picture->detokenizer, numbers, statistics, &inputs, &channels);
    int complete = 1;
    for (int i = 0; i < FEATURE_SETS; i++) {
        complete &= !!(picture->features[i].numbers = allocate(sizeof(float) * numbers[i] + 64));
        complete &= !!(picture->features[i].statistics = allocate(sizeof(float) * statistics[i] + 64));
    }
    complete &= !!(picture->inputs = allocate(inputs));
    complete &= !!(picture->factors = allocate(sizeof(float) * channels));
    complete &= !!(picture->offsets = allocate(sizeof(float) * channels));
    complete &= !!(picture->scratch = allocate(sizeof(float) * picture->scratch_size * team->count + 64));
    if (!complete) release_picture(picture);
    return complete;
}

/* Turn colours of 2 x 2 pixels, [rows, columns, red, green, blue of 2 x 2, ..], to bytes. */
static void write_pixels(const Picture *picture, const Features *colours, int row) {
    const float *from = colours->numbers + (size_t)row * colours->columns * colours->channels;
    for (int column = 0; column < colours->columns; column++, from += colours->channels)
        for (int colour = 0; colour < 3; colour++)
            for (int down = 0; down < 2; down++)
                for (int right = 0; right < 2; right++) {
                    float level = rintf(smaller_of(greater_of(from[4 * colour + 2 * down + right], 0), 1) * 255);
                    size_t pixel = ((size_t)2 * row + down) * 2 * colours->columns + 2 * column + right;
                    picture->pixels[3 * pixel + colour] = (uint8_t)level;
                }
}

/* Run all stages; the job of all threads. */
static void draw_picture(Team *team, int thread) {
    Picture *picture = team->picture;
    const Detokenizer *detokenizer = picture->detokenizer;
    const Features *last = NULL;
    for (int i = 0; i < detokenizer->stage_count; i++) {
        const Stage *stage = &detokenizer->stages[i];
        int rows = rows_of(picture, stage), columns = columns_of(picture, stage);
        last = &picture->features[stage->to];
        if (stage->kind == ATTEND) {
            if (thread == 0) size_outputs(picture, stage);
            attend_over_grid(team, thread, picture, stage);
            continue;
        }
        Quantization quantization = prepare_inputs(team, picture, stage, rows, columns);
        if (thread == 0) size_outputs(picture, stage);
        barrier(team);
        run_convolution(team, thread, picture, stage, rows, columns, quantization);
    }
    SHARE(team, row, last->rows) write_pixels(picture, last, row);
}
