"""The two forms of a log line."""

from __future__ import annotations

import json
import logging
import re
import subprocess
import sys

import pytest

from tests.environ import clean_environ
from tracker.processes.log_lines import Json, Text

HEAD = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z edge\[\d+\] "
HOSTILE = "a\n2026-12-01T00:00:00.000Z edge[1] ERROR tracker: forged\r\x1b[31m\x85\u2028\ud800"


def record(message: str, *args: object, error: Exception | None = None, **more: object) -> logging.LogRecord:
    exc_info = (type(error), error, error.__traceback__) if error else None
    record = logging.LogRecord("tracker.edge", logging.WARNING, __file__, 1, message, args, exc_info)
    record.__dict__.update(more)
    return record


def failed() -> Exception:
    try:
        raise ValueError(HOSTILE)
    except ValueError as error:
        return error


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (record("back after %(seconds).1f s", {"event": "stream_back", "seconds": 2.04}), "back after 2.0 s"),
        (record("by %d and %s", 1, "two"), "by 1 and two"),
        (record("away: %s", "x", left_out=1200), "away: x (1,200 more like it left out)"),
        (record("away", cause="OSError: no", left_out=2), "away: OSError: no (2 more like it left out)"),
        (record("slow", request_id="1234567890abcdef"), "slow (request 1234567890abcdef)"),
        (record("%s", HOSTILE), None),
    ],
)
def test_text_is_one_line(line: logging.LogRecord, expected: str | None) -> None:
    text = Text("edge").format(line)
    assert len(text.splitlines()) == 1
    match = re.fullmatch(f"{HEAD}WARNING tracker.edge: (.*)", text)
    assert match
    if expected is not None:
        assert match[1] == expected


def test_text_of_a_command_has_no_time() -> None:
    assert Text().format(record("no geo database")) == "WARNING tracker.edge: no geo database"


def test_text_indents_a_traceback() -> None:
    first, *others = Text("edge").format(record("failed", error=failed())).splitlines()
    assert first.endswith(" WARNING tracker.edge: failed")
    assert others[0] == "  Traceback (most recent call last):"
    assert all(line.startswith("  ") for line in others)


def test_json_has_the_fields_of_the_event() -> None:
    line = Json("edge").format(
        record("away: %(cause)s", {"event": "stream_away", "cause": OSError("no"), "seconds": 2}, left_out=3)
    )
    fields = json.loads(line)
    assert re.fullmatch(HEAD, f"{fields.pop('time')} {fields['service']}[{fields.pop('pid')}] ")
    assert fields == {
        "level": "warning",
        "service": "edge",
        "logger": "tracker.edge",
        "message": "away: no (3 more like it left out)",
        "left_out": 3,
        "event": "stream_away",
        "cause": "no",
        "seconds": 2,
    }


def test_json_is_one_ascii_line() -> None:
    line = Json("edge").format(record("%(what)s", {"what": HOSTILE}, error=failed(), request_id="r" * 8))
    assert line.isascii()
    assert line.splitlines() == [line]
    fields = json.loads(line)
    assert (fields["message"], fields["what"], fields["request_id"]) == (HOSTILE, HOSTILE, "r" * 8)
    assert fields["traceback"].startswith("Traceback (most recent call last):\n")


def start(*words: str, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", *words], capture_output=True, text=True, env=clean_environ() | env, timeout=60
    )


_START = "from tracker.processes import logs; logs.start(); logs.start_service('api', 'json')"


@pytest.mark.parametrize(
    ("code", "event", "message"),
    [
        ("1 / 0", "crash", "ended by an unexpected error"),
        ("raise SystemExit(logs.print_last('no server'))", "cannot_run", "no server"),
        ("import warnings; warnings.warn('old')", None, "<string>:1: UserWarning: old\n"),
    ],
)
def test_json_service_writes_nothing_else_to_stderr(code: str, event: str | None, message: str) -> None:
    (line,) = start(f"{_START}; {code}", PYTHONWARNINGS="default").stderr.splitlines()
    fields = json.loads(line)
    assert (fields.get("event"), fields["message"]) == (event, message)


def test_format_that_does_not_exist_is_refused() -> None:
    run = start("from tracker.cli import main; raise SystemExit(main(['api']))", TRACKER_LOG_FORMAT="xml")
    assert (run.returncode, run.stderr) == (
        78,
        "tracker: TRACKER_LOG_FORMAT: 'xml' is neither text nor json\n",
    )
