"""Fixtures for all tests: a real model, loaded once, and apps that serve it.

In place of the built-in Tiny the tests draw with the model in tests/models: an earlier Tiny, which draws flat shapes only, in a
sixth of the time. tests/training/test_tiny.py has the tests of the weights that users get.
"""

from __future__ import annotations

import gc
import os
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck
from hypothesis import settings as hypothesis_settings

if TYPE_CHECKING:  # imported where needed, as the process that only hands out tests needs neither torch nor the server
    from flask import Flask
    from flask.testing import FlaskClient

    from dalle_model import DalleModel
    from server.config.settings import Settings

MakeClient = Callable[..., "FlaskClient"]

# Until all tests are collected: what is imported stays, and looking through it for garbage takes seconds of each process.
gc.disable()

# Before torch is imported. Every engine has its own thread, and OpenMP keeps a team of threads for each, so the many engines of a
# test process would draw at a third of their speed. Tests that need more threads set them.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # threads that wait for each other must not slow other tests

# A busy machine is not a failure.
hypothesis_settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
hypothesis_settings.load_profile("patient")


# They take a minute or more: one of them at the end would keep one process busy while the others have nothing left.
LONG_FILES = {
    "test_parity.py",
    "test_runners.py",
    "test_engine_failures.py",
    "test_playground_access.py",
    "test_interpreted.py",
    "test_openapi_properties.py",
}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Move the longest files to the front."""
    items.sort(key=lambda item: item.path.name not in LONG_FILES)


@pytest.hookimpl(tryfirst=True)
def pytest_runtestloop() -> None:
    """Collect garbage from now on, but not among what has been imported."""
    gc.freeze()
    gc.enable()


def pytest_configure(config: pytest.Config) -> None:
    """Keep compiled models in a temporary folder of all test processes: compiled once, and never in place of the user's own.

    Processes that run tests get the tests' Tiny.
    """
    if not hasattr(config, "workerinput"):  # workers inherit the variable
        folder = tempfile.TemporaryDirectory(prefix="dalle-tests-", ignore_cleanup_errors=True)
        os.environ["XDG_CACHE_HOME"] = folder.name
        config.add_cleanup(folder.cleanup)
    if hasattr(config, "workerinput") or config.getoption("dist", "no") == "no":
        from engine.weights import checkpoint

        checkpoint.BUILT_IN_MODELS = Path(__file__).parent / "models"  # in this process; server_process has it for others


@pytest.fixture(scope="session")
def tiny_model() -> Iterator[DalleModel]:
    from dalle_model import DalleModel

    model = DalleModel("tiny", threads=1)  # Tiny's steps are too short to gain from a second thread
    model.warm_up()
    yield model
    model.close()


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    from server.config.settings import Settings

    return Settings(output_dir=tmp_path / "generations")


@pytest.fixture
def app(tiny_model: DalleModel, settings: Settings) -> Flask:
    from server import create_app

    return create_app(tiny_model, settings)


@pytest.fixture
def client(app: Flask) -> FlaskClient:
    return app.test_client()


@pytest.fixture
def make_client(tiny_model: DalleModel, settings: Settings) -> MakeClient:
    """Return a function that makes a client of an app with some settings changed."""
    from server import create_app

    return lambda **changes: create_app(tiny_model, replace(settings, **changes)).test_client()
