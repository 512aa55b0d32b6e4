"""Write the list of what Tiny says that it draws: the things that come out right at least every second time.

    python -m training.known            (draws each thing and scenery a few times; 20 minutes on 2 cores)

The tokenizer knows the words of the other things too, but `known_words.json` leaves them out, so that the server can warn.
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from collections.abc import Collection, Mapping
from pathlib import Path

from dalle_model import DalleModel
from training.caption import BESIDE_WORDS, COUNT_WORDS, FILLERS, PLACE_WORDS, PREFIXES, RELATION_WORDS, SIZE_WORDS, SUFFIXES
from training.catalogue import Thing, catalogue, trained_indices
from training.evaluate import Evaluation
from training.judge import namesakes
from training.palette import COLOUR_WORDS
from training.paths import TINY
from training.scenery import SCENERY_WORDS
from training.shapes import SHAPE_WORDS

FILE = "known_words.json"
_FORMS = ("a {}", "a {} on a white background", "a medium {} on a yellow background", "a small {} in the middle, blue background")
_LEAST = 0.5
# What these weights draw best, said where a prompt does not; an image's seed chooses among the wordings of the first such part.
# Large things are wrong three times as often as medium ones.
# Plain, as sceneries harm large things. Of 112 medium things in the centre, 99 % are right on white, 88 to 96 % on the others.
_GROUNDS = ("white", "cyan", "pink", "yellow", "gray", "purple", "green", "blue")
UNSAID = {
    "sceneries": [f"on a {colour} background" for colour in _GROUNDS],
    "places": [PLACE_WORDS[place][0] for place in ("centre", *(place for place in PLACE_WORDS if place != "centre"))],
    "sizes": ["medium", "small"],
}

Groups = dict[str, dict[str, list[str]]]


def known_words(things: Collection[int], sceneries: Collection[str]) -> Groups:
    """Return the groups of names, with their other wordings, for some things of the catalogue and some sceneries."""
    drawn = [catalogue()[index] for index in sorted(things)]
    named: Groups = {
        "things": {thing.names[0]: _names(thing) for thing in drawn if not thing.shape},
        "tags": {thing.names[0]: list(thing.tags) for thing in drawn if not thing.shape},
        "shapes": {shape: [form for pair in words for form in pair] for shape, words in SHAPE_WORDS.items()},
        "colours": {colour: list(words) for colour, words in COLOUR_WORDS.items()},
        "sceneries": {name: list(words) for name, words in SCENERY_WORDS.items() if name in sceneries},
        "sizes": {size: list(words) for size, words in SIZE_WORDS.items()},
        "places": {place: list(words) for place, words in PLACE_WORDS.items()},
        "relations": {relation: list(words) for relation, words in RELATION_WORDS.items()},
        "counts": {words[0]: list(words) for words in COUNT_WORDS.values()},
        "ignored": {word: [] for word in (*FILLERS, *PREFIXES, *SUFFIXES, *BESIDE_WORDS)},
    }
    return {group: {name: [w for w in words if w != name] for name, words in names.items()} for group, names in named.items()}


def _names(thing: Thing) -> list[str]:
    """Return a thing's names, and their plurals where they are not just longer by an s."""
    plurals = [thing.plural(name) for name in thing.names if thing.plural(name) not in (f"{name}s", f"{name}es")]
    return [*dict.fromkeys([*thing.names, *plurals])]


def measure(evaluation: Evaluation) -> dict[int, float]:
    """Draw each thing a few times; return the share of pictures in which it is what is seen most."""
    order = [(index, form.format(catalogue()[index].names[0])) for form in _FORMS for index in trained_indices()]
    pictures = evaluation.pictures([prompt for _, prompt in order], "things")
    right: dict[int, list[bool]] = defaultdict(list)
    for (index, _), reading in zip(order, evaluation.read(pictures), strict=True):
        right[index].append(bool(reading.things) and reading.things[0].thing in namesakes(index))
    return {index: sum(flags) / len(flags) for index, flags in right.items()}


def scenery_shares(evaluation: Evaluation, repeats: int = 12) -> dict[str, float]:
    """Draw a shape and a few things on each scenery; return the share of pictures that have it and show the thing."""
    things = [index for index in trained_indices() if not catalogue()[index].shape][:: len(trained_indices()) // repeats]
    order = [(name, index) for name in SCENERY_WORDS for index in things]
    pictures = evaluation.pictures([f"a {catalogue()[i].names[0]} {SCENERY_WORDS[name][0]}" for name, i in order], "sceneries")
    right: dict[str, list[bool]] = defaultdict(list)
    for (name, _), reading in zip(order, evaluation.read(pictures), strict=True):
        right[name].append(reading.background == name)
    return {name: sum(flags) / len(flags) for name, flags in right.items()}


def write(target: Path, things: Mapping[int, float], sceneries: Mapping[str, float]) -> None:
    """Write the list of what is right at least half the time."""
    groups = known_words(
        [index for index, share in things.items() if share >= _LEAST],
        [name for name, share in sceneries.items() if share >= _LEAST],
    )
    (target / FILE).write_text(json.dumps(groups | {"unsaid": UNSAID}, indent=1, ensure_ascii=False) + "\n", encoding="utf8")


def main(arguments: list[str] | None = None) -> None:
    """Measure and write the list."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models_root", type=Path, default=TINY.parent)
    parser.add_argument("--best_of", type=int, default=4)
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--json", type=Path, help="a file for the figures")
    options = parser.parse_args(arguments)
    with DalleModel("tiny", models_root=options.models_root, threads=options.threads, show_progress=True) as model:
        evaluation = Evaluation(model, model.sampling.override(best_of=options.best_of), seed=7_000_000)
        things, sceneries = measure(evaluation), scenery_shares(evaluation)
    if options.json:
        named = {catalogue()[index].names[0]: share for index, share in things.items()}
        options.json.write_text(json.dumps({"things": named, "sceneries": sceneries}, indent=1) + "\n", encoding="utf8")
    write(options.models_root / "tiny", things, sceneries)
    weak = [catalogue()[index].names[0] for index, share in things.items() if share < _LEAST]
    print(f"left out, {len(weak)} of {len(things)}: {', '.join(weak)}")


if __name__ == "__main__":
    main()
