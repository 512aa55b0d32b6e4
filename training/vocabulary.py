"""Byte-pair merges learned from captions, in the format of min-dalle's `TextTokenizer`.

    python -m training.vocabulary FOLDER

Method: Sennrich, Haddow, Birch, "Neural Machine Translation of Rare Words with Subword Units" (2016). The files in
`training/data` were learned so. Others give other ids, with which no weights can be used that were trained with these.
"""

from __future__ import annotations

import json
import re
import string
import sys
from collections import Counter, defaultdict
from itertools import pairwise
from pathlib import Path
from random import Random

from training.caption import describe
from training.scene import random_scene

_WORD_START = chr(ord(" ") + 256)
_SPECIAL = ("<s>", "<pad>", "</s>", "<unk>")  # ids 0 to 3; min-dalle pads with 1
_CHARACTERS = sorted(set(string.printable.lower()) - set(string.whitespace) - set(string.ascii_uppercase))

Pair = tuple[str, str]


def learn(words: Counter[str], merge_count: int) -> tuple[dict[str, int], list[str]]:
    """Learn up to `merge_count` merges; return the vocabulary and the merges, best first."""
    spelled = {word: [_WORD_START, *word] for word in words}
    pairs: Counter[Pair] = Counter()
    words_with: dict[Pair, set[str]] = defaultdict(set)  # so that a merge reads only the words that it changes
    for word, parts in spelled.items():
        for pair in pairwise(parts):
            pairs[pair] += words[word]
            words_with[pair].add(word)
    vocabulary = [*_SPECIAL, _WORD_START, *_CHARACTERS]
    merges: list[str] = []
    while len(merges) < merge_count and pairs:
        best = max(pairs, key=lambda pair: (pairs[pair], pair))
        merges.append(" ".join(best))
        vocabulary.append("".join(best))
        for word in words_with.pop(best):
            parts = spelled[word]
            for pair in pairwise(parts):
                pairs[pair] -= words[word]
                words_with[pair].discard(word)
            _merge(parts, best)
            for pair in pairwise(parts):
                pairs[pair] += words[word]
                words_with[pair].add(word)
        pairs = +pairs  # without those that no word has any more
    # Different merges can produce the same subword, which has one id.
    return {subword: i for i, subword in enumerate(dict.fromkeys(vocabulary))}, merges


def _merge(parts: list[str], pair: Pair) -> None:
    i = 0
    while i < len(parts) - 1:
        if (parts[i], parts[i + 1]) == pair:
            parts[i : i + 2] = ["".join(pair)]
        i += 1


def write(folder: Path, merge_count: int = 4000, caption_count: int = 150_000, seed: int = 0) -> None:
    """Write `vocab.json` and `merges.txt`, learned from random captions."""
    rng = Random(seed)
    words: Counter[str] = Counter()
    for _ in range(caption_count):
        # Without punctuation, so that "circle," becomes "circle" and a comma.
        words.update(re.findall(r"[a-z0-9'-]+", describe(*random_scene(rng), rng).lower()))
    vocabulary, merges = learn(Counter({word: count for word, count in words.items() if count > 2}), merge_count)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.json").write_text(json.dumps(vocabulary), encoding="utf8")
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *merges, ""]), encoding="utf8")


if __name__ == "__main__":
    write(Path(sys.argv[1]))
