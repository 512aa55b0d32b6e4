"""Automatic evaluation of how well a model follows prompts: draw, read the images back, compare with the prompts.

    python -m training.evaluate            (Tiny, its default sampling settings, 600 prompts; prints the table)

Prompts are worded at random, as people type them. Half of the prompts of one object are combinations of shape, colour and
background that are never painted in training. The exit status is 1 if a measure misses its goal.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import combinations, product
from pathlib import Path
from random import Random

import numpy as np
from PIL import Image
from tqdm import tqdm

from dalle_model import DalleModel, DrawingRequest
from training.caption import Mentions, describe
from training.judge import has_look, overlaps_of, place_of, size_of, subject_is_right
from training.palette import COLOUR_NAMES
from training.reader import Reading, read
from training.scene import PLACES, RELATIONS, SIZES, Scene, is_held_out, one_thing, several_things, two_things
from training.shapes import SHAPE_NAMES

CALLERS = 16
HEARTS = 300  # drawn with and without a negative prompt


@dataclass(frozen=True)
class Trial:
    """A prompt with its scene, what it mentions of the scene, and the group that it counts in."""

    group: str
    prompt: str
    scene: Scene
    mentions: Mentions


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
    """Yield `count` prompts: 30 % of one object seen in training, 30 % of one unseen, 25 % of two objects, the rest of counts."""
    rng = Random(seed)
    triples = [t for t in product(SHAPE_NAMES, COLOUR_NAMES, COLOUR_NAMES) if t[1] != t[2]]
    kinds = ["seen"] * (count * 3 // 10) + ["unseen"] * (count * 3 // 10) + ["two"] * (count // 4)
    for number, group in enumerate(kinds + ["count"] * (count - len(kinds))):
        wanted = (group == "unseen") if group in ("seen", "unseen") else rng.random() < 0.1
        shape, colour, background = rng.choice([t for t in triples if is_held_out(*t) == wanted])
        mentions = Mentions(size=False, place=False)
        if group == "two":
            other = rng.choice([t for t in triples if t[2] == background and t[1] != colour])
            relation = RELATIONS[number % len(RELATIONS)]
            scene = two_things(rng, (shape, colour), other[:2], relation, background)
        elif group == "count":
            scene = several_things(rng, shape, colour, background, 2 + number % 2, rng.choice(("small", "large")))
            mentions = replace(mentions, size=rng.random() < 0.3)
        else:
            scene = one_thing(rng, shape, colour, background, rng.choice(SIZES), rng.choice(PLACES))
            mentions = replace(mentions, size=rng.random() < 0.6, place=rng.random() < 0.6)
        yield Trial(group, describe(scene, mentions, rng), scene, mentions)


def _details_are_right(trial: Trial, reading: Reading) -> bool:
    """Whether the object has the size and the place that the prompt mentions, if it does."""
    found, scene, mentions = reading.objects[0], trial.scene, trial.mentions
    return (not mentions.size or size_of(found) == scene.size) and (not mentions.place or place_of(found) == scene.place)


def _share(flags: list[bool]) -> float:
    return sum(flags) / len(flags) if flags else 0.0


def judge(all_trials: list[Trial], readings: list[Reading], sets: list[list[Image.Image]]) -> list[Measure]:
    """Compare readings with prompts, and the images of each of `sets` with each other; return the measures."""
    right: dict[str, list[bool]] = {"seen": [], "unseen": [], "two": [], "count": []}
    details, overlaps = [], []
    for trial, reading in zip(all_trials, readings, strict=True):
        is_right = subject_is_right(reading, trial.scene)
        right[trial.group].append(is_right)
        overlaps += overlaps_of(reading, trial.scene)
        if trial.scene.kind == "one" and (trial.mentions.size or trial.mentions.place):
            details.append(is_right and _details_are_right(trial, reading))
    one = right["seen"] + right["unseen"]
    distinct = [all(a.tobytes() != b.tobytes() for a, b in combinations(images, 2)) for images in sets]
    return [
        Measure("one object: shape, colour and background", _share(one), len(one), 0.95),
        Measure("one object: place and size too, where said", _share(details), len(details), 0.90),
        Measure("two objects: shapes, colours, relation, background", _share(right["two"]), len(right["two"]), 0.85),
        Measure("counts of two and three", _share(right["count"]), len(right["count"]), 0.80),
        Measure("unseen combinations, less seen ones", _share(right["unseen"]) - _share(right["seen"]), len(one), -0.05),
        Measure("overlap with the shape's template, mean", float(np.mean(overlaps)), len(overlaps), 0.85),
        Measure("8 images of one prompt, no two equal", _share(distinct), len(distinct), 0.99),
    ]


def evaluate(model: DalleModel, count: int, seed: int, save_wrong: Path | None) -> list[Measure]:
    """Draw and judge an image for each of `count` prompts, and 8 images for every 20th prompt."""
    chosen = list(trials(count, seed))
    with ThreadPoolExecutor(CALLERS) as pool:

        def draw(number_and_trial: tuple[int, Trial]) -> Image.Image:
            number, trial = number_and_trial
            return model.generate_images(trial.prompt, seed=seed * 100_000 + number)[0]

        images = list(tqdm(pool.map(draw, enumerate(chosen)), total=len(chosen), desc="drawing", unit="image"))
        varied = [trial.prompt for trial in chosen[:: len(chosen) // max(1, count // 20)]]
        sets = list(
            tqdm(pool.map(lambda prompt: model.generate_images(prompt, 8, seed=seed), varied), total=len(varied), desc="variety")
        )
    readings = [read(np.asarray(image)) for image in tqdm(images, desc="reading", unit="image")]
    if save_wrong is not None:
        save_wrong.mkdir(parents=True, exist_ok=True)
        for number, (trial, reading) in enumerate(zip(chosen, readings, strict=True)):
            if not subject_is_right(reading, trial.scene):
                images[number].save(save_wrong / f"{number:03d} {trial.prompt[:80].replace('/', '-')}.png")
    return judge(chosen, readings, sets)


def negative_prompt(model: DalleModel, seed: int) -> Measure:
    """Draw hearts of any colour with and without the negative prompt "red"; return the share of red ones that it removes."""

    def red_hearts(negative: str) -> int:
        def is_red(number: int) -> bool:
            request = DrawingRequest("a heart", (seed * 100_000 + number,), model.sampling, negative)
            reading = read(np.asarray(model.start(request).result()[0]))
            return any(has_look(found, "heart", "red") for found in reading.objects)

        with ThreadPoolExecutor(CALLERS) as pool:
            bar = tqdm(pool.map(is_red, range(HEARTS)), total=HEARTS, desc=f"hearts, not {negative or 'anything'}", unit="image")
            return sum(bar)

    without, with_red = red_hearts(""), red_hearts("red")
    return Measure('"a heart" with negative prompt "red": red hearts removed', 1 - with_red / max(1, without), without, 0.8)


def table(measures: list[Measure]) -> str:
    """Return the measures as a Markdown table."""
    lines = ["| measure | reached | goal | of | |", "| --- | --- | --- | --- | --- |"]
    for m in measures:
        lines.append(f"| {m.name} | {m.value:.3f} | {m.goal:.2f} | {m.count} | {'met' if m.is_met else 'MISSED'} |")
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> int:
    """Evaluate a model and print the table; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model_version", default="tiny")
    parser.add_argument("--models_root", type=Path)
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--prompts", type=int, default=600)
    parser.add_argument("--seed", type=int, default=2024)
    parser.add_argument("--temperature", type=float)
    parser.add_argument("--top_k", type=int)
    parser.add_argument("--supercondition_factor", type=float)
    parser.add_argument("--save_wrong", type=Path, help="a folder for the images that were judged wrong")
    parser.add_argument("--json", type=Path, help="a file for the figures")
    options = parser.parse_args(arguments)
    given = {name: getattr(options, name) for name in ("temperature", "top_k", "supercondition_factor")}
    with DalleModel(
        options.model_version, models_root=options.models_root, precision=options.precision, max_batch_size=CALLERS
    ) as model:
        model.sampling = replace(model.sampling, **{name: value for name, value in given.items() if value is not None})
        measures = evaluate(model, options.prompts, options.seed, options.save_wrong)
        measures.append(negative_prompt(model, options.seed))
        print(f"\n{model.name}, {model.sampling}\n\n{table(measures)}")
    if options.json:
        options.json.write_text(json.dumps([vars(m) for m in measures], indent=2) + "\n", encoding="utf8")
    return 0 if all(measure.is_met for measure in measures) else 1


if __name__ == "__main__":
    sys.exit(main())
