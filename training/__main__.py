"""Train Tiny from scratch, or resume: `python -m training`.

It takes about 40 minutes on an H200. Each step saves its work every minute, so Ctrl+C loses little. With `--minutes` it stops by
itself, for a GPU that is lent for some minutes at a time.
"""

from __future__ import annotations

import argparse
import time

from training import autoencoder, evaluate, export, transformer


def main() -> int:
    """Run the remaining steps of the recipe, then the evaluation; return the evaluation's exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, help="save and stop after so long; the same command resumes")
    minutes = parser.parse_args().minutes
    began = time.monotonic()
    for step in (autoencoder, transformer):
        left = [] if minutes is None else ["--minutes", str(minutes - (time.monotonic() - began) / 60)]
        if not step.main(left):
            print("Stopped in time; the same command resumes.")
            return 0
    export.main([])
    return evaluate.main([])


if __name__ == "__main__":
    raise SystemExit(main())
