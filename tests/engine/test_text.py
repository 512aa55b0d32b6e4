"""A prompt's token ids equal TextTokenizer's, except for the three faults that are fixed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.random_weights import write_vocabulary
from engine.text import merge_pairs, tokenize_prompt
from engine.upstream.tokenizer import TextTokenizer
from engine.weights.config import ModelConfig
from engine.weights.models import MODELS
from engine.weights.tokenizer import load_tokenizer

ROWS = 300
START, END, UNKNOWN = 0, 2, 3


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> TextTokenizer:
    folder: Path = tmp_path_factory.mktemp("vocabulary")
    write_vocabulary(folder, "", ROWS)
    return load_tokenizer(folder)


@pytest.fixture(scope="module")
def config() -> ModelConfig:
    sizes = MODELS["mini"].sizes
    assert sizes is not None
    return replace(sizes, text_vocab_count=ROWS)


@given(st.lists(st.text(st.characters(exclude_categories=["Z", "Cc", "Cs"]), min_size=1, max_size=3), max_size=12))
def test_ids_are_those_of_text_tokenizer(tokenizer: TextTokenizer, config: ModelConfig, words: list[str]) -> None:
    prompt = " ".join(words)
    theirs = tokenizer.tokenize(prompt)
    if len(theirs) <= 64:
        assert tokenize_prompt(tokenizer, prompt, config) == theirs


@pytest.mark.parametrize("prompt", ["red\nred", "red\tred", "  red \r\n\v red ", "red\u00a0red", "red\u2003red"])
def test_white_space_of_any_kind_separates_words(tokenizer: TextTokenizer, config: ModelConfig, prompt: str) -> None:
    ids = tokenize_prompt(tokenizer, prompt, config)
    assert ids == tokenizer.tokenize("red red")
    assert UNKNOWN not in ids


def test_an_empty_prompt_is_the_start_and_the_end_token(tokenizer: TextTokenizer, config: ModelConfig) -> None:
    assert tokenize_prompt(tokenizer, " \n", config) == [START, END]


@pytest.mark.parametrize("word_count", [61, 62, 63, 64, 500])
def test_a_long_prompt_keeps_its_end_token(tokenizer: TextTokenizer, config: ModelConfig, word_count: int) -> None:
    ids = tokenize_prompt(tokenizer, "red " * word_count, config)
    assert len(ids) == min(word_count + 2, 64)
    assert (ids[0], ids[-1]) == (START, END)
    assert set(ids[1:-1]) == set(tokenizer.tokenize("red")[1:-1])


def test_an_id_outside_the_embedding_becomes_unknown(tokenizer: TextTokenizer, config: ModelConfig) -> None:
    over = TextTokenizer(tokenizer.token_from_subword | {"Ġred": ROWS}, [" ".join(pair) for pair in tokenizer.rank_from_pair])
    assert over.tokenize("red") == [START, ROWS, END]
    assert tokenize_prompt(over, "red", config) == [START, UNKNOWN, END]


@given(
    st.text("abc", min_size=1, max_size=40), st.lists(st.tuples(*[st.sampled_from(["a", "b", "c", "ab", "aa", "bc", "aab"])] * 2))
)
def test_pairs_are_merged_as_by_text_tokenizer(word: str, merges: list[tuple[str, str]]) -> None:
    theirs = TextTokenizer({}, [" ".join(pair) for pair in merges])
    assert merge_pairs(["Ġ", *word], theirs.rank_from_pair) == theirs.get_byte_pair_encoding(word, False)


def test_a_very_long_word_is_tokenized_quickly(tokenizer: TextTokenizer, config: ModelConfig) -> None:
    """The limit is the tests' timeout: min-dalle's algorithm would take hours."""
    ids = tokenize_prompt(tokenizer, "overflow" * 60_000, config)
    assert ids == [START, tokenizer.token_from_subword["Ġ"], *tokenizer.tokenize("overflow" * 8)[2:63], END]
