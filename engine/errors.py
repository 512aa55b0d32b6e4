"""Errors that the engine and the model raise.

DalleError
├── InvalidRequest      a field of the request is invalid: has the field and what is accepted
├── CheckpointError     a weight file is missing, damaged or not the expected file: names the file and the remedy
│   └── HubUnreachable  the hub did not respond and the file is not cached
├── GenerationFailed    drawing failed inside the engine; the cause is chained, for the log only
├── QueueFull           the queue has no room: has the seconds until it is likely to
│   └── CallerQueueFull the caller's own images fill its share of the queue
├── DeadlineExceeded    the images were not finished before the request's deadline
├── Cancelled           the caller no longer wants the images
└── EngineClosed        the engine is stopping and accepts no requests
    └── ForkedProcess   the engine's thread is in the process that this one was forked from
"""


class DalleError(Exception):
    """The base class of all errors that this project raises on purpose."""


class InvalidRequest(DalleError):
    """An invalid field of a request; the message says what is accepted."""

    def __init__(self, field: str | None, message: str) -> None:
        super().__init__(message)
        self.field = field
        self.message = message


class CheckpointError(DalleError):
    """An invalid weight file; the message, one line, names the file, the fault and the remedy."""


class HubUnreachable(CheckpointError):
    """No response from the hub, for a file that is not cached."""


class GenerationFailed(DalleError):
    """A failure inside the engine while drawing; the cause is chained."""


class QueueFull(DalleError):
    """A queue without room for the request; `retry_after` is the seconds until there is likely to be room."""

    def __init__(self, retry_after: int) -> None:
        super().__init__(f"the queue is full; try again in about {retry_after} s")
        self.retry_after = retry_after


class CallerQueueFull(QueueFull):
    """A caller's share of the queue without room for the request."""


class DeadlineExceeded(DalleError):
    """A request whose images were not finished before its deadline."""


class Cancelled(DalleError):
    """A request whose caller no longer wants the images."""


class EngineClosed(DalleError):
    """An engine that accepts no requests."""


FORKED = (
    "this process was forked after the model was loaded: load it in each worker instead "
    "(gunicorn: without --preload; uwsgi: with --lazy-apps; multiprocessing: the start method spawn)"
)


class ForkedProcess(EngineClosed):
    """A process without the engine's thread, because it was forked after the model was loaded."""

    def __init__(self) -> None:
        super().__init__(FORKED)


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message, or the error's type if it has no message."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]
