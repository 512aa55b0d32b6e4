/* One step of min-dalle's decoder on an x86 CPU with AVX-512 and VNNI.
 *
 * A step is one pass over the weights, so it takes at least as long as reading them. Nothing is copied, the threads share the
 * work in small pieces, and between two phases they only wait for each other. The order of each sum depends neither on the other
 * rows nor on the threads, so a row has the same bits in any batch.
 *
 * The code knows rows, not images: an image has two, unconditional and conditional. layout.py packs the weights.
 */
#include <immintrin.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "cache.h"
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
        __m512i sums[4] = {_mm512_setzero_si512(), _mm512_setzero_si512(), _mm512_setzero_si512(), _mm512_setzero_si512()};
        for (size_t i = 0; i < READ_BYTES; i += 256)
            for (int j = 0; j < 4; j++) {
                prefetch_weights(1, from + i + 64 * j);
                sums[j] = _mm512_xor_si512(sums[j], _mm512_loadu_si512(from + i + 64 * j));
            }
        volatile int64_t sum = _mm512_reduce_add_epi64(sums[0]) + _mm512_reduce_add_epi64(sums[1]) +
                                _mm512_reduce_add_epi64(sums[2]) + _mm512_reduce_add_epi64(sums[3]);
        (void)sum;
    }
}

/* Free a buffer, and return another; NULL if out of memory. */
static void *replace_buffer(void *old, size_t bytes) {
    free(old);
    return aligned_alloc(64, (bytes + 63) / 64 * 64);
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
    buffers->quantized = replace_buffer(buffers->quantized, in);
    buffers->scales = replace_buffer(buffers->scales, 4 * rows * MAX_GROUPS);
    buffers->sums = replace_buffer(buffers->sums, 4 * rows * MAX_GROUPS);
    if (!buffers->state || !buffers->attended || !buffers->inputs || !buffers->outputs || !buffers->quantized ||
        !buffers->scales || !buffers->sums)
        return 0;
    buffers->capacity = rows;
    return 1;
}

/* Start the threads that decode a model, which must outlive them; return NULL if out of memory. */
Team *open_team(const Model *model, int32_t threads) {
    Team *team = aligned_alloc(64, round_up(sizeof(Team), 64));
    if (!team) return NULL;
    memset(team, 0, sizeof(Team));
    team->count = 1;
    team->model = model;
    team->buffers.output_stride = widest_output(model);
    team->threads = calloc(threads, sizeof(pthread_t));
    pthread_mutex_init(&team->mutex, NULL);
    pthread_cond_init(&team->wake, NULL);
    sigset_t all, before; /* the caller's threads handle signals */
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    while (team->threads && team->count < threads) {
        if (pthread_create(&team->threads[team->count], NULL, run_thread, team)) break; /* fewer threads do as well */
        team->count++;
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return team;
}

void close_team(Team *team) {
    atomic_store(&team->is_closed, 1);
    wake_all(team);
    for (int i = 1; i < team->count; i++) pthread_join(team->threads[i], NULL);
    const Buffers *buffers = &team->buffers;
    void *parts[] = {buffers->state, buffers->attended, buffers->inputs, buffers->outputs, buffers->quantized, buffers->scales,
                     buffers->sums, team->threads};
    for (size_t i = 0; i < sizeof(parts) / sizeof(*parts); i++) free(parts[i]);
    pthread_mutex_destroy(&team->mutex);
    pthread_cond_destroy(&team->wake);
    free(team);
}

/* Decode one token for each row; return 0, or 1 if out of memory. One caller at a time. */
int32_t decode_step(Team *team, const Rows *rows) {
    if (!rows->count) return 0;
    if (!reserve_rows(team, rows->count)) return 1;
    team->rows = rows;
    run_job(team, run_step);
    return 0;
}

/* Return the seconds that all steps so far took, [STEP_PARTS]. */
const double *seconds_spent(const Team *team) { return team->seconds; }

/* Read memory with all threads; return the seconds that it took. */
double time_reading(Team *team, const uint8_t *memory, size_t size) {
    team->memory = memory, team->memory_size = size;
    double started = seconds_now();
    run_job(team, read_memory);
    return seconds_now() - started;
}

/* Return the size of the keys and values of `length` positions, in bytes. */
size_t cache_size(const Model *model, int32_t length) { return head_offset(model, model->layer_count, 0, length); }

/* Write a prompt's keys and values, [2 layers, length, width], to a cache. */
void pack_text(const Model *model, const float *keys_values, int32_t length, uint8_t *cache) {
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
