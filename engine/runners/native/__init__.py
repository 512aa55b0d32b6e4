"""A decoder and a detokenizer in C, for x86 CPUs with AVX2 or AVX-512 and ARM CPUs with dot products."""
