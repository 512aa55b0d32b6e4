"""Training: the model is min-dalle's, runs resume exactly, and exports load with the numbers that were trained."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch.nn import functional as F

from engine.request import IMAGE_TOKEN_COUNT
from engine.weights.checkpoint import load_checkpoint
from engine.weights.config import DetokenizerConfig
from engine.weights.tensor_file import is_absent_scale
from engine.weights.tokenizer import load_tokenizer
from training import autoencoder, transformer
from training.autoencoder import Autoencoder
from training.codes import TOKEN_COUNT
from training.export import TRANSFORMER_LEVELS, write_texts, write_weights
from training.model import TinyTransformer
from training.painting import Painter, as_arrays
from training.paths import DATA
from training.run import Plan, load
from training.scene import Placed, Scene
from training.transformer import CONFIG, Captions, choose_places

PLAN = Plan(steps=4, batch_size=2, learning_rate=1e-3, warm_up=1)
DETOKENIZER = DetokenizerConfig(embed_count=8, log2_widths=(6, 5), middle_blocks=2, level_blocks=(2, 1))
SMALL = replace(
    CONFIG,
    embed_count=32,
    attention_head_count=2,
    glu_embed_count=48,
    encoder_layer_count=1,
    decoder_layer_count=2,
    detokenizer=DETOKENIZER,
)


def small_autoencoder() -> Autoencoder:
    torch.manual_seed(1)
    return Autoencoder(DETOKENIZER, width=8, mixed=16)


def test_the_trained_model_is_min_dalles() -> None:
    """The loss of all positions at once equals that of min-dalle's own forward, step by step."""
    torch.manual_seed(0)
    model = TinyTransformer(SMALL).eval()
    text, image = torch.randint(4, 40, (1, 6)), torch.randint(0, TOKEN_COUNT, (1, 256))
    with torch.no_grad():
        loss = model(text, image, torch.arange(256)[None])
        model.fold_tables()
        state = torch.zeros(2, 4, IMAGE_TOKEN_COUNT, SMALL.embed_count)
        rows = torch.ones((2, 64), dtype=torch.long)
        rows[:, :6] = text
        encoded = model.encoder.forward(rows)
        previous = F.pad(image[:, :-1], (1, 0), value=SMALL.decoder_start_token_id)[0]
        losses = []
        for i in range(0, IMAGE_TOKEN_COUNT):
            logits, state = model.decoder.forward(
                rows.not_equal(1)[:, None, None, :], encoded, state, previous[i].view(1, 1), torch.tensor([i])
            )
            losses.append(F.cross_entropy(logits[0], image[0, i : i + 1]))
    torch.testing.assert_close(torch.stack(losses).mean(), loss, atol=1e-4, rtol=0)


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Use one thread: sums over several threads differ from run to run in their last bits."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("kind", ["autoencoder", "transformer"])
def test_a_run_stopped_at_any_time_ends_with_the_same_weights(tmp_path: Path, kind: str) -> None:
    def train(folder: Path, minutes: float | None) -> bool:
        if kind == "autoencoder":
            return autoencoder.train(folder, PLAN, "cpu", small_autoencoder, minutes=minutes)
        return transformer.train(folder, PLAN, "cpu", small_autoencoder(), config=SMALL, minutes=minutes)

    assert train(tmp_path / "whole", None)
    stops = 0
    while not train(tmp_path / "stopped", 0.0):  # saves and stops after each step
        stops += 1
    assert stops == PLAN.steps - 1
    whole, stopped = (load(tmp_path / name / f"{kind}.pt")["model"] for name in ("whole", "stopped"))
    for name, tensor in whole.items():
        torch.testing.assert_close(stopped[name], tensor, atol=0, rtol=0, msg=name)


def test_an_export_loads_with_the_numbers_that_were_trained(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model, detokenizer = TinyTransformer(SMALL), small_autoencoder().detokenizer
    model.fold_tables()
    target = tmp_path / "models" / "tiny"
    write_weights(model, detokenizer, target)
    write_texts(target, SMALL)
    tensors = load_file(target / "decoder.safetensors")
    assert not [name for name in tensors if is_absent_scale(name)]
    assert {tensor.dtype for name, tensor in tensors.items() if tensor.ndim > 1} == {torch.int8}
    loaded = load_checkpoint("tiny", models_root=target.parent, progress=False)
    assert (loaded.config == SMALL and loaded.config.sampling != CONFIG.sampling) or loaded.config.detokenizer == DETOKENIZER
    for mine, theirs in ((model.encoder, loaded.encoder), (model.decoder, loaded.decoder)):
        for name, tensor in mine.state_dict().items():
            half_a_step = tensor.abs().max() / TRANSFORMER_LEVELS / 2
            torch.testing.assert_close(theirs.state_dict()[name], tensor, atol=float(half_a_step), rtol=1e-3, msg=name)
    again = TinyTransformer(SMALL)
    again.decoder.load_state_dict(loaded.decoder.state_dict())
    again.unfold_tables()
    torch.testing.assert_close(again.head(), loaded.decoder.lm_head.weight, atol=0, rtol=0)
    codes = torch.rand(1, 5, 2, 3)
    grid = torch.tensor([[[0, 7, TOKEN_COUNT - 1]]])
    with torch.no_grad():
        torch.testing.assert_close(loaded.detokenizer.embedding.weight, detokenizer.embedding(), atol=1e-2, rtol=1e-2)  # type: ignore[union-attr]
        assert loaded.detokenizer(grid).shape == (1, 3, 16, 48) and detokenizer(codes).shape == (1, 3, 32, 48)


def test_the_learning_rate_warms_up_stays_and_falls() -> None:
    plan = Plan(steps=1000, batch_size=1, learning_rate=1, warm_up=10, decay=0.2)
    assert [plan.rate(step) for step in (0, 9, 500, 800, 900)] == pytest.approx([0.1, 1, 1, 1, 0.5])
    assert 0 < plan.rate(999) < 0.01


def test_captions_are_tokenized_as_the_server_does() -> None:
    captions = Captions(replace(PLAN, batch_size=40), load_tokenizer(DATA))
    tokenizer = load_tokenizer(DATA)
    for text in ("a cat", "Two  Dogs, in the park!", "", "a 🐱 on white"):
        assert captions.tokenize(text) == tokenizer.tokenize(" ".join(text.split()))
    _, _, tokens = captions[3]
    lengths = tokens.not_equal(1).sum(1)
    assert tokens.shape == (40, 48) and lengths.min() == 2 < lengths.max()
    assert torch.equal(captions[3][2], tokens)


def test_the_loss_is_taken_where_things_are() -> None:
    scene = Scene("one", "white", (Placed(300, 1, 64, 80),))
    _, covered = Painter("cpu")(*as_arrays([scene]))
    places = choose_places(covered, torch.Generator().manual_seed(0))
    assert places.shape == (1, 128) and len(set(places[0].tolist())) == 128
    touched = {int(y // 16 * 16 + x // 16) for _, _, y, x in covered.gt(0.99).nonzero()}
    assert touched and touched <= set(places[0].tolist())
