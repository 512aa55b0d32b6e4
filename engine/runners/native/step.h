/* One step of the decoder: the rows' next token. */
#pragma once

#include <string.h>

#include "attention.h"
#include "products.h"
#include "rows.h"
#include "team.h"

static float *row_of(float *array, int row, int stride) { return array + (size_t)row * stride; }

/* Give a row to a product: normalised if there is a norm. */
static void hand_over(Team *team, int row, const float *x, int count, const Norm *norm, const Product *product) {
    float *input = row_of(team->space.inputs, row, STRIDE);
    if (norm) normalise(x, count, *norm, team->model->epsilon, input);
    else memcpy(input, x, count * sizeof(float));
    if (product->kind >= INT8) round_row(&team->space, row, product, count);
}

/* Begin a layer, or the logits: add what the layer before has made to the state, and give that to a product. */
static void begin(Team *team, int self, int is_first, const Norm *norm, const Product *product) {
    const Model *model = team->model;
    int width = model->width;
    SHARE_EVENLY(team, self, row, team->rows->count) {
        float *state = row_of(team->space.state, row, width);
        if (is_first) normalise(team->rows->embedded + (size_t)row * width, width, model->embedding_norm, model->epsilon, state);
        else add(state, row_of(team->space.outputs, row, team->space.widest_out), width);
        hand_over(team, row, state, width, norm, product);
    }
    note(team, self, ROWS);
}

/* Multiply all rows; the time counts as `kind`, and `after` is the product that comes next. */
static void project(Team *team, int self, int kind, const Product *product, const Product *after) {
    multiply(team, self, product, after, team->space.outputs, team->space.widest_out);
    note(team, self, kind);
}

/* Attend to the row's own positions or to its prompt: the query's product, attention, and the output's. */
static void attend_between(Team *team, int self, int layer, int to_text, const Product *in, const Product *out, const Product *after) {
    int width = team->model->width, products = to_text ? TEXT_PRODUCTS : SELF_PRODUCTS;
    project(team, self, products, in, out);
    attend_all(team, self, layer, to_text);
    note(team, self, to_text ? TEXT_ATTENTION : SELF_ATTENTION);
    SHARE_EVENLY(team, self, row, team->rows->count) hand_over(team, row, row_of(team->space.mixed, row, width), width, NULL, out);
    note(team, self, ROWS);
    project(team, self, products, out, after);
}

/* Add what attention has made, normalised, to the state, and give that to the next product. */
static void end_attention(Team *team, int self, const Norm *norm, const Norm *next_norm, const Product *next) {
    int width = team->model->width;
    SHARE_EVENLY(team, self, row, team->rows->count) {
        float *state = row_of(team->space.state, row, width), *made = row_of(team->space.outputs, row, team->space.widest_out);
        normalise(made, width, *norm, team->model->epsilon, made);
        add(state, made, width);
        hand_over(team, row, state, width, next_norm, next);
    }
    note(team, self, ROWS);
}

/* The gated linear unit (Shazeer, "GLU Variants Improve Transformer", 2020), with min-dalle's norm in its middle. */
static void run_glu(Team *team, int self, const Layer *layer, const Product *after) {
    int middle = team->model->middle;
    project(team, self, GLU_PRODUCTS, &layer->glu_gates, &layer->glu_out);
    SHARE_EVENLY(team, self, row, team->rows->count) {
        float *gates = row_of(team->space.outputs, row, team->space.widest_out);
        gate(gates, middle);
        hand_over(team, row, gates, middle, &layer->glu_middle, &layer->glu_out);
    }
    note(team, self, ROWS);
    project(team, self, GLU_PRODUCTS, &layer->glu_out, after);
}

/* All threads run this, side by side; `self` is a thread's number, the caller's is 0. */
static void run_step(Team *team, int self) {
    const Model *model = team->model;
    note(team, self, KINDS);
    for (int index = 0; index < model->layer_count; index++) {
        const Layer *layer = &model->layers[index];
        const Product *after = index + 1 < model->layer_count ? &layer[1].self_qkv : &model->head;
        begin(team, self, index == 0, &layer->before_self, &layer->self_qkv);
        attend_between(team, self, index, 0, &layer->self_qkv, &layer->self_out, &layer->text_query);
        end_attention(team, self, &layer->after_self, &layer->before_text, &layer->text_query);
        attend_between(team, self, index, 1, &layer->text_query, &layer->text_out, &layer->glu_gates);
        end_attention(team, self, &layer->after_text, &layer->glu_in, &layer->glu_gates);
        run_glu(team, self, layer, after);
    }
    begin(team, self, 0, &model->final_norm, &model->head);
    const Product *first = &model->layers->self_qkv;
    multiply(team, self, &model->head, first, team->rows->logits, whole(model->head.outputs, WIDE * LANES));
    note(team, self, LOGITS);
}
