"""A decoder in C, for x86 CPUs with AVX-512 and VNNI."""
