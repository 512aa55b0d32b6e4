"""Painting batches of scenes on a device: thousands a second on a GPU."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from training.catalogue import ARCHIVE, catalogue
from training.palette import COLOURS, RGB
from training.scene import BACKGROUNDS, MOST_THINGS, SIDES, Scene
from training.scenery import sceneries
from training.shapes import CANVAS, coverage

_RADIUS = 5 / 12  # half a shape's bounding box, of the side of its picture


def as_arrays(scenes: Sequence[Scene]) -> tuple[Tensor, Tensor]:
    """Return scenes as tensors: backgrounds int64 [B], placed things int64 [B, 3, 4] (thing, size, y, x; -1 where none is)."""
    backgrounds = torch.tensor([BACKGROUNDS.index(scene.background) for scene in scenes])
    placed = np.full((len(scenes), MOST_THINGS, 4), -1, dtype=np.int64)
    for row, scene in zip(placed, scenes, strict=True):
        for number, each in enumerate(scene.placed):
            row[number] = each.thing, each.size, each.y, each.x
    return backgrounds, torch.from_numpy(placed)


def backgrounds() -> Tensor:
    """Return all backgrounds, float32 [24, 3, 256, 256], 0 to 255."""
    flat = torch.from_numpy(RGB)[:, None, None, :].expand(-1, CANVAS, CANVAS, 3)
    return torch.cat([flat, torch.from_numpy(sceneries()).float()]).permute(0, 3, 1, 2).contiguous()


@lru_cache(maxsize=1)
def sprites(device: str) -> list[Tensor]:
    """Return the pictures of all things in each size: uint8 [things, 4, side, side], colours times opacity, and opacity.

    They take seconds to unpack, so the last device's are kept: 260 MB.
    """
    side = SIDES[-1]
    with zipfile.ZipFile(ARCHIVE) as archive:
        names = sorted(name for name in archive.namelist() if name.endswith(".webp"))
        pictures = [np.asarray(Image.open(io.BytesIO(archive.read(name))).convert("RGBA")) for name in names]
    pictures += [_shape(thing.shape, thing.colour, side) for thing in catalogue() if thing.shape and thing.colour]
    whole = torch.from_numpy(np.stack(pictures)).to(device).permute(0, 3, 1, 2)
    sizes = []
    for wanted in SIDES:
        parts = []
        for part in whole.split(64):
            each = part.float()
            each[:, :3] *= each[:, 3:] / 255
            if wanted != side:
                each = F.interpolate(each, size=(wanted, wanted), mode="bilinear", antialias=True, align_corners=False)
            parts.append((each + 0.5).clamp(0, 255).to(torch.uint8))
        sizes.append(torch.cat(parts))
    return sizes


def _shape(shape: str, colour: str, side: int) -> NDArray[Any]:
    covered, rows, columns = coverage(shape, side / 2, side / 2, side * _RADIUS)
    picture = np.empty((side, side, 4), np.float32)
    picture[..., :3], picture[..., 3] = COLOURS[colour], 0
    picture[rows, columns, 3] = covered * 255
    return (picture + 0.5).astype(np.uint8)


class Painter:
    """A painter of scenes on a device."""

    def __init__(self, device: str) -> None:
        self._device = device
        self._sprites = sprites(device)
        self._backgrounds = backgrounds().to(device)

    def __call__(self, backgrounds: Tensor, placed: Tensor) -> tuple[Tensor, Tensor]:
        """Paint scenes as `as_arrays` returns them: pixels [B, 3, 256, 256], 0 to 1, and what things cover, [B, 1, 256, 256]."""
        pixels = self._backgrounds[backgrounds.to(self._device, non_blocking=True)]
        covered = torch.zeros_like(pixels[:, :1])
        for number in range(placed.shape[1]):
            for size in range(len(SIDES)):
                rows = (placed[:, number, 1] == size).nonzero()[:, 0]  # found on the CPU: the host waits for no kernel
                if len(rows):
                    chosen = placed[rows, number].to(self._device, non_blocking=True)
                    self._paint(pixels, covered, rows.to(self._device, non_blocking=True), chosen, size)
        return (pixels / 255).clamp(0, 1), covered

    def _paint(self, pixels: Tensor, covered: Tensor, rows: Tensor, placed: Tensor, size: int) -> None:
        """Paint a thing of one size into some rows of a batch."""
        side = SIDES[size]
        sprite = self._sprites[size][placed[:, 0]].float()
        opacity = sprite[:, 3:] / 255
        across = torch.arange(side, device=self._device)
        y = (placed[:, 2, None] + across)[:, None, :, None]  # [R, 1, side, 1]
        x = (placed[:, 3, None] + across)[:, None, None, :]
        row = rows[:, None, None, None]
        channels = torch.arange(3, device=self._device)[None, :, None, None]
        pixels[row, channels, y, x] = pixels[row, channels, y, x] * (1 - opacity) + sprite[:, :3]
        first = channels[:, :1]
        covered[row, first, y, x] = torch.maximum(covered[row, first, y, x], opacity)
