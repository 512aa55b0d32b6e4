"""The log: one line per event, on standard error, with the request's id. As text for people or as JSON for programs."""

from __future__ import annotations

import json
import logging
from datetime import UTC, datetime
from typing import Any

from server.middleware.request_ids import request_id

_TEXT = "%(asctime)s %(levelname)-7s %(request_id)s %(name)s: %(message)s"

# Escaped, so that line ends or control sequences in a path or a prompt cannot fake another line.
_ESCAPES = {code: f"\\x{code:02x}" for code in (*range(32), *range(127, 160))} | {0x2028: "\\u2028", 0x2029: "\\u2029"}


class _RequestIdFilter(logging.Filter):
    """Adds the request's id to a record. As a filter of the handler it sees the records of every logger."""

    def filter(self, record: logging.LogRecord) -> bool:
        record.request_id = request_id()
        return True


class _TextFormatter(logging.Formatter):
    """Formats a line for people. A traceback follows on lines of its own."""

    def formatMessage(self, record: logging.LogRecord) -> str:
        return super().formatMessage(record).translate(_ESCAPES)


class _JsonFormatter(logging.Formatter):
    """Formats a JSON object on one line, traceback included. A record's `fields` become keys."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "request_id": getattr(record, "request_id", "-"),
            "message": record.getMessage(),
            **getattr(record, "fields", {}),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


def configure_logging(level: str, log_format: str = "text") -> None:
    """Send the process's log to standard error, from `level` up. Waitress's and Python's warnings go there too."""
    handler = logging.StreamHandler()
    handler.setFormatter(_JsonFormatter() if log_format == "json" else _TextFormatter(_TEXT))
    handler.addFilter(_RequestIdFilter())
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    logging.captureWarnings(True)
    # Waitress warns whenever a request waits for a thread even for a moment, and libraries are verbose at debug level.
    logging.getLogger("waitress.queue").setLevel(logging.ERROR)
    for name in ("PIL", "urllib3", "filelock"):
        logging.getLogger(name).setLevel(logging.INFO)
