"""Try the API by its own description: whatever schemathesis thinks up is answered as /openapi.json says, and never by a 5xx."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from unittest.mock import MagicMock

import pytest
import schemathesis
from flask import Flask
from hypothesis import settings as hypothesis_settings
from schemathesis import Case
from schemathesis.checks import CheckFunction, not_a_server_error
from schemathesis.specs.openapi.checks import positive_data_acceptance

from benchmarks.random_weights import write_models_root
from consts import MAX_SEED
from dalle_model import DalleModel
from server import create_app
from server.config.settings import Settings

SETTINGS = Settings(max_images=2)  # a request draws few images, so that many requests can be tried
NOT_SERVED = {"/v1/images/edits", "/v1/images/variations"}  # 501 is all that these say, and they are described so
EXAMPLES = 5  # a route, beside the edges of every field, which schemathesis tries by itself


def described() -> dict[str, Any]:
    """Return the document. It says nothing about the model, so none is loaded while tests are collected."""
    model = MagicMock()
    model.name = "Tiny"
    document: dict[str, Any] = create_app(model, SETTINGS).test_client().get("/openapi.json").get_json()
    return document


# POST /generate is POST /dalle's own function under another name: one of the two is tried.
api = schemathesis.openapi.from_dict(described()).exclude(path="/generate")


@pytest.fixture(scope="module")
def described_app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Flask]:
    """Serve a model far smaller than Tiny, with random weights: nobody looks at these hundreds of pictures."""
    root = write_models_root(tmp_path_factory.mktemp("models"))
    with DalleModel("mini", models_root=root, precision="float32", threads=1) as model:
        yield create_app(model, SETTINGS)


@pytest.mark.slow
@api.parametrize()
@hypothesis_settings(max_examples=EXAMPLES)
def test_every_answer_is_as_described(case: Case[Any], described_app: Flask) -> None:
    excluded: list[CheckFunction] = [not_a_server_error] if case.path in NOT_SERVED else []
    if asks_for_seeds_past_the_last(case.body):
        excluded.append(positive_data_acceptance)
    case.call_and_validate(app=described_app, excluded_checks=[*excluded])


def asks_for_seeds_past_the_last(body: Any) -> bool:
    """Check what a JSON Schema cannot: image i has seed + i, and the last image's seed must be valid too."""
    return isinstance(body, dict) and isinstance(seed := body.get("seed"), int) and seed > MAX_SEED - SETTINGS.max_images + 1
