"""Pages of keys and values: arrays that grow, and who uses which page."""

from __future__ import annotations

from collections.abc import Mapping

import openvino as ov

TOKENS_A_PAGE = 32  # OpenVINO's, on a CPU


class Pages:
    """Hold the page arrays of one graph's caches, [pages, ..] each; a lease is a run of `pages_a_lease` of them."""

    def __init__(self, caches: Mapping[str, ov.Output], pages_a_lease: int) -> None:
        """Take the caches' types and shapes from the compiled graph, which has chosen them."""
        self._kinds = {
            name: (cache.get_element_type(), [part.get_length() for part in list(cache.get_partial_shape())[1:]])
            for name, cache in caches.items()
        }
        self._pages_a_lease = pages_a_lease
        self._free: list[int] = []
        self.capacity = 0  # leases
        self.arrays: dict[str, ov.Tensor] = {}

    def lease(self) -> int:
        """Take a free run of pages; grow where there is none. The arrays are others after a growth."""
        if not self._free:
            self._grow(max(2, 2 * self.capacity))
        return self._free.pop()

    def give_back(self, lease: int) -> None:
        """Free a run of pages; what is in them is written over by whom they are leased to next."""
        self._free.append(lease)

    def pages_of(self, lease: int) -> range:
        """Return the pages of a lease."""
        return range(lease * self._pages_a_lease, (lease + 1) * self._pages_a_lease)

    def _grow(self, capacity: int) -> None:
        used = self.capacity * self._pages_a_lease
        for name, (kind, shape) in self._kinds.items():
            grown = ov.Tensor(kind, ov.Shape([capacity * self._pages_a_lease, *shape]))
            if used:
                grown.data[:used] = self.arrays[name].data
            grown.data[used:] = 0  # a page is read whole, what is not there yet with weight 0: nothing times 0 must stay nothing
            self.arrays[name] = grown
        # The lowest first: they lie side by side.
        self._free = [*range(capacity - 1, self.capacity - 1, -1), *self._free]
        self.capacity = capacity
