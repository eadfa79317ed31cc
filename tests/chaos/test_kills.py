"""Every part is killed under load: no answered click is lost, none is doubled, and the books balance."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.chaos.scenario import run
from tests.conftest import Furnish

SEED = 20


@pytest.mark.timeout(240)
def test_kill_of_any_part_loses_and_doubles_nothing(furnish: Furnish, tmp_path: Path) -> None:
    load, _ = asyncio.run(run(furnish(tmp_path / "var"), SEED))
    assert load.redirected > 2000
