/* Matrix products, computed in tiles: some panels of output channels by some rows. */
#pragma once

#include <string.h>

#include "team.h"

/* The rows of a tile: as floats, or quantized, with the scale and the sum of each group. */
typedef struct {
    const float *x;
    const uint8_t *quantized;
    const float *scales, *sums;
} Operand;

#if STRIP_ROWS == MAX_TILE_ROWS
#define UNROLL_ROWS UNROLL
#else
#define UNROLL_ROWS
#endif
#define COLUMNS (PIECE / LANES) /* registers of a piece's channels */
/* Whether a group's weights of 4 bits, or of 7 or 8, are unpacked once for all strips of a tile, which has one panel then. */
#define UNPACKS_INT4(panels) (STRIP_ROWS < MAX_TILE_ROWS && (panels) == 1)
#define UNPACKS_INT8(kind, panels) (UNPACKS_INT4(panels) && IS_PACKED(kind))

/* How far ahead weights are prefetched, in bytes: to the first cache, and to the second. */
typedef struct {
    size_t to_first, to_second;
} Ahead;

/* Return where a distance ahead of some weights leads, which are `at` bytes behind the start of their panel. When a panel ends, the
 * one that is computed next in its place is `panels` panels further. */
INLINE size_t follow_panels(size_t distance, size_t at, size_t panel_bytes, int panels) {
    return distance + (at + distance < panel_bytes ? 0 : (panels - 1) * panel_bytes);
}

INLINE Ahead ahead_of(int rows, size_t at, size_t panel_bytes, int panels) {
    size_t to_first = rows <= FEW_ROWS ? PREFETCH_BYTES : PREFETCH_BYTES / 2, to_second = 4 * PREFETCH_BYTES;
    return (Ahead){follow_panels(to_first, at, panel_bytes, panels), follow_panels(to_second, at, panel_bytes, panels)};
}

/* Prefetch weights. With few rows, memory is the limit, and one prefetch, to the first cache, is best. Many rows keep the core
 * busy for longer, so that a second one, to the second cache, pays. */
INLINE void prefetch_weights(int rows, const uint8_t *weights, Ahead ahead) {
    __builtin_prefetch(weights + ahead.to_first, 0, 3);
    if (rows > FEW_ROWS) __builtin_prefetch(weights + ahead.to_second, 0, 2);
}

/* The rows of a tile whose sums are in registers, from `first` on. Each group of inputs is multiplied strip by strip, so that its
 * weights come from memory once. */
typedef struct {
    int rows, first; /* `rows` are the tile's */
    int count, panels; /* compile-time constants */
} Strip;

/* Run a function for each strip of a tile; all strips are about as high. */
#if STRIP_ROWS == MAX_TILE_ROWS
#define FOR_STRIPS(rows, panels, function, ...) function(((Strip){rows, 0, rows, panels}), __VA_ARGS__)
#else
#define FOR_STRIPS(rows, panels, function, ...)                                                   \
    for (int strips_ = (rows + STRIP_ROWS - 1) / STRIP_ROWS, i_ = 0; i_ < strips_; i_++) {        \
        int first_ = rows * i_ / strips_;                                                         \
        switch (8 * panels + rows * (i_ + 1) / strips_ - first_) {                                \
            STRIPS(STRIP, rows, first_, function, __VA_ARGS__)                                    \
        default: __builtin_unreachable();                                                         \
        }                                                                                         \
    }
#define STRIP(count, panels, rows, first, function, ...)                                          \
    case 8 * panels + count: function(((Strip){rows, first, count, panels}), __VA_ARGS__); break;
#endif

/* Return the address of a column's weights: a panel has PARTS columns. */
INLINE const uint8_t *column_at(const uint8_t *weights, size_t panel_bytes, int column, size_t register_bytes) {
    return weights + column / PARTS * panel_bytes + column % PARTS * register_bytes;
}

INLINE Floats widen(int kind, const uint8_t *weights) {
    if (kind == AS_FLOATS) return load_floats(weights);
    if (kind == AS_HALVES) return load_halves(weights);
    return (Floats)(widen_shorts(weights) << 16);
}

INLINE void strip_of_floats(Strip strip, int kind, const uint8_t *weights, size_t panel_bytes, int first, int end, const float *x,
                            Floats (*sums)[COLUMNS]) {
    size_t size = kind == AS_FLOATS ? 4 : 2;
    int columns = strip.panels * PARTS;
    Floats own[STRIP_ROWS][COLUMNS];
    UNROLL for (int r = 0; r < strip.count; r++)
        UNROLL for (int c = 0; c < columns; c++) own[r][c] = sums[strip.first + r][c];
    for (int i = first; i < end; i += 2) { /* two rows of 16-bit weights fill a cache line */
        if (strip.first == 0) {
            Ahead ahead = ahead_of(strip.rows, size * PANEL * i, panel_bytes, strip.panels);
            UNROLL for (int p = 0; p < strip.panels; p++) {
                prefetch_weights(strip.rows, weights + p * panel_bytes + size * PANEL * i, ahead);
                if (kind == AS_FLOATS) prefetch_weights(strip.rows, weights + p * panel_bytes + size * PANEL * (i + 1), ahead);
            }
        }
        UNROLL for (int j = i; j < i + 2; j++) {
            Floats weight[COLUMNS];
            UNROLL for (int c = 0; c < columns; c++)
                weight[c] = widen(kind, column_at(weights, panel_bytes, c, size * LANES) + size * PANEL * j);
            UNROLL for (int r = 0; r < strip.count; r++) {
                Floats input = splat(x[(strip.first + r) * INPUT_STRIDE + j]);
                UNROLL for (int c = 0; c < columns; c++) own[r][c] = add_product(own[r][c], weight[c], input);
            }
        }
    }
    UNROLL for (int r = 0; r < strip.count; r++)
        UNROLL for (int c = 0; c < columns; c++) sums[strip.first + r][c] = own[r][c];
}

INLINE void multiply_floats(int kind, int rows, int panels, const Product *product, int panel, Operand in,
                            Floats (*sums)[COLUMNS]) {
    size_t panel_bytes = (kind == AS_FLOATS ? 4 : 2) * (size_t)PANEL * product->inputs;
    int step = rows <= STRIP_ROWS ? product->inputs : GROUP;
    for (int i = 0; i < product->inputs; i += step)
        FOR_STRIPS(rows, panels, strip_of_floats, kind, product->weights + panel * panel_bytes, panel_bytes, i,
                   min_int(i + step, product->inputs), in.x, sums);
}

/* Unpack a group's weights of 7 or 8 bits for all strips. */
INLINE void unpack_int8(int kind, int rows, const uint8_t *weights, Ahead ahead, Weights8 (*unpacked)[PARTS]) {
    for (int i = 0; i < GROUP / 4; i++, weights += 4 * PANEL) {
        prefetch_weights(rows, weights, ahead);
        UNROLL for (int turn = 0; turn < TURNS(kind); turn++)
            UNROLL for (int c = 0; c < PARTS; c++)
                unpacked[i * TURNS(kind) + turn][c] = load_weights(kind, weights + c * 4 * LANES, turn);
    }
}

/* Multiply a group of inputs by weights of 8 bits, stored as 0 to 255 for -128 to 127, or of 7, as 0 to 128 for -64 to 64. */
INLINE void strip_of_int8(Strip strip, int kind, float excess, const uint8_t *weights, size_t panel_bytes, Ahead ahead,
                          const Weights8 (*unpacked)[PARTS], int group, Operand in, Floats (*sums)[COLUMNS]) {
    int columns = strip.panels * PARTS;
    Ints dots[STRIP_ROWS][COLUMNS];
    UNROLL for (int r = 0; r < strip.count; r++)
        UNROLL for (int c = 0; c < columns; c++) dots[r][c] = (Ints){0};
    for (int i = 0; i < GROUP; i += 4 * FOURS)
        UNROLL for (int four = 0; four < FOURS; four++, weights += 4 * PANEL, unpacked += TURNS(kind)) {
            if (!UNPACKS_INT8(kind, strip.panels) && strip.first == 0)
                UNROLL for (int p = 0; p < strip.panels; p++) prefetch_weights(strip.rows, weights + p * panel_bytes, ahead);
            UNROLL for (int turn = 0; turn < TURNS(kind); turn++) {
                Weights8 weight[COLUMNS];
                UNROLL for (int c = 0; c < columns; c++)
                    weight[c] = UNPACKS_INT8(kind, strip.panels)
                                    ? unpacked[turn][c]
                                    : load_weights(kind, column_at(weights, panel_bytes, c, 4 * LANES), turn);
                UNROLL for (int r = 0; r < strip.count; r++) {
                    const uint8_t *row = in.quantized + (strip.first + r) * INPUT_STRIDE * INPUT_BYTES;
                    Inputs inputs = load_inputs(kind, row, group * GROUP + i, four, turn);
                    UNROLL for (int c = 0; c < columns; c++) dots[r][c] = dot_weights(kind, dots[r][c], weight[c], inputs, four);
                }
            }
        }
    UNROLL for (int r = 0; r < strip.count; r++) {
        int at = (strip.first + r) * MAX_GROUPS + group;
        Floats scale = splat(in.scales[at]), more = splat(excess * in.sums[at]), *to = sums[strip.first + r];
        UNROLL for (int c = 0; c < columns; c++) /* whole numbers below 2^24: exact */
            to[c] = add_product(to[c], to_floats(dots[r][c]) - more, scale);
    }
}

INLINE void multiply_int8(int kind, int rows, int panels, const Product *product, int panel, Operand in, Floats (*sums)[COLUMNS]) {
    size_t panel_bytes = (size_t)PANEL * product->inputs;
    const uint8_t *weights = product->weights + panel * panel_bytes;
    float excess = product->kind == AS_INT7 ? EXCESS - 64 : EXCESS;
    Weights8 unpacked[GROUP / 4 * TURNS(kind)][PARTS];
    for (int group = 0; group < product->groups; group++, weights += GROUP * PANEL) {
        Ahead ahead = ahead_of(rows, (size_t)group * GROUP * PANEL, panel_bytes, panels);
        if (UNPACKS_INT8(kind, panels)) unpack_int8(kind, rows, weights, ahead, unpacked);
        FOR_STRIPS(rows, panels, strip_of_int8, kind, excess, weights, panel_bytes, ahead, unpacked, group, in, sums);
    }
    UNROLL_ROWS for (int r = 0; r < rows; r++)
        UNROLL for (int c = 0; c < panels * PARTS; c++) sums[r][c] *= load_floats(product->scales + panel * PANEL + c * LANES);
}

/* Of 8 inputs' weights of 4 bits, the first four are in the lower halves of the bytes, and the others in the upper ones. */
INLINE Bytes half_of(Bytes both, int four) { return four % 2 ? both >> 4 : both & 15; }

/* Unpack a group's weights of 4 bits for all strips. */
INLINE void unpack_int4(int rows, const uint8_t *weights, Ahead ahead, Bytes (*unpacked)[PARTS]) {
    for (int i = 0; i < GROUP / 4; i += 2, weights += 4 * PANEL) {
        prefetch_weights(rows, weights, ahead);
        UNROLL for (int c = 0; c < PARTS; c++) {
            Bytes both = load_bytes(weights + c * 4 * LANES);
            UNROLL for (int four = 0; four < 2; four++) unpacked[i + four][c] = half_of(both, four);
        }
    }
}

/* Multiply a group of inputs by weights of 4 bits. `scales` and `zeros` are the first panel's. */
INLINE void strip_of_int4(Strip strip, const Product *product, const uint8_t *weights, size_t panel_bytes, Ahead ahead,
                          const Bytes (*unpacked)[PARTS], const float *scales, const uint8_t *zeros, int group, Operand in,
                          Floats (*sums)[COLUMNS]) {
    enum { AT_ONCE = FOURS < 2 ? 2 : FOURS };
    int columns = strip.panels * PARTS;
    Ints dots[STRIP_ROWS][COLUMNS];
    UNROLL for (int r = 0; r < strip.count; r++)
        UNROLL for (int c = 0; c < columns; c++) dots[r][c] = (Ints){0};
    for (int start = 0; start < GROUP; start += 4 * SMALL_FOURS) {
        Ints small[STRIP_ROWS][COLUMNS];
        UNROLL for (int r = 0; r < strip.count; r++)
            UNROLL for (int c = 0; c < columns; c++) small[r][c] = (Ints){0};
        for (int i = start; i < start + 4 * SMALL_FOURS; i += 4 * AT_ONCE)
            UNROLL for (int four = 0; four < AT_ONCE; four++, unpacked++) {
                if (!UNPACKS_INT4(strip.panels) && four % 2 == 0)
                    UNROLL for (int p = 0; p < strip.panels; p++) prefetch_weights(strip.rows, weights + p * panel_bytes, ahead);
                Bytes weight[COLUMNS];
                UNROLL for (int c = 0; c < columns; c++)
                    weight[c] = UNPACKS_INT4(strip.panels) ? (*unpacked)[c]
                                                           : half_of(load_bytes(column_at(weights, panel_bytes, c, 4 * LANES)), four);
                UNROLL for (int r = 0; r < strip.count; r++) {
                    const uint8_t *row = in.quantized + (strip.first + r) * INPUT_STRIDE * INPUT_BYTES;
                    Inputs inputs = load_byte_inputs(row, group * GROUP + i, four);
                    UNROLL for (int c = 0; c < columns; c++) small[r][c] = dot_small(small[r][c], weight[c], inputs, four);
                }
                if (four % 2) weights += 4 * PANEL;
            }
        UNROLL for (int r = 0; r < strip.count; r++)
            UNROLL for (int c = 0; c < columns; c++)
                dots[r][c] += whole_sums(small[r][c]);
    }
    Floats zero[COLUMNS], weight_scale[COLUMNS];
    UNROLL for (int c = 0; c < columns; c++) {
        size_t at = (size_t)(c / PARTS) * product->groups * PANEL + c % PARTS * LANES;
        zero[c] = to_floats(widen_bytes(zeros + at));
        weight_scale[c] = load_floats(scales + at);
    }
    UNROLL for (int r = 0; r < strip.count; r++) {
        int at = (strip.first + r) * MAX_GROUPS + group;
        Floats scale = splat(in.scales[at]), sum = splat(in.sums[at]), *to = sums[strip.first + r];
        UNROLL for (int c = 0; c < columns; c++) {
            Floats dot = subtract_product(to_floats(dots[r][c]), zero[c], sum); /* whole numbers below 2^24: exact */
            to[c] = add_product(to[c], dot * weight_scale[c], scale);
        }
    }
}

INLINE void multiply_int4(int rows, int panels, const Product *product, int panel, Operand in, Floats (*sums)[COLUMNS]) {
    size_t panel_bytes = (size_t)PANEL * product->inputs / 2;
    const uint8_t *weights = product->weights + panel * panel_bytes;
    Bytes unpacked[GROUP / 4][PARTS];
    for (int group = 0; group < product->groups; group++, weights += GROUP * PANEL / 2) {
        size_t at = ((size_t)panel * product->groups + group) * PANEL;
        Ahead ahead = ahead_of(rows, (size_t)group * GROUP * PANEL / 2, panel_bytes, panels);
        if (UNPACKS_INT4(panels)) unpack_int4(rows, weights, ahead, unpacked);
        FOR_STRIPS(rows, panels, strip_of_int4, product, weights, panel_bytes, ahead, unpacked, product->scales + at,
                   product->zeros + at, group, in, sums);
    }
}

/* `panels`, and `rows` if a tile is one strip, are compile-time constants, so that sums stay in registers. */
INLINE void multiply_tile(int rows, int panels, const Product *product, int panel, Operand in, float *out, int out_stride) {
    Floats sums[MAX_TILE_ROWS][COLUMNS];
    UNROLL_ROWS for (int r = 0; r < rows; r++)
        UNROLL for (int c = 0; c < panels * PARTS; c++) sums[r][c] = splat(0);
    switch (product->kind) {
    case AS_FLOATS: multiply_floats(AS_FLOATS, rows, panels, product, panel, in, sums); break;
    case AS_HALVES: multiply_floats(AS_HALVES, rows, panels, product, panel, in, sums); break;
    case AS_BFLOATS: multiply_floats(AS_BFLOATS, rows, panels, product, panel, in, sums); break;
    case AS_INT8: multiply_int8(AS_INT8, rows, panels, product, panel, in, sums); break;
    case AS_INT7: multiply_int8(HAS_INT7 ? AS_INT7 : AS_INT8, rows, panels, product, panel, in, sums); break;
    case AS_INT4: multiply_int4(rows, panels, product, panel, in, sums); break;
    }
    UNROLL_ROWS for (int r = 0; r < rows; r++)
        UNROLL for (int c = 0; c < panels * PARTS; c++) store_floats(out + (size_t)r * out_stride + c * LANES, sums[r][c]);
}

static int tiles_of(int rows) { return (rows + MAX_TILE_ROWS - 1) / MAX_TILE_ROWS; }

/* Return how many panels are computed together. */
static int panels_at_once(int rows) {
    int tall = (rows + tiles_of(rows) - 1) / tiles_of(rows);
    return PANELS_AT_ONCE(tall);
}

static void multiply_panels(const Product *product, int panel, const Buffers *buffers, int rows, float *out, int out_stride) {
    int tiles = tiles_of(rows), panels = panels_at_once(rows);
    for (int p = panel; p < panel + PIECE_PANELS; p += panels)
        for (int tile = 0; tile < tiles; tile++) {
            int row = rows * tile / tiles, count = rows * (tile + 1) / tiles - row;
            size_t at = (size_t)row * INPUT_STRIDE;
            int group = row * MAX_GROUPS;
            Operand in = {buffers->inputs + at, buffers->quantized + at * INPUT_BYTES, buffers->scales + group, buffers->sums + group};
            float *to = out + (size_t)row * out_stride + p * PANEL;
#if STRIP_ROWS == MAX_TILE_ROWS
#define TILE(count, panels) case 8 * count + panels: multiply_tile(count, panels, product, p, in, to, out_stride); break;
            switch (8 * count + panels) { TILES(TILE) }
#undef TILE
#else
            if (panels == 2) multiply_tile(count, 2, product, p, in, to, out_stride);
            else multiply_tile(count, 1, product, p, in, to, out_stride);
#endif
        }
}

static size_t bytes_of_panel(const Product *product) {
    static const double sizes[] = {[AS_FLOATS] = 4, [AS_HALVES] = 2, [AS_BFLOATS] = 2, [AS_INT8] = 1, [AS_INT7] = 1, [AS_INT4] = 0.5};
    return (size_t)(product->inputs * PANEL * sizes[product->kind]);
}

/* Prefetch the first weights of a piece. */
static void prefetch_piece(const Product *product, int piece, int rows) {
    size_t bytes = bytes_of_panel(product);
    for (int p = 0; p < panels_at_once(rows); p++)
        prefetch(product->weights + (piece * PIECE_PANELS + p) * bytes, PREFETCH_BYTES);
}

static int pieces_of(const Product *product) { return round_up(product->outputs, PIECE) / PIECE; }

/* Return how many pieces each thread has from the start, one behind the other. They are three quarters of all: to take a shared
 * piece, threads write to the same memory, which costs about a tenth of a small piece's time. */
static int own_pieces(const Team *team, const Product *product) {
    int own = pieces_of(product) * 3 / (4 * team->count);
    return own ? own : 1;
}

/* Multiply all rows by a product's weights; `after` is the product that follows. */
static void multiply(Team *team, int thread, const Product *product, const Product *after, float *out, int out_stride) {
    int pieces = pieces_of(product), own = own_pieces(team, product), rows = team->rows->count;
    for (int piece = thread * own, done = 1; piece < pieces; done++) {
        int next = done < own ? piece + 1 : take_shared_piece(team, own);
        if (next < pieces) prefetch_piece(product, next, rows);
        else prefetch_piece(after, thread * own_pieces(team, after), rows);
        multiply_panels(product, piece * PIECE_PANELS, &team->buffers, rows, out, out_stride);
        piece = next;
    }
    barrier(team);
}
