/* Drawing the next tokens of some images: steps of the decoder, after each a token of every image. */
#pragma once

#include "sample.h"
#include "step.h"

/* The images have two rows each, without the text and with it. */
typedef struct Drawing {
    int32_t count; /* images */
    int32_t steps; /* at most; when it ends, those that were done */
    double seconds; /* that it may take; the first step is always done */
    const Draw *draws;
    int32_t *tokens, *positions; /* [2 * count], the rows'; when it ends, those of the next step */
    DrawnToken *drawn; /* [steps, count] */
    int32_t is_last; /* whether the step is */
} Drawing;

static void draw_next(Team *team, int thread, int step, int image) {
    const Drawing *drawing = team->drawing;
    int vocabulary = team->model->head.outputs, row = 2 * image;
    size_t stride = round_up(vocabulary, PIECE);
    const float *negative = team->rows->logits + row * stride;
    Draw draw = drawing->draws[image];
    SampleBuffers buffers = sample_buffers(team->sample_memory + thread * sample_bytes(vocabulary), vocabulary);
    DrawnToken drawn = sample(negative, negative + stride, vocabulary, draw, draw.uniforms[drawing->positions[row]], buffers);
    drawing->drawn[(size_t)step * drawing->count + image] = drawn;
    for (int i = row; i < row + 2; i++) drawing->tokens[i] = drawn.token, drawing->positions[i]++;
}

/* Draw until all steps are done, or another one would end too late; the job of all threads. The caller may free the drawing after
 * the last barrier, so other threads read it no more. */
static void run_drawing(Team *team, int thread) {
    Drawing *drawing = team->drawing;
    double started = seconds_now(), end = started + drawing->seconds;
    for (int step = 0, is_last = 0; !is_last; step++) {
        if (thread == 0) drawing->is_last = step + 1 == drawing->steps || started + 2 * team->step_seconds > end;
        run_step(team, thread);
        is_last = drawing->is_last;
        if (thread == 0 && is_last) drawing->steps = step + 1;
        SHARE(team, image, drawing->count) draw_next(team, thread, step, image);
        add_time(team, thread, SAMPLING);
        if (thread == 0) {
            double now = seconds_now();
            team->step_seconds = now - started, started = now;
        }
    }
}
