"""A whole move: three trackers' files, their late postbacks, and a month's end with their ids.

The test keeps a book of its own, of what the three trackers had and what was told since. Everything that the
tracker says of money must agree with it to the cent.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlencode

import pytest

from tests.conftest import Furnish
from tests.e2e.running import Up, command, up, wait_until

BEGIN = datetime(2026, 10, 5, 8, tzinfo=UTC)
PAYOUT, REVENUE = Decimal("2.50"), Decimal("4.00")
BROWSER = {"User-Agent": "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"}
USERS = "/backend/open-api/v1/users"
CLICKS_OF_EACH = 40


class Conversion(NamedTuple):
    """A conversion as its tracker has it."""

    id: str
    status: str
    payout: Decimal
    revenue: Decimal


class Click(NamedTuple):
    id: str
    at: datetime
    conversion: Conversion | None


class Earlier(NamedTuple):
    """A tracker of before: its ids, and its files."""

    name: str
    advertiser: int
    affiliate: int
    offer: int
    clicks: tuple[Click, ...]
    key: str  # of its advertiser's postbacks

    @property
    def converted(self) -> list[tuple[Click, Conversion]]:
        return [(click, click.conversion) for click in self.clicks if click.conversion]

    @property
    def waiting(self) -> list[Click]:
        """The clicks that have not converted yet."""
        return [click for click in self.clicks if click.conversion is None]


def earlier(
    name: str, number: int, click_id: Callable[[int], str], conversion_id: Callable[[int], str]
) -> Earlier:
    clicks = []
    for n in range(CLICKS_OF_EACH):
        status = ("approved", "pending", "rejected")[n // 2 % 3]
        amounts = PAYOUT + n * Decimal("0.01"), REVENUE + n * Decimal("0.03")
        conversion = Conversion(conversion_id(n), status, *amounts) if n % 2 else None
        clicks.append(Click(click_id(n), BEGIN + timedelta(hours=6 * n), conversion))
    key = f"{name}-key-0123456789abcdef"
    return Earlier(name, number, number, number, tuple(clicks), key)


EVERFLOW = earlier("everflow", 7, lambda n: f"0f7c2d9be1a84c6db2a9e53f7011{n:04x}", lambda n: f"7a1c{n:028x}")
TUNE = earlier("tune", 17, lambda n: f"1022aa01bb02cc03dd04ee05ff{n:04d}", lambda n: str(n + 1))
TRACKIER = earlier(
    "trackier", 27, lambda n: f"6683a1c0e9d2b3f4a5c8{n:04x}", lambda n: f"6684f340e9d2b3f4a5c9{n:04x}"
)
ALL = (EVERFLOW, TUNE, TRACKIER)


# The files, in the shapes of the trackers. Their catalogue is ours: tests/integration/test_import_presets.py
# brings catalogues in other shapes.


def catalogue() -> str:
    price = {"payout": str(PAYOUT), "revenue": str(REVENUE), "currency": "EUR", "click_window": 31_536_000}
    offers = [
        {
            "id": one.offer,
            "name": f"{one.name} offer",
            "advertiser_id": one.advertiser,
            "urls": [{"url": f"https://{one.name}.test/?click={{hash}}"}],
            "goals": [{"is_base": True, **price}],
        }
        for one in ALL
    ]
    advertisers = [{"id": one.advertiser, "name": f"{one.name} shop"} for one in ALL]
    affiliates = [{"id": one.affiliate, "name": f"{one.name} media"} for one in ALL]
    return json.dumps({"advertisers": advertisers, "affiliates": affiliates, "offers": offers})


def clicks_of_everflow() -> str:
    rows = [
        {
            "transaction_id": click.id,
            "is_unique": 1,
            "unix_timestamp": int(click.at.timestamp()),
            "sub1": "spring",
            "relationship": {
                "offer": {"network_offer_id": EVERFLOW.offer},
                "affiliate": {"network_affiliate_id": EVERFLOW.affiliate},
                "geolocation": {"country_code": "NL"},
            },
        }
        for click in EVERFLOW.clicks
    ]
    return json.dumps({"clicks": rows})


def conversions_of_everflow() -> str:
    statuses = {"rejected": "rejected_manual"}
    rows = [
        {
            "conversion_id": conversion.id,
            "transaction_id": click.id,
            "event": "Base",
            "currency_id": "EUR",
            "conversion_unix_timestamp": int((click.at + timedelta(hours=1)).timestamp()),
            "status": statuses.get(conversion.status, conversion.status),
            "order_id": "",
            "payout": float(conversion.payout),
            "revenue": float(conversion.revenue),
            "sale_amount": 0,
        }
        for click, conversion in EVERFLOW.converted
    ]
    return json.dumps({"conversions": rows})


def clicks_of_tune() -> str:
    header = (
        "transaction_id,affiliate_id,advertiser_id,offer_id,affiliate_sub1,datetime,ip,country_code,"
        "is_click_unique,status,currency"
    )
    ids = f"{TUNE.affiliate},0,{TUNE.offer}"
    rows = [
        f"{click.id},{ids},spring,{click.at:%Y-%m-%d %H:%M:%S},192.0.2.7,NL,1,,EUR" for click in TUNE.clicks
    ]
    return "\n".join([header, *rows])


def conversions_of_tune() -> str:
    rows = {
        conversion.id: {
            "Conversion": {
                "id": conversion.id,
                "ad_id": click.id,
                "goal_id": "0",
                "currency": "EUR",
                "datetime": f"{click.at + timedelta(hours=1):%Y-%m-%d %H:%M:%S}",
                "status": conversion.status,
                "payout": f"{conversion.payout:.5f}",
                "revenue": f"{conversion.revenue:.5f}",
                "sale_amount": None,
                "advertiser_info": None,
            }
        }
        for click, conversion in TUNE.converted
    }
    data = {"page": 1, "count": len(rows), "data": rows}
    return json.dumps({"response": {"status": 1, "data": data, "errors": []}})


def clicks_of_trackier() -> str:
    rows = [
        {
            "_id": click.id,
            "created": f"{click.at:%Y-%m-%d %H:%M:%S}",
            "campaign_id": TRACKIER.offer,
            "publisher_id": TRACKIER.affiliate,
            "p1": "spring",
            "country": "NL",
            "device": "mobile",
            "ipaddr": "192.0.2.0",
        }
        for click in TRACKIER.clicks
    ]
    return json.dumps({"success": True, "data": {"clicks": rows}})


def conversions_of_trackier() -> str:
    statuses = {"rejected": "cancelled"}
    rows = {
        conversion.id: {
            "_id": conversion.id,
            "cid": click.id,
            "created": f"{click.at + timedelta(hours=1):%Y-%m-%d %H:%M:%S}",
            "status": statuses.get(conversion.status, conversion.status),
            "goal_id": None,
            "goal_name": "",
            "txnId": None,
            "payout": float(conversion.payout),
            "revenue": float(conversion.revenue),
        }
        for click, conversion in TRACKIER.converted
    }
    return json.dumps({"success": True, "records": rows})


FILES = {
    "everflow": {"clicks": clicks_of_everflow, "conversions": conversions_of_everflow},
    "tune": {"clicks": clicks_of_tune, "conversions": conversions_of_tune},
    "trackier": {"clicks": clicks_of_trackier, "conversions": conversions_of_trackier},
}


def written(path: Path, content: str) -> str:
    path.write_text(content)
    return str(path)


# The move


@pytest.fixture(scope="module")
def tracker(furnish: Furnish, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    data_dir = furnish(tmp_path_factory.mktemp("move") / "var")
    with up(data_dir, "--no-demo", TRACKER_CURRENCY="EUR") as running:
        yield running


class Book:
    """What the network owes and is owed, by affiliate and advertiser."""

    def __init__(self) -> None:
        self.payout: Counter[int] = Counter()
        self.revenue: Counter[int] = Counter()

    def approve(self, one: Earlier, payout: Decimal, revenue: Decimal, sign: int = 1) -> None:
        self.payout[one.affiliate] += sign * payout  # type: ignore[assignment]
        self.revenue[one.advertiser] += sign * revenue  # type: ignore[assignment]


class Api:
    """The API of a running tracker."""

    def __init__(self, tracker: Up) -> None:
        self._tracker = tracker
        scopes = [
            f"--scope={scope}" for scope in ("clicks:read", "conversions:read", "reports:read", "money:read")
        ]
        self._token = command(tracker, "token", "create", *scopes).strip()

    def get(self, path: str, **query: Any) -> tuple[int, dict[str, Any]]:
        target = f"{USERS}/{path}?{urlencode(query)}"
        response, body = self._tracker.get(
            target, self._tracker.api_port, Authorization=f"Bearer {self._token}"
        )
        return response.status, json.loads(body)

    def total(self, path: str, **query: Any) -> int:
        status, body = self.get(path, **query)
        assert status == 200, body
        return int(body["total"])


def owed(api: Api, party: str) -> dict[int, Decimal]:
    """The closing balances of a statement of all months."""
    months = {"from": "2026-09", "to": f"{datetime.now(UTC):%Y-%m}"}
    status, body = api.get("statements", party=party, **months)
    assert status == 200, body
    assert {row["currency"] for row in body["data"]} == {"EUR"}
    return {row[f"{party}_id"]: Decimal(row["closing"]) for row in body["data"]}


def postback(tracker: Up, target: str) -> None:
    response, body = tracker.get(target)
    assert (response.status, json.loads(body)) == (200, {"status": "success"}), target


@pytest.mark.timeout(400)  # some forty commands, each a process
def test_whole_move_agrees_to_the_cent(tracker: Up, tmp_path: Path) -> None:
    api, book = Api(tracker), Book()
    done(tracker, "import", "catalogue", written(tmp_path / "catalogue.json", catalogue()))
    for one in ALL:
        move_in(tracker, one, tmp_path)
        for _, conversion in one.converted:
            if conversion.status == "approved":
                book.approve(one, conversion.payout, conversion.revenue)
    agrees(api, book)

    take_a_mistake_back(tracker, tmp_path)
    agrees(api, book)

    for one in ALL:
        for click in one.waiting[:6]:
            for _ in range(2):  # an advertiser's server repeats itself
                postback(tracker, late_postback(one, click))
            book.approve(one, PAYOUT, REVENUE)
    expected = len(ALL) * (CLICKS_OF_EACH // 2 + 6)
    wait_until(lambda: api.total("conversions") == expected)
    agrees(api, book)

    for one in ALL:
        upload(tracker, tmp_path / f"{one.name}.csv", one, book)
    agrees(api, book)

    ids_lead_both_ways(api)
    links_live_on(tracker, api)
    command(tracker, "period-close", "--until", "2026-11-01", "--yes")
    agrees(api, book)


def move_in(tracker: Up, one: Earlier, at: Path) -> None:
    for kind, content in FILES[one.name].items():
        file = written(at / f"{one.name}-{kind}", content())
        done(tracker, "import", kind, "--from", one.name, "--tz", "UTC", file)
    done(tracker, "import", "forms", "--from", one.name, "--advertiser", str(one.advertiser))
    key = written(at / f"{one.name}.key", one.key)
    command(tracker, "postback-secrets", "add", str(one.advertiser), "name=old", "--secret-file", key)


def done(tracker: Up, *words: str) -> str:
    """The output of a command that may say on stderr what it leaves out."""
    return command(tracker, *words, may_warn=True)


def take_a_mistake_back(tracker: Up, tmp_path: Path) -> None:
    """The same clicks and conversions once more, under a wrong name and with other ids."""
    clicks = tmp_path / "mistake.csv"
    clicks.write_text(
        "legacy_id,offer_id,affiliate_id,created_at\n"
        + "".join(f"wrong-{n},7,7,2026-10-07 08:00:{n:02}\n" for n in range(50))
    )
    conversions = tmp_path / "mistake-conversions.csv"
    conversions.write_text(
        "click_hash,status,created_at,payout,revenue,currency\n"
        + "".join(f"wrong-{n},pending,2026-10-08 08:00:{n:02},9.99,19.99,EUR\n" for n in range(50))
    )
    done(tracker, "import", "clicks", "--source", "mistake", str(clicks))
    done(tracker, "import", "conversions", "--source", "mistake", str(conversions))
    done(tracker, "import", "undo", "--source", "mistake", "--yes")


def late_postback(one: Earlier, click: Click) -> str:
    """A postback in the form of the earlier tracker, with its id of the click."""
    if one is EVERFLOW:
        return f"/?nid=1&transaction_id={click.id}&verification_token={one.key}"
    if one is TUNE:
        return f"/aff_lsr?transaction_id={click.id}&security_token={one.key}"
    return f"/acquisition?click_id={click.id}&token={one.key}"


def upload(tracker: Up, path: Path, one: Earlier, book: Book) -> None:
    """The advertiser's list of the month: it names clicks by their earlier ids."""
    lines = []
    for click, conversion in one.converted[:12]:
        said = "approved" if conversion.status == "pending" else "rejected"
        lines.append(f"{click.id},{said}")
        if conversion.status == "pending":
            book.approve(one, conversion.payout, conversion.revenue)
        elif conversion.status == "approved":
            book.approve(one, conversion.payout, conversion.revenue, -1)
    path.write_text("click_id,status\n" + "\n".join(lines) + "\n")
    done(tracker, "status-upload", str(path))


def agrees(api: Api, book: Book) -> None:
    """The statements agree with the book."""
    assert owed(api, "affiliate") == dict(book.payout)
    assert owed(api, "advertiser") == dict(book.revenue)


def ids_lead_both_ways(api: Api) -> None:
    for one in ALL:
        for click in one.clicks[::13]:
            status, body = api.get(f"clicks/{click.id}", source=one.name)
            assert status == 200, body
            (row,) = body["data"]
            assert row["legacy_id"] == click.id
            assert api.total("clicks", hash=click.id) == 1
            assert api.total("conversions", click_hash=click.id) == (
                1 if click.conversion or click in one.waiting[:6] else 0
            )
        click, conversion = one.converted[0]
        _, body = api.get("conversions", click_hash=click.id)
        assert (body["data"][0]["legacy_id"], body["data"][0]["click_legacy_id"]) == (conversion.id, click.id)


def links_live_on(tracker: Up, api: Api) -> None:
    for one, link in (
        (TUNE, "/aff_c?offer_id=17&aff_id=17&aff_sub=late"),
        (TRACKIER, "/click?campaign_id=27&pub_id=27&p1=late"),
    ):
        response, _ = tracker.get(link, **BROWSER)
        assert response.status == 302, link
        wait_until(lambda one=one: api.total("clicks", offer_id=one.offer, aff_sub="late") == 1)
