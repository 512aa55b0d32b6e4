"""Write the log: one readable line an event, on stderr, with the request's id."""

from __future__ import annotations

import logging

from server.request_ids import request_id

_FORMAT = "%(asctime)s %(levelname)-7s %(request_id)s %(name)s: %(message)s"


class _RequestIdFilter(logging.Filter):
    """Add the request's id to a record; a handler's filter sees the records of every logger."""

    def filter(self, record: logging.LogRecord) -> bool:
        record.request_id = request_id()
        return True


def configure_logging(level: str) -> None:
    """Send the process's log to stderr, from `level` up."""
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter(_FORMAT))
    handler.addFilter(_RequestIdFilter())
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    # Waitress warns whenever a request waits for a thread for even a moment, and libraries chat at debug level.
    logging.getLogger("waitress.queue").setLevel(logging.ERROR)
    for name in ("PIL", "urllib3", "filelock"):
        logging.getLogger(name).setLevel(logging.INFO)
