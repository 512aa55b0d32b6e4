"""Scripts written for min-dalle: our `MinDalle` beside the real one, on the same weight files, loaded by its own constructor.

The weights are random, of a small model. Its detokenizer is small too, inside min-dalle's own class.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from benchmarks.random_weights import SMALL_SIZES
from benchmarks.reference import LocalMinDalle
from dalle_model import CheckpointError, InvalidRequest, MinDalle
from engine.batching.gallery import Gallery
from engine.batching.job import Slot
from engine.request import IMAGE_TOKEN_COUNT
from engine.upstream.modules import VQGanDetokenizer
from engine.weights.checkpoint import BUILT_IN_MODELS, load_checkpoint
from engine.weights.config import read_config
from engine.weights.models import MODELS
from tests.end_to_end.server_process import ROOT, environment
from tests.loopback_hub import serve_random_weights
from tests.parity.reference import MIN_DALLE_START, random_checkpoint

PROMPT = "a red circle on a blue background"
SIZES = SMALL_SIZES | {
    "encoder_layers": 2,
    "decoder_layers": 2,  # min-dalle has one number for both
    "encoder_vocab_size": 1000,  # Tiny's vocabulary fits
    "image_vocab_size": 2**14,
    "decoder_start_token_id": MIN_DALLE_START,
    "detokenizer": {"embed_count": 256, "log2_widths": [6, 5]},  # min-dalle's embedding has 256
}


class SmallMinDalle(LocalMinDalle):
    """min-dalle whose detokenizer has the layers of ours, which are smaller than its own."""

    def init_detokenizer(self) -> None:
        ours = load_checkpoint("mini", models_root=Path(self.detoker_params_path).parents[1], progress=False).detokenizer
        self.detokenizer = VQGanDetokenizer.__new__(VQGanDetokenizer)
        nn.Module.__init__(self.detokenizer)
        for name, part in ours.named_children():
            setattr(self.detokenizer, name, part)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write a model in the layout of min-dalle's `models_root`, the same as Mini and as Mega."""
    root = tmp_path_factory.mktemp("pretrained")
    mini = root / "dalle_bart_mini"
    mini.mkdir()
    (root / "vqgan").mkdir()
    for name in ("vocab.json", "merges.txt"):
        shutil.copy(BUILT_IN_MODELS / "tiny" / name, mini / name)
    (mini / "config.json").write_text(json.dumps(SIZES))
    checkpoint = random_checkpoint(read_config(mini / "config.json", MODELS["mini"].sizes), load_checkpoint("tiny").tokenizer)
    torch.save(checkpoint.encoder.state_dict(), mini / "encoder.pt")
    torch.save(checkpoint.decoder.state_dict(), mini / "decoder.pt")
    torch.save(checkpoint.detokenizer.state_dict(), root / "vqgan" / "detoker.pt")
    (root / "dalle_bart_mega").symlink_to(mini)
    return root


@pytest.fixture(scope="module")
def theirs(root: Path) -> Iterator[SmallMinDalle]:
    threads = torch.get_num_threads()
    with torch.inference_mode():
        yield SmallMinDalle(root, "mini")
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def ours(root: Path) -> MinDalle:
    return MinDalle(models_root=str(root), dtype=torch.float32, device="cpu", is_mega=False, is_reusable=True, is_verbose=False)


@pytest.fixture
def our_tokens(monkeypatch: pytest.MonkeyPatch) -> dict[int, list[int]]:
    """Return the tokens of the images that our engine finishes, by seed."""
    tokens: dict[int, list[int]] = {}
    add = Gallery.add

    def record(gallery: Gallery, slot: Slot) -> None:
        if slot.position == IMAGE_TOKEN_COUNT:
            tokens[slot.seed] = list(slot.tokens)
        add(gallery, slot)

    monkeypatch.setattr(Gallery, "add", record)
    return tokens


@pytest.fixture(scope="module")
def fastest(root: Path) -> MinDalle:
    """Load our model as a script for a GPU does that runs on a CPU."""
    return MinDalle(models_root=str(root), dtype=torch.float16, device="cpu", is_mega=True, is_reusable=True)


def test_greedy_tokens_are_equal_and_pixels_within_one(
    theirs: SmallMinDalle, ours: MinDalle, our_tokens: dict[int, list[int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    their_tokens: list[list[int]] = []
    detokenize = theirs.image_grid_from_tokens

    def record(image_tokens: Tensor, **options: Any) -> Tensor:
        their_tokens.extend(image_tokens.tolist())
        return detokenize(image_tokens=image_tokens, **options)

    monkeypatch.setattr(theirs, "image_grid_from_tokens", record)
    fields: dict[str, Any] = {"text": PROMPT, "seed": 1, "grid_size": 1, "progressive_outputs": True, "top_k": 1}
    their_grids, our_grids = (
        list(model.generate_raw_image_stream(**fields, supercondition_factor=3)) for model in (theirs, ours)
    )
    assert their_tokens[-1] == our_tokens[1]
    assert len(set(our_tokens[1])) > 2, "not a blank image"
    assert len(our_grids) == len(their_grids) == 8
    for their_grid, our_grid in zip(their_grids, our_grids, strict=True):
        assert_alike(our_grid, their_grid)
    assert (our_grids[-1] - their_grids[-1]).abs().max() <= 1


@pytest.mark.parametrize("is_seamless", [False, True], ids=["apart", "seamless"])
def test_images_are_where_min_dalle_puts_them(
    theirs: SmallMinDalle,
    ours: MinDalle,
    our_tokens: dict[int, list[int]],
    monkeypatch: pytest.MonkeyPatch,
    is_seamless: bool,
) -> None:
    """Four different images: min-dalle lays out and cuts apart what our engine draws with the seeds 5 to 8."""
    fields: dict[str, Any] = {"text": PROMPT, "seed": 5, "grid_size": 2, "is_seamless": is_seamless}
    our_grid = next(iter(ours.generate_raw_image_stream(**fields)))
    tokens = torch.tensor([our_tokens[seed] for seed in (5, 6, 7, 8)])
    their_grid = theirs.image_grid_from_tokens(image_tokens=tokens, is_seamless=is_seamless)
    assert_alike(our_grid, their_grid)
    assert (our_grid - their_grid).abs().max() <= 1
    assert (our_grid[:256, 256:] - our_grid[256:, :256]).abs().max() > 9, "the images of seeds 6 and 7 differ"

    monkeypatch.setattr(theirs, "generate_raw_image_stream", lambda **_: iter([their_grid]))
    if is_seamless:
        their_images, our_images = (model.generate_images(**fields) for model in (theirs, ours))
        assert_alike(our_images, their_images)
        assert our_images.shape == (4, 256, 256, 3)
        assert (our_images - their_images).abs().max() <= 1
    else:
        their_image, our_image = (model.generate_image(**fields) for model in (theirs, ours))
        assert (type(our_image), our_image.size, our_image.mode) == (Image.Image, their_image.size, their_image.mode)
        assert np.abs(np.asarray(our_image, dtype=int) - np.asarray(their_image)).max() <= 1


@pytest.mark.parametrize("is_seamless", [False, True], ids=["apart", "seamless"])
def test_progressive_outputs_are_grids_as_far_as_they_are_drawn(ours: MinDalle, is_seamless: bool) -> None:
    *half_drawn, _ = ours.generate_raw_image_stream(PROMPT, 1, 2, True, is_seamless)
    assert len(half_drawn) == 7
    for step, (row, column) in product(range(7), [(0, 0), (0, 256), (256, 0), (256, 256)]):
        image = half_drawn[step][row : row + 256, column : column + 256]
        drawn, undrawn = image[: 32 * (step + 1)], image[32 * (step + 1) :]
        assert undrawn.unique().tolist() == [128] and len(drawn[-16:].unique()) > 2


def test_the_examples_of_min_dalles_readme(fastest: MinDalle) -> None:
    """With seed 0 in two places, which is as random as -1."""
    fields: dict[str, Any] = {"is_seamless": False, "temperature": 1, "top_k": 256, "supercondition_factor": 16}
    image = fastest.generate_image(text="Nuclear explosion broccoli", seed=0, grid_size=2, **fields, is_verbose=False)
    assert image.size == (512, 512)
    images = fastest.generate_images(text="Nuclear explosion broccoli", seed=0, grid_size=2, **fields, is_verbose=False)
    pixels = images.to("cpu").numpy()
    assert pixels.shape == (4, 256, 256, 3) and pixels.dtype == np.float32
    assert (pixels == pixels.round()).all() and pixels.min() >= 0 and 200 < pixels.max() <= 255
    assert (pixels[0] != np.asarray(image)[:256, :256]).any(), "seed 0 draws another image"
    stream = fastest.generate_image_stream(
        text="WALL·E", seed=-1, grid_size=1, progressive_outputs=True, **fields, is_verbose=False
    )
    assert [image.size for image in stream] == [(256, 256)] * 8


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"text": None}, "text must be a string, not None"),
        ({"grid_size": 0}, "grid_size must be at least 1, not 0"),
        ({"grid_size": 1.5}, "grid_size must be a whole number, not 1.5"),
        ({"seed": "x"}, "seed must be a whole number, not 'x'"),
        ({"seed": 2**63 - 1}, "seed must leave room for 4 images"),
        ({"temperature": 0}, "temperature must be above 0"),
        ({"temperature": "hot"}, "temperature must be a number, not 'hot'"),
        ({"top_k": 0}, "top_k must be at least 1"),
        ({"supercondition_factor": None}, "supercondition_factor must be a number, not None"),
    ],
)
def test_a_bad_argument_is_named_at_once(ours: MinDalle, fields: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidRequest) as error:
        ours.generate_raw_image_stream(**{"text": PROMPT, "seed": 1, "grid_size": 2, **fields})
    assert str(error.value).startswith(message) and error.value.field in fields


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"models_root": None}, "models_root must be the path of a folder, not None"),
        ({"dtype": torch.int8}, "dtype must be None, torch.float32, torch.float16, torch.bfloat16, not torch.int8"),
        ({"device": "cuda:99"}, "device 'cuda:99' can't be used here: "),
    ],
)
def test_a_bad_setting_is_named(root: Path, fields: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidRequest) as error:
        MinDalle(**{"models_root": str(root), "is_verbose": False, **fields})
    assert str(error.value).startswith(message)


def test_missing_weights_are_named_where_there_is_no_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setenv("DALLE_HUB_REPO", "nobody/nothing")
    with pytest.raises(CheckpointError) as error:
        MinDalle(tmp_path, is_mega=False, is_verbose=False)
    assert str(error.value).startswith(f"{tmp_path / 'dalle_bart_mini' / 'vocab.json'} is missing, and ")


def test_damaged_weights_are_named(root: Path, tmp_path: Path) -> None:
    shutil.copytree(root, tmp_path / "damaged")
    (tmp_path / "damaged" / "dalle_bart_mini" / "decoder.pt").write_bytes(b"cut")
    with pytest.raises(CheckpointError, match=r"dalle_bart_mini.decoder\.pt"):
        MinDalle(tmp_path / "damaged", is_mega=False, is_verbose=False)


SCRIPT = """
from dalle_model import MinDalle

model = MinDalle(is_mega=False, models_root="pretrained", is_reusable=False, is_verbose=True)
model.generate_image("artificial intelligence", 7, 1, is_verbose=True).save("generated.jpg")
stream = model.generate_image_stream("a star", 1, 9, progressive_outputs=True)
next(stream)  # and end, while the engine draws
"""


def test_a_script_ends_by_itself_with_weights_from_the_hub(tmp_path: Path) -> None:
    with serve_random_weights() as hub:
        variables = {**environment(), **hub.environment(tmp_path / "hub"), "PYTHONPATH": str(ROOT)}
        run = subprocess.run(
            [sys.executable, "-c", SCRIPT], cwd=tmp_path, env=variables, capture_output=True, text=True, timeout=120
        )
    assert (run.returncode, run.stdout) == (0, ""), run.stderr
    with Image.open(tmp_path / "generated.jpg") as image:
        assert image.size == (256, 256)
    lines = run.stderr.splitlines()
    assert lines[:2] == [
        "using device cpu",
        "pretrained/dalle_bart_mini/vocab.json is missing: taking all weights from the hub's cache",
    ]
    assert "text tokens" in run.stderr and "Traceback" not in run.stderr


def draw(tmp_path: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "dalle_model", *arguments]
    own = {**environment(), "PYTHONPATH": str(ROOT), **variables}
    return subprocess.run(command, cwd=tmp_path, env=own, capture_output=True, text=True, timeout=120)


def test_the_flags_of_min_dalles_script(root: Path, tmp_path: Path, fastest: MinDalle) -> None:
    (tmp_path / "out").mkdir()
    drawn = draw(
        tmp_path, "--text=two hearts", "--no-mega", "--seed=7", "--grid-size=2", "--image-path=out", f"--models-root={root}"
    )
    assert (drawn.returncode, drawn.stdout) == (0, "out/generated.jpg\n"), drawn.stderr
    expected = fastest.generate_image("two hearts", 7, 2)
    with Image.open(tmp_path / "out" / "generated.jpg") as image:
        assert image.size == (512, 512)
        assert np.abs(np.asarray(image, dtype=int) - np.asarray(expected)).mean() < 3  # JPEG's loss


def test_a_bad_flag_is_an_error_of_one_line(tmp_path: Path) -> None:
    refused = draw(tmp_path, "--text=x", "--num_images=2")
    [line] = refused.stderr.splitlines()
    assert (refused.returncode, line) == (
        2,
        "python -m dalle_model: unrecognized arguments: --num_images=2; see python -m dalle_model --help",
    )


def assert_alike(ours: Tensor, theirs: Tensor) -> None:
    """Assert what a script may rely on: type, shape, device and range."""
    assert (ours.shape, ours.dtype, ours.device) == (theirs.shape, theirs.dtype, theirs.device)
    assert ours.is_contiguous() and 0 <= ours.min() <= ours.max() <= 255
