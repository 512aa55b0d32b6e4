"""The OpenVINO runner for CPUs, in layers:

precision (a table) ─> graphs (of layers) ─> compiled (kept on disk) ─> runner (over pages, prompts)
"""
