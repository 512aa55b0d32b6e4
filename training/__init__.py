"""The recipe that trains Tiny from scratch: paint, encode, train, export, evaluate.

    palette, shapes ─> scene ─> painting ─> patches, codebook ─> pool of (prompt, tokens)
                          └───> caption ──> vocabulary ─────────┘        │
    detokenizer (tokens -> pixels) <───────────────────────────┬─────────┘
    transformer (prompt -> tokens) <───────────────────────────┘
    export ─> models/tiny          evaluate: prompts ─> images ─> reader ─> table

Each step is a module with a command line: `python -m training.codebook`, `.detokenizer`, `.transformer`, `.export`, `.evaluate`.
`python -m training` runs them all, and resumes where it was stopped.
"""
