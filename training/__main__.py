"""Train Tiny from scratch, or resume: `python -m training`.

It takes about three and a half hours on 2 CPU cores, the sum of the steps' durations. Each step saves its work, so Ctrl+C loses a
few minutes at most.
"""

from __future__ import annotations

from training import codebook, detokenizer, evaluate, export, transformer
from training.paths import RUNS


def main() -> int:
    """Run the remaining steps of the recipe, then the evaluation; return the evaluation's exit status."""
    if not (RUNS / "codebook.npy").exists():
        codebook.main([])
    detokenizer.main([])
    transformer.main([])
    export.main([])
    return evaluate.main([])


if __name__ == "__main__":
    raise SystemExit(main())
