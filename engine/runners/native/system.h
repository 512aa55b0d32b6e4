/* What the decoder needs of the operating system: threads, locks, a clock and aligned memory. */
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#ifdef _WIN32
#define WIN32_LEAN_AND_MEAN
#include <windows.h>

#define EXPORT __declspec(dllexport)

typedef HANDLE Thread;
typedef SRWLOCK Mutex;
typedef CONDITION_VARIABLE Condition;
typedef DWORD ThreadResult; /* what the function of a thread returns: THREAD_RESULT */
#define THREAD_FUNCTION WINAPI
#define THREAD_RESULT 0

static int start_thread(Thread *thread, ThreadResult (WINAPI *run)(void *), void *argument) {
    *thread = CreateThread(NULL, 0, run, argument, 0, NULL);
    return *thread != NULL;
}
static void join_thread(Thread thread) { WaitForSingleObject(thread, INFINITE), CloseHandle(thread); }
static void yield_thread(void) { SwitchToThread(); }
static void open_mutex(Mutex *mutex) { InitializeSRWLock(mutex); }
static void close_mutex(Mutex *mutex) { (void)mutex; }
static void lock_mutex(Mutex *mutex) { AcquireSRWLockExclusive(mutex); }
static void unlock_mutex(Mutex *mutex) { ReleaseSRWLockExclusive(mutex); }
static void open_condition(Condition *condition) { InitializeConditionVariable(condition); }
static void close_condition(Condition *condition) { (void)condition; }
static void wait_condition(Condition *condition, Mutex *mutex) { SleepConditionVariableSRW(condition, mutex, INFINITE, 0); }
static void wake_condition(Condition *condition) { WakeAllConditionVariable(condition); }

static double seconds_now(void) {
    LARGE_INTEGER count, frequency;
    QueryPerformanceCounter(&count), QueryPerformanceFrequency(&frequency);
    return (double)count.QuadPart / (double)frequency.QuadPart;
}

static void *allocate(size_t bytes) { return _aligned_malloc(bytes, 64); }
static void release(void *memory) { _aligned_free(memory); }
#else
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <time.h>

#define EXPORT __attribute__((visibility("default")))

typedef pthread_t Thread;
typedef pthread_mutex_t Mutex;
typedef pthread_cond_t Condition;
typedef void *ThreadResult;
#define THREAD_FUNCTION
#define THREAD_RESULT NULL

/* Start a thread that gets no signals: the caller's threads handle them. */
static int start_thread(Thread *thread, ThreadResult (*run)(void *), void *argument) {
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int failed = pthread_create(thread, NULL, run, argument);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return !failed;
}
static void join_thread(Thread thread) { pthread_join(thread, NULL); }
static void yield_thread(void) { sched_yield(); }
static void open_mutex(Mutex *mutex) { pthread_mutex_init(mutex, NULL); }
static void close_mutex(Mutex *mutex) { pthread_mutex_destroy(mutex); }
static void lock_mutex(Mutex *mutex) { pthread_mutex_lock(mutex); }
static void unlock_mutex(Mutex *mutex) { pthread_mutex_unlock(mutex); }
static void open_condition(Condition *condition) { pthread_cond_init(condition, NULL); }
static void close_condition(Condition *condition) { pthread_cond_destroy(condition); }
static void wait_condition(Condition *condition, Mutex *mutex) { pthread_cond_wait(condition, mutex); }
static void wake_condition(Condition *condition) { pthread_cond_broadcast(condition); }

static double seconds_now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + 1e-9 * (double)time.tv_nsec;
}

static void *allocate(size_t bytes) { return aligned_alloc(64, (bytes + 63) / 64 * 64); }
static void release(void *memory) { free(memory); }
#endif

/* Let the core's other thread run for a moment, while this one reads a flag again and again. */
static void pause_thread(void) {
#ifdef __x86_64__
    __builtin_ia32_pause();
#else
    __asm__ volatile("yield");
#endif
}
