"""Each part of the benchmarks runs on a small random model that min-dalle can load, and counts correctly."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import partial
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from benchmarks.__main__ import about, measure
from benchmarks.bandwidth import memory_bandwidth
from benchmarks.decoding import bytes_a_step
from benchmarks.figures import Figure, Figures
from benchmarks.gpu import measure_gpu, random_checkpoint_on
from benchmarks.gpu_kernels import candidates, shapes_of
from benchmarks.plan import Plan, read_plan
from benchmarks.random_weights import SMALL_SIZES, write_models_root
from benchmarks.reference import LocalMinDalle
from engine.runners.cuda.support import missing_on
from engine.runners.cuda.tiles import QUARTERS, ROWS, Chip, tile_bytes, tile_for, unit_for
from engine.runners.native import library
from engine.runners.native.instructions import usable_sets
from engine.runners.openvino.precision import CPU_PRECISIONS
from engine.runners.torch.runner import TorchRunner, choose_device
from engine.weights.checkpoint import Checkpoint, load_checkpoint
from engine.weights.config import read_config
from engine.weights.models import MODELS
from tests.cpu import WHY_NOT_NATIVE, needs_native

# min-dalle requires this image vocabulary, as many layers in the encoder as in the decoder, and the VQGAN's true sizes.
SIZES = {key: value for key, value in SMALL_SIZES.items() if key != "detokenizer"}
SIZES |= {"image_vocab_size": 2**14, "decoder_start_token_id": 2**14, "encoder_layers": 3}


@pytest.fixture(scope="module")
def models_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_models_root(tmp_path_factory.mktemp("models"), SIZES)


@pytest.fixture(scope="module")
def small_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return weights that min-dalle can't load, but whose detokenizer is converted in a moment."""
    return write_models_root(tmp_path_factory.mktemp("small"))


@pytest.fixture(scope="module")
def checkpoint(models_root: Path) -> Checkpoint:
    return load_checkpoint("mini", models_root=models_root, progress=False)


def plan_of(*parts: str) -> Plan:
    return Plan(torch.get_num_threads(), parts=parts, rounds=1, images=(1,), precisions=("auto",), callers=(1, 2), batch=2)


def test_a_machine_without_a_gpu_is_told_what_it_lacks(capsys: pytest.CaptureFixture[str]) -> None:
    figures = Figures({})
    if missing_on(choose_device("auto")) is None:
        pytest.skip("this machine has a GPU, which would be measured for minutes")
    measure_gpu(plan_of("gpu"), figures)
    assert "gpu: not measured: it needs an NVIDIA GPU" in capsys.readouterr().out and not list(figures)


def test_the_tiles_to_try_fit_the_weights_and_the_chip() -> None:
    sizes = MODELS["mega"].sizes
    assert sizes is not None
    small, large = Chip(128, 99 * 2**10, 100 * 2**10), Chip(132, 227 * 2**10, 228 * 2**10)
    for shape, rows, chip in product(shapes_of(sizes), ROWS, (small, large)):
        weight = torch.empty((shape.n, shape.k), dtype=torch.float16, device="meta")
        tiles = candidates(weight, rows, chip)
        assert tiles[0] == tile_for(weight, rows, chip) and len(tiles) > 5
        for tile in tiles:
            assert shape.n % tile.columns == 0 and shape.k % (QUARTERS * tile.depth) == 0 == tile.depth % unit_for(weight)
            assert tile_bytes(weight, tile) * (tile.stages - 1) <= chip.program_memory


def test_a_random_model_is_built_on_a_device(small_root: Path) -> None:
    config = read_config(small_root / "dalle_bart_mini" / "config.json", MODELS["mini"].sizes)
    runner = TorchRunner(random_checkpoint_on(torch.device("cpu"), config), torch.device("cpu"))
    runner.admit([runner.encode([0, 5, 2])])
    logits = runner.step([config.decoder_start_token_id], [0])
    assert np.isfinite(logits).all() and logits.std() > 0.1


@pytest.mark.soak
def test_drawing_is_measured_beside_min_dalle(models_root: Path, tmp_path: Path) -> None:
    plan = plan_of("drawing")
    figures = Figures(about(plan), tmp_path / "results.json")
    measure(models_root, plan, figures)
    assert "1 image, auto (int4)" in {figure.name for figure in figures}
    assert all(len(figure.ratios) == 1 for figure in figures)
    assert all(value > 0 for figure in figures for value in (*figure.ours, *figure.theirs))
    assert json.loads((tmp_path / "results.json").read_text()) == figures.as_json()


@pytest.mark.slow
def test_the_parts_without_min_dalle_have_their_figures(
    small_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = replace(plan_of("decoding", "profile"), precisions=("float32",))
    figures = Figures(about(plan), tmp_path / "results.json")
    measure(small_root, plan, figures)
    native = {"a step of 1, float32: all"} | (set() if WHY_NOT_NATIVE else {"a step of 1, float32: logits"})
    assert {"decode step of 1, float32"} | native <= {figure.name for figure in figures}
    monkeypatch.setattr(library, "missing_instructions", lambda: "AVX2")  # so that OpenVINO decodes
    measure(small_root, replace(plan, parts=("profile",)), figures)
    assert any("PagedAttention" in figure.name for figure in figures)
    assert all(value > 0 for figure in figures if figure.part != "profile" for value in (*figure.ours, *figure.theirs))
    assert json.loads((tmp_path / "results.json").read_text()) == figures.as_json()


@pytest.mark.soak
@pytest.mark.timeout(1200)  # it starts several servers in turn
def test_servers_are_measured_beside_each_other(models_root: Path, tmp_path: Path) -> None:
    plan = plan_of("serving", "starting", "memory")
    figures = Figures(about(plan))
    measure(models_root, plan, figures)
    compared = {figure.name for figure in figures if figure.ratios}
    assert compared == {
        "1 caller",
        "2 callers at once",
        "first preview",
        "an image, asked for when 2 others are half drawn",
        "first start to ready",
        "second start to ready",
        "peak memory, first start, 2 images at once",
        "peak memory, second start, 2 images at once",
    }
    assert "`GET /` beside 2 callers" in figures.table()
    from benchmarks.plot import draw_plot  # here, as every test process would import matplotlib

    plot = tmp_path / "speed.png"
    draw_plot(figures.as_json(), plot)
    assert plot.read_bytes().startswith(b"\x89PNG")


@pytest.mark.soak
@needs_native
def test_instruction_sets_are_measured_beside_the_fastest(small_root: Path) -> None:
    figures = Figures({})
    measure(small_root, plan_of("instruction-sets"), figures)
    first, *others = (each.title for each in usable_sets())
    compared = {figure.name: bool(figure.ratios) for figure in figures}
    names = ("decode step of 1, auto (int4)", *(f"1 image, auto (int4), pixels from {end}" for end in ("OpenVINO", "C")))
    expected = {f"{name}, {title}": title != first for name in names for title in (first, *others)}
    assert compared == {**expected, f"{names[-1]}, OpenVINO alone": True}


def test_min_dalle_loads_the_same_weights_as_ours(models_root: Path, checkpoint: Checkpoint) -> None:
    theirs = LocalMinDalle(models_root, "mini")
    for part in ("encoder", "decoder"):
        ours: nn.Module = getattr(checkpoint, part)
        weights = dict(getattr(theirs, part).named_parameters())
        assert weights.keys() == dict(ours.named_parameters()).keys()
        assert all(torch.equal(weights[name], own) for name, own in ours.named_parameters())


def test_a_step_reads_weights_and_cached_keys_and_values(checkpoint: Checkpoint) -> None:
    width, gated, layers, logits = 64, 96, 3, 2**14
    weights = layers * (6 * width * width + 3 * width * gated) + logits * width
    cached = layers * 2 * width * (2 * 128.5 + 2 + 10)
    paged = partial(bytes_a_step, checkpoint, is_native=False, text_tokens=10)
    native = partial(bytes_a_step, checkpoint, is_native=True, text_tokens=10)
    # The random weights are half precision, as the published ones are; float32 stores such weights in two bytes.
    assert paged(precision=CPU_PRECISIONS["float32"], images=1) == 2 * weights + 4 * cached
    assert paged(precision=CPU_PRECISIONS["bfloat16"], images=1) == 2 * (weights + cached)
    scales = layers * (6 * width + 2 * gated + width) + logits
    pairs = layers * 2 * 4 * (2 * 128.5 + 2 + 10)  # of scales and zero points, per head
    assert paged(precision=CPU_PRECISIONS["int8"], images=1) == weights + 4 * scales + cached + 8 * pairs
    # One group of 128 weights per row, as no row is longer, instead of 8 bits and a scale per row.
    saved = layers * (2 * gated * (width + 4 - 69) + width * (gated + 4 - 69))
    assert paged(precision=CPU_PRECISIONS["int4"], images=1) == weights + 4 * scales + cached + 8 * pairs - saved
    grown = paged(precision=CPU_PRECISIONS["float32"], images=4) - paged(precision=CPU_PRECISIONS["float32"], images=1)
    assert grown == 4 * layers * 2 * width * 3 * 2 * 128.5
    # The native decoder stores bfloat16 in two bytes, and scales without zero points.
    assert native(precision=CPU_PRECISIONS["float32"], images=1) == 2 * weights + 4 * cached
    assert native(precision=CPU_PRECISIONS["bfloat16"], images=1) == 2 * (weights + cached)
    assert native(precision=CPU_PRECISIONS["int8"], images=1) == weights + 4 * scales + cached + 4 * pairs


def test_memory_is_read_in_each_way() -> None:
    assert all(0 < speed < 1e13 for speed in memory_bandwidth(2, size=2**24, tries=1).values())


def test_ratios_compare_the_same_round_and_better_is_above_one() -> None:
    seconds = Figure("", "a", "s", ours=[1.0, 2.0], theirs=[20.0, 30.0, 40.0])
    assert seconds.ratios == [20, 15]
    assert seconds.row() == "| a | 30.0 s (20.0 to 40.0) | 1.50 s (1.00 to 2.00) | 17.5 x (15.0 to 20.0) |"
    assert Figure("", "b", "images/s", "more", ours=[3.0], theirs=[0.5]).ratios == [6]
    share = Figure("", "c", "ms", "share", "limit", ours=[10.0], theirs=[7.0])
    assert share.row() == "| c | limit: 7.00 ms | 10.0 ms | 70.0 % |"


def test_the_command_line_is_parsed_into_a_plan() -> None:
    plan, given = read_plan(["--images", "1", "--precision", "auto", "int8", "--parts", "drawing", "--rounds", "2"])
    assert (plan.images, plan.parts, plan.rounds) == ((1,), ("drawing",), 2)
    assert list(plan.chosen) == ["auto (int4)", "int8"]
    assert given.plot is None
    assert read_plan(["--model_version", "mega"])[0].precisions == ("auto",)
