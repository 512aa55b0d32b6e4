"""Training: the model is min-dalle's, runs resume exactly, and exports have the published files' format."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors import safe_open
from torch.nn import functional as F

from engine.request import IMAGE_TOKEN_COUNT
from engine.weights.checkpoint import load_checkpoint
from engine.weights.tensor_file import is_absent_scale
from training import detokenizer, export
from training.codebook import TOKEN_COUNT, learn
from training.model import TinyTransformer
from training.pool import LOSSES, choose_places
from training.transformer import Plan, Run, tiny_config, train

PLAN = Plan(steps=4, batch_size=2, warm_up=1)


@pytest.fixture(scope="module")
def codebook_masks() -> NDArray[Any]:
    return learn(image_count=120, iterations=2, seed=1)


@pytest.fixture
def folder(tmp_path: Path, codebook_masks: NDArray[Any]) -> Path:
    np.save(tmp_path / "codebook.npy", codebook_masks)
    return tmp_path


def test_the_trained_model_is_min_dalles() -> None:
    """The loss of all positions at once equals that of min-dalle's own forward, step by step."""
    torch.manual_seed(0)
    config = replace(tiny_config(40), decoder_layer_count=2)
    model = TinyTransformer(config).eval()
    text, image = torch.randint(4, 40, (1, 6)), torch.randint(0, TOKEN_COUNT, (1, 256))
    with torch.no_grad():
        loss = model(text, image, torch.arange(256), torch.full((256,), 1 / 256))
        model.fold_tables()
        state = torch.zeros(2, 4, IMAGE_TOKEN_COUNT, config.embed_count)
        rows = torch.ones((2, 64), dtype=torch.long)
        rows[:, :6] = text
        encoded = model.encoder.forward(rows)
        previous = F.pad(image[:, :-1], (1, 0), value=config.decoder_start_token_id)[0]
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


def weights_after(folder: Path, plan: Plan) -> dict[str, torch.Tensor]:
    run = Run(folder, plan, "cpu")
    if run.path.exists():
        run.resume()
    train(run, save_every=100, use_compile=False)
    return run.model.state_dict()


@pytest.mark.usefixtures("one_thread")
def test_a_resumed_run_ends_with_the_same_weights(folder: Path) -> None:
    whole = weights_after(folder, PLAN)
    (folder / "transformer.pt").unlink()
    run = Run(folder, PLAN, "cpu")
    for _ in range(2):
        run.train_step(run.model)
    run.save()
    resumed = weights_after(folder, PLAN)
    for name, tensor in whole.items():
        torch.testing.assert_close(resumed[name], tensor, atol=0, rtol=0, msg=name)


def test_an_exported_run_loads_and_has_the_published_format(folder: Path, tmp_path: Path) -> None:
    weights_after(folder, replace(PLAN, steps=1))
    detokenizer.train(folder, detokenizer.Plan(steps=1, batch_size=1), "cpu", save_every=1)
    target = tmp_path / "models" / "tiny"
    export.export(folder, target)
    with safe_open(target / "decoder.safetensors", "pt") as file:
        names = set(file.keys())
        assert {file.get_tensor(name).dtype for name in names} == {torch.float16}
    assert "layers.0.glu.ln0.bias" in names
    assert not [name for name in names if is_absent_scale(name)]
    checkpoint = load_checkpoint("tiny", models_root=target.parent, progress=False)
    assert checkpoint.config.image_vocab_count == TOKEN_COUNT
    assert json.loads((target / "config.json").read_text())["decoder_start_token_id"] == TOKEN_COUNT
    trained = Run(folder, PLAN, "cpu")
    trained.resume()
    torch.testing.assert_close(trained.model.head(), checkpoint.decoder.lm_head.weight, atol=1e-3, rtol=1e-3)
    torch.testing.assert_close(trained.model.positions(), checkpoint.decoder.embed_positions.weight, atol=1e-3, rtol=1e-3)


def test_the_learning_rate_warms_up_stays_and_falls() -> None:
    plan = Plan(steps=1000, warm_up=10, decay=0.2)
    assert [plan.rate(step) for step in (0, 9, 500, 800, 900)] == pytest.approx([0.1, 1, 1, 1, 0.5])
    assert 0 < plan.rate(999) < 0.01


def test_the_learning_rate_restarts_and_falls() -> None:
    plan = Plan(steps=1500, warm_up=10, decay=0.2, restart=1000, restart_rate=0.6)
    assert [plan.rate(step) for step in (0, 9, 500, 800, 900)] == pytest.approx([0.1, 1, 1, 1, 0.5])
    assert [plan.rate(step) for step in (1000, 1250)] == pytest.approx([0.6, 0.3])
    assert 0 < plan.rate(1499) < 0.01


def test_places_of_the_loss_are_unbiased_and_include_every_change() -> None:
    rng = np.random.default_rng(0)
    image = np.zeros((3, 256), dtype=np.int64)
    image[:, 100:104] = 7
    values = rng.random(image.size)
    estimates = []
    for _ in range(400):
        places, weights = choose_places(image, rng)
        assert len(set(places)) == len(places) == 3 * LOSSES
        assert {0, 256 + 100, 256 + 104, 100 + 16} <= set(places)
        estimates.append((values[places] * weights).sum())
    assert np.mean(estimates) == pytest.approx(values.mean(), rel=0.01)
