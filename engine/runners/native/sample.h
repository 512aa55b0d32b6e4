/* From an image's logits to its next token, as engine/sampler.py does it in numpy: guidance, top-k, temperature, a seeded draw. */
#pragma once

#include <math.h>
#include <string.h>

#include "model.h"

#define MIN_MAXIMA 256 /* top-k begins with so many maxima, */
#define MAX_MAXIMA 1024 /* or with more for a large k */
#define LIKELIHOOD_PART 1024 /* logits that are summed in float32 */

/* How the tokens of an image are drawn. */
typedef struct {
    const double *uniforms; /* for each position a number, 0 <= u < 1 */
    float negative_share, positive_share; /* of the logits of its two rows: guidance */
    float temperature;
    int32_t top_k, needs_likelihood;
} Draw;

/* A drawn token; its log-likelihood given the text at temperature 1 if that is needed; and whether the logits were finite. */
typedef struct {
    double likelihood;
    int32_t token, is_finite;
} DrawnToken;

/* What one thread needs. `length` is the vocabulary, rounded up to whole MAX_MAXIMA. */
typedef struct {
    double *sums;    /* [length] */
    float *guided;   /* [length] */
    float *greatest; /* [length]: numbers to select from */
    int32_t *kept;   /* [length]: tokens, in order */
} SampleBuffers;

static size_t sample_length(int vocabulary) { return (size_t)round_up(vocabulary, MAX_MAXIMA); }
static size_t sample_bytes(int vocabulary) {
    return sample_length(vocabulary) * (sizeof(double) + 2 * sizeof(float) + sizeof(int32_t));
}

static SampleBuffers sample_buffers(uint8_t *memory, int vocabulary) {
    size_t length = sample_length(vocabulary);
    double *sums = (double *)memory;
    float *guided = (float *)(sums + length);
    return (SampleBuffers){sums, guided, guided + length, (int32_t *)(guided + 2 * length)};
}

/* Return the k-th greatest of some numbers, which change places (Hoare, "Algorithm 65: Find", 1961). */
static float kth_greatest(float *numbers, int count, int k) {
    int first = 0, last = count - 1, target = k - 1;
    while (first < last) {
        float pivot = numbers[first + (last - first) / 2];
        int i = first, j = last;
        while (i <= j) {
            while (numbers[i] > pivot) i++;
            while (numbers[j] < pivot) j--;
            if (i > j) break;
            float number = numbers[i];
            numbers[i++] = numbers[j], numbers[j--] = number;
        }
        if (target <= j) last = j;
        else if (target >= i) first = i;
        else break;
    }
    return numbers[target];
}

/* Mix the logits of an image's two rows, followed by minus infinity up to `length`. Return the greatest; NaN if one is NaN. */
static float guide(const float *negative, const float *positive, Draw draw, int vocabulary, size_t length, float *guided) {
    Floats shares[2] = {splat(draw.negative_share), splat(draw.positive_share)}, greatest[PARTS];
    Ints are_numbers = (Ints){0} - 1;
    UNROLL for (int p = 0; p < PARTS; p++) greatest[p] = splat(-INFINITY);
    for (int i = 0; i < vocabulary; i += PANEL)
        UNROLL for (int p = 0; p < PARTS; p++) {
            int at = i + p * LANES, left = vocabulary - at;
            Floats x = load_first(negative + at, left) * shares[0] + load_first(positive + at, left) * shares[1];
            x = keep_first(x, splat(-INFINITY), left);
            are_numbers &= (Ints)(x == x);
            greatest[p] = larger(greatest[p], x);
            store_floats(guided + at, x);
        }
    for (size_t i = round_up(vocabulary, PANEL); i < length; i++) guided[i] = -INFINITY;
    return sum_ints(are_numbers) == -LANES ? largest_float(greatest) : NAN;
}

/* Return a number that the k-th greatest logit is not below: the k-th of the maxima of parts of the logits. */
static float least_of_top_k(SampleBuffers buffers, int top_k, int vocabulary, size_t length) {
    if (top_k >= vocabulary || top_k > MAX_MAXIMA) return -INFINITY;
    int maxima = MIN_MAXIMA;
    while (maxima < MAX_MAXIMA && maxima < 4 * top_k) maxima *= 2; /* so that few parts have several of the k greatest */
    memcpy(buffers.greatest, buffers.guided, maxima * sizeof(float));
    for (size_t row = maxima; row < length; row += maxima)
        for (int i = 0; i < maxima; i += LANES)
            store_floats(buffers.greatest + i, larger(load_floats(buffers.greatest + i), load_floats(buffers.guided + row + i)));
    return kth_greatest(buffers.greatest, maxima, top_k);
}

/* Write the tokens whose logits are at least the k-th greatest, in order; return how many. Ties with the k-th are kept. */
static int keep_top_k(SampleBuffers buffers, int top_k, int vocabulary, size_t length) {
    const float *guided = buffers.guided;
    float least = least_of_top_k(buffers, top_k, vocabulary, length);
    int count = 0;
    for (int first = 0; first < vocabulary; first += PANEL) {
        Ints are_kept = {0};
        UNROLL for (int p = 0; p < PARTS; p++) are_kept |= (Ints)(load_floats(guided + first + p * LANES) >= splat(least));
        if (!sum_ints(are_kept)) continue; /* as with most */
        for (int i = first; i < min_int(first + PANEL, vocabulary); i++) buffers.kept[count] = i, count += guided[i] >= least;
    }
    if (top_k >= count) return count;
    for (int i = 0; i < count; i++) buffers.greatest[i] = guided[buffers.kept[i]];
    least = kth_greatest(buffers.greatest, count, top_k);
    int kept = 0;
    for (int i = 0; i < count; i++) {
        int token = buffers.kept[i];
        buffers.kept[kept] = token, kept += guided[token] >= least;
    }
    return kept;
}

/* Draw one of the kept tokens, by inverting their cumulative distribution. */
static int draw_token(SampleBuffers buffers, int count, float greatest, float temperature, double uniform) {
    double sum = 0;
    int finite = 0, drawn = 0;
    finish_wide_registers();
    for (int i = 0; i < count; i++) {
        float logit = buffers.guided[buffers.kept[i]];
        finite += logit > -INFINITY;
        sum += exp((double)((logit - greatest) / temperature));
        buffers.sums[i] = sum;
    }
    while (drawn < finite - 1 && buffers.sums[drawn] <= uniform * sum) drawn++;
    return buffers.kept[drawn];
}

/* Return the log-likelihood of a token among logits, in nats. */
static double log_likelihood(const float *logits, int vocabulary, int token) {
    Floats greatest[PARTS];
    UNROLL for (int p = 0; p < PARTS; p++) greatest[p] = splat(-INFINITY);
    for (int i = 0; i < vocabulary; i += PANEL)
        UNROLL for (int p = 0; p < PARTS; p++) {
            int at = i + p * LANES, left = vocabulary - at;
            greatest[p] = larger(greatest[p], keep_first(load_first(logits + at, left), splat(-INFINITY), left));
        }
    float most = largest_float(greatest);
    double sum = 0;
    for (int first = 0; first < vocabulary; first += LIKELIHOOD_PART) {
        Floats sums[PARTS] = {{0}};
        for (int i = first; i < min_int(first + LIKELIHOOD_PART, vocabulary); i += PANEL)
            UNROLL for (int p = 0; p < PARTS; p++) {
                int at = i + p * LANES, left = vocabulary - at;
                sums[p] += keep_first(exp_floats(load_first(logits + at, left) - splat(most)), splat(0), left);
            }
        sum += sum_floats(sums);
    }
    return (double)(logits[token] - most) - log(sum);
}

/* Draw a token from the logits of an image's two rows, without the text and with it. */
static DrawnToken sample(const float *negative, const float *positive, int vocabulary, Draw draw, double uniform,
                         SampleBuffers buffers) {
    size_t length = sample_length(vocabulary);
    float greatest = guide(negative, positive, draw, vocabulary, length, buffers.guided);
    if (!isfinite(greatest)) return (DrawnToken){NAN, 0, 0};
    int token = draw_token(buffers, keep_top_k(buffers, draw.top_k, vocabulary, length), greatest, draw.temperature, uniform);
    return (DrawnToken){draw.needs_likelihood ? log_likelihood(positive, vocabulary, token) : NAN, token, 1};
}
