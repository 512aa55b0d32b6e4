"""Make Tiny from nothing, or go on where it was stopped: `python -m training`.

About three and a half hours on 2 CPU cores, by what its steps took one by one. Every step keeps its own work, so Ctrl+C loses at
most a few minutes.
"""

from __future__ import annotations

from training import codebook, detokenizer, evaluate, export, transformer
from training.paths import RUNS


def main() -> int:
    """Run every step of the recipe that is not done yet, then measure; return the evaluation's exit status."""
    if not (RUNS / "codebook.npy").exists():
        codebook.main([])
    detokenizer.main([])
    transformer.main([])
    export.main([])
    return evaluate.main([])


if __name__ == "__main__":
    raise SystemExit(main())
