"""Requests that schemathesis generates from /openapi.json: every answer is as described, and none is a 5xx."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator
from typing import Any
from unittest.mock import MagicMock

import pytest
import schemathesis
import torch
from flask import Flask
from hypothesis import settings as hypothesis_settings
from schemathesis import Case
from schemathesis.checks import CheckFunction
from schemathesis.core.result import Ok
from schemathesis.specs.openapi.checks import positive_data_acceptance

from benchmarks.random_weights import SMALL_SIZES, write_models_root
from consts import MAX_SEED
from dalle_model import DalleModel
from server import create_app
from server.config.settings import Settings

SETTINGS = Settings(max_images=2)  # a request draws few images, so that many requests can be tried
NOT_SERVED = {"/v1/images/edits", "/v1/images/variations"}
EXAMPLES = 3  # per route, in addition to the limits of every field, which schemathesis always tries


def described() -> dict[str, Any]:
    """Return the document. It does not depend on the model, so no model is loaded while tests are collected."""
    model = MagicMock()
    model.name = "Tiny"
    document: dict[str, Any] = create_app(model, SETTINGS).test_client().get("/openapi.json").get_json()
    return document


# POST /generate is the same function as POST /dalle, so only one of them is tested.
api = schemathesis.openapi.from_dict(described()).exclude(path="/generate")


@pytest.fixture(scope="module")
def described_app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Flask]:
    """Yield an app with a model far smaller than Tiny, with random weights: hundreds of images are drawn, and none is shown.

    They are of one colour: a PNG of noise takes as long as its drawing.
    """
    root = write_models_root(tmp_path_factory.mktemp("models"), SMALL_SIZES | {"encoder_layers": 1, "decoder_layers": 1})
    weights = torch.load(root / "vqgan" / "detoker.pt")
    weights["decoder.conv_out.weight"].zero_()
    torch.save(weights, root / "vqgan" / "detoker.pt")
    with DalleModel("mini", models_root=root, precision="float32", threads=1) as model:
        yield create_app(model, SETTINGS)


def answers_of(path: str, method: str) -> Callable[..., None]:
    """Return the test of one route."""

    @pytest.mark.slow
    @api.include(path=path, method=method).parametrize()
    @hypothesis_settings(max_examples=EXAMPLES)
    def test_every_answer_is_as_described(case: Case[Any], described_app: Flask) -> None:
        excluded: list[CheckFunction] = []
        if path in NOT_SERVED or is_beyond_the_schema(case.body):
            excluded.append(positive_data_acceptance)
        case.call_and_validate(app=described_app, excluded_checks=[*excluded])

    return test_every_answer_is_as_described


# As parameters of one test, all routes would have the same name, of which pytest-xdist runs only the first.
for _operation in (found.ok() for found in api.get_all_operations() if isinstance(found, Ok)):
    _name = re.sub(r"\W+", "_", _operation.label.lower())
    globals()[f"test_every_answer_of_{_name}_is_as_described"] = answers_of(_operation.path, _operation.method)


def is_beyond_the_schema(body: Any) -> bool:
    """Return whether numbers that are valid alone are too great together: JSON Schema can't describe that.

    A later image's seed, which is seed + i, may be above the greatest; batch_size times n_iter may be too many images.
    """
    if not isinstance(body, dict):
        return False
    seed, *counts = (body.get(name) for name in ("seed", "batch_size", "n_iter"))
    images = math.prod(count for count in counts if isinstance(count, int | float))
    return images > SETTINGS.max_images or (isinstance(seed, int) and seed > MAX_SEED - SETTINGS.max_images + 1)
