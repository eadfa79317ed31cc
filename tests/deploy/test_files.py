"""Settings and commands that files of deploy/ name exist."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from tests.deploy.files import DEPLOY
from tracker.settings import _READERS, SECRET_FILES

FILES = sorted(path for path in DEPLOY.rglob("*") if path.is_file() and "secrets" not in path.parent.name)
SCRIPTS = [path for path in FILES if path.read_bytes().startswith(b"#!/bin/sh\n")]


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(DEPLOY)))
def test_settings_that_a_file_names_exist(path: Path) -> None:
    named = set(re.findall(r"\bTRACKER_[A-Z_]+", path.read_text()))
    assert named <= {*_READERS, *SECRET_FILES}


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_scripts_can_be_parsed(path: Path) -> None:
    assert subprocess.run(["sh", "-n", str(path)], check=False).returncode == 0


def test_there_are_scripts() -> None:
    assert {path.name for path in SCRIPTS} >= {"build.sh", "runtime.sh", "make-secrets"}
