"""How `training/data/emoji.zip` was made: emoji of Microsoft's Fluent UI Emoji, 192 x 192 pixels, and their names.

    npm install @iconify-json/fluent-emoji-flat@1.2.6 emojibase-data@17.0.0 emojilib@4.0.3
    pip install resvg_py inflect
    python -m training.rasterise node_modules emoji.zip

The names are those of Unicode's CLDR, and tags from there and from emojilib. `training/data/emoji.txt` has the chosen emoji: no
flags, keycaps, clock faces, skin tones and gendered doubles, few buttons and signs.
"""

from __future__ import annotations

import io
import json
import re
import sys
import zipfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from training.paths import DATA

SIDE = 192  # pixels, the largest size in scenes

# Hearts in colours are shapes, so they have no picture, but their tags count.
_HEARTS = ("❤️", "🧡", "💛", "💚", "💙", "💜", "🤎", "🖤", "🤍", "🩷", "🩵", "🩶", "♥️")
_MOST_SHARED = 60  # a tag of more emoji than this says nothing


@dataclass(frozen=True)
class Emoji:
    """An emoji: its label, its tags by CLDR and by emojilib, Unicode's group, its characters, and the icon's SVG."""

    label: str
    tags: list[str]
    other_tags: list[str]
    group: int
    characters: str
    body: str


def read_emoji(modules: Path) -> Iterator[Emoji]:
    """Yield the chosen emoji and the hearts, in Unicode's order."""
    icons = _json(modules / "@iconify-json/fluent-emoji-flat/icons.json")["icons"]
    icon_of = _json(modules / "@iconify-json/fluent-emoji-flat/chars.json")
    more_tags = _json(modules / "emojilib/dist/emoji-en-US.json")
    chosen = {*(DATA / "emoji.txt").read_text(encoding="utf-8").split("\n"), *_HEARTS}
    for row in _json(modules / "emojibase-data/en/data.json"):
        if row["emoji"] in chosen:
            code = row["hexcode"].lower()
            icon = icon_of[code if code in icon_of else code.replace("-fe0f", "")]
            others = [tag.replace("_", " ").replace("\xa0", " ") for tag in more_tags.get(row["emoji"], [])]
            yield Emoji(row["label"].lower(), row.get("tags", []), others, row["group"], row["emoji"], icons[icon]["body"])


def names_of(found: list[Emoji]) -> list[dict[str, Any]]:
    """Return the names of each emoji but hearts, its tags with the number of emoji that share each, and the plurals."""
    import inflect

    engine = inflect.engine()
    shared = Counter(tag for each in found for tag in {_plain(tag) for tag in each.tags})
    rows = []
    for each in without_hearts(found):
        names = [_plain(each.label)]
        if each.group == 3 and names[0].endswith(" face"):
            names.append(names[0].removesuffix(" face"))
        if names[0].startswith("person "):
            names.append(names[0].removeprefix("person "))
        tags = [tag for tag in dict.fromkeys(map(_plain, each.tags + each.other_tags)) if tag not in names and len(tag) > 1]
        tags = [tag for tag in tags if not re.fullmatch(r"[\d ]+", tag) and len(tag.split()) <= 3 and shared[tag] <= _MOST_SHARED]
        plurals = {word: engine.plural(word) for word in names + tags}
        counts = [(tag, max(1, shared[tag])) for tag in tags]
        rows.append({"names": names, "tags": counts, "plural": plurals, "group": each.group, "emoji": each.characters})
    return rows


def without_hearts(found: list[Emoji]) -> list[Emoji]:
    """Return the emoji that the archive has pictures of."""
    return [each for each in found if each.characters not in _HEARTS]


def _plain(text: str) -> str:
    """Return a name in lower case, without accents and marks."""
    ascii_only = text.lower().replace("’", "'").replace("“", "").replace("”", "").encode("ascii", "ignore").decode()
    return re.sub(r"\s+", " ", re.sub(r"[^a-z0-9' -]+", " ", ascii_only)).strip()


def rasterise(body: str) -> bytes:
    """Draw an icon as lossless WebP."""
    import resvg_py

    svg = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 32 32" width="{SIDE}" height="{SIDE}">{body}</svg>'
    picture = Image.open(io.BytesIO(bytes(resvg_py.svg_to_bytes(svg_string=svg)))).convert("RGBA")
    packed = io.BytesIO()
    picture.save(packed, "WEBP", lossless=True, quality=90, method=6, exact=False)
    return packed.getvalue()


def _json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def main(modules: Path, target: Path) -> None:
    """Write the archive of pictures and names."""
    found = list(read_emoji(modules))
    with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as archive:
        for number, each in enumerate(without_hearts(found)):
            archive.writestr(f"{number:04d}.webp", rasterise(each.body))
        archive.writestr("names.json", json.dumps(names_of(found)))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
