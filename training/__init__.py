"""The recipe that made Tiny, from nothing: paint, code, train, export, measure.

    palette, shapes ─> scene ─> painting ─> patches, codebook ─> pool of (prompt, tokens)
                          └───> caption ──> vocabulary ─────────┘        │
    detokenizer (tokens -> pixels) <───────────────────────────┬─────────┘
    transformer (prompt -> tokens) <───────────────────────────┘
    export ─> models/tiny          evaluate: prompts ─> pictures ─> reader ─> table

Every step is a module with a command line: `python -m training.codebook`, `.detokenizer`, `.transformer`,
`.export`, `.evaluate`; `python -m training` runs them all, and goes on where it was stopped.
"""
