from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from tests.factories.rows import affiliate_row
from tracker.edge.catalogue.catalogue import Catalogue
from tracker.edge.catalogue.snapshot import Chunk


async def chunks(*ids: int) -> AsyncIterator[Chunk]:
    yield "affiliate", [(str(id_), affiliate_row(id_)) for id_ in ids]


async def turns_of_others(catalogue: Catalogue, *ids: int) -> int:
    """The number of loop iterations while a catalogue is loaded."""
    loading = asyncio.create_task(catalogue.load(b"secret", chunks(*ids)))
    turns = 0
    while not loading.done():
        await asyncio.sleep(0)
        turns += 1
    return turns


async def loaded_and_dropped() -> None:
    catalogue = Catalogue()
    assert await turns_of_others(catalogue, *range(1, 1001)) >= 50
    assert len(catalogue.affiliates) == 1000
    assert await turns_of_others(catalogue, 7) >= 49
    assert list(catalogue.affiliates) == [7]


def test_clicks_are_served_while_a_catalogue_is_loaded() -> None:
    asyncio.run(loaded_and_dropped())


def test_unreadable_row_is_left_out_and_reported() -> None:
    catalogue = Catalogue()
    catalogue.put("affiliate", "513", affiliate_row())
    catalogue.put("affiliate", "513", {"unreadable": "depth limit exceeded"})
    assert catalogue.affiliates == {}
    assert catalogue.problems == {("affiliate", "513"): ["left out: depth limit exceeded"]}
    catalogue.put("affiliate", "513", affiliate_row())
    assert list(catalogue.affiliates) == [513]
    assert catalogue.problems == {}
