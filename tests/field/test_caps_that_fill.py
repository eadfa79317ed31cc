"""A cap closes when it is full and counts from its creation."""

from __future__ import annotations

from typing import Any

import pytest

from tests.factories.clicks import HASH, an_offer, outcomes_of
from tests.field.money_stories import OTHER_HASH, Book, connection, dsn
from tests.integration.api_client import api_of, run_sql
from tests.integration.stream_client import NOON, click_at
from tests.integration.test_caps import outcomes
from tests.integration.test_manual_conversions import clicks
from tracker.api.conversions.endpoints import PATH as CONVERSIONS
from tracker.api.conversions.status_upload import UPLOADS
from tracker.domain import caps
from tracker.domain.model import NO_TERMS
from tracker.domain.postback import ConversionStatus, Source
from tracker.edge.catalogue import build
from tracker.settings import Settings
from tracker.store.catalogue import read as stored_catalogue
from tracker.store.catalogue.demo import load_demo
from tracker.store.conversions.status import set_status
from tracker.store.db import Connection, connect
from tracker.stream.record import encode

__all__ = ["clicks", "connection", "dsn"]
pytestmark = pytest.mark.anyio

SEVERAL = "UPDATE goal SET multiple = true, takes_payout = true WHERE id = 30"
CAP = "INSERT INTO cap (offer_id, affiliate_id, counts, period, amount, on_reached, currency) VALUES "
APPROVED, REJECTED = ConversionStatus.APPROVED, ConversionStatus.REJECTED


async def closed(connection: Connection) -> tuple[bool, bool]:
    """Whether the offer is closed, for all and for affiliate 513."""
    offer = "SELECT closed_until IS NOT NULL FROM offer WHERE id = 3"
    own = "SELECT count(*) > 0 FROM offer_affiliate WHERE affiliate_id = 513 AND closed_until IS NOT NULL"
    return await connection.fetchval(offer), await connection.fetchval(own)


@pytest.mark.parametrize(
    ("cap", "told", "is_closed"),
    [
        ("(3, NULL, 'conversions', 'total', 2, 'close', NULL)", {"status": "rejected"}, (True, False)),
        ("(3, NULL, 'conversions', 'day', 2, 'close', NULL)", {"status": "rejected"}, (True, False)),
        ("(3, 0, 'conversions', 'total', 2, 'close', NULL)", {"status": "rejected"}, (False, True)),
        ("(3, 513, 'conversions', 'month', 2, 'close', NULL)", {"status": "rejected"}, (False, True)),
        ("(3, NULL, 'payout', 'total', 4, 'close', 'EUR')", {"status": "rejected"}, (True, False)),
        ("(3, NULL, 'payout', 'total', 4, 'close', 'USD')", {"status": "rejected"}, (False, False)),
        ("(3, NULL, 'conversions', 'total', 3, 'close', NULL)", {"status": "rejected"}, (False, False)),
        ("(3, NULL, 'conversions', 'total', 2, 'mark', NULL)", {"status": "rejected"}, (False, False)),
    ],
)
@pytest.mark.parametrize("source", [Source.API, Source.UPLOAD])
async def test_approval_of_the_operator_fills_a_cap(
    connection: Connection, source: Source, cap: str, told: dict[str, Any], is_closed: tuple[bool, bool]
) -> None:
    await connection.execute(f"{SEVERAL}; {CAP}{cap}")
    book = Book(connection)
    await book.tell({"order_id": "a", **told}, {"order_id": "b", **told})
    ids = [id_ for (id_,) in await book.shown("id")]
    assert await closed(connection) == (False, False)
    await set_status(connection, ids[:1], APPROVED, source=source, author="ann")
    assert await closed(connection) == (False, False)
    await set_status(connection, ids[1:], APPROVED, source=source, author="ann")
    assert await closed(connection) == is_closed


async def test_price_that_comes_with_the_approval_fills_a_cap(connection: Connection) -> None:
    await connection.execute(f"{SEVERAL}; {CAP}(3, NULL, 'payout', 'total', 10, 'close', 'EUR')")
    await connection.execute(
        "DELETE FROM goal_price; UPDATE goal SET is_priced = false, (payout, revenue) = (0, 0)"
    )
    book = Book(connection)
    await book.tell({"order_id": "a"})
    await connection.execute("UPDATE goal SET payout = 10, currency = 'EUR' WHERE id = 30")
    ((id_,),) = await book.shown("id")
    assert await closed(connection) == (False, False)
    await set_status(connection, [id_], APPROVED, source=Source.UPLOAD, author="ann")
    assert await closed(connection) == (True, False)


async def test_rejection_closes_nothing(connection: Connection) -> None:
    await connection.execute(f"{SEVERAL}; {CAP}(3, NULL, 'conversions', 'total', 1, 'close', NULL)")
    book = Book(connection)
    await book.tell({"order_id": "a"}, {"order_id": "b"})
    await connection.execute("UPDATE offer SET closed_until = NULL")
    ids = [id_ for (id_,) in await book.shown("id")]
    await set_status(connection, ids, REJECTED, source=Source.API, author="ann")
    assert await closed(connection) == (False, False)


@pytest.mark.parametrize(
    ("counts", "currency", "worth"), [("'conversions', 'total'", "NULL", 1), ("'payout', 'day'", "'EUR'", 2)]
)
async def test_cap_on_conversions_counts_from_when_it_is_there(
    connection: Connection, counts: str, currency: str, worth: int
) -> None:
    """A recreated cap starts at zero. A new amount keeps the count."""
    cap = f"{CAP}(3, NULL, {counts}, {2 * worth}, 'close', {currency})"
    await connection.execute(SEVERAL)
    book = Book(connection)
    await book.tell({"order_id": "before"}, {"order_id": "before too"})
    await connection.execute(cap)
    await book.tell({"order_id": "a"})
    assert await closed(connection) == (False, False)
    await connection.execute(f"DELETE FROM cap; {cap}")
    await book.tell({"order_id": "b"})
    assert await closed(connection) == (False, False)
    await connection.execute(f"UPDATE cap SET amount = {worth}, counts = counts")
    assert await book.tell({"order_id": "c"}) == [("stored", "over a cap")]
    assert await closed(connection) == (True, False)


async def test_recreated_cap_on_clicks_starts_at_zero(database: Settings) -> None:
    assert database.postgres_dsn
    await load_demo(database.postgres_dsn)
    connection = await connect(database.postgres_dsn)

    async def refused(n: int) -> bool:
        ((_, row),) = await stored_catalogue.read_some(connection, "offer", ["3"])
        offer = an_offer(caps=build._caps(row["caps"]))
        click = click_at(
            NOON, n, offer=offer, visitor_key=n, counters=caps.counters(offer, NO_TERMS, 513, NOON)
        )
        accepted = outcomes_of(click)
        return await outcomes(database, encode(click, accepted)) == [2]

    made = "INSERT INTO cap (offer_id, counts, period, amount) VALUES (3, 'clicks', 'day', 1)"
    for n, (statement, is_refused) in enumerate(
        (
            (made, False),
            ("SELECT", True),
            ("UPDATE cap SET amount = 2", False),
            ("UPDATE cap SET amount = 1", True),
            (f"DELETE FROM cap; {made}", False),
            ("SELECT", True),
            (f"DELETE FROM cap; {made}", False),
            ("UPDATE cap SET counts = 'uniques'", False),
            ("UPDATE cap SET counts = 'clicks'", False),
            ("SELECT", True),
        )
    ):
        await connection.execute(statement)
        assert await refused(n) is is_refused, (n, statement)
    await connection.close()


async def test_offer_is_closed_by_decisions_of_the_api(clicks: Settings) -> None:
    """By PATCH, with and without sale_amount, and by an upload."""
    await run_sql(clicks, f"{CAP}(3, NULL, 'conversions', 'total', 1, 'close', NULL)")
    state = "SELECT closed_until IS NOT NULL FROM offer WHERE id = 3"
    assert clicks.postgres_dsn
    db = await connect(clicks.postgres_dsn)
    async with api_of(clicks, scopes=("conversions:read", "conversions:write")) as client:
        for n, hash_ in enumerate((HASH, OTHER_HASH), 1):
            await client.post(
                CONVERSIONS, json={"click_id": hash_, "status": "rejected", "order_id": f"o{n}"}
            )
        assert await db.fetchval(state) is False
        csv = {"Content-Type": "text/csv"}
        for act in (
            client.patch(f"{CONVERSIONS}/1", json={"status": "approved"}),
            client.patch(f"{CONVERSIONS}/2", json={"status": "approved", "sale_amount": "5"}),
            client.post(UPLOADS, content="order_id,status\no1,approved\n", headers=csv),
        ):
            answer = await act
            assert answer.status_code == 200, answer.text
            assert await db.fetchval(state) is True
            await db.execute("UPDATE offer SET closed_until = NULL")
            for id_ in (1, 2):
                await client.patch(f"{CONVERSIONS}/{id_}", json={"status": "rejected"})
            assert await db.fetchval(state) is False
    await db.close()
