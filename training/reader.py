"""Reading a picture back: its background and the things on it. The reader does not see the prompt.

The background is the one that differs least. Then the picture is compared with every thing at every place and size on this
background; the thing that explains most of the difference is taken, and so on until nothing large is left. Things are compared
at an eighth of the resolution.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from training.painting import backgrounds, sprites
from training.scene import BACKGROUNDS, SIDES, STEP

_SCALE = 8
_CAP = 40 / 255  # a pixel differs from a background by this at most, so that things do not decide
_LEAST = 0.4  # the least squared difference, in sum over an eighth's pixels and channels, that a thing must explain
_MOST = 5  # things in a picture


@dataclass(frozen=True)
class Found:
    """A thing found in a picture: its index in the catalogue, the index of its size, its top left corner in pixels."""

    thing: int
    size: int
    y: int
    x: int
    gain: float  # the squared difference that it explains


@dataclass(frozen=True)
class Reading:
    """The content of a picture. `things` are in the order in which they explain most."""

    background: str
    things: tuple[Found, ...]


class Reader:
    """A reader of pictures, which knows all things and shapes, the left-out ones too."""

    def __init__(self) -> None:
        self._backgrounds = backgrounds() / 255
        self._small_backgrounds = F.avg_pool2d(self._backgrounds, _SCALE)
        self._sprites = [F.avg_pool2d(each.float() / 255, _SCALE) for each in sprites("cpu")]  # [things, 4, k, k]
        self._features, self._squares = [], []
        for sprite in self._sprites:
            colour, opacity = sprite[:, :3], sprite[:, 3:].expand(-1, 3, -1, -1)
            parts = (colour, opacity, colour * opacity, opacity.square())
            self._features.append(torch.cat([part.flatten(1) for part in parts], 1))
            self._squares.append(colour.square().sum((1, 2, 3)))

    @torch.inference_mode()
    def read(self, pixels: Tensor) -> Reading:
        """Read a picture, uint8 [256, 256, 3]."""
        picture = pixels.permute(2, 0, 1).float() / 255
        background = int((self._backgrounds - picture).abs().amax(1).clamp(max=_CAP).mean((1, 2)).argmin())
        seen, explained = F.avg_pool2d(picture, _SCALE), self._small_backgrounds[background].clone()
        found: list[Found] = []
        while len(found) < _MOST:
            best = max((self._best(seen, explained, size) for size in range(len(SIDES))), key=lambda each: each.gain)
            if best.gain < _LEAST:
                break
            found.append(best)
            self._paint(explained, best)
        return Reading(BACKGROUNDS[background], tuple(found))

    def _best(self, seen: Tensor, explained: Tensor, size: int) -> Found:
        """Return the thing of a size that explains most of the difference between two pictures [3, 32, 32].

        Painting a thing of colours S (times opacity) and opacity A over B changes the squared difference to the picture by
        (D + B A - S)^2 - D^2, where D is the difference before. Multiplied out, each place has four factors, and each thing.
        """
        side = SIDES[size] // _SCALE
        difference = seen - explained
        factors = torch.stack([2 * difference, -2 * difference * explained, 2 * explained, -explained.square()])
        places = F.unfold(factors, side, stride=STEP // _SCALE)  # [4, 3 side^2, places]
        gains = self._features[size] @ places.flatten(0, 1) - self._squares[size][:, None]
        gain, index = gains.flatten().max(0)
        thing, place = divmod(int(index), gains.shape[1])
        columns = (seen.shape[1] - side) // (STEP // _SCALE) + 1
        return Found(thing, size, STEP * (place // columns), STEP * (place % columns), float(gain))

    def _paint(self, picture: Tensor, found: Found) -> None:
        side, y, x = SIDES[found.size] // _SCALE, found.y // _SCALE, found.x // _SCALE
        sprite = self._sprites[found.size][found.thing]
        window = picture[:, y : y + side, x : x + side]
        window.mul_(1 - sprite[3:]).add_(sprite[:3])
