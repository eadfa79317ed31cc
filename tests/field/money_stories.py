"""Sequences of postbacks on a real database, each in a transaction that is rolled back."""

from __future__ import annotations

from typing import Any

import orjson

from tests.factories.clicks import HASH
from tests.factories.postbacks import AN_HOUR, a_postback
from tests.integration.test_conversions import (
    OTHER_HASH,
    connection,
    conversions,
    dsn,
    entries,
    history,
    taken,
)
from tracker.domain.postback import Postback, Source
from tracker.store.conversions import postbacks as postback_log
from tracker.store.conversions.apply_postback import take
from tracker.store.db import Connection

__all__ = [
    "AN_HOUR",
    "HASH",
    "OTHER_HASH",
    "Book",
    "connection",
    "conversions",
    "dsn",
    "entries",
    "history",
    "taken",
]

COMING = HASH[:-1] + "c"
COMING_TOO = HASH[:-1] + "d"
"""Clicks that are not stored at the beginning."""


_COPY_CLICK = """
INSERT INTO click SELECT (jsonb_populate_record(click, $2::jsonb)).* FROM click WHERE hash = $1
"""


class Book:
    """Applies postbacks and reads the results."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self._number = 0

    def postback(self, **said: Any) -> Postback:
        """The next postback. Its hash is the latest, unless `n` is set."""
        self._number += 1
        return a_postback(**{"n": self._number, **said})

    async def tell(self, *said: dict[str, Any]) -> list[tuple[str, str]]:
        """Apply postbacks as one batch. Returns their results and reasons."""
        done = await taken(self.connection, *[self.postback(**one) for one in said])
        return [(str(one.result), one.reason) for one in done]

    async def click(self, hash_: str, **changes: Any) -> None:
        """Store a click of offer 3 and affiliate 513."""
        new = orjson.dumps({"hash": hash_, "id": int(hash_[-2:], 16) + 1000, **changes}).decode()
        await self.connection.execute(_COPY_CLICK, HASH, new)

    async def look(self, complete_until: int | None = None) -> None:
        """One round of parked postbacks, as the writer makes it."""
        parked = await postback_log.parked(self.connection, 0, 200)
        async with self.connection.transaction():
            await take(self.connection, [postback for _, postback in parked], complete_until)

    async def log(self) -> list[tuple[str, str]]:
        """Results and reasons, in the order of arrival."""
        rows = await self.connection.fetch("SELECT result, reason FROM postback ORDER BY arrival")
        return [tuple(row) for row in rows]

    async def shown(self, *columns: str) -> list[tuple[Any, ...]]:
        rows = await self.connection.fetch(f"SELECT {', '.join(columns)} FROM conversion ORDER BY id")
        return [tuple(row) for row in rows]


BY_API = {"source": Source.API, "advertiser_id": None}
A_STRANGER = {"advertiser_id": None}
A_BROWSER = {"source": Source.PIXEL, "advertiser_id": None}
