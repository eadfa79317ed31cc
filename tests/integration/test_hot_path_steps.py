"""The steps of the hot path are measured on hits that take all of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from loadtests import hot_path_steps
from loadtests.subjects import write_requests
from loadtests.traffic import AFFILIATES, OFFERS
from tracker.settings import Settings
from tracker.store.catalogue.demo import load_demo

pytestmark = pytest.mark.anyio


async def test_hot_path_steps_are_all_measured(database: Settings, tmp_path: Path) -> None:
    assert database.postgres_dsn
    await load_demo(database.postgres_dsn)
    file = write_requests(tmp_path / "requests", tuple(OFFERS), tuple(AFFILIATES))
    edge = hot_path_steps.Edge(
        await hot_path_steps.catalogue_of(database.postgres_dsn), file.read_bytes().split(b"\x1e")
    )
    edge.round()
    taken = dict(edge.round())
    assert list(taken)[::11] == ["HTTP: read", "HTTP: write"]
    assert min(taken.values()) > 0
    said = hot_path_steps.report({"one": 1.0, "  of it: half": 0.5, "two": 2.0}).splitlines()
    assert said[-1].split() == ["together", "3.00"]
