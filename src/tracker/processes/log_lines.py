"""Forms of a log line: text for people, JSON for programs. docs/reference/logs.md describes both.

A log call names its fields: `logger.warning("back after %(seconds).1f s", {"event": "back", "seconds": 2})`.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from tracker.errors import printable


class Text(logging.Formatter):
    """One line for people. A traceback follows in indented lines, so that it cannot pass for log lines.

    Lines of a service begin with the time in UTC, the service and its process id.
    """

    def __init__(self, service: str = "") -> None:
        super().__init__()
        self._service = service

    def format(self, record: logging.LogRecord) -> str:
        head = f"{_time(record)} {self._service}[{record.process}] " if self._service else ""
        request = f" (request {id_})" if (id_ := request_id(record)) else ""
        message = printable(_message(record).strip().replace("\n", " "))
        line = f"{head}{record.levelname} {record.name}: {message}{request}"
        return "\n".join([line, *(f"  {printable(line)}" for line in _traceback(self, record).splitlines())])


class Json(logging.Formatter):
    """One JSON object a line (RFC 8259), in ASCII. A traceback is one of its fields."""

    def __init__(self, service: str) -> None:
        super().__init__()
        self._service = service

    def format(self, record: logging.LogRecord) -> str:
        fields: dict[str, Any] = {
            "time": _time(record),
            "level": record.levelname.lower(),
            "service": self._service,
            "pid": record.process,
            "logger": record.name,
            "message": _message(record),
        }
        extra = {"request_id": request_id(record), "traceback": _traceback(self, record)}
        fields |= {name: value for name, value in extra.items() if value}
        if left_out := getattr(record, "left_out", 0):
            fields["left_out"] = left_out
        if isinstance(record.args, Mapping):
            fields |= record.args
        return json.dumps(fields, default=str)


def request_id(record: logging.LogRecord) -> str:
    """The id of the API's request that caused a line. Empty if none did."""
    return getattr(record, "request_id", "")


def _time(record: logging.LogRecord) -> str:
    at = datetime.fromtimestamp(record.created, UTC)
    return f"{at:%Y-%m-%dT%H:%M:%S}.{at.microsecond // 1000:03}Z"


def _message(record: logging.LogRecord) -> str:
    cause, left_out = getattr(record, "cause", ""), getattr(record, "left_out", 0)
    end = f" ({left_out:,} more like it left out)" if left_out else ""
    return f"{record.getMessage()}{f': {cause}' if cause else ''}{end}"


def _traceback(formatter: logging.Formatter, record: logging.LogRecord) -> str:
    return formatter.formatException(record.exc_info) if record.exc_info and record.exc_info[0] else ""
