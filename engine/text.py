"""From a prompt to token ids."""

from __future__ import annotations

from engine.config import ModelConfig
from engine.upstream import TextTokenizer


def tokenize_prompt(tokenizer: TextTokenizer, prompt: str, config: ModelConfig) -> list[int]:
    """Turn a prompt into token ids: start token, the prompt's, end token; at most `config.text_token_count`, not padded.

    The ids are `TextTokenizer.tokenize`'s, but for three faults of min-dalle's: white space of any kind separates words (there a
    new line becomes `<unk>`), a prompt that is too long keeps its end token, and an id past the embedding (the last of
    Mini's vocabulary) becomes `<unk>` (there it crashes).
    """
    tokens: list[int] = tokenizer.tokenize(" ".join(prompt.split()))
    if len(tokens) > config.text_token_count:
        tokens = [*tokens[: config.text_token_count - 1], tokens[-1]]
    unknown: int = tokenizer.token_from_subword["<unk>"]
    return [token if token < config.text_vocab_count else unknown for token in tokens]
