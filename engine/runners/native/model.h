/* The structures that decoder.py fills, and the constants and helpers of all headers. The compiler's command line defines GROUP,
 * PIECE, MAX_LENGTH, MAX_HEAD_WIDTH and MAX_WIDTH, with the values of layout.py. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "simd.h"

#define PIECE_PANELS (PIECE / PANEL) /* panels of a piece, the most that are computed together */
#define MAX_TILE_ROWS 18             /* rows that are computed together, at most */
#define FEW_ROWS 6                   /* up to so many rows are computed with all panels of a piece */
#define PREFETCH_BYTES 2048          /* how far ahead weights are prefetched */
/* From one row's inputs to the next: a constant, so that the compiler folds it into addresses; not a power of two, so that rows
 * do not compete for the same cache lines. */
#define INPUT_STRIDE (MAX_WIDTH + 64)
#define MAX_GROUPS (INPUT_STRIDE / GROUP)

typedef struct {
    int32_t kind, inputs, outputs, groups; /* inputs of whole numbers are padded to whole groups */
    const uint8_t *weights;                /* panels of PANEL output channels; their number is a multiple of PIECE_PANELS */
    const float *scales;                   /* AS_INT8, AS_INT7: [outputs]; AS_INT4: [panels, groups, PANEL] */
    const uint8_t *zeros;                  /* AS_INT4: [panels, groups, PANEL] */
} Product;

typedef struct {
    const float *scale, *bias;
} Norm;

/* Embeddings, [numbers, width], as halves or floats. */
typedef struct {
    int32_t are_halves;
    const uint8_t *numbers;
} Table;

typedef struct {
    Norm before_self, after_self, before_text, after_text, glu_in, glu_middle;
    Product self_qkv, self_out, text_query, text_out, glu_gates, glu_out;
} Layer;

typedef struct {
    int32_t width, heads, middle, layer_count, image_length, cache_type;
    float epsilon;
    Table tokens, positions;
    Norm embedding_norm, final_norm;
    Product head;
    const Layer *layers;
} Model;

/* The rows of one step: their tokens, the tokens' positions, and the addresses of their keys and values. */
typedef struct {
    int32_t count;
    const int32_t *tokens, *positions, *text_lengths;
    uint8_t *const *image_cache, *const *text_cache;
    float *logits; /* [rows, outputs of the head, padded to whole pieces] */
} Rows;

/* Intermediate results of a step. */
typedef struct {
    int32_t capacity, output_stride;
    float *state, *inputs, *outputs, *attended; /* [rows, width | INPUT_STRIDE | output_stride | width] */
    uint8_t *quantized;                         /* [rows, INPUT_STRIDE * INPUT_BYTES]: the inputs in int8, */
    float *scales, *sums;                       /* [rows, MAX_GROUPS]: the scale of each group, and the sum in int8 */
} Buffers;

static int min_int(int a, int b) { return a < b ? a : b; }
static int round_up(int count, int unit) { return (count + unit - 1) / unit * unit; }
