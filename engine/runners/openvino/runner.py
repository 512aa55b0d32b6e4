"""The runner for CPUs: OpenVINO's graphs over pages of keys and values.

Every image has its own pages, so images join and leave the batch without a copy: only the tables that say whose pages are whose
are written again. All images of a prompt read the same pages of text, and all requests the same ones of the empty prompt.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import openvino as ov
from numpy.typing import NDArray

from engine.request import IMAGE_TOKEN_COUNT
from engine.runners.openvino.compiled import CompiledModel
from engine.runners.openvino.pages import TOKENS_A_PAGE, Pages
from engine.runners.openvino.prompts import Prompt, Prompts

_PAGES_A_ROW = IMAGE_TOKEN_COUNT // TOKENS_A_PAGE


class OpenVinoRunner:
    """Run a compiled model: a `Runner`."""

    def __init__(self, model: CompiledModel) -> None:
        self._model = model
        self._layers = range(model.config.decoder_layer_count)
        self.reset()

    def reset(self) -> None:
        """Free every slot, and the memory for them; forget every prompt but the empty one."""
        model = self._model
        # Requests of their own: one that has raised may be left half set.
        self._encoding, self._decoding = (model.parts[part].create_infer_request() for part in ("encoding", "decoding"))
        model.pixels.reset()
        caches = {name: cache for cache in model.parts["decoding"].inputs if "_cache." in (name := cache.get_any_name())}
        # A slot: its two rows' pages. The rows that only pad a step share slot 0.
        self._own = Pages({name: cache for name, cache in caches.items() if name.startswith("own")}, 2 * _PAGES_A_ROW)
        self._text = Pages(
            {name: cache for name, cache in caches.items() if name.startswith("text")},
            -(-model.config.text_token_count // TOKENS_A_PAGE),
        )
        self._shown: dict[str, ov.Tensor] = {}  # the page arrays that the requests know
        self._padding = self._own.lease()
        self._slots: list[tuple[int, Prompt]] = []
        self._prompts = Prompts(self._text, self._write_prompt)
        # Every request's unconditional prompt: start and end token only. It always has an image.
        self._nothing = self._prompts.find(model.empty_prompt)
        self._nothing.images = 1
        self._tables: dict[str, NDArray[Any]] = {}

    def encode(self, text_tokens: Sequence[int]) -> tuple[int, ...]:
        """Encode a prompt, unless it is known from before; return what to admit its images by."""
        tokens = tuple(text_tokens)
        self._prompts.find(tokens)
        return tokens

    def admit(self, prompts: Sequence[tuple[int, ...]]) -> None:
        """Append a slot for each prompt given."""
        for tokens in prompts:
            prompt = self._prompts.find(tokens)
            prompt.images += 1
            self._slots.append((self._own.lease(), prompt))
        if prompts:
            self._write_tables()

    def rearrange(self, order: Sequence[int]) -> None:
        """Make slot `order[i]` the new slot i."""
        kept = set(order)
        for index, (lease, prompt) in enumerate(self._slots):
            if index not in kept:
                self._own.give_back(lease)
                prompt.images -= 1
        self._slots = [self._slots[index] for index in order]
        if self._slots:
            self._write_tables()

    def step(self, tokens: Sequence[int], positions: Sequence[int]) -> NDArray[Any]:
        """Decode one token an image: float32 logits [N, 2, V], valid until the next step."""
        count = len(tokens)
        for name, values in (("tokens", tokens), ("positions", positions)):
            self._tables[name][: 2 * count].reshape(count, 2)[:] = np.array(values)[:, None]
        self._tables["longest"][()] = max(max(positions) + 1, *(prompt.length for _, prompt in self._slots))
        self._decoding.infer()
        logits: NDArray[Any] = self._decoding.get_output_tensor(0).data
        return logits[: 2 * count].reshape(count, 2, -1)

    def detokenize(self, grids: NDArray[Any]) -> NDArray[Any]:
        """Turn token grids int64 [N, H, W] into pixels uint8 [N, 16 H, 16 W, 3]."""
        return self._model.pixels.draw(grids)

    def _write_prompt(self, tokens: tuple[int, ...], lease: int) -> NDArray[Any]:
        self._show_pages()
        pages = self._text.pages_of(lease)
        inputs: dict[str, Any] = {
            "tokens": tokens,
            "begins": [0, len(tokens)],
            "longest": len(tokens),
            "text_past": [0],
            "text_pages": pages,
            "text_page_begins": [0, len(pages)],
        }
        for name, values in inputs.items():
            self._encoding.set_tensor(name, ov.Tensor(np.array(values, dtype=np.int32)))
        self._encoding.infer()
        last: NDArray[Any] = self._encoding.get_tensor("last").data.copy()
        return last

    def _show_pages(self) -> None:
        """Tell the requests where the page arrays are, once they have grown."""
        for pages, requests in ((self._text, (self._encoding, self._decoding)), (self._own, (self._decoding,))):
            for name, array in pages.arrays.items():
                if self._shown.get(name) is not array:
                    for request in requests:
                        request.set_tensor(name, array)
                    self._shown[name] = array

    def _write_tables(self) -> None:
        """Write which rows read which pages; the arrays are then the requests' inputs themselves."""
        self._show_pages()
        rows = [(lease, row, prompt) for lease, prompt in self._slots for row, prompt in ((0, self._nothing), (1, prompt))]
        rows += [(self._padding, row % 2, self._nothing) for row in range(self._model.least_rows - len(rows))]
        count = len(rows)
        if len(self._tables.get("tokens", ())) != count:
            self._tables = self._make_tables(count)
        tables = self._tables
        tables["tokens"][:], tables["positions"][:] = self._model.config.decoder_start_token_id, 0
        tables["own_pages"].reshape(count, -1)[:] = [
            self._own.pages_of(lease)[_PAGES_A_ROW * row : _PAGES_A_ROW * (row + 1)] for lease, row, _ in rows
        ]
        tables["text_pages"].reshape(count, -1)[:] = [self._text.pages_of(prompt.lease) for *_, prompt in rows]
        # The last token is appended again at each step.
        tables["text_past"][:] = [prompt.length - 1 for *_, prompt in rows]
        last = np.stack([prompt.last for *_, prompt in rows], axis=2)  # [layers, 2, R, W]
        for layer in self._layers:
            for kind, values in zip(("key", "value"), last[layer], strict=True):
                tables[f"last_{kind}.{layer}"][:] = values

    def _make_tables(self, rows: int) -> dict[str, NDArray[Any]]:
        """Make the arrays of a step of so many rows, and give them to the request, which reads them at each step."""
        int32 = np.int32
        text_pages = self._text.pages_of(0)
        tables: dict[str, NDArray[Any]] = {
            "tokens": np.zeros(rows, int32),
            "positions": np.zeros(rows, int32),
            "begins": np.arange(rows + 1, dtype=int32),
            "longest": np.zeros((), int32),
            "own_pages": np.zeros(rows * _PAGES_A_ROW, int32),
            "own_page_begins": np.arange(rows + 1, dtype=int32) * _PAGES_A_ROW,
            "text_past": np.zeros(rows, int32),
            "text_pages": np.zeros(rows * len(text_pages), int32),
            "text_page_begins": np.arange(rows + 1, dtype=int32) * len(text_pages),
        }
        width = self._nothing.last.shape[-1]
        for layer in self._layers:
            for kind in ("key", "value"):
                tables[f"last_{kind}.{layer}"] = np.zeros((rows, width), np.float32)
        for name, array in tables.items():
            self._decoding.set_tensor(name, ov.Tensor(array, shared_memory=True))
        return tables
