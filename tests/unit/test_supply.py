"""What is installed: the pinned packages and no others, as they were published. See also `make audit`."""

from __future__ import annotations

import re
from collections.abc import Callable
from email.message import Message
from importlib.metadata import PathDistribution
from pathlib import Path

import pytest

from sbom import licence_of, pins
from tests import audit

PINNED = """\
# This file was made
one==1.0 \\
    --hash=sha256:{0} \\
    --hash=sha256:{1}
    # via two
of.windows==2.0 ; sys_platform == 'win32' \\
    --hash=sha256:{0}
two_words==3.0 ; python_full_version >= '3.11' \\
    --hash=sha256:{1}
"""


@pytest.mark.parametrize("check", [audit.differences, audit.changed_files, audit.refused_licences])
def test_installed_packages_are_as_they_should_be(check: Callable[[], list[str]]) -> None:
    assert check() == [], "make install: or `make requirements` after a change of pyproject.toml"


@pytest.mark.parametrize("name", audit.FILES)
def test_each_requirement_is_pinned_and_hashed(name: str) -> None:
    text = (audit.ROOT / name).read_text()
    lines = [line for line in text.splitlines() if not line.startswith((" ", "#"))]
    found = re.findall(r"^[\w.-]+==[\w.]+(?: ; [^\\\n]+)? \\\n +--hash=sha256:", text, re.MULTILINE)
    assert len(found) == len(lines) > 0
    assert "//" not in text  # no package index: each machine has its own


def test_pins_are_those_of_this_python(tmp_path: Path) -> None:
    (tmp_path / "pins").write_text(PINNED.format("a" * 64, "b" * 64))
    found = pins(tmp_path / "pins")
    assert {name: (pin.version, len(pin.hashes)) for name, pin in found.items()} == {
        "one": ("1.0", 2),
        "two-words": ("3.0", 1),
    }


class Package(PathDistribution):
    """A package with this metadata."""

    def __init__(self, **headers: str) -> None:
        self._headers = headers

    @property
    def metadata(self) -> Message:  # type: ignore[override]
        message = Message()
        for name, value in {"Name": "some", **self._headers}.items():
            message[name.replace("_", "-")] = value
        return message


@pytest.mark.parametrize(
    ("headers", "licence", "is_allowed"),
    [
        ({"License_Expression": "MIT"}, "MIT", True),
        ({"License_Expression": "GPL-3.0-only OR MIT"}, "GPL-3.0-only OR MIT", True),
        ({"License_Expression": "GPL-3.0-only AND MIT"}, "GPL-3.0-only AND MIT", False),
        ({"License_Expression": "Apache-2.0 WITH LLVM-exception"}, "Apache-2.0 WITH LLVM-exception", False),
        ({"License_Expression": "Mine"}, "Mine", False),
        ({"Classifier": "License :: OSI Approved :: MIT License"}, "MIT", True),
        ({"License": "Apache 2.0"}, "Apache-2.0", True),
        ({"License": "AGPL-3.0"}, "AGPL-3.0", False),
        ({"License": "You may do all that is fair."}, None, False),
        ({"Name": "Segno", "Classifier": "License :: OSI Approved :: BSD License"}, "BSD-3-Clause", True),
        ({}, None, False),
    ],
)
def test_licence_is_known_and_allowed(headers: dict[str, str], licence: str | None, is_allowed: bool) -> None:
    package = Package(**headers)
    assert licence_of(package) == licence
    assert (audit.refused_licences([package]) == []) == is_allowed
