"""min-dalle's tokenizer, without importing torch."""

from __future__ import annotations

from importlib.util import find_spec, module_from_spec, spec_from_file_location
from pathlib import Path
from typing import TYPE_CHECKING

__all__ = ["TextTokenizer"]

if TYPE_CHECKING:
    from min_dalle.text_tokenizer import TextTokenizer
else:
    # From its file, because `import min_dalle.text_tokenizer` runs the package, which imports torch: that takes longer than
    # all else of a start whose converted weights are kept.
    _package = find_spec("min_dalle")
    _spec = spec_from_file_location("_min_dalle_text_tokenizer", Path(_package.origin).with_name("text_tokenizer.py"))
    _module = module_from_spec(_spec)
    _spec.loader.exec_module(_module)
    TextTokenizer = _module.TextTokenizer
