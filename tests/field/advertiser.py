"""An advertiser's server: calls a live edge and reads the tables afterwards."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

import asyncpg
from httpx import AsyncClient, Response

from tests.factories.clicks import a_click, a_row
from tests.integration.api_client import store
from tests.integration.edge_client import edge_of
from tracker.domain.click_id import Mint
from tracker.settings import Settings
from workers import conversion_writer

SECRET = "trs_of_playgames"
_CATALOGUE = f"""
INSERT INTO advertiser_secret (advertiser_id, secret_hash) VALUES (1, sha256('{SECRET}'));
UPDATE goal SET (id, payout, revenue, currency) = (30, 2, 3, 'EUR') WHERE offer_id = 3;
INSERT INTO goal (id, offer_id, name, code, multiple, payout, revenue, currency) VALUES
    (31, 3, 'Level up', 'lvl', true, 1, 2, 'EUR'), (32, 3, 'Deposit', NULL, false, 10, 20, 'EUR');
INSERT INTO goal (id, offer_id, name, payout_type, payout, revenue, currency, takes_payout) VALUES
    (33, 3, 'Share', 'percent', 10, 0, 'EUR', false), (34, 3, 'Own price', 'fixed', 2, 3, 'EUR', true);
UPDATE goal SET pixel = true WHERE id IN (30, 31);
"""


class Outcome(NamedTuple):
    """The result of a call."""

    status: int  # of HTTP
    result: str
    reason: str
    conversion_id: int | None


class Advertiser:
    """Calls an edge, then runs the conversion writer."""

    def __init__(self, settings: Settings, edge: AsyncClient, connection: asyncpg.Connection) -> None:
        self.settings = settings
        self.edge = edge
        self.connection = connection
        self._mint = Mint()

    async def click(self) -> str:
        """The hash of a fresh click on offer 3."""
        hash_ = self._mint.hash()
        await store(self.settings, [a_row(a_click(hash=hash_))])
        return hash_

    async def calls(self, query: str, **body: Any) -> Outcome:
        """Call with the secret: a GET or, with a body for httpx, a POST."""
        path = query if query.startswith("/") else f"/postback?{query}"
        path += ("&" if "?" in path else "?") + f"token={SECRET}"
        answer: Response = await (self.edge.post(path, **body) if body else self.edge.get(path))
        await conversion_writer.run(self.settings, burst=True)
        found = await self.fetch(
            "SELECT result, reason, conversion_id FROM postback ORDER BY hash DESC LIMIT 1"
        )
        return Outcome(answer.status_code, *(found[0] if found else ("", "", None)))

    async def conversions(self, columns: str, click: str) -> list[tuple[Any, ...]]:
        return await self.fetch(f"SELECT {columns} FROM conversion WHERE click_hash = $1 ORDER BY id", click)

    async def fetch(self, sql: str, *values: object) -> list[tuple[Any, ...]]:
        return [tuple(row) for row in await self.connection.fetch(sql, *values)]


@asynccontextmanager
async def advertiser_of(settings: Settings) -> AsyncIterator[Advertiser]:
    """The demo's advertiser 1, with a secret that its edge knows, and goals 30 to 34 of offer 3."""
    async with edge_of(settings) as edge:
        connection = await asyncpg.connect(settings.postgres_dsn)
        await connection.execute(_CATALOGUE)
        while (await edge.get(f"/postback?token={SECRET}")).status_code == 403:
            pass  # the edge knows it within a second
        try:
            yield Advertiser(settings, edge, connection)
        finally:
            await connection.close()
