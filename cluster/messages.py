"""What travels between front and replicas besides requests and events."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import engine.errors as errors
from cluster.kind import Kind
from engine.batching.statistics import EngineState
from engine.errors import DalleError
from engine.events import Event
from engine.request import SamplingSettings
from engine.weights.known_words import KnownWords


@dataclass(frozen=True)
class Failure:
    """An error as a value. Not raised across machines: Ray wraps what is raised, and most errors here do not survive a pickle."""

    name: str
    arguments: tuple[Any, ...]
    fields: dict[str, Any]

    @classmethod
    def of(cls, error: DalleError) -> Failure:
        """Return an error as a value."""
        return cls(type(error).__name__, error.args, dict(vars(error)))

    @property
    def error(self) -> DalleError:
        """The error, without its cause, which is in the replica's log."""
        kind: type[DalleError] = getattr(errors, self.name)
        error = kind.__new__(kind, *self.arguments)
        vars(error).update(self.fields)
        return error


@dataclass(frozen=True)
class About:
    """What a replica is: it says so once."""

    kind: Kind
    sampling: SamplingSettings  # the model's defaults
    known_words: KnownWords | None  # what the model draws; None if no list says that
    host: str  # its name, for people


@dataclass(frozen=True)
class Report:
    """A replica's answer to the front's regular question how it is."""

    state: EngineState
    steps: tuple[tuple[float, int], ...]  # seconds and images of each step since the front's last question


Message = Event | Failure
