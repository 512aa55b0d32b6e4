/* One decode step of min-dalle's decoder on an x86 CPU with AVX-512 and VNNI.
 *
 * A step is one pass over the weights, so its least time is what reading them takes. Nothing is copied, the threads share the
 * work in small pieces, and between two pieces they only wait for each other. Each result is summed in an order that depends on
 * neither the other rows nor the threads: a row is the same to the bit in any batch.
 *
 * Rows, not images: an image has two, unconditional and conditional. Layouts are what layout.py packs.
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

#define READ_AT_ONCE (1 << 18) /* bytes */

/* Read memory as fast as can be: what bounds a step. */
static void read_memory(Team *team, int self) {
    (void)self;
    size_t pieces = team->memory_size / READ_AT_ONCE;
    SHARE(team, piece, (int)pieces) {
        const uint8_t *from = team->memory + piece * (size_t)READ_AT_ONCE;
        __m512i sums[4] = {_mm512_setzero_si512(), _mm512_setzero_si512(), _mm512_setzero_si512(), _mm512_setzero_si512()};
        for (size_t i = 0; i < READ_AT_ONCE; i += 256)
            for (int j = 0; j < 4; j++) {
                ask_ahead(1, from + i + 64 * j);
                sums[j] = _mm512_xor_si512(sums[j], _mm512_loadu_si512(from + i + 64 * j));
            }
        volatile int64_t kept = _mm512_reduce_add_epi64(sums[0]) + _mm512_reduce_add_epi64(sums[1]) +
                                _mm512_reduce_add_epi64(sums[2]) + _mm512_reduce_add_epi64(sums[3]);
        (void)kept;
    }
}

static void *reserve(void *old, size_t bytes) {
    free(old);
    return aligned_alloc(64, (bytes + 63) / 64 * 64);
}

static int widest(const Model *model) {
    int gates = 2 * model->middle, projected = 3 * model->width;
    return whole(gates > projected ? gates : projected, WIDE * LANES);
}

/* Make room for rows; return 0 where memory doesn't suffice. */
static int make_room(Team *team, int rows) {
    Space *space = &team->space;
    if (rows <= space->capacity) return 1;
    size_t in = (size_t)rows * STRIDE, out = (size_t)rows * space->widest_out, state = (size_t)rows * team->model->width;
    space->capacity = 0;
    space->state = reserve(space->state, 4 * state);
    space->mixed = reserve(space->mixed, 4 * state);
    space->inputs = reserve(space->inputs, 4 * in);
    space->outputs = reserve(space->outputs, 4 * out);
    space->rounded = reserve(space->rounded, in);
    space->scales = reserve(space->scales, 4 * rows * GROUPS);
    space->sums = reserve(space->sums, 4 * rows * GROUPS);
    if (!(space->state && space->mixed && space->inputs && space->outputs && space->rounded && space->scales && space->sums))
        return 0;
    space->capacity = rows;
    return 1;
}

/* Start the threads that decode a model, which must live as long; NULL where there are none to be had. */
Team *open_team(const Model *model, int32_t threads) {
    Team *team = aligned_alloc(64, whole(sizeof(Team), 64));
    if (!team) return NULL;
    memset(team, 0, sizeof(Team));
    team->count = 1;
    team->model = model;
    team->space.widest_out = widest(model);
    team->threads = calloc(threads, sizeof(pthread_t));
    pthread_mutex_init(&team->mutex, NULL);
    pthread_cond_init(&team->wake, NULL);
    sigset_t all, before; /* signals are for the caller's threads */
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    while (team->threads && team->count < threads) {
        if (pthread_create(&team->threads[team->count], NULL, work, team)) break; /* fewer threads decode, too */
        team->count++;
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return team;
}

void close_team(Team *team) {
    atomic_store(&team->is_closed, 1);
    wake_all(team);
    for (int i = 1; i < team->count; i++) pthread_join(team->threads[i], NULL);
    void *parts[] = {team->space.state, team->space.mixed, team->space.inputs, team->space.outputs, team->space.rounded,
                     team->space.scales, team->space.sums, team->threads};
    for (size_t i = 0; i < sizeof(parts) / sizeof(*parts); i++) free(parts[i]);
    pthread_mutex_destroy(&team->mutex);
    pthread_cond_destroy(&team->wake);
    free(team);
}

/* Decode one token a row; return 0, or 1 where memory doesn't suffice. One caller at a time. */
int32_t decode_step(Team *team, const Rows *rows) {
    if (!rows->count) return 0;
    if (!make_room(team, rows->count)) return 1;
    team->rows = rows;
    run(team, run_step);
    return 0;
}

/* Return the seconds that all steps so far took, by what they were spent on. */
const double *seconds_spent(const Team *team) { return team->seconds; }

/* Read memory with all threads; return the seconds that it took. */
double time_reading(Team *team, const uint8_t *memory, size_t size) {
    team->memory = memory, team->memory_size = size;
    double started = now();
    run(team, read_memory);
    return now() - started;
}

/* Return what the keys and values of so many positions take, in bytes. */
size_t cache_size(const Model *model, int32_t length) { return head_at(model, model->layer_count, 0, length); }

/* Keep a prompt's keys and values, [2 layers, length, width]. */
void keep_text(const Model *model, const float *keys_values, int32_t length, uint8_t *cache) {
    size_t part = (size_t)length * model->width;
    int width = model->width / model->heads;
    for (int layer = 0; layer < model->layer_count; layer++)
        for (int head = 0; head < model->heads; head++)
            for (int i = 0; i < length; i++) {
                const float *keys = keys_values + 2 * layer * part + (size_t)i * model->width + head * width;
                uint8_t *to = cache + head_at(model, layer, head, length);
                switch (model->kept) {
                case AS_FLOATS: keep(AS_FLOATS, width, to, i, keys, keys + part); break;
                case AS_HALVES: keep(AS_HALVES, width, to, i, keys, keys + part); break;
                case AS_INT8: keep(AS_INT8, width, to, i, keys, keys + part); break;
                }
            }
}
