/* A team of threads that run a step together and share its pieces. */
#pragma once

#include <stdatomic.h>

#include "model.h"
#include "system.h"

#define SPINS 2000 /* reads of a flag before a waiting thread yields */

/* The parts of a step's time; decoder.py names them. */
enum { ROWS, SELF_PRODUCTS, SELF_ATTENTION, TEXT_PRODUCTS, TEXT_ATTENTION, GLU_PRODUCTS, LOGITS, SAMPLING, STEP_PARTS };

typedef struct Team {
    int32_t count; /* threads, including the caller's */
    /* In one cache line: the last thread at a barrier writes all three. */
    _Alignas(64) atomic_int next; /* the first piece that no thread has taken */
    atomic_int arrived;
    atomic_uint phase;
    _Alignas(64) atomic_uint job_count; /* started so far */
    atomic_int is_closed, started;
    Mutex mutex;
    Condition wake;
    Thread *threads;
    const Model *model;
    void (*job)(struct Team *, int thread); /* run by all threads; `thread` is the number of each */
    const Rows *rows; /* of a step */
    const uint8_t *memory; /* to read */
    size_t memory_size;
    struct Drawing *drawing; /* of tokens, with the memory that all threads need for it */
    double step_seconds;     /* of its last step */
    uint8_t *sample_memory;
    struct Picture *picture; /* to draw */
    double seconds[STEP_PARTS], last_time; /* the caller's thread's, over all steps so far; its last reading of the clock */
    Buffers buffers;
} Team;

static void wait_for_change(atomic_uint *flag, unsigned known) {
    for (int spins = 0; atomic_load_explicit(flag, memory_order_acquire) == known; spins++) {
        pause_thread();
        if (spins >= SPINS) yield_thread();
    }
}

/* Wait until all threads are here. */
static void barrier(Team *team) {
    unsigned phase = atomic_load_explicit(&team->phase, memory_order_relaxed);
    if (atomic_fetch_add_explicit(&team->arrived, 1, memory_order_acq_rel) + 1 == team->count) {
        atomic_store_explicit(&team->arrived, 0, memory_order_relaxed);
        atomic_store_explicit(&team->next, 0, memory_order_relaxed);
        atomic_store_explicit(&team->phase, phase + 1, memory_order_release);
    } else {
        wait_for_change(&team->phase, phase);
    }
}

/* Return the next of `count` pieces, or -1. */
static int take_piece(Team *team, int count) {
    int next = atomic_fetch_add_explicit(&team->next, 1, memory_order_relaxed);
    return next < count ? next : -1;
}

/* Return the next piece, where each thread has had `own` pieces from the start. */
static int take_shared_piece(Team *team, int own) {
    return team->count * own + atomic_fetch_add_explicit(&team->next, 1, memory_order_relaxed);
}

/* Run a statement for each of `count` pieces; a thread takes the next piece when it has finished one. Ends when all are done. */
#define SHARE(team, piece, count)                                                         \
    for (int done_ = 0; !done_; barrier(team), done_ = 1)                                 \
        for (int piece; (piece = take_piece(team, count)) >= 0;)

/* Run a statement for each of `pieces` pieces; a piece always goes to the same thread, as its data is in that core's cache. */
#define SHARE_EVENLY(team, thread, piece, pieces)                                         \
    for (int done_ = 0; !done_; barrier(team), done_ = 1)                                 \
        for (int piece = (pieces) * thread / team->count, end_ = (pieces) * (thread + 1) / team->count; piece < end_; piece++)

/* Add the time since the last call to a part of the step; STEP_PARTS only starts the clock. */
static void add_time(Team *team, int thread, int part) {
    if (thread != 0) return;
    double time = seconds_now();
    if (part < STEP_PARTS) team->seconds[part] += time - team->last_time;
    team->last_time = time;
}

static ThreadResult THREAD_FUNCTION run_thread(void *argument) {
    Team *team = argument;
    int thread = atomic_fetch_add(&team->started, 1) + 1;
    for (unsigned seen = 0;; seen++) {
        for (int i = 0; atomic_load_explicit(&team->job_count, memory_order_acquire) == seen && i < SPINS; i++) pause_thread();
        lock_mutex(&team->mutex);
        while (atomic_load(&team->job_count) == seen) wait_condition(&team->wake, &team->mutex);
        unlock_mutex(&team->mutex);
        if (atomic_load(&team->is_closed)) return THREAD_RESULT;
        team->job(team, thread);
    }
}

static void wake_all(Team *team) {
    lock_mutex(&team->mutex);
    atomic_fetch_add(&team->job_count, 1);
    wake_condition(&team->wake);
    unlock_mutex(&team->mutex);
}

/* Run a job on all threads, the caller's included. */
static void run_job(Team *team, void (*job)(Team *, int)) {
    team->job = job;
    wake_all(team);
    job(team, 0);
}
