"""What the process asks of the operating system: threads, memory, folders that are still being written.

Anyone may import this package. It imports nothing of the project, and neither torch nor Flask.
"""
