"""OpenVINO on a CPU.

precision (the table) ─> graphs (of layers) ─> compiled (kept on disk) ─> runner (over pages, prompts)
"""
