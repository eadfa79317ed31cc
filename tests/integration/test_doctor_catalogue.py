"""The doctor reads the rows of the catalogue again when one of them has changed, and only then."""

from __future__ import annotations

import pytest

from tracker.ops.doctor import catalogue, servers
from tracker.ops.doctor.finding import Finding
from tracker.settings import Settings
from tracker.store.db import connect

pytestmark = pytest.mark.anyio

_OFFER = """
INSERT INTO advertiser (id, name) VALUES (1, 'Shop');
INSERT INTO offer (id, name, advertiser_id) VALUES (1, 'Shoes', 1);
INSERT INTO offer_url (id, offer_id, url) VALUES (1, 1, 'https://ad.example/?c={hash}')
"""
CHANGES = (
    (_OFFER, "ok: 1 offers, 0 affiliates"),
    ("INSERT INTO affiliate (id, name) VALUES (5, 'Blog')", "ok: 1 offers, 1 affiliates"),
    ("UPDATE offer_url SET url = 'https://ad.example/?c={hash'", "fail: offer 1: "),
    ("UPDATE offer_url SET url = 'https://ad.example/?c={hash}'", "ok: 1 offers, 1 affiliates"),
    ("UPDATE affiliate SET is_archived = true", "ok: 1 offers, 0 affiliates"),
    ("DELETE FROM affiliate", "ok: 1 offers, 0 affiliates"),
)


async def test_each_change_of_the_catalogue_is_found(database: Settings) -> None:
    connection = await connect(database.postgres_dsn or "")
    for change, told in CHANGES:
        await connection.execute(change)
        assert (await found(database))[0].startswith(told), change
    await connection.close()


async def test_unchanged_catalogue_is_read_once(database: Settings) -> None:
    """A row that goes without its triggers raises no version. Nobody does so, but it shows what is read."""
    connection = await connect(database.postgres_dsn or "")
    await connection.execute(f"{_OFFER}; INSERT INTO affiliate (id, name) VALUES (5, 'Blog')")
    assert (await found(database))[0] == "ok: 1 offers, 1 affiliates"
    await connection.execute("ALTER TABLE affiliate DISABLE TRIGGER USER; DELETE FROM affiliate")
    assert (await found(database))[0] == "ok: 1 offers, 1 affiliates"
    await connection.execute("UPDATE offer SET name = 'Boots'")
    assert (await found(database))[0] == "ok: 1 offers, 0 affiliates"
    await connection.close()


async def test_change_that_commits_late_is_found(database: Settings) -> None:
    """It took its version before the others that are seen."""
    late, early = [await connect(database.postgres_dsn or "") for _ in range(2)]
    await early.execute(_OFFER)
    transaction = late.transaction()
    await transaction.start()
    await late.execute("INSERT INTO affiliate (id, name) VALUES (5, 'Late')")
    await early.execute("INSERT INTO affiliate (id, name) VALUES (6, 'Early')")
    assert (await found(database))[0] == "ok: 1 offers, 1 affiliates"
    await transaction.commit()
    assert (await found(database))[0] == "ok: 1 offers, 2 affiliates"
    await late.close()
    await early.close()


async def found(settings: Settings) -> list[str]:
    findings: list[Finding] = await catalogue.check(settings, await servers.ask_stream(settings))
    return [f"{finding.level}: {finding.text}" for finding in findings]
