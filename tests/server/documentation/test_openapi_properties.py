"""Requests that schemathesis generates from /openapi.json: every answer is as described, and none is a 5xx."""

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
    """Yield an app with a model far smaller than Tiny, with random weights: hundreds of images are drawn, and none is shown."""
    root = write_models_root(tmp_path_factory.mktemp("models"))
    with DalleModel("mini", models_root=root, precision="float32", threads=1) as model:
        yield create_app(model, SETTINGS)


@pytest.mark.slow
@api.parametrize()
@hypothesis_settings(max_examples=EXAMPLES)
def test_every_answer_is_as_described(case: Case[Any], described_app: Flask) -> None:
    excluded: list[CheckFunction] = [not_a_server_error] if case.path in NOT_SERVED else []
    if has_seeds_above_the_greatest(case.body):
        excluded.append(positive_data_acceptance)
    case.call_and_validate(app=described_app, excluded_checks=[*excluded])


def has_seeds_above_the_greatest(body: Any) -> bool:
    """Return whether a later image's seed, which is seed + i, is above the greatest. JSON Schema cannot describe that."""
    return isinstance(body, dict) and isinstance(seed := body.get("seed"), int) and seed > MAX_SEED - SETTINGS.max_images + 1
