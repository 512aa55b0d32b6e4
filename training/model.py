"""min-dalle's encoder and decoder for training: all positions at once, with tables that are sums.

A token is five digits, so its row in a table starts as the sum of five rows: what is learned of one token is known in its
neighbours. `fold_tables` sums the parts into the plain tables of min-dalle's classes.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from engine.upstream.modules import AttentionBase
from engine.weights.config import ModelConfig
from engine.weights.skeleton import build_decoder, build_encoder
from engine.weights.tensor_file import is_absent_scale
from training.codes import LEVELS, TOKEN_COUNT, token_digits

PAD = 1
GRID = 16


class TokenTable(nn.Module):
    """A table with a row per token, and one for the start token: the sum of its digits' rows and its own row."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.digits = nn.ParameterList([nn.Parameter(torch.randn(levels, width) * 0.02) for levels in LEVELS])
        self.own = nn.Parameter(torch.randn(TOKEN_COUNT + 1, width) * 0.01)
        self.register_buffer("of", token_digits(), persistent=False)

    def forward(self) -> Tensor:
        """Return the table, [TOKEN_COUNT + 1, width]."""
        rows = torch.stack([table[digit] for table, digit in zip(self.digits, self.get_buffer("of"), strict=True)])
        return F.pad(rows.sum(0), (0, 0, 0, 1)) + self.own

    def start_from(self, table: Tensor) -> None:
        """Take over a folded table."""
        for digit in self.digits:
            digit.data.zero_()
        self.own.data.copy_(table)


class PositionTable(nn.Module):
    """A table with a row per position: the sum of its grid row's and grid column's rows and its own row."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.row = nn.Parameter(torch.randn(GRID, width) * 0.02)
        self.column = nn.Parameter(torch.randn(GRID, width) * 0.02)
        self.own = nn.Parameter(torch.zeros(GRID * GRID, width))

    def forward(self) -> Tensor:
        """Return the table, [256, width]."""
        return (self.row[:, None] + self.column[None]).flatten(0, 1) + self.own

    def start_from(self, table: Tensor) -> None:
        """Take over a folded table."""
        self.row.data.zero_()
        self.column.data.zero_()
        self.own.data.copy_(table)


def _attend(attention: AttentionBase, state: Tensor, source: Tensor, mask: Tensor | None, causal: bool) -> Tensor:
    """Compute attention with min-dalle's weights and torch's fused kernel: state [B, Q, W], source [B, K, W] -> [B, Q, W]."""
    heads = attention.head_count
    q, k, v = (
        proj(x).unflatten(-1, (heads, -1)).transpose(1, 2)
        for proj, x in ((attention.q_proj, state), (attention.k_proj, source), (attention.v_proj, source))
    )
    mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=causal)
    return attention.out_proj(mixed.transpose(1, 2).flatten(2))


class TinyTransformer(nn.Module):
    """min-dalle's `DalleBartEncoder` and `DalleBartDecoder`, trained with teacher forcing."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.encoder, self.decoder = build_encoder(config), build_decoder(config)
        self.tokens, self.head = TokenTable(config.embed_count), TokenTable(config.embed_count)
        self.positions = PositionTable(config.embed_count)
        for table in (self.encoder.embed_tokens, self.encoder.embed_positions):
            nn.init.normal_(table.weight, std=0.02)
        # Until the export, the tables above replace these.
        for name in ("embed_tokens", "embed_positions", "lm_head"):
            getattr(self.decoder, name).weight.requires_grad_(False)
        for name, parameter in self.named_parameters():
            if is_absent_scale(name):
                parameter.requires_grad_(False)  # Tiny's files lack it, as the published ones do
            if name.endswith(("out_proj.weight", "fc2.weight")):
                parameter.data.mul_(0.5)  # residual branches begin small

    def encode(self, text: Tensor) -> Tensor:
        """Encode prompts: int64 [B, T] -> [B, T, W]."""
        encoder = self.encoder
        mask = text.not_equal(PAD)[:, None, None, :]
        state = encoder.embed_tokens(text) + encoder.embed_positions.weight[: text.shape[1]]
        state = encoder.layernorm_embedding(state)
        for layer in encoder.layers:
            normed = layer.pre_self_attn_layer_norm(state)
            state = state + layer.self_attn_layer_norm(_attend(layer.self_attn, normed, normed, mask, False))
            state = state + layer.glu(state)
        return encoder.final_ln(state)

    def forward(self, text: Tensor, image: Tensor, places: Tensor) -> Tensor:
        """Return the mean loss in nats a token at some places: text int64 [B, T], image int64 [B, 256], places int64 [B, P]."""
        decoder = self.decoder
        mask = text.not_equal(PAD)[:, None, None, :]
        encoded = self.encode(text)
        previous = F.pad(image[:, :-1], (1, 0), value=TOKEN_COUNT)  # starts with the start token
        state = decoder.layernorm_embedding(F.embedding(previous, self.tokens()) + self.positions())
        for layer in decoder.layers:
            normed = layer.pre_self_attn_layer_norm(state)
            state = state + layer.self_attn_layer_norm(_attend(layer.self_attn, normed, normed, None, True))
            normed = layer.pre_encoder_attn_layer_norm(state)
            state = state + layer.encoder_attn_layer_norm(_attend(layer.encoder_attn, normed, encoded, mask, False))
            state = state + layer.glu(state)
        state = state.gather(1, places[..., None].expand(-1, -1, state.shape[-1]))
        logits = F.linear(decoder.final_ln(state), self.head())
        return F.cross_entropy(logits.float().flatten(0, 1), image.gather(1, places).flatten())

    @torch.no_grad()
    def fold_tables(self) -> None:
        """Copy the sums of the tables into the plain modules."""
        self.decoder.embed_tokens.weight.copy_(self.tokens())
        self.decoder.embed_positions.weight.copy_(self.positions())
        self.decoder.lm_head.weight.copy_(self.head())

    def unfold_tables(self) -> None:
        """Copy the plain modules' tables into those that are trained, to go on from exported weights."""
        self.tokens.start_from(self.decoder.embed_tokens.weight)
        self.positions.start_from(self.decoder.embed_positions.weight)
        self.head.start_from(self.decoder.lm_head.weight)
