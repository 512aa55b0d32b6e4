/* One step of the decoder: the logits of each row's next token. */
#pragma once

#include <string.h>

#include "attention.h"
#include "products.h"
#include "rows.h"
#include "team.h"

static float *row_at(float *array, int row, int stride) { return array + (size_t)row * stride; }

/* Write a row to the input of a product, normalised if `norm` is not NULL, and quantized if the product's weights are. */
static void prepare_input(Team *team, int row, const float *x, int count, const Norm *norm, const Product *product) {
    float *input = row_at(team->buffers.inputs, row, INPUT_STRIDE);
    if (norm) normalise(x, count, *norm, team->model->epsilon, input);
    else memcpy(input, x, count * sizeof(float));
    if (product->kind >= AS_INT8) quantize_row(&team->buffers, row, product, count);
}

/* Begin a layer, or the logits: add the last product's output to the state, and prepare the next product's input. */
static void begin_layer(Team *team, int thread, int is_first, const Norm *norm, const Product *product) {
    const Model *model = team->model;
    int width = model->width;
    SHARE_EVENLY(team, thread, row, team->rows->count) {
        float *state = row_at(team->buffers.state, row, width);
        if (is_first) embed(model, team->rows->tokens[row], team->rows->positions[row], state);
        else add(state, row_at(team->buffers.outputs, row, team->buffers.output_stride), width);
        prepare_input(team, row, state, width, norm, product);
    }
    add_time(team, thread, ROWS);
}

/* Multiply all rows by a product's weights; the time counts as `part`, and `after` is the product that follows. */
static void project(Team *team, int thread, int part, const Product *product, const Product *after) {
    multiply(team, thread, product, after, team->buffers.outputs, team->buffers.output_stride);
    add_time(team, thread, part);
}

/* Run self-attention, or attention to the prompt: the product before it, attention, and the product behind it. */
static void run_attention(Team *team, int thread, int layer, int to_text, const Product *in, const Product *out,
                          const Product *after) {
    int width = team->model->width, products = to_text ? TEXT_PRODUCTS : SELF_PRODUCTS;
    project(team, thread, products, in, out);
    attend_all(team, thread, layer, to_text);
    add_time(team, thread, to_text ? TEXT_ATTENTION : SELF_ATTENTION);
    SHARE_EVENLY(team, thread, row, team->rows->count)
        prepare_input(team, row, row_at(team->buffers.attended, row, width), width, NULL, out);
    add_time(team, thread, ROWS);
    project(team, thread, products, out, after);
}

/* Add the normalised output of attention to the state, and prepare the next product's input. */
static void finish_attention(Team *team, int thread, const Norm *norm, const Norm *next_norm, const Product *next) {
    int width = team->model->width;
    SHARE_EVENLY(team, thread, row, team->rows->count) {
        float *state = row_at(team->buffers.state, row, width);
        float *output = row_at(team->buffers.outputs, row, team->buffers.output_stride);
        normalise(output, width, *norm, team->model->epsilon, output);
        add(state, output, width);
        prepare_input(team, row, state, width, next_norm, next);
    }
    add_time(team, thread, ROWS);
}

/* Run the gated linear unit (Shazeer, "GLU Variants Improve Transformer", 2020), with min-dalle's norm in its middle. */
static void run_glu(Team *team, int thread, const Layer *layer, const Product *after) {
    int middle = team->model->middle;
    project(team, thread, GLU_PRODUCTS, &layer->glu_gates, &layer->glu_out);
    SHARE_EVENLY(team, thread, row, team->rows->count) {
        float *gates = row_at(team->buffers.outputs, row, team->buffers.output_stride);
        gate(gates, middle);
        prepare_input(team, row, gates, middle, &layer->glu_middle, &layer->glu_out);
    }
    add_time(team, thread, ROWS);
    project(team, thread, GLU_PRODUCTS, &layer->glu_out, after);
}

/* Run a step; the job of all threads. The calling thread is number 0. */
static void run_step(Team *team, int thread) {
    const Model *model = team->model;
    add_time(team, thread, STEP_PARTS);
    for (int index = 0; index < model->layer_count; index++) {
        const Layer *layer = &model->layers[index];
        const Product *after = index + 1 < model->layer_count ? &layer[1].self_qkv : &model->head;
        begin_layer(team, thread, index == 0, &layer->before_self, &layer->self_qkv);
        run_attention(team, thread, index, 0, &layer->self_qkv, &layer->self_out, &layer->text_query);
        finish_attention(team, thread, &layer->after_self, &layer->before_text, &layer->text_query);
        run_attention(team, thread, index, 1, &layer->text_query, &layer->text_out, &layer->glu_gates);
        finish_attention(team, thread, &layer->after_text, &layer->glu_in, &layer->glu_gates);
        run_glu(team, thread, layer, after);
    }
    begin_layer(team, thread, 0, &model->final_norm, &model->head);
    const Product *first = &model->layers->self_qkv;
    multiply(team, thread, &model->head, first, team->rows->logits, round_up(model->head.outputs, PIECE));
    add_time(team, thread, LOGITS);
}
