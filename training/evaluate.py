"""Automatic evaluation of how well a model follows prompts: draw, read the pictures back, compare with the prompts.

    python -m training.evaluate            (Tiny, its default sampling settings, 400 prompts a row; prints the table)

Most prompts are worded at random, as training's captions are; those in `typed_prompts.jsonl` were typed by hand. The exit status
is 1 if a measure misses its goal.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from tqdm import tqdm

from dalle_model import DalleModel, SamplingSettings
from training.caption import describe
from training.catalogue import SHAPE_GROUP, catalogue
from training.drawing import draw_all
from training.judge import Wanted, named, things_are_right, wanted_of
from training.paths import DATA
from training.reader import Reader, Reading
from training.scene import Kind, Said, Scene, random_scene

VARIED = 8  # pictures of one prompt
GOALS = {
    "one thing, large": 0.85,
    "one thing, medium": 0.90,
    "one thing, small": 0.90,
    "one shape: shape, colour, background": 0.95,
    "two things and their relation": 0.80,
    "two or three alike": 0.85,
    "three different": 0.75,
    "prompts typed by hand": 0.80,
    "background or scenery, where said": 0.97,
    "pictures with something on them": 0.995,
    "8 pictures of one prompt, no two equal": 0.97,
}
_SHAPE, _RELATION, _ALIKE, _THREE, _TYPED, _BACKGROUND, _FULL, _VARIED = list(GOALS)[3:]


@dataclass(frozen=True)
class Trial:
    """A prompt, what it asks for, and the row of the table that it counts in."""

    row: str
    prompt: str
    wanted: Wanted


@dataclass(frozen=True)
class Measure:
    """A row of the table: a share from 0 to 1, out of `count`, and its goal."""

    name: str
    value: float
    count: int
    goal: float

    @property
    def is_met(self) -> bool:
        """Whether the goal is reached."""
        return self.value >= self.goal


def trials(count: int, seed: int) -> Iterator[Trial]:
    """Yield `count` prompts for each row that is worded at random, then the prompts typed by hand."""
    rng = Random(seed)
    for row in list(GOALS)[: list(GOALS).index(_TYPED)]:
        for number in range(count):
            scene, said = _scene_of(row, number, rng)
            yield Trial(row, describe(scene, said, rng, loosely=False), wanted_of(scene, said))
    yield from typed_trials()


def _scene_of(row: str, number: int, rng: Random) -> tuple[Scene, Said]:
    """Return a random scene for a row of the table. Of pairs, one in six is a thing inside another."""
    pair: Kind = "inside" if number % 6 == 0 else "two"
    kind: Kind = {_RELATION: pair, _ALIKE: "alike", _THREE: "three"}.get(row, "one")
    while True:
        scene, said = random_scene(rng, kind)
        is_shape = catalogue()[scene.placed[0].thing].group == SHAPE_GROUP
        if row == _SHAPE:
            fits = is_shape and said.background and not said.size
        else:
            fits = kind != "one" or (said.size and not is_shape and row == f"one thing, {scene.size}")
        if fits:
            return scene, said


def typed_trials() -> Iterator[Trial]:
    """Yield the prompts typed by hand."""
    for line in (DATA / "typed_prompts.jsonl").read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        things = tuple(named(name) for name in row.pop("things"))
        yield Trial(_TYPED, row.pop("prompt"), Wanted(things, **row))


def is_right(trial: Trial, reading: Reading) -> bool:
    """Whether a picture shows what the row asks: the things, and in two rows the background too."""
    has_background = trial.wanted.background in (None, reading.background)
    return things_are_right(reading, trial.wanted) and (has_background or trial.row not in (_SHAPE, _TYPED))


class Evaluation:
    """An evaluation of one model: its settings, and the first picture's seed."""

    def __init__(self, model: DalleModel, settings: SamplingSettings, seed: int) -> None:
        self._model, self._settings, self._seed = model, settings, seed
        self._reader = Reader()

    def pictures(self, prompts: list[str], title: str) -> NDArray[Any]:
        """Draw a picture of each prompt: uint8 [N, 256, 256, 3]."""
        return draw_all(self._model, prompts, self._settings, seed=self._seed, title=title)

    def read(self, pictures: Iterable[NDArray[Any]]) -> list[Reading]:
        """Read pictures back."""
        return [self._reader.read(torch.from_numpy(picture)) for picture in pictures]

    def run(self, chosen: list[Trial], save_wrong: Path | None) -> list[Measure]:
        """Draw and judge a picture for each prompt, and 8 for some."""
        measures, readings = [], []
        for row in dict.fromkeys(trial.row for trial in chosen):
            own = [trial for trial in chosen if trial.row == row]
            pictures = self.pictures([trial.prompt for trial in own], row)
            read = self.read(pictures)
            readings += read
            right = [is_right(trial, reading) for trial, reading in zip(own, read, strict=True)]
            measures.append(_measure(row, right))
            tqdm.write(f"{row}: {measures[-1].value:.3f} of {len(right)}")
            if save_wrong is not None:
                _save(save_wrong / row.replace(" ", "_"), own, read, pictures, right)
        said = [(t.wanted.background, r.background) for t, r in zip(chosen, readings, strict=True) if t.wanted.background]
        measures.append(_measure(_BACKGROUND, [wanted == found for wanted, found in said]))
        measures.append(_measure(_FULL, [bool(reading.things) for reading in readings]))
        measures.append(self._variety([trial.prompt for trial in chosen[:: 5 * VARIED]]))
        return measures

    def _variety(self, prompts: list[str]) -> Measure:
        pictures = self.pictures([prompt for prompt in prompts for _ in range(VARIED)], _VARIED)
        sets = pictures.reshape(len(prompts), VARIED, -1)
        return _measure(_VARIED, [all((a != b).any() for a, b in combinations(each, 2)) for each in sets])


def _measure(name: str, flags: list[bool]) -> Measure:
    return Measure(name, float(np.mean(flags)) if flags else 0.0, len(flags), GOALS[name])


def _save(folder: Path, own: list[Trial], readings: list[Reading], pictures: NDArray[Any], right: list[bool]) -> None:
    """Save the pictures that were judged wrong, and a list of all prompts with what was read."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "read.jsonl").open("w", encoding="utf8") as log:
        for number, (trial, reading) in enumerate(zip(own, readings, strict=True)):
            things = [catalogue()[found.thing].names[0] for found in reading.things]
            row = {"number": number, "prompt": trial.prompt, "right": right[number], "background": reading.background}
            wanted = [min(things) for things in trial.wanted.things]
            log.write(json.dumps(row | {"things": things, "wanted": wanted}, ensure_ascii=False) + "\n")
            if not right[number]:
                Image.fromarray(pictures[number]).save(folder / f"{number:03d}.png")


def table(measures: list[Measure]) -> str:
    """Return the measures as a Markdown table."""
    lines = ["| measure | reached | goal | of | |", "| --- | --- | --- | --- | --- |"]
    for m in measures:
        lines.append(f"| {m.name} | {m.value:.3f} | {m.goal:.3g} | {m.count} | {'met' if m.is_met else 'MISSED'} |")
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> int:
    """Evaluate a model and print the table; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models_root", type=Path)
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--prompts", type=int, default=400, help="prompts a row that are worded at random")
    parser.add_argument("--best_of", type=int, default=4, help="pictures drawn for each one shown")
    parser.add_argument("--seed", type=int, default=2026)
    parser.add_argument("--temperature", type=float)
    parser.add_argument("--top_k", type=int)
    parser.add_argument("--supercondition_factor", type=float)
    parser.add_argument("--rows", help="only the rows whose name has this in it")
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--save_wrong", type=Path, help="a folder for what was read, and the pictures that were judged wrong")
    parser.add_argument("--json", type=Path, help="a file for the figures")
    options = parser.parse_args(arguments)
    chosen = [trial for trial in trials(options.prompts, options.seed) if not options.rows or options.rows in trial.row]
    with DalleModel(
        "tiny", models_root=options.models_root, precision=options.precision, threads=options.threads, show_progress=True
    ) as model:
        settings = model.sampling.override(options.temperature, options.top_k, options.supercondition_factor, options.best_of)
        measures = Evaluation(model, settings, options.seed * 100_000).run(chosen, options.save_wrong)
    print(f"\nTiny, {settings}\n\n{table(measures)}")
    if options.json:
        options.json.write_text(json.dumps([vars(m) for m in measures], indent=2) + "\n", encoding="utf8")
    return 0 if all(measure.is_met for measure in measures) else 1


if __name__ == "__main__":
    sys.exit(main())
