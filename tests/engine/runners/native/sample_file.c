/* sample.h's function on arrays of logits, for its test. */
#include <stdlib.h>

#include "sample.h"

__attribute__((visibility("default"))) void sample_all(const float *logits, int32_t stride, int32_t count, int32_t vocabulary,
                                                        const Draw *draws, int32_t position, DrawnToken *drawn) {
    uint8_t *memory = malloc(sample_bytes(vocabulary));
    SampleBuffers buffers = sample_buffers(memory, vocabulary);
    for (int i = 0; i < count; i++) {
        const float *negative = logits + (size_t)2 * i * stride;
        drawn[i] = sample(negative, negative + stride, vocabulary, draws[i], draws[i].uniforms[position], buffers);
    }
    free(memory);
}
