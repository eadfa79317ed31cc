"""Complete conversions for tests. A test names the fields it cares about."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from itertools import count
from typing import Any

from tracker.domain.click_fields import FROZEN, OF_CONVERSIONS
from tracker.domain.click_id import hash_at, millis_of
from tracker.domain.model import ClickRow
from tracker.settings import Settings
from tracker.store.db import connect

_numbers = count()

NOT_AS_CLICK = f"""
SELECT count(*) FROM conversion JOIN click ON click.hash = conversion.click_hash
WHERE ({", ".join(f"conversion.{column}" for column in OF_CONVERSIONS.values())})
    IS DISTINCT FROM ({", ".join(f"click.{column}" for column in OF_CONVERSIONS)})
"""
"""How many conversions have not the values of their clicks."""


def a_conversion(click: ClickRow, **changes: Any) -> dict[str, Any]:
    """The row of an approved conversion, an hour after its click."""
    millis = changes.pop("millis", millis_of(click.hash) + 3_600_000)
    created_at = datetime.fromtimestamp(millis / 1000, UTC)
    row: dict[str, Any] = {
        "hash": hash_at(millis, next(_numbers) % 4096),
        "click_hash": click.hash,
        "click_id": 1,
        "click_status": click.status,
        "goal_id": 1,
        "order_id": None,
        "is_repeatable": True,
        "status": "approved",
        "payout": "1.5",
        "payout_currency": "USD",
        "revenue": "2",
        "revenue_currency": "USD",
        "created_at": created_at,
        "updated_at": created_at,
    }
    return row | {name: getattr(click, name) for name in FROZEN} | changes


async def store_conversions(settings: Settings, rows: Iterable[dict[str, Any]]) -> list[int]:
    """Store rows in their order. Returns their ids."""
    assert settings.postgres_dsn is not None
    connection = await connect(settings.postgres_dsn)
    try:
        return [await connection.fetchval(_insert(row), *_values(row)) for row in rows]
    finally:
        await connection.close()


_MONEY = ("payout", "revenue", "sale_amount")


def _insert(row: dict[str, Any]) -> str:
    places = ", ".join(f"${n}{'::text::numeric' * (name in _MONEY)}" for n, name in enumerate(row, 1))
    return f"INSERT INTO conversion ({', '.join(row)}) VALUES ({places}) RETURNING id"


def _values(row: dict[str, Any]) -> list[Any]:
    return list(row.values())
