"""Log lines, limited to one a second of each kind, so that an outage under load does not fill the disk."""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from copy import copy
from dataclasses import dataclass
from time import monotonic
from types import TracebackType
from typing import TextIO

from tracker.errors import print_error
from tracker.processes import request_ids
from tracker.processes.log_lines import Json, Text
from tracker.settings import LogFormat

SECONDS = 1.0
"""Seconds after a line in which others of its kind are not written."""
MOST_KINDS = 100
"""The most kinds that are distinguished at a time. Further kinds of a level are treated as one."""

logger = logging.getLogger(__name__)

_Kind = tuple[str, int, str]  # logger, level, first line of the message template


@dataclass(slots=True)
class _Latest:
    """Lines of a kind since the last written line."""

    due: float  # monotonic time of the next line
    count: int = 0
    record: logging.LogRecord | None = None


class OneASecond(logging.StreamHandler[TextIO]):
    """Writes the first line of a kind immediately.

    Later ones are summarised: the last line and their number.
    """

    def __init__(self, stream: TextIO | None = None, *, clock: Callable[[], float] = monotonic) -> None:
        super().__init__(stream)
        self._clock = clock
        self._kinds: dict[_Kind, _Latest] = {}
        self._timer: threading.Timer | None = None

    def emit(self, record: logging.LogRecord) -> None:
        """Write a line or keep it for later. The handler's lock is held."""
        self._write_due(self._clock())
        kind = self._kind(record)
        latest = self._kinds.get(kind)
        if latest is None:
            self._kinds[kind] = _Latest(self._clock() + SECONDS)
            super().emit(record)
            return
        latest.count, latest.record = latest.count + 1, record
        self._set_timer()

    def close(self) -> None:
        """Write the kept lines."""
        self.acquire()
        try:
            if self._timer is not None:
                self._timer.cancel()
            self._write_due(float("inf"))
        finally:
            self.release()
        super().close()

    def tick(self) -> None:
        """Write the lines that are due. A timer calls it, because a later line may never come."""
        self.acquire()
        try:
            self._timer = None
            self._write_due(self._clock())
            if any(latest.count for latest in self._kinds.values()):
                self._set_timer()
        finally:
            self.release()

    def _kind(self, record: logging.LogRecord) -> _Kind:
        # Only the first line: asyncio's reports of lost errors name their task below it.
        kind = record.name, record.levelno, str(record.msg).partition("\n")[0]
        is_known = kind in self._kinds or len(self._kinds) < MOST_KINDS
        return kind if is_known else ("", record.levelno, "")

    def _write_due(self, now: float) -> None:
        for kind, latest in [*self._kinds.items()]:
            if latest.due > now:
                continue
            if latest.record is None:
                del self._kinds[kind]
                continue
            self._kinds[kind] = _Latest(now + SECONDS)
            try:
                super().emit(_summed(latest.record, latest.count))
            except Exception:  # a failed log line must not end the caller's work
                self.handleError(latest.record)

    def _set_timer(self) -> None:
        if self._timer is None:
            self._timer = threading.Timer(SECONDS, self.tick)
            self._timer.daemon = True
            with suppress(RuntimeError):  # the process ends, so close() writes it
                self._timer.start()


def start() -> None:
    """Log to stderr, with the limit above, in text for the person who runs a command."""
    handler = OneASecond()
    handler.setFormatter(Text())
    handler.addFilter(_note_request)
    logging.basicConfig(level=logging.INFO, handlers=[handler])


def start_service(name: str, log_format: LogFormat) -> None:
    """Go on as a service does: each line has its time. Python's warnings and a last error are lines, too."""
    for handler in logging.root.handlers:
        handler.setFormatter(Json(name) if log_format == "json" else Text(name))
    logging.captureWarnings(True)
    sys.excepthook = _crashed


def print_last(line: str) -> int:
    """Say in one line why this process ends, and return its exit code. Logs in JSON have JSON only."""
    if not any(isinstance(handler.formatter, Json) for handler in logging.root.handlers):
        return print_error(line)
    logger.critical("%(cause)s", {"event": "cannot_run", "cause": line})
    return 1


def _crashed(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    logger.critical("ended by an unexpected error", {"event": "crash"}, exc_info=(kind, error, trace))


def _note_request(record: logging.LogRecord) -> bool:
    # Now, because a line that is kept for later is written by a timer.
    record.request_id = request_ids.current()
    return True


def _summed(record: logging.LogRecord, count: int) -> logging.LogRecord:
    """One line for several: the last one with its error but without the traceback, and their number."""
    line = copy(record)
    if record.exc_info and record.exc_info[1] is not None:
        error = record.exc_info[1]
        line.cause = f"{type(error).__name__}: {error}"
    line.exc_info = line.exc_text = line.stack_info = None
    line.left_out = count - 1
    return line
