"""The units of deploy/systemd, as systemd-analyze reads them."""

from __future__ import annotations

import shutil
import subprocess
import sys
from configparser import ConfigParser
from pathlib import Path

import pytest

from tests.environ import clean_environ

ROOT = Path(__file__).parents[2]
UNITS = sorted(path for path in (ROOT / "deploy" / "systemd").iterdir() if path.suffix != ".sysusers")
SERVICES = [path for path in UNITS if path.suffix == ".service"]
PROGRAM = "/opt/tracker/bin/tracker"
MOST_EXPOSED = 15
"""The limit of `systemd-analyze security`, in tenths. It calls 10 dangerous, and a usual service has 96."""

pytestmark = pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd-analyze here")


def read(path: Path) -> ConfigParser:
    parser = ConfigParser(strict=False, interpolation=None, delimiters="=")
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read(path)
    return parser


@pytest.fixture(scope="module")
def there(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The units on a machine that has the program."""
    folder = tmp_path_factory.mktemp("units")
    program = Path(sys.executable).with_name("tracker")
    for path in UNITS:
        (folder / path.name).write_text(path.read_text().replace(PROGRAM, str(program)))
    return folder


def analyze(there: Path, *words: str) -> subprocess.CompletedProcess[str]:
    environ = clean_environ() | {"SYSTEMD_UNIT_PATH": f"{there}:", "SYSTEMD_LOG_LEVEL": "warning"}
    return subprocess.run(
        ["systemd-analyze", *words], capture_output=True, text=True, env=environ, cwd=there, check=False
    )


def test_units_are_valid(there: Path) -> None:
    names = [path.name.replace("@.", "@7.") for path in UNITS]
    for name in names:
        if "@7" in name:
            shutil.copyfile(there / name.replace("@7", "@"), there / name)
    done = analyze(
        there, "verify", "--man=no", "--recursive-errors=no", *(str(there / name) for name in names)
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_wrong_unit_would_be_found(there: Path) -> None:
    wrong = there / "wrong.service"
    wrong.write_text("[Service]\nType=notify\nExecStart=/no/such/program\nProtectSystem=very\n")
    done = analyze(there, "verify", "--man=no", "--recursive-errors=no", str(wrong))
    assert done.returncode != 0
    assert "/no/such/program" in done.stderr
    assert "wrong.service:4: Failed to parse" in done.stderr


@pytest.mark.parametrize("path", SERVICES, ids=lambda path: path.name)
def test_service_is_exposed_little(path: Path, there: Path) -> None:
    words = ["--offline=true", f"--threshold={MOST_EXPOSED}", "--no-pager"]
    done = analyze(there, "security", *words, str(there / path.name))
    *_, last = done.stdout.strip().splitlines() or [done.stderr]
    assert done.returncode == 0, last


def test_sockets_are_named_as_their_service_takes_them() -> None:
    takes = {
        "tracker-edge@.service": ["links"],
        "tracker-api.service": ["api"],
        "tracker.service": ["links", "api"],
    }
    given = {}
    for path in SERVICES:
        sockets = read(path).get("Service", "Sockets", fallback="").split()
        if sockets:
            there = [read(path.parent / name)["Socket"] for name in sockets]
            given[path.name] = [socket["FileDescriptorName"] for socket in there]
            assert {socket["Service"].replace("@0", "@") for socket in there} == {path.name}
    assert given == takes
