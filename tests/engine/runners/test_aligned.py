"""Aligned memory, and the file of arrays that is read into it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from engine.runners.aligned import CACHE_LINE, HUGE, aligned_empty
from engine.runners.openvino import array_file
from engine.runners.openvino.array_file import read_arrays, write_arrays


@pytest.mark.parametrize("shape", [(1,), (3, 5), (2, 1_000_003)])
@pytest.mark.parametrize("dtype", [np.uint8, np.float32, np.float64])
@pytest.mark.parametrize("at_least", [0, HUGE])
def test_arrays_begin_at_a_cache_line(shape: tuple[int, ...], dtype: type, at_least: int) -> None:
    array = aligned_empty(shape, dtype, at_least=at_least)
    array[...] = 7
    assert (array.shape, array.dtype) == (shape, np.dtype(dtype))
    assert array.ctypes.data % CACHE_LINE == 0
    assert array.flags.c_contiguous and array.flags.writeable
    assert array.base is not None and array.base.nbytes >= at_least


@pytest.mark.parametrize("small", [0, 1 << 20], ids=["mapped", "read"])
def test_files_large_and_small_have_the_same_arrays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, small: int) -> None:
    random = np.random.default_rng(1)
    written = {"a": [random.integers(0, 255, (3, 7), np.uint8), np.array(2.5)], "b": [random.random((11, 1), np.float32)]}
    write_arrays(tmp_path, written)
    monkeypatch.setattr(array_file, "_SMALL", small)
    read = read_arrays(tmp_path)
    assert {name: [each.tolist() for each in arrays] for name, arrays in read.items()} == {
        name: [each.tolist() for each in arrays] for name, arrays in written.items()
    }
    for array in (each for arrays in read.values() for each in arrays):
        assert array.ctypes.data % CACHE_LINE == 0, "the decoder in C reads whole cache lines"
        assert array.flags.writeable, "OpenVINO refuses others"


@pytest.mark.parametrize("small", [0, 1 << 20], ids=["mapped", "read"])
def test_a_truncated_file_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, small: int) -> None:
    write_arrays(tmp_path, {"a": [np.arange(9)]})
    with (tmp_path / "arrays.bin").open("r+b") as file:
        file.truncate(40)
    monkeypatch.setattr(array_file, "_SMALL", small)
    with pytest.raises(ValueError, match=r"arrays\.bin is truncated"):
        read_arrays(tmp_path)
