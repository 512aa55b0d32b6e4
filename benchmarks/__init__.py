"""Side by side with min-dalle in one run: `make bench`.

plan (what is measured) ─> drawing, decoding, profile (in this process), serving, starting (real servers) ─> figures ─> plot
"""
