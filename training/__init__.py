"""The recipe that trains Tiny from scratch: paint, encode, train, export, evaluate.

    rasterise ─> data/emoji.zip ─> catalogue ─┬─> scene ─> painting ─> autoencoder (pixels <-> codes) ──┐
    palette, shapes, scenery ─────────────────┘    └─> caption ─> data/vocab.json, merges.txt ──────────┴─> transformer (model)
    autoencoder, transformer ─> export ─> models/tiny        known ─> models/tiny/known_words.json
    evaluate: caption, data/typed_prompts.jsonl ─> drawing ─> reader ─> judge ─> table         sheet ─> the README's picture

`python -m training` does all that needs a GPU, and resumes where it was stopped. Its steps have command lines of their own:
`python -m training.autoencoder`, `.transformer`, `.export`, `.evaluate`. `run` has what both trainings share, `muon` an
optimizer, and `paths` the folders. The data are in the repository; `.rasterise` and `.vocabulary` are how they were made.
"""
