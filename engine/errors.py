"""The errors that the engine and the model raise.

DalleError
├── InvalidRequest      a field of the request is not acceptable: names the field and what is accepted
├── CheckpointError     a weight file is absent, damaged or not what it should be: names the file and the remedy
│   └── HubUnreachable  the hub gave no answer and nothing is cached
├── GenerationFailed    drawing failed inside; the cause is chained, and belongs in the log only
├── QueueFull           too many images wait already: says in how many seconds to ask again
├── DeadlineExceeded    the images were not done in the time that a request has
├── Cancelled           the caller wants the images no more
└── EngineClosed        the engine is stopping and takes no new work
"""


class DalleError(Exception):
    """Be the base of every error that this project raises on purpose."""


class InvalidRequest(DalleError):
    """Say which field of a request is not acceptable, and what is."""

    def __init__(self, field: str | None, message: str) -> None:
        super().__init__(message)
        self.field = field
        self.message = message


class CheckpointError(DalleError):
    """Say which weight file is wrong, how, and what to do; one line."""


class HubUnreachable(CheckpointError):
    """Say that the hub gave no answer and nothing is cached."""


class GenerationFailed(DalleError):
    """Say that drawing failed inside the engine; the cause is chained."""


class QueueFull(DalleError):
    """Say that too many images wait already, and in how many seconds there will be room."""

    def __init__(self, retry_after: int) -> None:
        super().__init__(f"too many images wait to be drawn; there will be room in about {retry_after} s")
        self.retry_after = retry_after


class DeadlineExceeded(DalleError):
    """Say that the images were not done in the time that a request has."""


class Cancelled(DalleError):
    """Say that the caller wants the images no more."""


class EngineClosed(DalleError):
    """Say that the engine takes no new work."""


def first_line(error: BaseException) -> str:
    """Return the first line of what an error says, or its name where it says nothing."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]
