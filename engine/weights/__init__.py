"""A model's files: the table of models, and how weights are found, downloaded, checked and loaded.

models       the table: file names, sizes, hashes
config       a model's sizes, from its config.json
sources      a folder of files; hub downloads and verifies them, with sha256
known_words  the list of what Tiny draws, and which words of a prompt it does not know
checkpoint   finds a model and loads it: tensor_file reads weights, tokenizer the vocabulary
skeleton     min-dalle's modules without memory; detokenizer builds the one of each model
"""
