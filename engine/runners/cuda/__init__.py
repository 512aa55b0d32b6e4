"""The runner for NVIDIA GPUs of compute capability 8.0 or more, with Triton: an image's 256 steps without a word to the host.

loading       a checkpoint's runner, once it has proven itself; proof (beside the torch runner)
support       what it needs of the device, the system and the model
runner        slots, batches and their graphs; graphs (capturing)
slots         memory of the images in the batch; weights (fused and padded)
encoder       prompts; decoder (a step), with products (matrix products) and kernels/ (in Triton)
launching     a kernel's launch, or its compilation; compiling (a model's kernels, while its weights are read)
detokenizer   pictures; half_detokenizer (in 16 bits)

Only choice.py imports it, and only once it is chosen, as Triton need not be installed.
"""
