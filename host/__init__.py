"""The operating system: threads, memory, the processor, standard streams, and folders while they are filled.

Every package may import this one. It imports nothing of the project, and neither torch nor Flask.
"""
