"""Log lines: one of a kind a second, and the others counted."""

from __future__ import annotations

import io
import logging
import threading
from collections.abc import Iterator

import pytest

from tracker.processes.log_lines import Text
from tracker.processes.logs import MOST_KINDS, OneASecond


class Log:
    """A handler with a clock of its own, and loggers that write to it alone."""

    def __init__(self) -> None:
        self.now = 0.0
        self.stream = io.StringIO()
        self.handler = OneASecond(self.stream, clock=lambda: self.now)
        self.handler.setFormatter(Text())

    def of(self, name: str) -> logging.Logger:
        logger = logging.Logger(name)
        logger.addHandler(self.handler)
        return logger

    def later(self, seconds: float) -> None:
        self.now += seconds
        self.handler.tick()

    @property
    def lines(self) -> list[str]:
        return self.stream.getvalue().splitlines()


@pytest.fixture
def log() -> Iterator[Log]:
    log = Log()
    yield log
    log.handler.close()


def test_lines_of_a_kind_are_one_a_second_and_the_others_are_counted(log: Log) -> None:
    writer = log.of("writer")
    for n in range(1_000):
        writer.warning("entry %d cannot be stored", n)
    assert log.lines == ["WARNING writer: entry 0 cannot be stored"]
    log.later(0.9)
    assert len(log.lines) == 1
    log.later(0.1)
    assert log.lines[1:] == ["WARNING writer: entry 999 cannot be stored (998 more like it left out)"]
    writer.warning("entry %d cannot be stored", 7)
    assert len(log.lines) == 2
    log.later(1)
    assert log.lines[2:] == ["WARNING writer: entry 7 cannot be stored"]


def test_line_after_a_quiet_second_is_written_at_once(log: Log) -> None:
    for _ in range(3):
        log.of("writer").warning("away: %s", "refused")
        log.now += 1.0
    assert log.lines == ["WARNING writer: away: refused"] * 3


def test_kinds_of_lines_differ_by_logger_level_and_template(log: Log) -> None:
    log.of("a").warning("x %d", 1)
    log.of("a").warning("y %d", 1)
    log.of("a").error("x %d", 1)
    log.of("b").warning("x %d", 1)
    log.of("b").warning("Task exception was never retrieved\nfuture: <Task-1>")
    log.of("b").warning("Task exception was never retrieved\nfuture: <Task-2>")
    assert len(log.lines) == 5
    assert "Task-2" not in log.stream.getvalue()


def test_outage_of_any_length_writes_one_line_a_second(log: Log) -> None:
    api = log.of("api")
    for _ in range(600):  # ten minutes, a thousand requests a second
        for _ in range(1_000):
            api.warning("%r: Postgres is unavailable", "/clicks")
        log.now += 1.0
    assert len(log.lines) == 600


def test_traceback_is_written_once_and_its_repeats_are_one_line(log: Log) -> None:
    for n in range(5):
        try:
            raise ValueError(n)
        except ValueError:
            log.of("edge").exception("a hit could not be answered")
    log.later(1)
    first, *traceback, last = log.lines
    assert first == "ERROR edge: a hit could not be answered"
    assert (traceback[0], traceback[-1]) == ("  Traceback (most recent call last):", "  ValueError: 0")
    assert last == "ERROR edge: a hit could not be answered: ValueError: 4 (3 more like it left out)"


def test_memory_is_bounded_however_many_kinds_there_are(log: Log) -> None:
    for n in range(10_000):
        log.of("edge").warning(f"made up by a visitor {n}")
        log.of("edge").error(f"made up by a visitor {n}")
    assert len(log.handler._kinds) <= MOST_KINDS + 2
    log.later(1)
    assert len(log.lines) <= 2 * MOST_KINDS + 4
    log.later(1)
    log.later(1)
    assert log.handler._kinds == {}


def test_suppressed_lines_are_written_at_the_end(log: Log) -> None:
    for n in range(3):
        log.of("edge").warning("left %d", n)
    log.handler.close()
    assert log.lines == ["WARNING edge: left 0", "WARNING edge: left 2 (1 more like it left out)"]


def test_suppressed_lines_are_written_without_a_next_line() -> None:
    class Heard(io.StringIO):
        def write(self, text: str) -> int:
            if "left out" in text:
                heard.set()
            return super().write(text)

    heard = threading.Event()
    logger, handler = logging.Logger("edge"), OneASecond(Heard())
    handler.setFormatter(Text())
    logger.addHandler(handler)
    for n in range(3):
        logger.warning("left %d", n)
    assert heard.wait(60)
    handler.close()


def test_line_that_cannot_be_formatted_raises_nothing(log: Log, capsys: pytest.CaptureFixture[str]) -> None:
    for _ in range(3):
        log.of("edge").warning("%d clicks", "many")
    log.later(1)
    assert log.lines == []
    assert "Logging error" in capsys.readouterr().err
