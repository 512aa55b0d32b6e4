"""Benchmarks of our server and min-dalle side by side, in one run: `make bench`.

plan (what to measure) ─> drawing, decoding, profile, instruction_sets (in this process), serving, starting, gpu (real servers)
                       ─> figures ─> plot

Beside it: `gpu_kernels` times each kernel of the CUDA runner alone, `page` measures the playground in a browser, and `dashboard`
draws deploy/monitoring's dashboard under load.
"""
