from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

MARKED = """
import pytest

@pytest.mark.skipif(True, reason="no such program")
def test_one() -> None: ...
"""
CALLED = """
import pytest

def test_one() -> None:
    pytest.skip("no such program")
"""
FIXTURE = """
import pytest

@pytest.fixture
def program() -> None:
    pytest.skip("no such program")

def test_one(program: None) -> None: ...
"""
MODULE = """
import pytest

pytest.importorskip("no_such_module", reason="no such program")

def test_one() -> None: ...
"""
SKIPS = {"marked": MARKED, "called": CALLED, "fixture": FIXTURE, "module": MODULE}


@pytest.mark.parametrize(
    ("options", "summary"), [([], "4 skipped in"), (["--no-skips"], "1 failed, 3 errors in")]
)
def test_skipped_test_fails_where_none_may_be(tmp_path: Path, options: list[str], summary: str) -> None:
    for name, text in SKIPS.items():
        (tmp_path / f"test_{name}.py").write_text(text)
    words = ["-q", "-p", "tests.conftest", "--continue-on-collection-errors", "--rootdir", str(tmp_path)]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *words, *options, str(tmp_path)],
        cwd=ROOT,
        env={variable: value for variable, value in os.environ.items() if variable != "PYTEST_ADDOPTS"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert summary in done.stdout
