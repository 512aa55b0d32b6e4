"""Weights in fewer bits: what is exact stays so."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from engine.runners.native.layout import GROUP, INT7, INT8, PANEL, PIECE
from engine.runners.native.packing import pack_product
from engine.runners.quantization import INT7_MOST, exact_int7, quantize_int8


def whole_numbers(rows: int, most: int) -> tuple[Tensor, Tensor]:
    """Return random whole numbers from -`most` to `most`, 1 and `most` among each row's, and a scale a row."""
    generator = torch.Generator().manual_seed(most)
    whole = torch.randint(-most, most + 1, (rows, GROUP), generator=generator)
    whole[:, :2] = torch.tensor([1, most])
    return whole, torch.rand(rows, 1, generator=generator) + 0.01


@pytest.mark.parametrize("most", [31, INT7_MOST])
def test_whole_numbers_with_a_scale_a_row_are_found(most: int) -> None:
    whole, scales = whole_numbers(48, most)
    whole[5] = 0
    found = exact_int7(whole * scales)
    assert found is not None
    assert torch.equal(found[0], whole.char())
    assert torch.equal(found[0] * found[1], whole * scales)


def test_other_numbers_are_not() -> None:
    whole, scales = whole_numbers(48, INT7_MOST)
    weight = whole * scales
    assert exact_int7(torch.where(whole == 31, weight * 1.001, weight)) is None
    too_large, scales = whole_numbers(48, INT7_MOST + 1)
    assert exact_int7(too_large * scales) is None
    assert exact_int7(torch.randn(48, GROUP, generator=torch.Generator().manual_seed(1))) is None


def test_a_product_of_whole_numbers_is_packed_as_it_is() -> None:
    whole, scales = whole_numbers(PIECE, 31)
    header, packed, packed_scales, _ = pack_product(whole * scales, "int8")
    assert header.tolist() == [INT7, GROUP, PIECE, 1]
    rows = torch.from_numpy(packed).view(PIECE // PANEL, GROUP // 4, PANEL, 4).transpose(1, 2).reshape(PIECE, GROUP)
    assert torch.equal(rows.int() - INT7_MOST, whole.int())
    assert torch.equal(torch.from_numpy(packed_scales), scales)


@pytest.mark.parametrize(("kind", "number", "most"), [("int8", INT8, 127), ("int7", INT7, INT7_MOST)])
def test_other_products_are_rounded(kind: str, number: int, most: int) -> None:
    weight = torch.randn(PIECE, GROUP, generator=torch.Generator().manual_seed(2))
    header, _, scales, _ = pack_product(weight, kind)  # type: ignore[arg-type]
    assert header[0] == number
    assert torch.allclose(torch.from_numpy(scales), weight.abs().amax(1, keepdim=True) / most)
    values, scale = quantize_int8(weight, most)
    assert (values * scale - weight).abs().max() <= scale.max() / 2 * 1.001
