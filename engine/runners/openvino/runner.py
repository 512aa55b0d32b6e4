"""The runner for CPUs: OpenVINO's graphs over pages of keys and values.

Each image has its own pages, so images join and leave the batch without a copy: only the page tables are written again. The
images of a prompt share its pages, and all images share those of the empty prompt.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import openvino as ov
from numpy.typing import NDArray

from engine.request import IMAGE_TOKEN_COUNT
from engine.runners.openvino.compiled import CompiledModel
from engine.runners.openvino.pages import TOKENS_PER_PAGE, PagePool
from engine.runners.openvino.prompts import PagedPrompt, PromptCache
from engine.runners.runner import Draw, Drawn
from engine.runners.sampling import draw_with_numpy

_PAGES_PER_ROW = IMAGE_TOKEN_COUNT // TOKENS_PER_PAGE


TokenPair = tuple[tuple[int, ...], tuple[int, ...]]  # negative and positive: an image's two rows


@dataclass(frozen=True)
class _Slot:
    """An image in the batch: the lease of its pages, and its two rows' prompts, negative and positive."""

    lease: int
    prompts: list[PagedPrompt]


class OpenVinoRunner:
    """A `LogitsRunner` of a compiled model of the form `PAGED`."""

    pictures_at_once = 1

    def __init__(self, model: CompiledModel) -> None:
        assert model.detokenizer is not None, "of the form PAGED"
        self._model, self._detokenizer = model, model.detokenizer
        self._layers = range(model.config.decoder_layer_count)
        self.reset()

    def reset(self) -> None:
        """Free all slots, their memory, and all prompts but the empty one."""
        model = self._model
        # New requests: one that has raised may be in an undefined state.
        self._encoding, self._decoding = (model.parts[part].create_infer_request() for part in ("encoding", "decoding"))
        self._detokenizer.reset()
        caches = {name: cache for cache in model.parts["decoding"].inputs if "_cache." in (name := cache.get_any_name())}
        # A slot's lease holds the pages of its two rows. The rows that pad a step share the first lease.
        self._image_pages = PagePool(
            {name: cache for name, cache in caches.items() if name.startswith("own")}, 2 * _PAGES_PER_ROW
        )
        self._text_pages = PagePool(
            {name: cache for name, cache in caches.items() if name.startswith("text")},
            -(-model.config.text_token_count // TOKENS_PER_PAGE),
        )
        self._bound: dict[str, ov.Tensor] = {}  # the page arrays that the requests use
        self._padding = self._image_pages.lease()
        self._slots: list[_Slot] = []
        self._prompts = PromptCache(self._text_pages, self._write_prompt)
        # The unconditional row of images without a negative prompt: only the start and the end token. It counts an image, so
        # that it is never evicted.
        self._empty_prompt = self._prompts.find(model.empty_prompt)
        self._empty_prompt.images = 1
        self._tables: dict[str, NDArray[Any]] = {}

    def encode(self, text_tokens: Sequence[int], negative_tokens: Sequence[int] | None = None) -> TokenPair:
        """Encode a prompt and its negative prompt, those that are not in the cache; return their tokens, which `admit` takes."""
        pair = self._model.empty_prompt if negative_tokens is None else tuple(negative_tokens), tuple(text_tokens)
        for tokens in pair:
            self._prompts.find(tokens)
        return pair

    def admit(self, prompts: Sequence[TokenPair]) -> None:
        """Append a slot for each prompt."""
        for pair in prompts:
            slot = _Slot(self._image_pages.lease(), [])
            self._slots.append(slot)
            for tokens in pair:
                slot.prompts.append(self._prompts.find(tokens))
                slot.prompts[-1].images += 1
        if prompts:
            self._write_tables()

    def rearrange(self, order: Sequence[int]) -> None:
        """Move slot `order[i]` to slot i."""
        kept = set(order)
        for index, slot in enumerate(self._slots):
            if index not in kept:
                self._image_pages.release(slot.lease)
                for prompt in slot.prompts:
                    prompt.images -= 1
        self._slots = [self._slots[index] for index in order]
        if self._slots:
            self._write_tables()

    def step(self, tokens: Sequence[int], positions: Sequence[int]) -> NDArray[Any]:
        """Decode one token for each image: float32 logits [N, 2, V], valid until the next step."""
        count = len(tokens)
        for name, values in (("tokens", tokens), ("positions", positions)):
            self._tables[name][: 2 * count].reshape(count, 2)[:] = np.array(values)[:, None]
        self._tables["longest"][()] = max(max(positions) + 1, *(prompt.length for slot in self._slots for prompt in slot.prompts))
        self._decoding.infer()
        logits: NDArray[Any] = self._decoding.get_output_tensor(0).data
        return logits[: 2 * count].reshape(count, 2, -1)

    def draw(self, tokens: Sequence[int], positions: Sequence[int], draws: Sequence[Draw], steps: int) -> Drawn:
        """Draw the next token of each image."""
        return draw_with_numpy(self.step(tokens, positions), positions, draws)

    def detokenize(self, grids: NDArray[Any]) -> NDArray[Any]:
        """Turn token grids int64 [N, H, W] into pixels uint8 [N, 16 H, 16 W, 3]."""
        return self._detokenizer.detokenize(grids)

    def _write_prompt(self, tokens: tuple[int, ...], lease: int) -> NDArray[Any]:
        self._bind_pages()
        pages = self._text_pages.pages_of(lease)
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

    def _bind_pages(self) -> None:
        """Pass the page arrays to the requests, if they have grown."""
        for pages, requests in ((self._text_pages, (self._encoding, self._decoding)), (self._image_pages, (self._decoding,))):
            for name, array in pages.arrays.items():
                if self._bound.get(name) is not array:
                    for request in requests:
                        request.set_tensor(name, array)
                    self._bound[name] = array

    def _write_tables(self) -> None:
        """Write the page tables of all rows; their arrays are the request's inputs."""
        self._bind_pages()
        rows = [(slot.lease, row, prompt) for slot in self._slots for row, prompt in enumerate(slot.prompts)]
        rows += [(self._padding, row % 2, self._empty_prompt) for row in range(self._model.min_rows - len(rows))]
        count = len(rows)
        if len(self._tables.get("tokens", ())) != count:
            self._tables = self._make_tables(count)
        tables = self._tables
        tables["tokens"][:], tables["positions"][:] = self._model.config.decoder_start_token_id, 0
        tables["own_pages"].reshape(count, -1)[:] = [
            self._image_pages.pages_of(lease)[_PAGES_PER_ROW * row : _PAGES_PER_ROW * (row + 1)] for lease, row, _ in rows
        ]
        tables["text_pages"].reshape(count, -1)[:] = [self._text_pages.pages_of(prompt.lease) for *_, prompt in rows]
        # Each step appends the last token again.
        tables["text_past"][:] = [prompt.length - 1 for *_, prompt in rows]
        last = np.stack([prompt.last for *_, prompt in rows], axis=2)  # [layers, 2, R, W]
        for layer in self._layers:
            for kind, values in zip(("key", "value"), last[layer], strict=True):
                tables[f"last_{kind}.{layer}"][:] = values

    def _make_tables(self, rows: int) -> dict[str, NDArray[Any]]:
        """Create the arrays for a step of `rows` rows, and pass them to the request, which reads them at each step."""
        int32 = np.int32
        text_pages = self._text_pages.pages_of(0)
        tables: dict[str, NDArray[Any]] = {
            "tokens": np.zeros(rows, int32),
            "positions": np.zeros(rows, int32),
            "begins": np.arange(rows + 1, dtype=int32),
            "longest": np.zeros((), int32),
            "own_pages": np.zeros(rows * _PAGES_PER_ROW, int32),
            "own_page_begins": np.arange(rows + 1, dtype=int32) * _PAGES_PER_ROW,
            "text_past": np.zeros(rows, int32),
            "text_pages": np.zeros(rows * len(text_pages), int32),
            "text_page_begins": np.arange(rows + 1, dtype=int32) * len(text_pages),
        }
        width = self._empty_prompt.last.shape[-1]
        for layer in self._layers:
            for kind in ("key", "value"):
                tables[f"last_{kind}.{layer}"] = np.zeros((rows, width), np.float32)
        for name, array in tables.items():
            self._decoding.set_tensor(name, ov.Tensor(array, shared_memory=True))
        return tables
