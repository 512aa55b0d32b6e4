"""The runner for every device that torch supports."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor

from engine.errors import InvalidRequest, first_line
from engine.runners.runner import Draw, Drawn
from engine.runners.sampling import draw_with_numpy
from engine.runners.torch.cache import KeyValueCache
from engine.runners.torch.decoder import TorchDecoder, attention_spans
from engine.weights.checkpoint import Checkpoint
from engine.weights.detokenizer import pixels_of
from engine.weights.models import ModelSpec

_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
_PAD = 1
# On a CPU, a convolution's rounding depends on the batch, and a picture must not. On a GPU, memory is the limit.
_DETOKENIZER_BATCH = {"cpu": 1, "cuda": 4}


def choose_device(device: str) -> torch.device:
    """Choose a device by name; `auto` takes a GPU if there is one. Raises InvalidRequest."""
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        chosen = torch.device(device)
        torch.empty(1, device=chosen)
    except (RuntimeError, AssertionError) as error:
        why = "it needs a Mac with Apple silicon" if device == "mps" else first_line(error)
        raise InvalidRequest("device", f"device {device!r} can't be used here: {why}; try auto or cpu") from error
    return chosen


def choose_dtype(precision: str, device: torch.device, spec: ModelSpec) -> torch.dtype:
    """Choose the type to compute in; `auto` takes it from the table of models. Raises InvalidRequest."""
    if precision == "auto":
        if spec.dtype == "float32":
            return torch.float32
        # A CPU emulates float16. Apple's GPUs before M3 emulate bfloat16, which needs macOS 14.
        return torch.bfloat16 if device.type == "cpu" else torch.float16
    if precision not in _DTYPES:
        raise InvalidRequest("precision", f"torch does not compute in {precision!r}; take auto, {', '.join(_DTYPES)}")
    if precision == "float16" and device.type == "cpu":
        raise InvalidRequest("precision", "float16 needs a GPU; on a CPU take float32 or bfloat16")
    return _DTYPES[precision]


@dataclass(frozen=True)
class TorchPrompt:
    """A prompt's two rows: keys and values [layers, 2, 2, heads, 64, head width], and whether a token exists, bool [2, 64]."""

    keys_values: Tensor
    mask: Tensor


class TorchRunner:
    """A `LogitsRunner` of a checkpoint's modules."""

    def __init__(self, checkpoint: Checkpoint, device: torch.device) -> None:
        config = checkpoint.config
        dtype = checkpoint.decoder.lm_head.weight.dtype
        self._config, self._device = config, device
        self._encoder = checkpoint.encoder.to(device)
        self._encoder.pose_tokens = self._encoder.pose_tokens.to(device)
        self._decoder = TorchDecoder(checkpoint.decoder.to(device), config.attention_head_count, config.logit_count)
        self._detokenizer = checkpoint.detokenizer.to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._dtype = dtype
        self.reset()
        start, end = (checkpoint.tokenizer.token_from_subword[name] for name in ("<s>", "</s>"))
        # The unconditional row of images without a negative prompt: only the start and the end token.
        self._empty_row = self.encode_row([start, end])

    @torch.inference_mode()
    def encode(self, text_tokens: Sequence[int], negative_tokens: Sequence[int] | None = None) -> TorchPrompt:
        """Encode a prompt and its negative prompt: their keys and values for the cross-attention of all layers."""
        negative = self._empty_row if negative_tokens is None else self.encode_row(negative_tokens)
        pair = negative, self.encode_row(text_tokens)
        return TorchPrompt(torch.stack([keys_values for keys_values, _ in pair], dim=2), torch.stack([mask for _, mask in pair]))

    @torch.inference_mode()
    def encode_row(self, text_tokens: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Encode a prompt: keys and values [layers, 2, heads, 64, head width], and whether a token exists, bool [64]."""
        tokens = torch.full((1, self._config.text_token_count), _PAD, device=self._device)
        tokens[0, : len(text_tokens)] = torch.tensor(text_tokens)
        encoded = self._encoder(tokens)[0]
        return self._decoder.text_keys_values(encoded), tokens[0].not_equal(_PAD)

    @torch.inference_mode()
    def admit(self, prompts: Sequence[TorchPrompt]) -> None:
        """Append a slot for each prompt."""
        for prompt in prompts:
            self._cache.append(prompt.keys_values, prompt.mask)

    @torch.inference_mode()
    def rearrange(self, order: Sequence[int]) -> None:
        """Move slot `order[i]` to slot i."""
        self._cache.rearrange(order)

    def reset(self) -> None:
        """Free all slots and their memory."""
        self._cache = KeyValueCache(self._config, self._device, self._dtype)

    @torch.inference_mode()
    def step(self, tokens: Sequence[int], positions: Sequence[int]) -> NDArray[Any]:
        """Decode one token for each image: float32 logits [N, 2, V]."""
        # The two rows of an image have the same token and position.
        inputs = torch.tensor([tokens, positions], device=self._device).repeat_interleave(2, dim=1)
        spans = attention_spans(positions, self._cache.text_lengths, self._device)
        logits: NDArray[Any] = self._decoder.step(inputs[0], inputs[1], spans, self._cache).float().cpu().numpy()
        return logits.reshape(len(tokens), 2, -1)

    def draw(self, tokens: Sequence[int], positions: Sequence[int], draws: Sequence[Draw], steps: int) -> Drawn:
        """Draw the next token of each image."""
        return draw_with_numpy(self.step(tokens, positions), positions, draws)

    @property
    def pictures_at_once(self) -> int:
        """How many pictures the detokenizer computes at once."""
        return _DETOKENIZER_BATCH.get(self._device.type, 1)

    @torch.inference_mode()
    def detokenize(self, grids: NDArray[Any]) -> NDArray[Any]:
        """Turn token grids int64 [N, H, W] into pixels uint8 [N, 16 H, 16 W, 3]."""
        on_device = torch.from_numpy(grids).to(self._device)
        parts = on_device.split(self.pictures_at_once)
        return torch.cat([pixels_of(self._detokenizer, part) for part in parts]).cpu().numpy()
