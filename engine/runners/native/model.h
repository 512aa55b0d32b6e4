/* The structures that decoder.py fills, and what all parts know of them. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#define LANES 16      /* floats in a register */
#define GROUP 128     /* inputs that share a scale when they are rounded to 8 bits, and weights of 4 bits */
#define TALL 18       /* rows that are computed together at most, */
#define WIDE 4        /* and panels: 16 output channels, a register, each */
#define FEW 6         /* rows that take all of those at once */
#define STRIDE 4160   /* from one row's inputs to the next: known to the compiler, so that addresses cost nothing; no power of
                         two, for the cache */
#define GROUPS (STRIDE / GROUP)
#define AHEAD 2048    /* bytes: how far ahead weights are asked for */
#define LONGEST 256   /* positions that are attended to */
#define WIDEST_HEAD 256
#define ALWAYS static inline __attribute__((always_inline))

enum { FLOATS, HALVES, BFLOATS, INT8, INT4 };

typedef struct {
    int32_t kind, inputs, outputs, groups; /* inputs of INT8 and INT4 are filled up to whole groups */
    const uint8_t *weights;                /* panels of LANES output channels, a multiple of WIDE */
    const float *scales;                   /* INT8: [outputs]; INT4: [panels, groups, LANES] */
    const uint8_t *zeros;                  /* INT4: [panels, groups, LANES] */
} Product;

typedef struct {
    const float *scale, *bias;
} Norm;

typedef struct {
    Norm before_self, after_self, before_text, after_text, glu_in, glu_middle;
    Product self_qkv, self_out, text_query, text_out, glu_gates, glu_out;
} Layer;

typedef struct {
    int32_t width, heads, middle, layer_count, own_length, kept; /* kept: how keys and values are */
    float epsilon;
    Norm embedding_norm, final_norm;
    Product head;
    const Layer *layers;
} Model;

/* What the rows of one step are: their state [rows, width], positions, and where their keys and values lie. */
typedef struct {
    int32_t count;
    const float *embedded;
    const int32_t *positions, *text_lengths;
    uint8_t *const *own, *const *text;
    float *logits; /* [rows, outputs of the head, filled up to whole panels] */
} Rows;

/* What lies between two products. */
typedef struct {
    int32_t capacity, widest_out;
    float *state, *inputs, *outputs, *mixed; /* [rows, width | STRIDE | widest_out | width] */
    int8_t *rounded;                         /* [rows, STRIDE]: the inputs, where they are rounded, */
    float *scales;                           /* [rows, GROUPS]: by what, */
    int32_t *sums;                           /* [rows, GROUPS]: and each group's sum */
} Space;

static int least(int a, int b) { return a < b ? a : b; }
static int whole(int count, int unit) { return (count + unit - 1) / unit * unit; }
