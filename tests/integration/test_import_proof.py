"""The proof of an import covers contents: each value that is changed in the table is noticed and named."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from datetime import UTC
from typing import Any

import pytest

from tests.integration.importing import Importer, importer
from tracker.domain.click_fields import STORED
from tracker.domain.click_id import hash_at, hash_for
from tracker.domain.model import ClickRow
from tracker.importing.clicks import ClickReader
from tracker.importing.conversions import ConversionReader
from tracker.store import db
from tracker.store.conversions import status_words
from tracker.store.db import Connection
from tracker.store.imports import progress as imports
from tracker.store.imports.clicks import ClickStore
from tracker.store.imports.conversions import COMPARED, ConversionStore
from tracker.store.imports.progress import Comparison

__all__ = ["importer"]
pytestmark = pytest.mark.anyio

_OTHER_HASH = hash_at(1_720_446_000_000)
_CLICK: dict[str, Any] = {
    **{field.name: "x" for field in STORED if field.kind is str and field.name != "hash"},
    "legacy_id": "c1",
    "legacy_source": "b",
    "created_at": "2024-07-08 13:40:00",
    "group_hash": _OTHER_HASH,
    "offer_id": 3,
    "affiliate_id": 513,
    "requested_offer_id": 4,
    "requested_url_id": 132,
    "offer_url_id": 132,
    "advertiser_id": 1,
    "brand_id": 9,
    "aff_group_id": 7,
    "is_unique": False,
    "is_bot": False,
    "is_test": False,
    "verdict_late": False,
    "reason": 0,
    "status": "accepted",
    "visitor_key": "00000000000000ff",
    "country_code": "DE",
    "region_code": "BY",
    "ip": "192.0.2.1",
    "device_os": "Android",
    "device_type": "phone",
    "platform": "x86",
    "browser": "Chrome",
    "bot_reason": "list",
    "adv_sub": "",
}
_BLANK = {"legacy_id": "c2", "offer_id": 3, "affiliate_id": 513, "created_at": "2024-07-08 13:40:00"}
_OTHERWISE: Mapping[type, str] = {
    str: "{0} = coalesce({0}, '') || '!'",
    int: "{0} = coalesce({0}, 0) + 1",
    bool: "{0} = NOT {0}",
}
_NULLABLE = [field.name for field in STORED if field.blank is None and field.name != "group_hash"]


async def _differing(
    connection: Connection, store: ClickStore | ConversionStore, items: list[Any], change: str
) -> Comparison:
    """What the proof says after a change, which is then undone."""
    transaction = connection.transaction()
    await transaction.start()
    await connection.execute(change)
    compared = await store.compare(items)
    await transaction.rollback()
    return compared


def _click_changes() -> list[tuple[str, str]]:
    kinds = {field.name: field.kind for field in STORED}
    names = [name for name in ClickRow._fields if name not in ("hash", "group_hash")]
    changes = [(name, f"UPDATE click SET {_OTHERWISE[kinds[name]].format(name)}") for name in names]
    nulls = [(name, f"UPDATE click SET {name} = NULL") for name in _NULLABLE]
    return [
        *changes,
        *nulls,
        ("aff_sub", "UPDATE click SET aff_sub = ''"),
        ("city", "UPDATE click SET city = ''"),
        ("group_hash", "UPDATE click SET group_hash = hash"),
        ("group_hash", "UPDATE click SET group_hash = NULL"),
        ("legacy_id", "DELETE FROM legacy_click"),
        ("legacy_id", "UPDATE legacy_click SET legacy_id = legacy_id || '!'"),
        ("legacy_id", "UPDATE legacy_click SET hash = uuidv7()"),
        ("legacy_id", "UPDATE legacy_click SET source = 'other'"),
        ("legacy_id", "UPDATE legacy_click SET source = 'other', hash = uuidv7()"),
    ]


async def test_each_changed_column_of_a_click_is_named(importer: Importer) -> None:
    await importer.catalogue()
    connection = await db.connect(str(importer.settings.postgres_dsn))
    await imports.begin(connection)
    reader = ClickReader.of("earlier", UTC, await imports.known(connection))
    store = ClickStore(connection, "earlier")
    items = [reader.read(_CLICK)]
    await store.prepare(items)
    async with connection.transaction():
        assert (await store.store(items)).stored == 1
    same = await store.compare(items)
    assert (same.expected == same.found, same.differing) == (True, {})
    unnoticed = []
    for name, change in _click_changes():
        compared = await _differing(connection, store, items, change)
        if compared.differing != {0: (name,)} or compared.expected == compared.found:
            unnoticed.append((name, change, compared.differing))
    assert unnoticed == []
    gone = await _differing(connection, store, items, "DELETE FROM click")
    assert gone.expected != gone.found
    await connection.close()


_CONVERSION: dict[str, Any] = {
    "click_hash": "c1",
    "legacy_id": "v1",
    "legacy_source": "b",
    "status": "approved",
    "created_at": "2024-07-10 10:00:00",
    "updated_at": "2024-07-11 10:00:00",
    "goal_id": 1,
    "order_id": "o1",
    "is_over_cap": False,
    "sale_status": "ok",
    "sale_amount": "10.5",
    "refunded": "0.5",
    "payout": "1.25",
    "revenue": "2.5",
    "sale_currency": "EUR",
    "payout_currency": "USD",
    "revenue_currency": "JPY",
    **{f"adv_sub{n}": "y" for n in ("", 2, 3, 4, 5)},
    "advertiser_external_id": "e1",
    "is_unproven": False,
}
_CONVERSION_CHANGES = [
    *((name, f"{name} = {name} || '!'") for name in ("sale_status", "adv_sub", "adv_sub5", "order_id")),
    *((name, f"{name} = {name} || '!'") for name in ("advertiser_external_id", "legacy_id")),
    *((name, f"{name} = {name} + 0.000001") for name in ("payout", "revenue", "sale_amount", "refunded")),
    *((name, f"{name} = 'SEK'") for name in ("payout_currency", "revenue_currency", "sale_currency")),
    *((name, f"{name} = {name} - interval '1 second'") for name in ("created_at", "updated_at")),
    *((name, f"{name} = NULL") for name in ("order_id", "sale_amount", "sale_currency", "legacy_id")),
    *((name, f"{name} = ''") for name in ("order_id", "adv_sub2", "adv_sub3", "adv_sub4", "legacy_id")),
    *(("legacy_source", f"legacy_source = {value}") for value in ("'earlier'", "NULL")),
    ("status", "status = 'rejected'"),
    *((name, f"{name} = true") for name in ("is_over_cap", "is_unproven")),
    ("goal_id", "goal_id = 2"),
    ("click_hash", "click_hash = uuidv7()"),
]


async def test_each_changed_column_of_a_conversion_is_named(importer: Importer) -> None:
    assert set(COMPARED) == {name for name, _ in _CONVERSION_CHANGES}
    await importer.catalogue()
    row = ",".join(map(str, _BLANK.values())).replace("c2", "c1")
    clicks = importer.file("clicks.csv", f"{','.join(_BLANK)}\n{row}\n")
    assert (await importer.run("clicks", clicks, "--source", "b")).code == 0
    await importer.fetch("UPDATE goal SET id = 1 WHERE offer_id = 3 AND is_base")
    connection = await db.connect(str(importer.settings.postgres_dsn))
    await imports.begin(connection)
    reader = ConversionReader.of("earlier", UTC, await status_words.every(connection))
    store = ConversionStore(connection, "earlier")
    items = [reader.read(_CONVERSION)]
    await store.prepare(items)
    async with connection.transaction():
        batch = await store.store(items)
    assert batch.stored == 1, batch
    same = await store.compare(items)
    assert (same.expected == same.found, same.differing) == (True, {})
    unnoticed = []
    for name, change in _CONVERSION_CHANGES:
        compared = await _differing(connection, store, items, f"UPDATE conversion SET {change}")
        if compared.differing != {0: (name,)} or compared.expected == compared.found:
            unnoticed.append((name, change, compared.differing))
    assert unnoticed == []
    await connection.close()


async def test_blank_and_absent_are_not_the_same(importer: Importer) -> None:
    """A field that the file has as nothing is unknown in the table, and not the text ''."""
    await importer.catalogue()
    rows = itertools.chain([",".join([*_BLANK, "city", "country_code"])], ["c2,3,513,2024-07-08 13:40:00,,"])
    path = importer.file("one.csv", "\n".join([*rows, ""]))
    assert (await importer.run("clicks", path)).code == 0
    await importer.fetch("UPDATE click SET city = '', country_code = 'DE'")
    done = await importer.run("clicks", path)
    assert (done.code, done.err) == (1, "one.csv:2: is there with another city, country_code\n")
    assert (await importer.run("clicks", path, "--replace")).code == 0
    assert await importer.fetch("SELECT city, country_code FROM click WHERE hash = $1", _hash("c2")) == [
        (None, None)
    ]


def _hash(legacy_id: str) -> str:
    return hash_for(1_720_446_000_000, f"earlier\0{legacy_id}")
