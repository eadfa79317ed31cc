"""Products are rounded once, half away from zero, to the currency's unit."""

from __future__ import annotations

from decimal import ROUND_HALF_UP, Decimal, localcontext
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.field.money_stories import Book, connection, dsn, entries
from tests.integration.api_client import api_of
from tests.integration.importing import Importer, importer
from tests.integration.test_catalogue_command import Tracker, tracker
from tracker.domain.money import CURRENCIES, of_percent, unit
from tracker.domain.postback import ConversionStatus, Source
from tracker.settings import Settings
from tracker.store.conversions.status import set_status
from tracker.store.db import Connection

__all__ = ["connection", "dsn", "importer", "tracker"]
pytestmark = pytest.mark.anyio


@pytest.mark.parametrize(
    ("percentage", "amount", "currency", "product"),
    [
        ("7", "49.71", "USD", "3.48"),
        ("10", "0.05", "EUR", "0.01"),  # half away from zero, not to even
        ("10", "0.25", "EUR", "0.03"),
        ("10", "0.04", "EUR", "0.00"),
        ("7", "4971", "JPY", "348"),
        ("0.5", "100", "JPY", "1"),
        ("7", "49.711", "KWD", "3.480"),
        ("50", "0.001", "BHD", "0.001"),
        ("12.5", "0.0001", "CLF", "0.0000"),
        ("33.333333", "99.999999", "GBP", "33.33"),
        ("100", "99999999999999.999999", "USD", "100000000000000.00"),
        ("0", "5", "USD", "0.00"),
    ],
)
def test_product_in_the_unit_of_its_currency(
    percentage: str, amount: str, currency: str, product: str
) -> None:
    found = of_percent(Decimal(percentage), Decimal(amount), currency)
    assert str(found) == product


_AMOUNTS = st.decimals(0, 10**14, places=6, allow_nan=False)
_PERCENT = st.decimals(0, 1000, places=6, allow_nan=False)


@given(_PERCENT, _AMOUNTS, st.sampled_from(sorted(CURRENCIES)))
def test_product_is_the_nearest_amount_that_can_be_paid(
    percentage: Decimal, amount: Decimal, currency: str
) -> None:
    with localcontext() as exact:
        exact.prec = 100
        found, product = of_percent(percentage, amount, currency), percentage * amount / 100
        assert found % unit(currency) == 0
        assert abs(found - product) <= unit(currency) / 2
        assert found == product.quantize(unit(currency), rounding=ROUND_HALF_UP)


PERCENT = "UPDATE goal_price SET (payout_type, payout, revenue_type, revenue) = ('percent', 7, 'percent', 10)"


@pytest.mark.parametrize(
    ("said", "payout", "revenue", "currency"),
    [
        ({"sale_amount": "49.71", "currency": "USD"}, "3.48", "4.97", "USD"),
        ({"sale_amount": "49.715", "currency": "USD"}, "3.48", "4.97", "USD"),
        ({"sale_amount": "4971", "currency": "JPY"}, "348", "497", "JPY"),
        ({"sale_amount": "49.71", "currency": "KWD"}, "3.480", "4.971", "KWD"),
        ({"sale_amount": "0.07"}, "0.00", "0.01", "EUR"),
        (
            {"sale_amount": "49.71", "revenue": "4.123456"},
            "3.48",
            "4.123456",
            "EUR",
        ),  # sent by name: as agreed
    ],
)
async def test_conversion_is_booked_at_the_amount_sent(
    connection: Connection, said: dict[str, Any], payout: str, revenue: str, currency: str
) -> None:
    await connection.execute(PERCENT)
    book = Book(connection)
    await book.tell({**said, "order_id": "a"})
    shown = (Decimal(payout), Decimal(revenue), currency, Decimal(said["sale_amount"]))
    assert await book.shown("payout", "revenue", "payout_currency", "sale_amount") == [shown]
    assert await entries(connection) == [("approval", Decimal(payout))]


async def test_fixed_price_is_booked_as_agreed(connection: Connection) -> None:
    await connection.execute("UPDATE goal_price SET (payout, revenue) = (3.4797, 0.000001)")
    book = Book(connection)
    await book.tell({"sale_amount": "49.71"})
    assert await book.shown("payout", "revenue") == [(Decimal("3.4797"), Decimal("0.000001"))]
    assert await entries(connection) == [("approval", Decimal("3.4797"))]


@pytest.mark.parametrize("by", ["the advertiser", "the operator"])
async def test_product_of_an_earlier_version_is_rounded_when_it_is_booked(
    connection: Connection, by: str
) -> None:
    """Booked amounts are not rounded again."""
    await connection.execute(PERCENT)
    book = Book(connection)
    await connection.execute("UPDATE goal SET multiple = true WHERE id = 30")
    sold = {"sale_amount": "49.71", "currency": "USD"}
    await book.tell({"order_id": "a", "status": "pending", **sold}, {"order_id": "b", **sold})
    await connection.execute("UPDATE conversion SET (payout, revenue) = (3.4797, 4.971)")
    ((waiting,), _) = await book.shown("id")
    if by == "the operator":
        await set_status(connection, [waiting], ConversionStatus.APPROVED, source=Source.UPLOAD, author="a")
    else:
        await book.tell({"order_id": "a", "status": "approved"})
    await book.tell({"order_id": "b", "status": "approved", "sale_status": "paid"})
    assert await book.shown("payout", "revenue") == [
        (Decimal("3.48"), Decimal("4.97")),
        (Decimal("3.4797"), Decimal("4.971")),
    ]
    assert [payout for _, payout in await entries(connection)][-1] == Decimal("3.48")


GOALS = "/backend/open-api/v1/users/offers/3/goals"
TERMS = "/backend/open-api/v1/users/goals/3/terms"

# Changes of a goal in order, and their warnings.
SAVED: list[tuple[dict[str, Any], list[str]]] = [
    ({"payout": "3.4797"}, ["payout: 3.4797 USD is finer than the currency's unit of 0.01"]),
    ({"name": "Sale"}, []),
    ({"payout": "3.48"}, []),
    ({"revenue": "4.005"}, ["revenue: 4.005 USD is finer than the currency's unit of 0.01"]),
    ({"currency": "KWD"}, []),
    (
        {"currency": "JPY"},
        [
            "payout: 3.48 JPY is finer than the currency's unit of 1",
            "revenue: 4.005 JPY is finer than the currency's unit of 1",
        ],
    ),
    ({"payout_type": "percent", "revenue": "4"}, []),
    ({"payout_type": "fixed"}, ["payout: 3.48 JPY is finer than the currency's unit of 1"]),
    ({"payout": "0.00000049"}, []),
    ({"payout": "1E3"}, []),
]


async def test_saving_an_amount_finer_than_its_unit_warns(tracker: Tracker, database: Settings) -> None:
    async with api_of(database, scopes=("offers:read", "offers:write", "money:write")) as client:
        for change, warnings in SAVED:
            answer = await client.patch(f"{GOALS}/3", json=change)
            assert (answer.status_code, answer.json().get("warnings", [])) == (200, warnings), change
        goal = {"name": "Fine", "payout": "0.5", "currency": "ISK"}
        answer = await client.post(GOALS, json=goal)
        assert answer.json()["warnings"] == ["payout: 0.50 ISK is finer than the currency's unit of 1"]
        await client.patch(f"{GOALS}/3", json={"currency": "BHD"})
        answer = await client.post(TERMS, json={"country_code": "DE", "payout": "7.0001", "revenue": "7.001"})
        assert answer.json()["warnings"] == ["payout: 7.0001 BHD is finer than the currency's unit of 0.001"]
        terms = answer.json()["id"]
        answer = await client.patch(f"{TERMS}/{terms}", json={"affiliate_id": 513})
        assert "warnings" not in answer.json()
        answer = await client.patch(f"{GOALS}/3", json={"currency": "EUR"})
        assert [text.partition(":")[0] for text in answer.json()["warnings"]] == [
            *(f"payout of terms {terms}", f"revenue of terms {terms}"),
        ]
    done = await tracker("goals", "set", "4", "4", "payout=1.001")
    assert "tracker: warning: payout: 1.001 USD is finer" in done.err


async def test_importing_an_amount_finer_than_its_unit_warns(importer: Importer) -> None:
    await importer.catalogue()
    goal = "{name: Sale, payout: '2.505', currency: EUR, terms: [{country_code: DE, payout: '3.333'}]}"
    file = importer.file("c.yaml", f"offers:\n  - {{id: 3, goals: [{goal}]}}\n")
    done = await importer.run("catalogue", file)
    assert done.code == 0, done.err
    assert "payout: 2.505 EUR is finer than the currency's unit of 0.01" in done.err
    assert "payout: 3.333 EUR is finer than the currency's unit of 0.01" in done.err
