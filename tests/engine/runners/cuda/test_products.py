"""How many rows a library multiplies at once, so that a row's bits do not depend on the others."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

pytest.importorskip("triton", reason="Triton is not installed; it exists for Linux")

from engine.runners.cuda import products
from engine.runners.cuda.products import MOST_ROWS, InvariantProducts, Product, exact_counts

WEIGHT = torch.randn((32, 16), generator=torch.Generator().manual_seed(1))
COUNTS = (2, 4, 8, 16, 32, 64, 128)


def exact_product(weight: Tensor, dtype: torch.dtype) -> Product:
    """Return a product whose rows do not depend on each other."""

    def multiply(x: Tensor, y: Tensor) -> None:
        y.copy_((x[:, None, :] * weight).sum(2))

    return multiply


def product_by_number(weight: Tensor, dtype: torch.dtype) -> Product:
    """Return a product with other bits for fewer than 16 rows, as if another kernel took them."""

    def multiply(x: Tensor, y: Tensor) -> None:
        exact_product(weight, dtype)(x, y)
        if len(x) < 16:
            y *= 1 + 2**-20

    return multiply


def product_by_place(weight: Tensor, dtype: torch.dtype) -> Product:
    """Return a product with other bits for the rows after the 64th."""

    def multiply(x: Tensor, y: Tensor) -> None:
        exact_product(weight, dtype)(x, y)
        y[64:] *= 1 + 2**-20

    return multiply


def test_the_number_of_rows_is_rounded_up_where_bits_depend_on_it() -> None:
    def counts_of(make: products.MakeProduct) -> object:
        return exact_counts(make(WEIGHT, torch.float32), WEIGHT, torch.float32)

    assert counts_of(exact_product) == {count: count for count in COUNTS}
    assert counts_of(product_by_number) == {count: MOST_ROWS if count < 16 else count for count in COUNTS}
    assert counts_of(product_by_place) is None, "Triton multiplies"


@pytest.mark.parametrize("rows", [2, 14, 18, 128, 130, 300])
def test_any_number_of_rows_is_multiplied_with_the_same_bits(rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(products, "library_product", product_by_number)
    made = InvariantProducts(torch.device("cpu"))
    made._has_cublas = True
    x = torch.randn((3 * MOST_ROWS, 16), generator=torch.Generator().manual_seed(2))
    x[rows:] = torch.nan  # what is there does not matter
    y = torch.zeros((3 * MOST_ROWS, 32))
    made(WEIGHT, torch.float32)(x[:rows], y[:rows])
    expected = torch.empty((rows, 32))
    exact_product(WEIGHT, torch.float32)(x[:rows], expected)
    assert torch.equal(y[:rows], expected)
