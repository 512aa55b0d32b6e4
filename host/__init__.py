"""The operating system: threads, memory, the processor, GPUs, standard streams, folders while they are filled, and turns.

Every package may import this one. It imports nothing of the project, and neither torch nor Flask.
"""
