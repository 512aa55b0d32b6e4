/* One step of min-dalle's decoder, for the instruction sets of simd.h; its detokenizer, in detokenize.h; and what
 * draws tokens from its logits, in draw.h.
 *
 * A step is one pass over the weights, so it takes at least as long as reading them. Nothing is copied, the threads share the
 * work in small pieces, and between two phases they only wait for each other. The order of each sum depends neither on the other
 * rows nor on the threads nor on the instruction set, so a row has the same bits in any batch and on any CPU.
 *
 * The code knows rows, not images: an image has two, unconditional and conditional. layout.py packs the weights.
 */
#include <stdlib.h>
#include <string.h>

#include "cache.h"
#include "detokenize.h"
#include "draw.h"
#include "model.h"
#include "products.h"
#include "step.h"
#include "team.h"

#define READ_BYTES (1 << 18) /* a piece of `read_memory` */

/* Read memory as fast as possible, for the lower bound of a step's time. */
static void read_memory(Team *team, int thread) {
    (void)thread;
    size_t pieces = team->memory_size / READ_BYTES;
    SHARE(team, piece, (int)pieces) {
        const uint8_t *from = team->memory + piece * (size_t)READ_BYTES;
        Bytes sums[4] = {{0}};
        for (size_t i = 0; i < READ_BYTES; i += 16 * LANES)
            UNROLL for (int j = 0; j < 4; j++) {
                __builtin_prefetch(from + i + 4 * LANES * j + PREFETCH_BYTES, 0, 3);
                sums[j] ^= load_bytes(from + i + 4 * LANES * j);
            }
        volatile int32_t sum = sum_ints((Ints)(sums[0] ^ sums[1] ^ sums[2] ^ sums[3]));
        (void)sum;
    }
}

/* Free a buffer, and return another; NULL if out of memory. */
static void *replace_buffer(void *old, size_t bytes) {
    release(old);
    return allocate(bytes);
}

static int widest_output(const Model *model) {
    int gates = 2 * model->middle, projected = 3 * model->width;
    return round_up(gates > projected ? gates : projected, PIECE);
}

/* Allocate buffers for `rows` rows; return 0 if out of memory. */
static int reserve_rows(Team *team, int rows) {
    Buffers *buffers = &team->buffers;
    if (rows <= buffers->capacity) return 1;
    size_t in = (size_t)rows * INPUT_STRIDE, out = (size_t)rows * buffers->output_stride;
    size_t state = (size_t)rows * team->model->width;
    buffers->capacity = 0;
    buffers->state = replace_buffer(buffers->state, 4 * state);
    buffers->attended = replace_buffer(buffers->attended, 4 * state);
    buffers->inputs = replace_buffer(buffers->inputs, 4 * in);
    buffers->outputs = replace_buffer(buffers->outputs, 4 * out);
    buffers->quantized = replace_buffer(buffers->quantized, INPUT_BYTES * in);
    buffers->scales = replace_buffer(buffers->scales, 4 * rows * MAX_GROUPS);
    buffers->sums = replace_buffer(buffers->sums, 4 * rows * MAX_GROUPS);
    if (!buffers->state || !buffers->attended || !buffers->inputs || !buffers->outputs || !buffers->quantized ||
        !buffers->scales || !buffers->sums)
        return 0;
    buffers->capacity = rows;
    return 1;
}

/* Start the threads that decode a model, which must outlive them; return NULL if out of memory. */
EXPORT Team *open_team(const Model *model, int32_t threads) {
    Team *team = allocate(sizeof(Team));
    if (!team) return NULL;
    memset(team, 0, sizeof(Team));
    team->sample_memory = allocate(threads * sample_bytes(model->head.outputs));
    if (!team->sample_memory) {
        release(team);
        return NULL;
    }
    team->count = 1;
    team->model = model;
    team->buffers.output_stride = widest_output(model);
    team->threads = allocate(threads * sizeof(Thread));
    open_mutex(&team->mutex);
    open_condition(&team->wake);
    /* Fewer threads do as well. */
    while (team->threads && team->count < threads && start_thread(&team->threads[team->count], run_thread, team)) team->count++;
    return team;
}

EXPORT void close_team(Team *team) {
    atomic_store(&team->is_closed, 1);
    wake_all(team);
    for (int i = 1; i < team->count; i++) join_thread(team->threads[i]);
    const Buffers *buffers = &team->buffers;
    void *parts[] = {buffers->state, buffers->attended, buffers->inputs, buffers->outputs, buffers->quantized, buffers->scales,
                     buffers->sums, team->sample_memory, team->threads};
    for (size_t i = 0; i < sizeof(parts) / sizeof(*parts); i++) release(parts[i]);
    close_mutex(&team->mutex);
    close_condition(&team->wake);
    release(team);
}

/* Decode one token for each row; return 0, or 1 if out of memory. One caller at a time. */
EXPORT int32_t decode_step(Team *team, const Rows *rows) {
    if (!rows->count) return 0;
    if (!reserve_rows(team, rows->count)) return 1;
    team->rows = rows;
    run_job(team, run_step);
    return 0;
}

/* Draw the next tokens of some images, whose rows share the arrays of tokens and positions; return 0, or 1 if out of memory. One
 * caller at a time. */
EXPORT int32_t draw_tokens(Team *team, const Rows *rows, Drawing *drawing) {
    if (!rows->count) return 0;
    if (!reserve_rows(team, rows->count)) return 1;
    team->rows = rows, team->drawing = drawing;
    run_job(team, run_drawing);
    return 0;
}

/* Return the seconds that all steps so far took, [STEP_PARTS]. */
EXPORT const double *seconds_spent(const Team *team) { return team->seconds; }

/* Read memory with all threads; return the seconds that it took. */
EXPORT double time_reading(Team *team, const uint8_t *memory, size_t size) {
    team->memory = memory, team->memory_size = size;
    double started = seconds_now();
    run_job(team, read_memory);
    return seconds_now() - started;
}

/* Return the size of the keys and values of `length` positions, in bytes. */
EXPORT size_t cache_size(const Model *model, int32_t length) { return head_offset(model, model->layer_count, 0, length); }

/* Write a prompt's keys and values, [2 layers, length, width], to a cache. */
EXPORT void pack_text(const Model *model, const float *keys_values, int32_t length, uint8_t *cache) {
    size_t part = (size_t)length * model->width;
    int width = model->width / model->heads;
    for (int layer = 0; layer < model->layer_count; layer++)
        for (int head = 0; head < model->heads; head++)
            for (int i = 0; i < length; i++) {
                const float *keys = keys_values + 2 * layer * part + (size_t)i * model->width + head * width;
                uint8_t *to = cache + head_offset(model, layer, head, length);
                switch (model->cache_type) {
                case CACHE_FLOATS: store_position(CACHE_FLOATS, width, to, i, keys, keys + part); break;
                case CACHE_HALVES: store_position(CACHE_HALVES, width, to, i, keys, keys + part); break;
                case CACHE_INT8: store_position(CACHE_INT8, width, to, i, keys, keys + part); break;
                }
            }
}

/* Return an empty picture for a detokenizer, which must outlive it; NULL if out of memory. */
EXPORT Picture *open_picture(const Detokenizer *detokenizer) {
    Picture *picture = allocate(sizeof(Picture));
    if (!picture) return NULL;
    memset(picture, 0, sizeof(Picture));
    picture->detokenizer = detokenizer;
    return picture;
}

EXPORT void close_picture(Picture *picture) {
    release_picture(picture);
    release(picture);
}

/* Turn tokens [rows, columns] into pixels [16 * rows, 16 * columns, 3]; return 0, or 1 if out of memory. One caller at a time. */
EXPORT int32_t detokenize(Team *team, Picture *picture, const int64_t *tokens, int32_t rows, int32_t columns, uint8_t *pixels) {
    if (!reserve_picture(team, picture, rows, columns)) return 1;
    picture->tokens = tokens, picture->pixels = pixels;
    team->picture = picture;
    run_job(team, draw_picture);
    return 0;
}
