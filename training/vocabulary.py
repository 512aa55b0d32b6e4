"""Byte-pair merges learned from the prompts, in the format of min-dalle's `TextTokenizer`.

Method: Sennrich, Haddow, Birch, "Neural Machine Translation of Rare Words with Subword Units" (2016).
"""

from __future__ import annotations

import json
import re
import string
from collections import Counter
from itertools import pairwise
from pathlib import Path
from random import Random

from training.caption import describe, random_mentions
from training.scene import random_scene

_WORD_START = chr(ord(" ") + 256)
_SPECIAL = ("<s>", "<pad>", "</s>", "<unk>")  # ids 0 to 3; min-dalle pads with 1
_CHARACTERS = sorted(set(string.printable.lower()) - set(string.whitespace) - set(string.ascii_uppercase))


def learn(words: Counter[str], merge_count: int) -> tuple[dict[str, int], list[str]]:
    """Learn up to `merge_count` merges; return the vocabulary and the merges, best first."""
    spelled = {word: [_WORD_START, *word] for word in words}
    vocabulary = [*_SPECIAL, _WORD_START, *_CHARACTERS]
    merges: list[str] = []
    while len(merges) < merge_count:
        pairs: Counter[tuple[str, str]] = Counter()
        for word, parts in spelled.items():
            for pair in pairwise(parts):
                pairs[pair] += words[word]
        if not pairs:
            break
        best = max(pairs, key=lambda pair: (pairs[pair], pair))
        merges.append(" ".join(best))
        vocabulary.append("".join(best))
        for parts in spelled.values():
            i = 0
            while i < len(parts) - 1:
                if (parts[i], parts[i + 1]) == best:
                    parts[i : i + 2] = ["".join(best)]
                i += 1
    # Different merges can produce the same subword, which has one id.
    return {subword: i for i, subword in enumerate(dict.fromkeys(vocabulary))}, merges


def write(folder: Path, merge_count: int = 700, prompt_count: int = 20_000, seed: int = 0) -> None:
    """Write `vocab.json` and `merges.txt`, learned from random prompts without their random words."""
    rng = Random(seed)
    words: Counter[str] = Counter()
    for _ in range(prompt_count):
        # Without punctuation, so that "circle," becomes "circle" and a comma.
        words.update(re.findall(r"[a-z0-9-]+", describe(random_scene(rng), random_mentions(rng), rng).lower()))
    common = Counter({word: count for word, count in words.items() if count > 3})
    vocabulary, merges = learn(common, merge_count)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.json").write_text(json.dumps(vocabulary), encoding="utf8")
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *merges, ""]), encoding="utf8")
