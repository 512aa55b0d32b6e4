"""The runner for every device that torch knows, and for CPUs that the other runners do not support."""
