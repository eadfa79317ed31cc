"""The load test: its addresses and its last line."""

from __future__ import annotations

from pathlib import Path

import pytest

from loadtests import run
from tests.unit.test_verify_run import ANSWERS, ROWS
from tracker.settings import Settings


@pytest.mark.parametrize(
    ("variables", "words", "url", "api"),
    [
        ({}, [], "http://127.0.0.1:8000", "http://127.0.0.1:8001"),
        ({"TRACKER_PORT": "9000"}, [], "http://127.0.0.1:9000", "http://127.0.0.1:9001"),
        ({"TRACKER_API_PORT": "9500"}, [], "http://127.0.0.1:8000", "http://127.0.0.1:9500"),
        ({"TRACKER_PORT": "9000"}, ["--url", "http://h"], "http://h", "http://127.0.0.1:9001"),
    ],
)
def test_load_run_uses_the_ports_of_the_tracker(
    variables: dict[str, str], words: list[str], url: str, api: str
) -> None:
    arguments = run._parser(Settings.from_env(variables)).parse_args(words)
    assert (arguments.url, arguments.api) == (url, api)


@pytest.mark.parametrize(
    ("variable", "value", "complaint"),
    [("TRACKER_PORT", "many", "TRACKER_PORT: "), ("TRACKER_DATA_DIR", "{tmp}", "no token: ")],
)
def test_load_run_refuses_in_one_line(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    variable: str,
    value: str,
    complaint: str,
) -> None:
    monkeypatch.delenv("LOAD_TOKEN", raising=False)
    monkeypatch.setenv(variable, value.format(tmp=tmp_path))
    assert run.main([]) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"loadtests: {complaint}")
    assert said.count("\n") == 1


@pytest.mark.parametrize(
    ("ip", "last"),
    [
        ("24.0.0.1", "passed: each redirect answered is stored exactly once"),
        ("127.0.0.1", "passed, but address and uniqueness checks were skipped: "),
    ],
)
def test_last_line_names_unchecked_parts(capsys: pytest.CaptureFixture[str], ip: str, last: str) -> None:
    answers = [dict(answer, ms=1.0) for answer in ANSWERS]
    run._report(answers, [dict(row, ip=ip) for row in ROWS], 1.0, [])
    assert capsys.readouterr().out.splitlines()[-1].startswith(last)
