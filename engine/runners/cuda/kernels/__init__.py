"""Triton kernels of a decode step, and of the detokenizer's norms.

products    rows times weights
attention   over an image's own tokens, and over its prompt
norms       layer norms, with what comes before and after them
drawing     logits to a token, as engine.sampler
overlap     how a kernel starts while the last one still runs: OVERLAPS, where a kernel has it
group_norm  of the detokenizer

A kernel's docstring has its shapes; pointers are written as the tensors that they point to. R is the number of rows, two of each
image. Row r belongs to image r // 2, whose slot is slots[r // 2]. Sizes in capitals are compiled in.
With TRITON_INTERPRET=1, set before the first import, Triton runs the kernels on the CPU.
"""
