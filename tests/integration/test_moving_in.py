""" "Moving in from another tracker", followed word by word."""

from __future__ import annotations

import re
import shlex
from decimal import Decimal
from pathlib import Path

import pytest

from tests.integration.importing import Importer, importer

__all__ = ["importer"]
pytestmark = pytest.mark.anyio

_README = Path(__file__).parents[2] / "README.md"


def _commands() -> list[str]:
    """The commands of the section, with their output."""
    (section,) = re.findall(r"^## Moving in.*?(?=^## )", _README.read_text(), re.MULTILINE | re.DOTALL)
    blocks = "\n".join(line[4:] for line in section.splitlines() if line.startswith("    "))
    return [command for command in re.split(r"^\$ ", blocks, flags=re.MULTILINE) if command]


async def test_example_works_as_written(
    importer: Importer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    printed = ""
    for command in _commands():
        first, _, rest = command.partition("\n")
        if first.startswith("cat "):
            importer.file(first.removeprefix("cat "), rest)
        else:
            words = shlex.split(command.replace("\\\n", "").partition("\n")[0])
            assert words[:2] == ["tracker", "import"]
            done = await importer.run(*words[2:])
            assert (done.code, done.err) == (0, ""), command
            printed += done.out
    assert "clicks.csv: 2 rows: 2 stored, 0 there already, 0 refused" in printed
    assert await importer.fetch(
        "SELECT legacy_id, aff_sub, click_time(hash)::text"
        " FROM click JOIN legacy_click USING (hash) ORDER BY hash"
    ) == [
        ("a81f03", "banner-7", "2024-07-08 13:40:00+00"),
        ("c402bd", "", "2024-07-08 13:41:30+00"),
    ]
    assert await importer.fetch("SELECT sum(payout), sum(revenue) FROM conversion_entry") == [
        (Decimal("2.5"), Decimal(4))
    ]
