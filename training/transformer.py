"""Train Tiny's transformer: prompts to image tokens.

    python -m training.transformer          (can be stopped at any time; the same command resumes)

Scenes are painted and encoded on the device, so every picture is new. Muon (Jordan et al. 2024) trains the hidden matrices, AdamW
the tables and scales.
"""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from random import Random

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import Dataset

from engine.text import tokenize_prompt
from engine.upstream.tokenizer import TextTokenizer
from engine.weights.checkpoint import load_checkpoint
from engine.weights.config import ModelConfig
from engine.weights.tokenizer import load_tokenizer
from training.autoencoder import DETOKENIZER, Autoencoder, load_autoencoder, training_options
from training.codes import TOKEN_COUNT
from training.model import PAD, TinyTransformer
from training.muon import Muon
from training.painting import Painter
from training.paths import DATA, RUNS
from training.run import Plan, Run, Scenes, prepare

PLAN = Plan(steps=15_000, batch_size=512, learning_rate=1.5e-3)
FILE = "transformer.pt"
TEXT_LENGTH = 48  # fits all captions; one length means one compiled graph
LOSSES = 128  # places of the loss in a picture: where things are, and some others
EMPTY_CAPTIONS = 0.1  # the share that trains guidance's unconditional row
_TABLES = ("tokens.", "head.", "positions.", "embed_", "norm", ".ln")

CONFIG = ModelConfig(
    name="tiny",
    embed_count=384,
    attention_head_count=6,
    glu_embed_count=896,
    encoder_layer_count=3,
    decoder_layer_count=8,
    text_vocab_count=4073,
    image_vocab_count=TOKEN_COUNT,
    decoder_start_token_id=TOKEN_COUNT,
    detokenizer=DETOKENIZER,
)


class Captions(Dataset[tuple[Tensor, Tensor, Tensor]]):
    """Batches of scenes, as `Scenes` has them, with captions as tokens, int64 [B, 48]."""

    def __init__(self, plan: Plan, tokenizer: TextTokenizer) -> None:
        self._scenes, self._plan, self._tokenizer = Scenes(plan), plan, tokenizer
        self._word = lru_cache(maxsize=200_000)(self._spell)

    def __getitem__(self, step: int) -> tuple[Tensor, Tensor, Tensor]:
        """Return a step's batch."""
        backgrounds, placed, captions = self._scenes[step]
        rng = Random(self._plan.seed * 1_000_003 - step - 1)
        text = torch.full((len(captions), TEXT_LENGTH), PAD)
        for row, caption in zip(text, captions, strict=True):
            ids = self.tokenize("" if rng.random() < EMPTY_CAPTIONS else caption)
            row[: len(ids)] = torch.tensor(ids)
        return backgrounds, placed, text

    def tokenize(self, caption: str) -> list[int]:
        """Convert a caption to token ids as the server does, but word by word, and each word once."""
        first, *_, last = self._word("")
        ids = [token for word in caption.split() for token in self._word(word)[1:-1]]
        return [first, *ids[: TEXT_LENGTH - 2], last]

    def _spell(self, word: str) -> list[int]:
        return tokenize_prompt(self._tokenizer, word, CONFIG)


def optimizers(model: TinyTransformer, plan: Plan) -> list[torch.optim.Optimizer]:
    """Return Muon for the hidden matrices and AdamW for the rest."""
    trained = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    hidden = [p for name, p in trained if p.ndim == 2 and not any(table in name for table in _TABLES)]
    rest = [p for name, p in trained if not any(p is other for other in hidden)]
    return [
        Muon(hidden, lr=plan.learning_rate, weight_decay=0.01),
        torch.optim.AdamW(rest, lr=plan.learning_rate, betas=(0.9, 0.98), weight_decay=0.01),
    ]


def choose_places(covered: Tensor, generator: torch.Generator) -> Tensor:
    """Choose the places of the loss: where things are, then at random. covered [B, 1, 256, 256] -> int64 [B, 128]."""
    touched = F.max_pool2d(covered, 16).flatten(1)
    return (touched + torch.rand(touched.shape, generator=generator, device=touched.device)).topk(LOSSES, dim=1).indices


def train(
    folder: Path,
    plan: Plan,
    device: str,
    autoencoder: Autoencoder,
    *,
    config: ModelConfig = CONFIG,
    start: Path | None = None,
    workers: int = 0,
    use_compile: bool = False,
    minutes: float | None = None,
) -> bool:
    """Train to the end of the plan, from the last save if there is one; return whether the end was reached.

    A new run begins with the exported weights in the folder `start`, if one is given.
    """
    prepare(device, plan.seed)
    model = TinyTransformer(config)
    if start is not None:
        exported = load_checkpoint("tiny", models_root=start.parent)
        model.encoder.load_state_dict(exported.encoder.state_dict())
        model.decoder.load_state_dict(exported.decoder.state_dict())
        model.unfold_tables()
    model = model.to(device)
    autoencoder = autoencoder.to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    painter = Painter(device)
    run = Run(folder / FILE, plan, model, optimizers(model, plan))
    compiled = torch.compile(model) if use_compile else model
    tokenize = torch.compile(autoencoder.tokenize) if use_compile else autoencoder.tokenize

    def loss_of(step: int, batch: tuple[Tensor, Tensor, Tensor]) -> Tensor:
        pixels, covered = painter(*batch[:2])
        tokens = tokenize(pixels.contiguous(memory_format=torch.channels_last))
        places = choose_places(covered, torch.Generator(device).manual_seed(plan.seed * 1_000_003 + step))
        with torch.autocast(device, torch.bfloat16, enabled=device == "cuda"):
            return compiled(batch[2].to(device, non_blocking=True), tokens, places)

    return run.train(Captions(plan, load_tokenizer(DATA)), loss_of, workers=workers, minutes=minutes)


def main(arguments: list[str] | None = None) -> bool:
    """Train, or resume training; return whether the end was reached."""
    parser = training_options(__doc__ or "", PLAN.steps)
    parser.add_argument("--learning_rate", type=float, default=PLAN.learning_rate)
    parser.add_argument("--start", type=Path, help="begin a new run with the exported weights in this folder")
    options = parser.parse_args(arguments)
    plan = replace(
        PLAN, steps=options.steps, batch_size=options.batch_size or PLAN.batch_size, learning_rate=options.learning_rate
    )
    return train(
        RUNS,
        plan,
        options.device,
        load_autoencoder(RUNS),
        start=options.start,
        workers=options.workers,
        use_compile=options.device == "cuda" and not options.no_compile,
        minutes=options.minutes,
    )


if __name__ == "__main__":
    main()
