"""From a prompt to token ids."""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Mapping

from emoji import demojize

from engine.upstream.tokenizer import TextTokenizer
from engine.weights.config import ModelConfig

_WORD_START = chr(ord(" ") + 256)


def tokenize_prompt(tokenizer: TextTokenizer, prompt: str, config: ModelConfig) -> list[int]:
    """Convert a prompt to token ids, start and end token included: at most `config.text_token_count`, not padded.

    The ids equal those of min-dalle's `TextTokenizer.tokenize`, except for three faults fixed here:
    - Any white space separates words. In min-dalle a newline becomes `<unk>`.
    - A prompt that is too long keeps its end token.
    - An id outside the embedding, such as the last of Mini's vocabulary, becomes `<unk>`. In min-dalle it crashes.

    The algorithm differs too: min-dalle's time grows with the square of a word's length, so that 32,000 characters without a
    space would block the process for minutes.
    """
    ids = tokenizer.token_from_subword
    unknown: int = ids["<unk>"]
    tokens: list[int] = [ids["<s>"]]
    for subword in _subwords(tokenizer, prompt):
        if len(tokens) == config.text_token_count - 1:
            break
        tokens.append(ids.get(subword, unknown))
    tokens.append(ids["</s>"])
    return [token if token < config.text_vocab_count else unknown for token in tokens]


def _subwords(tokenizer: TextTokenizer, prompt: str) -> Iterator[str]:
    """Yield the subwords of a prompt as `TextTokenizer.tokenize` does: emoji as their names, lower case, ASCII only."""
    spaced = " ".join(prompt.split())
    plain: str = demojize(spaced, delimiters=("", "")).lower().encode("ascii", errors="ignore").decode()
    for word in plain.split(" "):
        if word:
            yield from merge_pairs([_WORD_START, *word], tokenizer.rank_from_pair)


def merge_pairs(parts: list[str], ranks: Mapping[tuple[str, str], int]) -> list[str]:
    """Merge adjacent parts until no pair has a rank, always the pair with the lowest rank, the leftmost of equals.

    With the parts in a linked list and the pairs in a heap, n parts take O(n log n) time.
    """
    parts = list(parts)
    after = [*range(1, len(parts)), -1]
    before = [-1, *range(len(parts) - 1)]
    heap: list[tuple[int, int, str, str]] = []

    def push(left: int, right: int) -> None:
        rank = ranks.get((parts[left], parts[right])) if left >= 0 and right >= 0 else None
        if rank is not None:
            heapq.heappush(heap, (rank, left, parts[left], parts[right]))

    for left in range(len(parts) - 1):
        push(left, left + 1)
    while heap:
        _, left, first, second = heapq.heappop(heap)
        right = after[left]
        if right < 0 or (parts[left], parts[right]) != (first, second):
            continue  # one of the two was merged in the meantime
        parts[left], parts[right] = first + second, ""
        after[left] = after[right]
        if after[left] >= 0:
            before[after[left]] = left
        push(before[left], left)
        push(left, after[left])
    return [part for part in parts if part]
