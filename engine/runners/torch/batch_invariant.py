"""Matrix products whose rows do not depend on how many other rows there are, to the bit, on any CPU and with any library.

A library picks its kernel by the size of a product, and each kernel adds in its own order. So the same row times the same
weights can differ in the last bits beside 2 rows and beside 18. A product that does not is called batch-invariant.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

PAIR = 2  # rows of an image: unconditional and conditional
MAX_BLOCK = 64  # rows in one product: above it, reading the weights again costs next to nothing

Product = Callable[[Tensor, Tensor], Tensor]  # (rows [R, K], weight [N, K]) -> [R, N]


class BlockSizes:
    """The numbers of rows for which a product gives each pair of rows the same bits as that pair alone.

    What a pair gives alone is the definition: the pair, repeated once, in a product of four rows. That is a fixed sequence of
    operations on the pair's own numbers, so it depends on nothing else. Any other number of rows is tried once, on random rows
    and the weights at hand, and is used only if every pair at every place comes out the same. The order of a sum does not depend
    on the numbers, so what holds for thousands of random sums holds for all of them.
    """

    def __init__(self, product: Product = F.linear) -> None:
        self._product = product
        self._is_exact: dict[int, bool] = {}
        self._splits: dict[int, list[int]] = {}
        self._threads = torch.get_num_threads()

    def multiply(self, rows: Tensor, weight: Tensor) -> Tensor:
        """Multiply pairs of rows [R, K] by a weight [N, K]: -> [R, N]. R is even."""
        if torch.get_num_threads() != self._threads:  # sums may be shared out in another way
            self._threads = torch.get_num_threads()
            self._is_exact.clear()
            self._splits.clear()
        split = self.split(len(rows), weight)
        if len(split) == 1:
            return self._block(rows, weight)
        # Copied, as a kernel may also depend on how its input is aligned.
        return torch.cat([self._block(block.clone(), weight) for block in rows.split(split)])

    def split(self, count: int, weight: Tensor) -> list[int]:
        """Split a number of rows into blocks that are as large as they can be."""
        if count not in self._splits:
            first = count
            while first > PAIR and (first > MAX_BLOCK or not self._holds(first, weight)):
                first = 1 << (first - 1).bit_length() - 1  # the next power of two below
            self._splits[count] = [first, *self.split(count - first, weight)] if first < count else [count]
        return self._splits[count]

    def _block(self, rows: Tensor, weight: Tensor) -> Tensor:
        if len(rows) == PAIR and not self._holds(PAIR, weight):
            return self._alone(rows, weight)
        return self._product(rows, weight)

    def _alone(self, pair: Tensor, weight: Tensor) -> Tensor:
        return self._product(pair.repeat(2, 1), weight)[:PAIR]

    def _holds(self, count: int, weight: Tensor) -> bool:
        """Try whether a product of so many rows gives every pair what it gives alone."""
        if count not in self._is_exact:
            generator = torch.Generator(weight.device).manual_seed(count)
            rows = torch.randn(count, weight.shape[1], generator=generator, device=weight.device, dtype=weight.dtype)
            alone = torch.cat([self._alone(pair.clone(), weight) for pair in rows.split(PAIR)])
            self._is_exact[count] = torch.equal(self._product(rows, weight), alone)
        return self._is_exact[count]


class BatchInvariantLinear:
    """A linear layer without bias whose rows come in pairs, each pair the same to the bit alone and beside any others."""

    def __init__(self, weight: Tensor, sizes: BlockSizes) -> None:
        """`sizes` can be shared by weights of the same shape."""
        self._weight, self._sizes = weight, sizes

    def __call__(self, rows: Tensor) -> Tensor:
        """Multiply rows [R, K]: -> [R, N]."""
        return self._sizes.multiply(rows, self._weight)
