"""The runner for every device that torch has."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor

from engine.errors import InvalidRequest
from engine.runners.torch.cache import KeyValueCache
from engine.runners.torch.decoder import Decoder, find_reaches
from engine.weights.checkpoint import Checkpoint
from engine.weights.models import ModelSpec

PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
_PAD = 1
# On a CPU a convolution's rounding depends on the batch, and a picture must not; on a GPU the limit is memory.
_PICTURES_AT_ONCE = {"cpu": 1, "cuda": 4}


def choose_device(device: str) -> torch.device:
    """Choose a device by name; `auto` takes a GPU if there is one.

    Raises InvalidRequest.
    """
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        chosen = torch.device(device)
        torch.empty(1, device=chosen)
    except (RuntimeError, AssertionError) as error:
        raise InvalidRequest("device", f"device {device!r} can't be used here; try auto or cpu") from error
    return chosen


def choose_dtype(precision: str, device: torch.device, spec: ModelSpec) -> torch.dtype:
    """Choose what to compute in; `auto` is what the model's table says.

    Raises InvalidRequest.
    """
    if precision == "auto":
        if spec.dtype == "float32":
            return torch.float32
        # bfloat16 where there is no fast float16: on a CPU, float16 is emulated.
        return torch.float16 if device.type == "cuda" else torch.bfloat16
    if precision not in PRECISIONS:
        raise InvalidRequest("precision", f"torch has no precision {precision!r} here; take auto, {', '.join(PRECISIONS)}")
    if precision == "float16" and device.type == "cpu":
        raise InvalidRequest("precision", "float16 needs a GPU; on a CPU take float32 or bfloat16")
    return PRECISIONS[precision]


@dataclass(frozen=True)
class EncodedPrompt:
    """Hold a prompt's cross-attention keys and values [layers, 2, heads, 64, head width], and which tokens are there [64]."""

    keys_values: Tensor
    mask: Tensor


class TorchRunner:
    """Run a checkpoint with torch: a `Runner`."""

    def __init__(self, checkpoint: Checkpoint, device: torch.device) -> None:
        config = checkpoint.config
        dtype = checkpoint.decoder.lm_head.weight.dtype
        self._config, self._device = config, device
        self._encoder = checkpoint.encoder.to(device)
        self._encoder.pose_tokens = self._encoder.pose_tokens.to(device)
        self._decoder = Decoder(checkpoint.decoder.to(device), config.attention_head_count, config.logit_count)
        self._detokenizer = checkpoint.detokenizer.to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._dtype = dtype
        self.reset()
        start, end = (checkpoint.tokenizer.token_from_subword[name] for name in ("<s>", "</s>"))
        # Every request's unconditional prompt: start and end token only.
        self._nothing = self.encode([start, end])

    @torch.inference_mode()
    def encode(self, text_tokens: Sequence[int]) -> EncodedPrompt:
        """Encode a prompt once: its keys and values for every layer's cross-attention."""
        tokens = torch.full((1, self._config.text_token_count), _PAD, device=self._device)
        tokens[0, : len(text_tokens)] = torch.tensor(text_tokens)
        encoded = self._encoder(tokens)[0]
        return EncodedPrompt(self._decoder.text_keys_values(encoded), tokens[0].not_equal(_PAD))

    @torch.inference_mode()
    def admit(self, prompts: Sequence[EncodedPrompt]) -> None:
        """Append a slot for each prompt given."""
        for prompt in prompts:
            both = self._nothing, prompt
            keys_values = torch.stack([one.keys_values for one in both], dim=2)
            self._cache.append(keys_values, torch.stack([one.mask for one in both]))

    @torch.inference_mode()
    def rearrange(self, order: Sequence[int]) -> None:
        """Make slot `order[i]` the new slot i."""
        self._cache.rearrange(order)

    def reset(self) -> None:
        """Free every slot and the memory for them."""
        self._cache = KeyValueCache(self._config, self._device, self._dtype)

    @torch.inference_mode()
    def step(self, tokens: Sequence[int], positions: Sequence[int]) -> NDArray[Any]:
        """Decode one token an image: float32 logits [N, 2, V]."""
        # Both rows of an image have the same token and position.
        inputs = torch.tensor([tokens, positions], device=self._device).repeat_interleave(2, dim=1)
        reaches = find_reaches(positions, self._cache.text_lengths, self._device)
        logits: NDArray[Any] = self._decoder.step(inputs[0], inputs[1], reaches, self._cache).float().cpu().numpy()
        return logits.reshape(len(tokens), 2, -1)

    @torch.inference_mode()
    def detokenize(self, grids: NDArray[Any]) -> NDArray[Any]:
        """Turn token grids int64 [N, H, W] into pixels uint8 [N, 16 H, 16 W, 3]."""
        on_device = torch.from_numpy(grids).to(self._device)
        parts = [self._pixels(part) for part in on_device.split(_PICTURES_AT_ONCE.get(self._device.type, 1))]
        return torch.cat(parts).cpu().numpy()

    def _pixels(self, grids: Tensor) -> Tensor:
        z = self._detokenizer.embedding(grids).permute(0, 3, 1, 2).contiguous(memory_format=torch.channels_last)
        z = self._detokenizer.decoder(self._detokenizer.post_quant_conv(z))
        return (z.permute(0, 2, 3, 1).clip(0, 1) * 255).round().to(torch.uint8)
