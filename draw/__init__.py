"""Drawing from the command line, without a server: what `python -m dalle_model` runs.

Imports utils, consts and the values of the engine that need no torch. Only `dalle_model.py` imports it.
"""
