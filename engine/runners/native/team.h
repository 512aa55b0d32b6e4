/* Threads that run a step side by side, and share its pieces. */
#pragma once

#include <immintrin.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <time.h>

#include "model.h"

#define SPINS 2000 /* looks at a flag before the core is offered to others */

/* What a step's time is spent on. */
enum { ROWS, SELF_PRODUCTS, SELF_ATTENTION, TEXT_PRODUCTS, TEXT_ATTENTION, GLU_PRODUCTS, LOGITS, KINDS };

typedef struct Team {
    int32_t count; /* of threads, the caller's included */
    _Alignas(64) atomic_int next;
    _Alignas(64) atomic_int arrived;
    _Alignas(64) atomic_uint phase;
    _Alignas(64) atomic_uint asked; /* steps asked for so far */
    atomic_int is_closed, started;
    pthread_mutex_t mutex;
    pthread_cond_t wake;
    pthread_t *threads;
    const Model *model;
    void (*job)(struct Team *, int self); /* what all threads run, and what it is about: */
    const Rows *rows;
    const uint8_t *memory;
    size_t memory_size;
    double seconds[KINDS], last; /* of all steps so far, on the caller's thread; when it last looked at the clock */
    Space space;
} Team;

static void wait_for_change(atomic_uint *flag, unsigned known) {
    for (int spins = 0; atomic_load_explicit(flag, memory_order_acquire) == known; spins++) {
        _mm_pause();
        if (spins >= SPINS) sched_yield();
    }
}

static void meet(Team *team) {
    unsigned phase = atomic_load_explicit(&team->phase, memory_order_relaxed);
    if (atomic_fetch_add_explicit(&team->arrived, 1, memory_order_acq_rel) + 1 == team->count) {
        atomic_store_explicit(&team->arrived, 0, memory_order_relaxed);
        atomic_store_explicit(&team->next, 0, memory_order_relaxed);
        atomic_store_explicit(&team->phase, phase + 1, memory_order_release);
    } else {
        wait_for_change(&team->phase, phase);
    }
}

static int take(Team *team, int count) {
    int next = atomic_fetch_add_explicit(&team->next, 1, memory_order_relaxed);
    return next < count ? next : -1;
}

/* As `take`, where each thread's first piece is the one of its own number. */
static int take_after_first(Team *team) { return team->count + atomic_fetch_add_explicit(&team->next, 1, memory_order_relaxed); }

/* Do a statement for each of `count` pieces, shared among the threads; all are done when it ends. */
#define SHARE(team, piece, count)                                                       \
    for (int done_ = 0; !done_; meet(team), done_ = 1)                                  \
        for (int piece; (piece = take(team, count)) >= 0;)

/* Do a statement for each of `count` pieces, always the same thread for a piece: what it knows of it is still in its cache. */
#define SHARE_EVENLY(team, self, piece, pieces)                                         \
    for (int done_ = 0; !done_; meet(team), done_ = 1)                                  \
        for (int piece = (pieces) * self / team->count, end_ = (pieces) * (self + 1) / team->count; piece < end_; piece++)

static double now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + 1e-9 * (double)time.tv_nsec;
}

/* Add the time since the last look to what was done in it. */
static void note(Team *team, int self, int kind) {
    if (self != 0) return;
    double time = now();
    if (kind < KINDS) team->seconds[kind] += time - team->last;
    team->last = time;
}

static void *work(void *argument) {
    Team *team = argument;
    int self = atomic_fetch_add(&team->started, 1) + 1;
    for (unsigned seen = 0;; seen++) {
        for (int i = 0; atomic_load_explicit(&team->asked, memory_order_acquire) == seen && i < SPINS; i++) _mm_pause();
        pthread_mutex_lock(&team->mutex);
        while (atomic_load(&team->asked) == seen) pthread_cond_wait(&team->wake, &team->mutex);
        pthread_mutex_unlock(&team->mutex);
        if (atomic_load(&team->is_closed)) return NULL;
        team->job(team, self);
    }
}

static void wake_all(Team *team) {
    pthread_mutex_lock(&team->mutex);
    atomic_fetch_add(&team->asked, 1);
    pthread_cond_broadcast(&team->wake);
    pthread_mutex_unlock(&team->mutex);
}

/* Have all threads do a job, the caller's among them. */
static void run(Team *team, void (*job)(Team *, int)) {
    team->job = job;
    wake_all(team);
    job(team, 0);
}
