"""Give the tests the real model Tiny, loaded once, and the app on it."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from flask import Flask
from flask.testing import FlaskClient
from hypothesis import HealthCheck
from hypothesis import settings as hypothesis_settings

from dalle_model import DalleModel
from server import create_app
from server.config.settings import Settings

# Before torch is imported. Every engine has a thread of its own, and OpenMP keeps a team of threads for each: the many engines of
# one test process would draw at a third of their speed. Where more threads matter, a test asks for them.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # or two threads that wait for each other keep other tests from computing

# A busy machine is no failure.
hypothesis_settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
hypothesis_settings.load_profile("patient")


@pytest.fixture(scope="session", autouse=True)
def own_cache() -> Iterator[None]:
    """Keep compiled models in a folder of this process's own: in the user's, they would take the place of theirs."""
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", folder)
        yield


@pytest.fixture(scope="session")
def tiny_model() -> Iterator[DalleModel]:
    model = DalleModel("tiny", threads=1)  # Tiny's steps are too short for two to be faster
    model.warm_up()
    yield model
    model.close()


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(output_dir=tmp_path / "generations")


@pytest.fixture
def app(tiny_model: DalleModel, settings: Settings) -> Flask:
    return create_app(tiny_model, settings)


@pytest.fixture
def client(app: Flask) -> FlaskClient:
    return app.test_client()
