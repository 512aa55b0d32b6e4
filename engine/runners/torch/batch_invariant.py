"""Matrix products whose rows do not depend on the number of other rows, to the bit, on any CPU and with any library.

A library chooses its kernel by the size of a product, and each kernel adds in its own order. So the same row times the same
weights can differ in the last bits beside 2 rows and beside 18. A product without this difference is called batch-invariant.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

PAIR = 2  # rows of an image: unconditional and conditional
MAX_BLOCK = 64  # rows in one product; with more, reading the weights again costs next to nothing

Product = Callable[[Tensor, Tensor], Tensor]  # (rows [R, K], weight [N, K]) -> [R, N]


class BlockSizes:
    """The numbers of rows for which a product returns the same bits for each pair of rows as for that pair alone.

    The reference for a pair is a product of four rows: the pair, repeated once. It is a fixed sequence of operations on the
    pair's numbers, so it depends on nothing else. Any other number of rows is tried once, with random rows and the given
    weights, and is used only if each pair at each place equals its reference. The order of a sum does not depend on the
    numbers, so what holds for thousands of random sums holds for all.
    """

    def __init__(self, product: Product = F.linear) -> None:
        self._product = product
        self._is_exact: dict[int, bool] = {}
        self._splits: dict[int, list[int]] = {}
        self._threads = torch.get_num_threads()

    def multiply(self, rows: Tensor, weight: Tensor) -> Tensor:
        """Multiply pairs of rows by a weight [N, K]: [R, K] -> [R, N]. R is even."""
        if torch.get_num_threads() != self._threads:  # sums may be split differently
            self._threads = torch.get_num_threads()
            self._is_exact.clear()
            self._splits.clear()
        split = self.split(len(rows), weight)
        if len(split) == 1:
            return self._block(rows, weight)
        # Copied, as a kernel may also depend on the alignment of its input.
        return torch.cat([self._block(block.clone(), weight) for block in rows.split(split)])

    def split(self, count: int, weight: Tensor) -> list[int]:
        """Split a number of rows into blocks that are as large as possible."""
        if count not in self._splits:
            first = count
            while first > PAIR and (first > MAX_BLOCK or not self._is_batch_invariant(first, weight)):
                first = 1 << (first - 1).bit_length() - 1  # the next power of two below
            self._splits[count] = [first, *self.split(count - first, weight)] if first < count else [count]
        return self._splits[count]

    def _block(self, rows: Tensor, weight: Tensor) -> Tensor:
        if len(rows) == PAIR and not self._is_batch_invariant(PAIR, weight):
            return self._alone(rows, weight)
        return self._product(rows, weight)

    def _alone(self, pair: Tensor, weight: Tensor) -> Tensor:
        return self._product(pair.repeat(2, 1), weight)[:PAIR]

    def _is_batch_invariant(self, count: int, weight: Tensor) -> bool:
        """Return whether each pair in a product of `count` rows equals its reference; the first call for a `count` tries it."""
        if count not in self._is_exact:
            generator = torch.Generator(weight.device).manual_seed(count)
            rows = torch.randn(count, weight.shape[1], generator=generator, device=weight.device, dtype=weight.dtype)
            alone = torch.cat([self._alone(pair.clone(), weight) for pair in rows.split(PAIR)])
            self._is_exact[count] = torch.equal(self._product(rows, weight), alone)
        return self._is_exact[count]


class BatchInvariantLinear:
    """A linear layer without bias on pairs of rows; a pair's result is the same to the bit beside any others."""

    def __init__(self, weight: Tensor, sizes: BlockSizes) -> None:
        """Weights of the same shape can share `sizes`."""
        self._weight, self._sizes = weight, sizes

    def __call__(self, rows: Tensor) -> Tensor:
        """Multiply rows: [R, K] -> [R, N]."""
        return self._sizes.multiply(rows, self._weight)
