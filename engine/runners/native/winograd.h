/* Convolutions of 3 x 3 pixels by Winograd's F(4 x 4, 3 x 3), for instruction sets where a quarter of the products, but of 16 bits
 * instead of bytes, takes less time.
 *
 * A tile of 4 x 4 outputs depends on 6 x 6 inputs. Inputs and weights are transformed to 6 x 6 positions each, multiplied position
 * by position and summed over channels, and 6 x 6 sums are transformed to 4 x 4 outputs: 36 products instead of 144. The matrices
 * are those of Lavin and Gray (2015), with rows of the weights' times 4, -6, 24 or 6, so that all numbers are whole:
 *   inputs, up to 128, become at most 10 * 10 times as large, and weights, up to 127, 7 * 7 times: 12,800 and 6,223, in 16 bits.
 *   What comes out is 9 * 2^k times the sum of products, k <= 6. It may wrap around in 32 bits, as may the sums on the way. Modulo
 *   2^32, the inverse of 9 turns it into 2^k times the sum, so a shift by k gives the sum itself if its magnitude is below 2^25. Of
 *   SLAB channels it is at most 9 * 128 * 127 * 128 = 18,726,912 < 2^25; slabs are added up afterwards. */
#pragma once

#include "convolution.h"

#define SIDE 4           /* outputs of a tile, in either direction; pixels of convolution.h's tile */
#define SPAN 6           /* inputs and positions */
#define SLAB 128         /* channels whose products are summed up at a time */
#define BLOCK_TILES 32   /* tiles that share transformed weights */
#define TILES_AT_ONCE 4  /* tiles with sums in registers */
#define PIECES_A_THREAD 4 /* of a stage, at least, so that no thread waits for long */
#define SPACER 32        /* numbers between positions, which would compete for the same cache lines */
#define INVERSE_OF_9 0x38e38e39u

typedef uint32_t Modular __attribute__((vector_size(4 * LANES)));

/* What a thread needs for a block of tiles. */
typedef struct {
    _Alignas(64) int16_t weights[SPAN * SPAN][SLAB * PANEL + SPACER]; /* of a panel and a slab, [slab / 2, PANEL, 2] */
    int32_t products[BLOCK_TILES / TILES_AT_ONCE][SPAN * SPAN][TILES_AT_ONCE][PANEL];
    int32_t sums[BLOCK_TILES][SIDE][SIDE][PANEL];
    int16_t inputs[]; /* [SPAN * SPAN, BLOCK_TILES * channels + SPACER] */
} Workspace;

static int is_transformed(const Convolution *convolution) {
    return convolution->kind == AS_INT8 && convolution->stride == 1 && convolution->side > 1;
}

/* Return a workspace's size in bytes. */
static size_t workspace_size(int channels) {
    return sizeof(Workspace) + sizeof(int16_t) * SPAN * SPAN * (BLOCK_TILES * (size_t)channels + SPACER);
}

/* The one-dimensional transforms, in place; a line's numbers are `step` apart. */
INLINE void transform_inputs(Shorts *line, int step) {
    Shorts d[SPAN];
    UNROLL for (int i = 0; i < SPAN; i++) d[i] = line[i * step];
    Shorts even = d[4] - (d[2] << 2), odd = d[3] - (d[1] << 2), outer = d[4] - d[2], inner = (d[3] - d[1]) << 1;
    line[0] = ((d[0] - d[2]) << 2) + outer;
    line[step] = even + odd, line[2 * step] = even - odd;
    line[3 * step] = outer + inner, line[4 * step] = outer - inner;
    line[5 * step] = d[5] - d[3] - (inner << 1);
}

INLINE void transform_weights(Shorts *line, int step) {
    Shorts first = line[0], middle = line[step], last = line[2 * step];
    Shorts ends = first + last, wide = first + (last << 2), twice = middle << 1;
    line[0] = (first << 2) + (first << 1);
    line[step] = ends + middle, line[2 * step] = ends - middle;
    line[3 * step] = wide + twice, line[4 * step] = wide - twice;
    line[5 * step] = (last << 2) + (last << 1);
}

static const int SUM_BITS[SIDE] = {3, 2, 1, 1}; /* what comes out is 3 * 2^bits times the sum */

INLINE void transform_sums(Modular *line, int step) {
    Modular m[SPAN];
    UNROLL for (int i = 0; i < SPAN; i++) m[i] = line[i * step];
    Modular flat = m[1] + m[2], tall = m[3] + m[4], slope = m[1] - m[2], steep = m[3] - m[4];
    line[0] = m[0] + tall - (flat << 2);
    line[step] = steep - (slope << 1);
    line[2 * step] = tall - flat;
    line[3 * step] = (steep << 1) - slope + m[5];
}

/* Some tiles of a picture: the first one's place, counted in tiles, and the number of rows and columns. */
typedef struct {
    int row, column, rows, columns;
} Block;

/* Transform a block's inputs. A tile at the end may reach over the last row; the outputs that depend on it are not stored. */
static void transform_block(const Part *part, Block block, Workspace *space) {
    const Features *out = &part->picture->features[part->stage->to]; /* its inputs may have been here, in a smaller size */
    int channels = part->stage->convolution.inputs, phases = part->stage->convolution.phases, last = out->rows / phases + 1;
    size_t row_bytes = (size_t)input_stride(out->columns / phases) * channels;
    size_t position = BLOCK_TILES * (size_t)channels + SPACER;
    for (int tile = 0; tile < block.rows * block.columns; tile++) {
        int row = (block.row + tile / block.columns) * SIDE, column = (block.column + tile % block.columns) * SIDE;
        const uint8_t *rows[SPAN];
        for (int y = 0; y < SPAN; y++)
            rows[y] = part->picture->inputs + min_int(row + y, last) * row_bytes + (size_t)column * channels;
        for (int c = 0; c < channels; c += 2 * LANES) {
            Shorts numbers[SPAN * SPAN];
            UNROLL for (int y = 0; y < SPAN; y++)
                UNROLL for (int x = 0; x < SPAN; x++) numbers[SPAN * y + x] = widen_pixels(rows[y] + (size_t)x * channels + c);
            UNROLL for (int x = 0; x < SPAN; x++) transform_inputs(numbers + x, SPAN);
            UNROLL for (int y = 0; y < SPAN; y++) transform_inputs(numbers + SPAN * y, 1);
            int16_t *to = space->inputs + (size_t)tile * channels + c;
            UNROLL for (int y = 0; y < SPAN; y++)
                UNROLL for (int x = 0; x < SPAN; x++, to += position) memcpy(to, &numbers[SPAN * y + x], sizeof(Shorts));
        }
    }
}

/* Transform the weights of a part's panel for `count` channels from `first` on. Four weights of 2 x 2 pixels lie at the phase's own
 * place among 3 x 3. `side` is a compile-time constant. */
INLINE void transform_taps(int side, const Part *part, int first, int count, Workspace *space) {
    const Convolution *convolution = &part->stage->convolution;
    int down = side == 3 ? 0 : part->phase / convolution->phases, right = side == 3 ? 0 : part->phase % convolution->phases;
    const uint8_t *weights = weights_of(part) + first * PANEL;
    size_t tap = (size_t)convolution->inputs * PANEL;
    for (int i = 0; i < count; i += 4, weights += 4 * PANEL)
        for (int c = 0; c < PARTS; c++)
            UNROLL for (int half = 0; half < 2; half++) {
                Shorts numbers[SPAN * SPAN];
                UNROLL for (int y = 0; y < 3; y++)
                    UNROLL for (int x = 0; x < 3; x++) {
                        int is_inside = y >= down && y < down + side && x >= right && x < right + side;
                        size_t at = is_inside ? ((y - down) * side + x - right) * tap + c * 4 * LANES : 0;
                        numbers[SPAN * y + x] = is_inside ? kernel_pairs(weights + at, half) : (Shorts){0};
                    }
                UNROLL for (int x = 0; x < 3; x++) transform_weights(numbers + x, SPAN);
                UNROLL for (int y = 0; y < SPAN; y++) transform_weights(numbers + SPAN * y, 1);
                int16_t *to = space->weights[0] + (i + 2 * half) * PANEL + c * 2 * LANES;
                UNROLL for (int y = 0; y < SPAN; y++)
                    UNROLL for (int x = 0; x < SPAN; x++, to += sizeof(space->weights[0]) / sizeof(*to))
                        memcpy(to, &numbers[SPAN * y + x], sizeof(Shorts));
            }
}

static void transform_panel(const Part *part, int first, int count, Workspace *space) {
    if (part->stage->convolution.side == 3) transform_taps(3, part, first, count, space);
    else transform_taps(2, part, first, count, space);
}

/* Sum up the products of some tiles at one position over `count` channels. Not inlined, so that addresses stay in registers. */
static __attribute__((noinline)) void multiply_tiles(const int16_t *weights, const int16_t *inputs, int channels, int count,
                                                     int32_t (*products)[PANEL]) {
    Ints sums[TILES_AT_ONCE][PARTS];
    UNROLL for (int t = 0; t < TILES_AT_ONCE; t++)
        UNROLL for (int c = 0; c < PARTS; c++) sums[t][c] = (Ints){0};
    for (int i = 0; i < count; i += 4)
        UNROLL for (int half = 0; half < 2; half++, weights += 2 * PANEL) {
            Shorts weight[PARTS];
            UNROLL for (int c = 0; c < PARTS; c++) memcpy(&weight[c], weights + c * 2 * LANES, sizeof(Shorts));
            UNROLL for (int t = 0; t < TILES_AT_ONCE; t++) {
                Shorts input = pair_of_shorts(inputs + (size_t)t * channels + i + 2 * half);
                UNROLL for (int c = 0; c < PARTS; c++) sums[t][c] = dot_pairs(sums[t][c], weight[c], input);
            }
        }
    UNROLL for (int t = 0; t < TILES_AT_ONCE; t++)
        UNROLL for (int c = 0; c < PARTS; c++) memcpy(products[t] + c * LANES, &sums[t][c], sizeof(Ints));
}

/* Multiply a block's inputs by a panel's weights, for `count` channels from `first` on. What follows the last tile is multiplied,
 * too, up to TILES_AT_ONCE, but never read. */
static void multiply_positions(const Part *part, int tiles, int first, int count, Workspace *space) {
    const Convolution *convolution = &part->stage->convolution;
    int channels = convolution->inputs, down = part->phase / convolution->phases, right = part->phase % convolution->phases;
    const int16_t *inputs = space->inputs + first;
    for (int y = 0; y < SPAN; y++)
        for (int x = 0; x < SPAN; x++, inputs += BLOCK_TILES * (size_t)channels + SPACER) {
            /* Weights of 2 x 2 pixels are 0 in the last row of positions, or in the first for the lower phase; as are columns. */
            int is_empty = convolution->side == 2 && (y == (down ? 0 : SPAN - 1) || x == (right ? 0 : SPAN - 1));
            for (int tile = 0; tile < tiles; tile += TILES_AT_ONCE)
                multiply_tiles(space->weights[SPAN * y + x], inputs + (size_t)tile * channels, channels, is_empty ? 0 : count,
                               space->products[tile / TILES_AT_ONCE][SPAN * y + x]);
        }
}

/* Transform products to sums, or add them to the sums so far. */
static void sum_products(int tiles, int adds, Workspace *space) {
    for (int tile = 0; tile < tiles; tile++)
        for (int c = 0; c < PARTS; c++) {
            Modular numbers[SPAN * SPAN];
            UNROLL for (int y = 0; y < SPAN; y++)
                UNROLL for (int x = 0; x < SPAN; x++)
                    memcpy(&numbers[SPAN * y + x],
                           space->products[tile / TILES_AT_ONCE][SPAN * y + x][tile % TILES_AT_ONCE] + c * LANES, sizeof(Modular));
            UNROLL for (int x = 0; x < SPAN; x++) transform_sums(numbers + x, SPAN);
            UNROLL for (int y = 0; y < SIDE; y++) transform_sums(numbers + SPAN * y, 1);
            UNROLL for (int y = 0; y < SIDE; y++)
                UNROLL for (int x = 0; x < SIDE; x++) {
                    int32_t *to = space->sums[tile][y][x] + c * LANES;
                    Ints sum = (Ints)(numbers[SPAN * y + x] * INVERSE_OF_9) >> (SUM_BITS[y] + SUM_BITS[x]), before = {0};
                    if (adds) memcpy(&before, to, sizeof(Ints));
                    sum += before;
                    memcpy(to, &sum, sizeof(Ints));
                }
        }
}

INLINE void load_statistics(int panels, Floats (*statistics)[TILE_COLUMNS], const float *from, int channels) {
    UNROLL for (int c = 0; c < panels * PARTS; c++) {
        for (int s = 0; s < STATISTICS; s++) statistics[s][c] = load_floats(from + s * channels + c * LANES);
        statistics[LEAST][c] = splat(0) - statistics[LEAST][c];
    }
}

/* Store a block's outputs, row by row: the statistics of a row are summed up from its first column to its last. */
static void store_block(const Part *part, Block block, const Workspace *space) {
    const Features *out = &part->picture->features[part->stage->to];
    int phases = part->stage->convolution.phases, rows = out->rows / phases, columns = out->columns / phases;
    Target to = target_of(part);
    to.zero -= PIXEL_OFFSET; /* which `widen_pixels` has taken off */
    for (int row = block.row * SIDE; row < min_int(rows, (block.row + block.rows) * SIDE); row++) {
        Floats statistics[STATISTICS][TILE_COLUMNS];
        float *stored = statistics_of(part, row);
        if (block.column == 0) start_statistics(1, statistics);
        else load_statistics(1, statistics, stored, out->channels);
        for (int i = 0; i < block.columns; i++) {
            int column = (block.column + i) * SIDE;
            Ints sums[TILE_PIXELS][TILE_COLUMNS];
            Floats values[TILE_PIXELS][TILE_COLUMNS];
            const int32_t(*from)[PANEL] = space->sums[(row / SIDE - block.row) * block.columns + i][row % SIDE];
            UNROLL for (int p = 0; p < TILE_PIXELS; p++)
                UNROLL for (int c = 0; c < PARTS; c++) memcpy(&sums[p][c], from[p] + c * LANES, sizeof(Ints));
            scale_sums(1, sums, to, values);
            aim(&to, part, row, column);
            store_tile(1, min_int(SIDE, columns - column), values, to, statistics);
        }
        store_statistics(1, statistics, stored, out->channels);
    }
}

/* Run a stage that convolves, with `is_transformed`. */
static void convolve_tiles(Team *team, int thread, Picture *picture, const Stage *stage, int rows, int columns,
                           Quantization quantization) {
    const Convolution *convolution = &stage->convolution;
    Workspace *space = (Workspace *)(picture->scratch + (size_t)thread * picture->scratch_size);
    int tile_rows = (rows + SIDE - 1) / SIDE, tile_columns = (columns + SIDE - 1) / SIDE;
    int width = min_int(tile_columns, BLOCK_TILES), height = min_int(tile_rows, BLOCK_TILES / width);
    int blocks = (tile_rows + height - 1) / height, panels = convolution->outputs / PANEL;
    int all = convolution->phases * convolution->phases * panels;
    int groups = min_int(all, (PIECES_A_THREAD * team->count + blocks - 1) / blocks); /* of panels, which share inputs */
    SHARE(team, piece, blocks * groups) {
        int group = piece % groups, first = piece / groups * height;
        Block block = {first, 0, min_int(height, tile_rows - first), 0};
        for (; block.column < tile_columns; block.column += width) {
            block.columns = min_int(width, tile_columns - block.column);
            Part part = {picture, stage, quantization, 0, 0};
            transform_block(&part, block, space);
            for (int i = all * group / groups; i < all * (group + 1) / groups; i++) {
                part.phase = i / panels, part.panel = i % panels;
                for (int channel = 0; channel < convolution->inputs; channel += SLAB) {
                    int count = min_int(SLAB, convolution->inputs - channel), tiles = block.rows * block.columns;
                    transform_panel(&part, channel, count, space);
                    multiply_positions(&part, tiles, channel, count, space);
                    sum_products(tiles, channel > 0, space);
                }
                store_block(&part, block, space);
            }
        }
    }
}
