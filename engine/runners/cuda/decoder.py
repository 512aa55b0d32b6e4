"""A step of the decoder on the device: from each image's last token to its next one, without a word to the host.

Everything that could round differently is computed from an image's own two rows, so its tokens are the same in any batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from engine.request import IMAGE_TOKEN_COUNT
from engine.runners.cuda.kernels.attention import image_attention_kernel, text_attention_kernel
from engine.runners.cuda.kernels.drawing import draw_kernel
from engine.runners.cuda.kernels.norms import add_norm_kernel, embed_kernel, gated_norm_kernel
from engine.runners.cuda.launching import Launch, launch
from engine.runners.cuda.products import MOST_ROWS, MakeProduct, Product
from engine.runners.cuda.slots import Slots
from engine.runners.cuda.weights import DecoderWeights, LayerWeights, Norm

EPSILON = 1e-5
# Positions of a part that attention reads at once, its warps, and stages: parts on their way, and one. The fastest of ten choices
# on an H200, for one image, for nine and for 64.
ATTENTION_BLOCK, _ATTENTION_WARPS, _ATTENTION_STAGES = 128, 4, 2
_TEXT_BLOCK, _TEXT_WARPS, _TEXT_STAGES = 16, 1, 1  # most prompts are one part
_DRAW_WARPS = 16


def power_of_two(count: int) -> int:
    """Return the least power of two that is at least a count."""
    return 1 << (count - 1).bit_length()


def norm_warps(width: int) -> int:
    """Return the warps for a norm: 4 numbers a thread, where 16-bit and 32-bit ones are laid out alike, but 16 warps at most."""
    return max(4, min(16, power_of_two(width) // 128))


@dataclass(frozen=True, eq=False)
class Layer:
    """A layer's weights, and the products with them."""

    weights: LayerWeights
    self_qkv: Product
    self_out: Product
    text_query: Product
    text_out: Product
    glu_gates: Product
    glu_out: Product

    @classmethod
    def of(cls, weights: LayerWeights, product: MakeProduct) -> Layer:
        """Build a layer; `product` makes a product of each weight."""
        matrices = ("self_qkv", "self_out", "text_query", "text_out", "glu_gates", "glu_out")
        return cls(weights, *(product(getattr(weights, name), weights.glu_out.dtype) for name in matrices))


class Workspace:
    """What a step computes on the way, for up to `rows` rows R. It is allocated before, so a step allocates nothing.

    There are some rows more, as products take rows by the `MOST_ROWS`. What they hold does not matter.
    """

    def __init__(self, weights: DecoderWeights, rows: int) -> None:
        multiple = -(-rows // MOST_ROWS) * MOST_ROWS

        def empty(width: int, dtype: torch.dtype) -> Tensor:
            return torch.empty((multiple, width), device=weights.device, dtype=dtype)

        width, dtype = weights.width, weights.dtype
        self.state = empty(width, torch.float32)  # [R, W], as are the next three
        self.normed, self.mixed, self.projected = (empty(width, dtype) for _ in range(3))
        self.qkv = empty(3 * width, dtype)  # [R, 3 W]
        self.gates, self.middle = empty(2 * weights.middle, dtype), empty(weights.middle, dtype)  # [R, 2 M], [R, M]
        self.logits = empty(weights.logit_stride, torch.float32)

    def rows(self, count: int) -> Workspace:
        """Return the first rows, as views."""
        part = Workspace.__new__(Workspace)
        vars(part).update({name: tensor[:count] for name, tensor in vars(self).items()})
        return part


class CudaDecoder:
    """min-dalle's decoder on slots. A batch is the slots whose numbers are the first of `slot_ids`."""

    def __init__(self, weights: DecoderWeights, product: MakeProduct, launch: Launch = launch) -> None:
        """`product` makes a product of each weight; `launch` launches the other kernels."""
        self.weights, self._launch = weights, launch
        self._layers = [Layer.of(layer, product) for layer in weights.layers]
        self._head = product(weights.head, torch.float32)

    def attach(self, slots: Slots, batch: int) -> None:
        """Compute on slots from now on, in batches of up to `batch` images."""
        self._slots = slots
        self._workspace = Workspace(self.weights, 2 * batch)
        self.slot_ids = torch.full((batch,), slots.idle, device=self.weights.device, dtype=torch.int32)

    def detach(self) -> None:
        """Drop the slots, so that their memory can be freed."""
        del self._slots, self._workspace, self.slot_ids

    def select(self, ids: Sequence[int]) -> None:
        """Set the batch's slots; the idle slot fills the rest."""
        filled = [*ids, *[self._slots.idle] * (len(self.slot_ids) - len(ids))]
        self.slot_ids.copy_(torch.tensor(filled, dtype=torch.int32))

    def logits(self, batch: int) -> Tensor:
        """Return the last step's logits, float32 [batch, 2, V]: unconditional and conditional."""
        config = self.weights.config
        return self._workspace.logits[: 2 * batch].view(batch, 2, -1)[:, :, : config.logit_count]

    def step(self, batch: int) -> None:
        """Draw the next token of each of a batch's slots."""
        self.decode(batch)
        self.draw(batch)

    def decode(self, batch: int) -> None:
        """Compute a batch's logits, and add its keys and values to the cache."""
        weights, slots, rows = self.weights, self._slots, 2 * batch
        at = self._workspace.rows(rows)
        self._launch(
            embed_kernel, (rows,),
            slots.tokens, slots.positions, self.slot_ids, weights.embedding, weights.places,
            *_pair(weights.embedding_norm), *_pair(weights.layers[0].before_self), at.state, at.normed, weights.width, EPSILON,
            BLOCK=power_of_two(weights.width), num_warps=norm_warps(weights.width),
        )  # fmt: skip
        following = [*(layer.before_self for layer in weights.layers[1:]), weights.final_norm]
        for index, (layer, next_norm) in enumerate(zip(self._layers, following, strict=True)):
            own = layer.weights
            layer.self_qkv(at.normed, at.qkv)
            self._attend_to_image(index, at)
            layer.self_out(at.mixed, at.projected)
            self._add_norm(at, own.after_self, own.before_text)
            layer.text_query(at.normed, at.projected)
            self._attend_to_text(index, at)
            layer.text_out(at.mixed, at.projected)
            self._add_norm(at, own.after_text, own.glu_in)
            layer.glu_gates(at.normed, at.gates)
            self._launch(
                gated_norm_kernel, (rows,),
                at.gates, *_pair(own.glu_middle), at.middle, weights.middle, weights.config.glu_embed_count, EPSILON,
                BLOCK=power_of_two(weights.middle), num_warps=norm_warps(weights.middle),
            )  # fmt: skip
            layer.glu_out(at.middle, at.projected)
            self._add_norm(at, None, next_norm)
        self._head(at.normed, at.logits)

    def draw(self, batch: int) -> None:
        """Draw a token of each of a batch's slots from its logits, and move it on to the next position."""
        slots, config = self._slots, self.weights.config
        # Without fused multiply-adds guidance rounds as numpy's does.
        self._launch(
            draw_kernel, (batch,),
            self._workspace.logits, self.slot_ids, slots.tokens, slots.positions, slots.uniforms, slots.factors,
            slots.temperatures, slots.top_ks, slots.asks_likelihood, slots.drawn, slots.likelihoods, slots.not_finite,
            config.logit_count, self.weights.logit_stride, slots.idle,
            BLOCK=power_of_two(config.logit_count), LENGTH=IMAGE_TOKEN_COUNT, num_warps=_DRAW_WARPS, enable_fp_fusion=False,
        )  # fmt: skip

    def _attend_to_image(self, layer: int, at: Workspace) -> None:
        slots, weights = self._slots, self.weights
        self._launch(
            image_attention_kernel, (len(at.qkv), weights.heads),
            at.qkv, slots.keys[layer], slots.values[layer], at.mixed, self.slot_ids, slots.positions,
            weights.width, weights.heads, SCALE=weights.head_width**-0.5, D=weights.head_width, LENGTH=IMAGE_TOKEN_COUNT,
            BLOCK=ATTENTION_BLOCK, STAGES=_ATTENTION_STAGES, num_warps=_ATTENTION_WARPS,
        )  # fmt: skip

    def _attend_to_text(self, layer: int, at: Workspace) -> None:
        slots, weights = self._slots, self.weights
        length = weights.config.text_token_count
        self._launch(
            text_attention_kernel, (len(at.projected), weights.heads),
            at.projected, slots.text[layer, 0], slots.text[layer, 1], at.mixed, self.slot_ids, slots.text_lengths,
            weights.width, weights.heads, SCALE=weights.head_width**-0.5, D=weights.head_width, LENGTH=length,
            BLOCK=min(_TEXT_BLOCK, power_of_two(length)), STAGES=_TEXT_STAGES, num_warps=_TEXT_WARPS,
        )  # fmt: skip

    def _add_norm(self, at: Workspace, norm: Norm | None, following: Norm) -> None:
        """Add the last product to the state, after a norm if there is one; norm the state for the next product."""
        width = self.weights.width
        self._launch(
            add_norm_kernel, (len(at.state),),
            at.state, at.projected, *_pair(norm or following), *_pair(following), at.normed, width, EPSILON,
            IS_NORMED=norm is not None, BLOCK=power_of_two(width), num_warps=norm_warps(width),
        )  # fmt: skip


def _pair(norm: Norm) -> tuple[Tensor, Tensor]:
    return norm.weight, norm.bias
