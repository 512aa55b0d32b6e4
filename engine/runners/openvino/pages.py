"""Pages of keys and values: arrays that grow, and leases of pages."""

from __future__ import annotations

from collections.abc import Mapping

import openvino as ov

TOKENS_PER_PAGE = 32  # OpenVINO's, on a CPU


class PagePool:
    """The page arrays of a graph's caches, [pages, ..] each. A lease is `pages_per_lease` consecutive pages."""

    def __init__(self, caches: Mapping[str, ov.Output], pages_per_lease: int) -> None:
        """`caches` are inputs of the compiled graph, which has chosen their types and shapes."""
        self._kinds = {
            name: (cache.get_element_type(), [part.get_length() for part in list(cache.get_partial_shape())[1:]])
            for name, cache in caches.items()
        }
        self._pages_per_lease = pages_per_lease
        self._free: list[int] = []
        self.capacity = 0  # leases
        self.arrays: dict[str, ov.Tensor] = {}

    def lease(self) -> int:
        """Lease free pages. Without any, grow first, which replaces the arrays."""
        if not self._free:
            self._grow(max(2, 2 * self.capacity))
        return self._free.pop()

    def release(self, lease: int) -> None:
        """Free the pages of a lease. The next lease overwrites them."""
        self._free.append(lease)

    def pages_of(self, lease: int) -> range:
        """Return the pages of a lease."""
        return range(lease * self._pages_per_lease, (lease + 1) * self._pages_per_lease)

    def _grow(self, capacity: int) -> None:
        used = self.capacity * self._pages_per_lease
        for name, (kind, shape) in self._kinds.items():
            grown = ov.Tensor(kind, ov.Shape([capacity * self._pages_per_lease, *shape]))
            if used:
                grown.data[:used] = self.arrays[name].data
            grown.data[used:] = 0  # pages are read whole, unwritten tokens with weight 0: they must be finite
            self.arrays[name] = grown
        # The lowest pages are leased first.
        self._free = [*range(capacity - 1, self.capacity - 1, -1), *self._free]
        self.capacity = capacity
