"""How many replicas are wanted: enough for all images that wait or are drawn, at all fronts together."""

from __future__ import annotations

from math import ceil
from typing import Any

from ray.serve.config import AutoscalingContext


class ImagesPolicy:
    """A policy for Ray Serve's controller, which applies bounds and delays."""

    def __init__(self, images_per_replica: int) -> None:
        """`images_per_replica` is how many a replica draws at once."""
        self._images_per_replica = images_per_replica

    def __call__(self, context: AutoscalingContext) -> tuple[int, dict[str, Any]]:
        """Return how many replicas are wanted. Each replica has heard the same number from the fronts, or none yet."""
        images = max((context.aggregated_metrics or {}).get("images", {}).values(), default=0)
        return max(1, ceil(images / self._images_per_replica)), {}
