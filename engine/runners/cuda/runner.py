"""The runner for NVIDIA GPUs: images are drawn on the device, and the host only says which and reads the tokens."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from cachetools import LRUCache
from numpy.typing import NDArray

from engine.memory import is_memory_exhausted
from engine.runners.cuda.decoder import CudaDecoder
from engine.runners.cuda.detokenizer import CudaDetokenizer
from engine.runners.cuda.encoder import CudaEncoder, EncodedPrompt
from engine.runners.cuda.graphs import captured
from engine.runners.cuda.products import InvariantProducts, MakeProduct
from engine.runners.cuda.slots import Slots
from engine.runners.cuda.weights import DecoderWeights
from engine.runners.runner import Draw, Drawn
from engine.weights.checkpoint import Checkpoint

FIRST_SLOTS = 16
# Images of a graph. A batch takes the next larger one, as an idle place costs next to nothing.
BATCHES = (1, 2, 4, 9, 16, 32, 64)
CAPTURED_AT_START = (1, 4, 9)
CACHED_PROMPTS = 16  # of Mega each takes up to 13 MB, and its encoding milliseconds, in which nothing else is drawn


def batch_for(count: int) -> int:
    """Return the size of the graph that draws a number of images: one of `BATCHES`, or a multiple of the last."""
    largest = BATCHES[-1]
    return next((batch for batch in BATCHES if batch >= count), -(-count // largest) * largest)


@dataclass
class _Image:
    """An image in the batch: its slot, and the position of its next token."""

    slot: int
    position: int = 0


class CudaRunner:
    """A `Runner` of a checkpoint's modules, whose weights it takes over: they move to the device, and stay valid.

    An image keeps its slot while others come and go: only the numbers of the slots in the batch change.
    """

    pictures_at_once = 16  # each takes milliseconds; so the host waits for the device less often

    def __init__(self, checkpoint: Checkpoint, device: torch.device, products: MakeProduct | None = None) -> None:
        """`products` makes the products of weights, by default those with the same bits in any batch."""
        self._device = device
        self._slots: Slots | None = None
        self._prompts: LRUCache[tuple[int, ...], EncodedPrompt] = LRUCache(CACHED_PROMPTS)
        self._forget()
        with self._computing():
            weights = DecoderWeights(checkpoint.decoder, checkpoint.config, device)
            self._config, self._dtype = checkpoint.config, weights.dtype
            self._decoder = CudaDecoder(weights, products or InvariantProducts(device))
            self._encoder = CudaEncoder(checkpoint.encoder, weights)
            self._free_unused()  # the modules' own weights, in whose place are views of the fused ones
            self._detokenizer = CudaDetokenizer(checkpoint.detokenizer, checkpoint.config.logit_count, device)
            start, end = (checkpoint.tokenizer.token_from_subword[name] for name in ("<s>", "</s>"))
            # The unconditional row of images without a negative prompt: only the start and the end token.
            self._empty_prompt = self._encoder.encode([start, end])
            self._reserve(1)
            for batch in CAPTURED_AT_START:
                self._graph(batch)

    @contextmanager
    def _computing(self) -> Iterator[None]:
        """Compute on the runner's device inside the block, without gradients."""
        with torch.inference_mode():
            if self._device.type == "cuda":
                with torch.cuda.device(self._device):
                    yield
            else:
                yield

    def _forget(self) -> None:
        self._images: list[_Image] = []
        self._free: list[int] = []  # slots, the next one last
        self._graphs: dict[int, Callable[[], object]] = {}

    def encode(
        self, text_tokens: Sequence[int], negative_tokens: Sequence[int] | None = None
    ) -> tuple[EncodedPrompt, EncodedPrompt]:
        """Encode a negative prompt, or take the empty one, and a prompt. Of the latest prompts each is encoded once."""
        negative = self._empty_prompt if negative_tokens is None else self._cached(tuple(negative_tokens))
        return negative, self._cached(tuple(text_tokens))

    def _cached(self, tokens: tuple[int, ...]) -> EncodedPrompt:
        if tokens not in self._prompts:
            with self._computing():
                self._prompts[tokens] = self._encoder.encode(tokens)
        return self._prompts[tokens]

    def admit(self, prompts: Sequence[tuple[EncodedPrompt, EncodedPrompt]], draws: Sequence[Draw]) -> None:
        """Append a slot for each prompt."""
        with self._computing():
            slots = self._reserve(len(self._images) + len(prompts))
            for pair, draw in zip(prompts, draws, strict=True):
                image = _Image(self._free.pop())
                slots.begin(image.slot, *pair, draw)
                self._images.append(image)
            self._select()

    def rearrange(self, order: Sequence[int]) -> None:
        """Move slot `order[i]` to slot i: on the device nothing moves."""
        kept = [self._images[index] for index in order]
        self._free += sorted({image.slot for image in self._images} - {image.slot for image in kept}, reverse=True)
        self._images = kept
        with self._computing():
            self._select()

    def reset(self) -> None:
        """Free all slots and their memory, and the prompts that no request holds."""
        self._forget()
        self._prompts.clear()
        if self._slots is not None:
            self._slots = None
            self._decoder.detach()
        self._free_unused()

    def _free_unused(self) -> None:
        """Give memory that nothing uses back to the device, as blocks of other sizes are needed next."""
        if self._device.type == "cuda":
            torch.cuda.empty_cache()

    def draw(self, steps: int) -> Drawn:
        """Draw `steps` tokens of each image. The host waits once, to read them."""
        images = self._images
        assert self._slots is not None and images
        with self._computing():
            step = self._graph(batch_for(len(images)))
            for _ in range(steps):
                step()
            tokens, likelihoods, not_finite = self._slots.read(self._decoder.slot_ids[: len(images)])
        columns = np.array([image.position for image in images])[:, None] + np.arange(steps)
        for image in images:
            image.position += steps
        return Drawn(
            np.take_along_axis(tokens.numpy(), columns, 1).astype(np.int64),
            np.take_along_axis(likelihoods.numpy(), columns, 1),
            not_finite.nonzero().flatten().tolist(),
        )

    def detokenize(self, grids: NDArray[Any]) -> NDArray[Any]:
        """Turn token grids int64 [N, H, W] into pixels uint8 [N, 16 H, 16 W, 3]."""
        with self._computing():
            return self._detokenizer.detokenize(grids)

    def force(self, tokens: Sequence[int], positions: Sequence[int]) -> tuple[NDArray[Any], NDArray[Any]]:
        """Decode given tokens at given positions, one for each image, and draw from the logits; for proofs and tests.

        Returns float32 logits [N, 2, V], and int64 tokens [N]. Each image goes on behind its position.
        """
        images, count = self._images, len(self._images)
        assert self._slots is not None
        with self._computing():
            ids = self._decoder.slot_ids[:count].long()
            self._slots.tokens[ids] = torch.tensor(tokens, device=self._device, dtype=torch.int32)
            self._slots.positions[ids] = torch.tensor(positions, device=self._device, dtype=torch.int32)
            self._decoder.step(batch_for(count))
            drawn, _, _ = self._slots.read(ids)
            logits = self._decoder.logits(count).clone().cpu().numpy()  # on a CPU the next step writes to the same memory
        for image, position in zip(images, positions, strict=True):
            image.position = position + 1
        return logits, np.take_along_axis(drawn.numpy(), np.array(positions)[:, None], 1)[:, 0].astype(np.int64)

    def _reserve(self, count: int) -> Slots:
        """Make room for at least `count` slots; the room at least doubles. Graphs are captured again where memory moves."""
        if self._slots is None:
            self._slots = self._first_slots(count)
            self._free = list(reversed(range(self._slots.count)))
        elif count > self._slots.count:
            old = self._slots.count
            self._graphs.clear()
            self._slots.grow(max(count, 2 * old))
            self._free[:0] = reversed(range(old, self._slots.count))
        else:
            return self._slots
        self._decoder.attach(self._slots, batch_for(self._slots.count))
        return self._slots

    def _first_slots(self, count: int) -> Slots:
        """Allocate a few slots more than needed, if there is memory."""
        try:
            return Slots(self._config, max(count, FIRST_SLOTS), self._device, self._dtype)
        except Exception as error:
            if count >= FIRST_SLOTS or not is_memory_exhausted(error):
                raise
        return Slots(self._config, count, self._device, self._dtype)

    def _graph(self, batch: int) -> Callable[[], object]:
        """Return the graph of a batch's step, captured at its first use."""
        if batch not in self._graphs:
            self._decoder.select([])  # a capture runs steps, which must not touch an image
            self._graphs[batch] = captured(lambda: self._decoder.step(batch), self._device)
            self._select()
        return self._graphs[batch]

    def _select(self) -> None:
        if self._slots is not None:
            self._decoder.select([image.slot for image in self._images])
