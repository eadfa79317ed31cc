"""Every benchmark explains itself."""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path

import pytest

import loadtests

FOLDER = Path(loadtests.__file__ or "").parent
TOOLS = sorted(
    f"loadtests.{path.stem}" for path in FOLDER.glob("*.py") if "def main(argv" in path.read_text()
)


def test_benchmarks_are_found() -> None:
    assert {"loadtests.bench", "loadtests.tails", "loadtests.run"} <= set(TOOLS)


@pytest.mark.parametrize("tool", [*TOOLS, "tests.chaos.scenario", "tests.fuzz.run"])
def test_help_of_a_benchmark(
    tool: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", [tool, "--help"])
    with pytest.raises(SystemExit) as ended:
        import_module(tool).main()
    assert ended.value.code == 0
    assert f"usage: python -m {tool}" in capsys.readouterr().out
