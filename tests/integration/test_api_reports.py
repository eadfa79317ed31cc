"""Reports: every number is that of a recount, click by click, in Python."""

from __future__ import annotations

import csv
import io
import itertools
import random
from collections import Counter
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from httpx import AsyncClient

from tests.factories.clicks import a_row
from tests.factories.conversions import a_conversion, store_conversions
from tests.factories.filters import random_filter
from tests.integration.api_client import api_of, hash_at, run_sql, store
from tracker.api.reports import PATH as REPORTS
from tracker.domain.click_id import millis_of
from tracker.domain.model import ClickRow
from tracker.domain.money import show
from tracker.settings import Settings
from tracker.store.db import connect
from tracker.store.reports import conversion_counts, sources

pytestmark = pytest.mark.anyio

SCOPES = ("reports:read",)
NOON = int(datetime(2024, 10, 10, 12, tzinfo=UTC).timestamp()) * 1000
CLICK_SUMS = ("clicks", "uniques", "duplicates", "invalid", "gross")
STATUSES = ("approved", "pending", "hold", "rejected")
COUNTS = tuple(f"conversions_{name}" for name in (*STATUSES, "over_cap"))
MONEY = ("payout", "revenue", "pending_payout", "pending_revenue")
SUMS = (*CLICK_SUMS, *COUNTS, *MONEY)
NO_CONVERSIONS: dict[str, Any] = {**dict.fromkeys(COUNTS, 0), **{kind: {} for kind in MONEY}}
COLUMNS = {
    "offer": "offer_id",
    "offer_url": "offer_url_id",
    "affiliate": "affiliate_id",
    "country": "country_code",
    "device_type": "device_type",
    "os": "device_os",
    "browser": "browser",
    "affiliate_source": "affiliate_source",
    "status": "status",
    "reason": "reason",
    "advertiser": "advertiser_id",
    "brand": "brand_id",
    "affiliate_group": "aff_group_id",
    "requested_offer": "requested_offer_id",
    "region": "region_code",
    "city": "city",
    "isp": "isp",
    "bot_reason": "bot_reason",
    "aff_sub": "aff_sub",
    "aff_sub20": "aff_sub20",
    "adv_sub5": "adv_sub5",
    "referrer_host": "referrer_host",
    "goal": "goal_id",
    "sale_status": "sale_status",
}
TIMES = ("day", "hour", "week", "month")
GROUPS = (*TIMES, *COLUMNS)
FILTERED = ("offer_id", "affiliate_id", "country_code")
HOSTS = {
    "": None,
    "https://Blog.example/a?b=//c": "blog.example",
    "http://u@[2001:DB8::1]:8080/": "[2001:db8::1]",
    "android-app://com.example.news": "com.example.news",
    "nowhere": None,
}
ZONES = (
    *("UTC", "Europe/Berlin", "Asia/Kolkata", "Asia/Kathmandu", "Australia/Lord_Howe", "America/St_Johns"),
    *("Pacific/Chatham", "Pacific/Apia"),
)
# Days around clock changes: Lord Howe (half an hour), Berlin, Chatham, Apia's missing day, St. John's.
CHANGES = [
    int(datetime(*day, tzinfo=UTC).timestamp()) * 1000
    for day in ((2024, 10, 5), (2024, 10, 27), (2024, 4, 6), (2024, 9, 28), (2011, 12, 30), (2008, 3, 9))
]


async def report(client: AsyncClient, **query: Any) -> dict[str, Any]:
    answer = await client.get(REPORTS, params=query)
    assert answer.status_code == 200, answer.text
    body: dict[str, Any] = answer.json()
    return body


def random_row(draw: random.Random, number: int) -> ClickRow:
    status = draw.choice(("accepted", "accepted", "accepted", "forwarded", "rejected"))
    hash_ = hash_at(draw.choice(CHANGES) + draw.randrange(-86_400_000, 86_400_000), number)
    return a_row(
        hash=hash_,
        status=status,
        reason=0 if status == "accepted" else draw.choice((10, 17, 40)),
        offer_id=draw.randint(1, 3),
        offer_url_id=draw.choice((None, 31, 32)),
        affiliate_id=draw.randint(1, 4),
        country_code=draw.choice((None, "NL", "DE")),
        device_type=draw.choice(("", "desktop", "phone")),
        device_os=draw.choice(("UNK", "iOS", "Windows")),
        browser=draw.choice(("", "Chrome", "Safari")),
        affiliate_source=draw.choice(("", "fb", "x" * 500)),
        advertiser_id=draw.randint(1, 2),
        brand_id=draw.choice((None, 7)),
        aff_group_id=draw.choice((None, 5)),
        requested_offer_id=draw.randint(1, 3),
        region_code=draw.choice((None, "NH")),
        city=draw.choice((None, "Amsterdam")),
        isp=draw.choice((None, "KPN")),
        bot_reason=draw.choice((None, "crawler")),
        aff_sub=draw.choice(("", "a")),
        aff_sub20=draw.choice(("", "b")),
        adv_sub5=draw.choice(("", "c")),
        referrer=draw.choice(list(HOSTS)),
        is_unique=draw.random() < 0.6,
        is_bot=draw.random() < 0.2,
        is_test=draw.random() < 0.2,
    )


def key(row: ClickRow, group: str, zone: ZoneInfo, conversion: dict[str, Any] | None = None) -> Any:
    local = datetime.fromtimestamp(millis_of(row.hash) // 1000, zone)
    if group == "hour":
        return local.replace(minute=0, second=0).isoformat(timespec="seconds")[:19] + local.isoformat()[19:]
    if group in TIMES:
        back = {"day": 0, "week": local.weekday(), "month": local.day - 1}[group]
        return (local.date() - timedelta(days=back)).isoformat()
    if group in ("goal", "sale_status"):
        return (conversion or {}).get(COLUMNS[group]) or None
    value = HOSTS[row.referrer] if group == "referrer_host" else getattr(row, COLUMNS[group])
    is_nullable = group not in ("os", "affiliate_source", "aff_sub", "aff_sub20")
    return None if value == "" and is_nullable else value


Conversions = list[dict[str, Any]]


def recount(
    rows: list[ClickRow],
    groups: tuple[str, ...],
    zone: ZoneInfo,
    conversions: Conversions = [],  # noqa: B006 - nobody changes it
) -> dict[Any, dict[str, Any]]:
    """The sums of some clicks and some conversions (with their `click` as it counts for groups)."""
    sums: dict[Any, Counter[str]] = {}
    money: dict[Any, dict[str, Counter[str]]] = {}
    for row in rows:
        if row.is_test:
            continue
        of = sums.setdefault(tuple(key(row, group, zone) for group in groups), Counter())
        is_click = row.status == "accepted" and not row.is_bot
        of["gross"] += 1
        of["invalid"] += not is_click
        of["clicks"] += is_click
        of["uniques" if row.is_unique else "duplicates"] += is_click
    for conversion in conversions:
        if conversion["is_test"]:
            continue
        keys = tuple(key(conversion["click"], group, zone, conversion) for group in groups)
        of = sums.setdefault(keys, Counter())
        of[f"conversions_{conversion['status']}"] += 1
        of["conversions_over_cap"] += conversion["is_over_cap"]
        if conversion["status"] != "rejected":
            prefix = "" if conversion["status"] == "approved" else "pending_"
            told = money.setdefault(keys, {kind: Counter() for kind in MONEY})
            for kind in ("payout", "revenue"):
                told[prefix + kind][conversion[f"{kind}_currency"]] += Decimal(conversion[kind])  # type: ignore[assignment]
    none: dict[str, Counter[str]] = {kind: Counter() for kind in MONEY}
    return {
        keys: {name: of[name] for name in (*CLICK_SUMS, *COUNTS)} | _shown(money.get(keys, none))
        for keys, of in sums.items()
    }


def _shown(money: dict[str, Counter[str]]) -> dict[str, Any]:
    return {kind: {code: show(Decimal(sum_)) for code, sum_ in of.items()} for kind, of in money.items()}


def told(body: dict[str, Any], groups: tuple[str, ...]) -> dict[Any, dict[str, Any]]:
    names = [COLUMNS.get(group, group) for group in groups]
    found = {tuple(row[n] for n in names): {n: row[n] for n in SUMS} for row in body["data"]}
    assert len(found) == len(body["data"])
    assert body["other"] is None
    for name in (*CLICK_SUMS, *COUNTS):
        assert body["totals"][name] == sum(sums[name] for sums in found.values())
    for kind in MONEY:
        totals: Counter[str] = Counter()
        for sums in found.values():
            totals.update({code: Decimal(amount) for code, amount in sums[kind].items()})  # type: ignore[arg-type]
        assert body["totals"][kind] == _shown({kind: totals})[kind]
    return found


def local(millis: int, zone: ZoneInfo) -> str:
    return datetime.fromtimestamp(millis // 1000, zone).strftime("%Y-%m-%d %H:%M:%S")


@pytest.fixture
async def random_clicks(database: Settings) -> list[ClickRow]:
    """The clicks after late rows have replaced some."""
    draw = random.Random(7)
    rows = {row.hash: row for row in (random_row(draw, number) for number in range(500))}
    await store(database, rows.values())
    for row in draw.sample(list(rows.values()), 120):
        late = random_row(draw, 0)._replace(hash=row.hash, verdict_late=True)
        answer = {name: getattr(late, name) for name in ("status", "reason", "offer_id", "is_unique")}
        rows[row.hash] = row._replace(verdict_late=True, **answer)
    await store(database, [row for row in rows.values() if row.verdict_late])
    return list(rows.values())


async def test_report_numbers_equal_a_recount(database: Settings, random_clicks: list[ClickRow]) -> None:
    draw = random.Random(11)
    some = [tuple(draw.sample(GROUPS, draw.randint(2, 3))) for _ in range(150)]
    all_groups = [*((group,) for group in GROUPS), *some]
    async with api_of(database, scopes=SCOPES) as client:
        for groups in all_groups:
            zone = ZoneInfo(draw.choice(ZONES))
            body = await report(client, group_by=",".join(groups), tz=str(zone))
            assert told(body, groups) == recount(random_clicks, groups, zone), (groups, zone)


async def test_filtered_numbers_equal_a_recount(database: Settings, random_clicks: list[ClickRow]) -> None:
    draw = random.Random(13)
    filters = ("offer_id", "affiliate_id", "country_code", "status", "is_unique", "is_bot", "offer_url_id")
    several = ("offer_id", "affiliate_id", "country_code", "status", "affiliate_source", "device_type")
    async with api_of(database, scopes=SCOPES) as client:
        for _ in range(150):
            groups = tuple(draw.sample(GROUPS, draw.randint(1, 3)))
            zone = ZoneInfo(draw.choice(ZONES))
            low, high = sorted(draw.choice(CHANGES) + draw.randrange(-80_000_000, 80_000_000) for _ in "lh")
            query = {"created_from": local(low, zone), "created_to": local(high, zone)}
            asked: dict[str, Any] = {
                name: value
                for name in draw.sample(filters, draw.randint(0, 2))
                if (value := getattr(draw.choice(random_clicks), name)) is not None
            }
            rows = [row for row in random_clicks if all(getattr(row, n) == v for n, v in asked.items())]
            further = random_filter(draw, [row._asdict() for row in random_clicks], several)
            if draw.random() < 0.5 and asked.keys().isdisjoint(name for name, _ in further.parameters):
                rows = [row for row in rows if further.means(row._asdict())]
                for name, text in further.parameters:
                    asked[name] = [*asked.get(name, ()), text]
            in_range = [row for row in rows if low // 1000 <= millis_of(row.hash) // 1000 <= high // 1000]
            body = await report(client, group_by=",".join(groups), tz=str(zone), **query, **asked)
            if any(is_ambiguous(millis, zone) for millis in (low, high)):
                continue
            assert told(body, groups) == recount(in_range, groups, zone), (groups, zone, query, asked)


def random_conversion(draw: random.Random, click: ClickRow) -> dict[str, Any]:
    millis = millis_of(click.hash) + draw.randrange(0, 86_400_000, 1000)
    return {
        **a_conversion(click, millis=millis),
        "status": draw.choice(STATUSES),
        "is_over_cap": draw.random() < 0.2,
        "goal_id": draw.randint(1, 2),
        "sale_status": draw.choice(("", "paid")),
        **{kind: f"{draw.randrange(10**9) / 10**6:f}" for kind in ("payout", "revenue")},
        **{f"{kind}_currency": draw.choice(("USD", "EUR", "JPY")) for kind in ("payout", "revenue")},
    }


@pytest.mark.parametrize("basis", ["click", "conversion"])
async def test_conversion_numbers_equal_a_recount(
    database: Settings, random_clicks: list[ClickRow], basis: str
) -> None:
    draw = random.Random(17)
    conversions = [random_conversion(draw, draw.choice(random_clicks)) for _ in range(300)]
    await store_conversions(database, conversions)
    clicks = {row.hash: row for row in random_clicks}
    hashes = {conversion["click_hash"] for conversion in conversions}
    filters = ("offer_id", "affiliate_id", "country_code", "status", "is_unique", "aff_sub", "offer_url_id")
    several = ("offer_id", "affiliate_id", "country_code", "status", "affiliate_source", "reason")
    async with api_of(database, scopes=SCOPES) as client:
        for _ in range(150):
            groups = tuple(draw.sample(GROUPS, draw.randint(1, 3)))
            zone = ZoneInfo(draw.choice(ZONES))
            low, high = sorted(draw.choice(CHANGES) + draw.randrange(-80_000_000, 80_000_000) for _ in "lh")
            query = {"created_from": local(low, zone), "created_to": local(high, zone)}
            if draw.random() < 0.3:
                low, high, query = 0, 10**14, {}
            elif any(is_ambiguous(millis, zone) for millis in (low, high)):
                continue
            asked: dict[str, Any] = {
                name: value
                for name in draw.sample(filters, draw.randint(0, 2))
                if (value := getattr(draw.choice(random_clicks), name)) is not None
            }
            further = random_filter(draw, [row._asdict() for row in random_clicks], several)
            is_further = draw.random() < 0.5 and asked.keys().isdisjoint(n for n, _ in further.parameters)
            has = draw.choice([None, None, True, False])
            rows = [row for row in random_clicks if all(getattr(row, n) == v for n, v in asked.items())]
            if is_further:
                rows = [row for row in rows if further.means(row._asdict())]
                for name, text in further.parameters:
                    asked[name] = [*asked.get(name, ()), text]
            rows = [row for row in rows if has is None or (row.hash in hashes) == has]
            kept = {row.hash for row in rows}
            timed = [
                conversion | {"click": as_grouped(clicks[conversion["click_hash"]], conversion, basis)}
                for conversion in conversions
                if conversion["click_hash"] in kept
            ]
            body = await report(
                client,
                group_by=",".join(groups),
                tz=str(zone),
                date_basis=basis,
                **query,
                **asked,
                **({} if has is None else {"has_conversions": str(has).lower()}),
            )
            expected = recount(
                [row for row in rows if low // 1000 <= millis_of(row.hash) // 1000 <= high // 1000],
                groups,
                zone,
                [
                    each
                    for each in timed
                    if low // 1000 <= millis_of(each["click"].hash) // 1000 <= high // 1000
                ],
            )
            assert told(body, groups) == expected, (groups, zone, query, asked, has)


@pytest.mark.parametrize("basis", ["click", "conversion"])
async def test_conversions_added_up_equal_a_recount(
    database: Settings, random_clicks: list[ClickRow], basis: str
) -> None:
    """Whether they are in conversion_count, in its deltas, or at the ends of the range."""
    draw = random.Random(19)
    conversions = [random_conversion(draw, draw.choice(random_clicks)) for _ in range(200)]
    ids = await store_conversions(database, conversions[:150])
    await add_up(database)
    for id_, conversion in zip(ids[:40], conversions, strict=False):
        conversion["status"] = draw.choice(STATUSES)
        sql = f"UPDATE conversion SET status = '{conversion['status']}' WHERE id = {id_}"
        await run_sql(database, sql)
    await run_sql(database, f"DELETE FROM conversion WHERE id = ANY (ARRAY{ids[40:60]})")
    await store_conversions(database, conversions[150:])
    clicks = {row.hash: row for row in random_clicks}
    timed = [
        conversion | {"click": as_grouped(clicks[conversion["click_hash"]], conversion, basis)}
        for conversion in conversions[:40] + conversions[60:]
    ]
    dimensions = ("offer", "offer_url", "affiliate", "country", "device_type", "os", "browser")
    async with api_of(database, scopes=SCOPES) as client:
        for dimension, time, filtered in itertools.product(
            dimensions, ("", "day", "hour"), ("", "only", "exclude_")
        ):
            groups = draw.choice([(dimension, time), (time, dimension), (time,)] if time else [(dimension,)])
            zone = ZoneInfo(draw.choice(("UTC", *ZONES)))
            low, high, query = 0, 10**14, {}
            if draw.random() < 0.5:
                low, high = sorted(draw.choice(CHANGES) + draw.randrange(-(10**8), 10**8) for _ in "lh")
                if any(is_ambiguous(millis, zone) for millis in (low, high)):
                    continue
                query = {"created_from": local(low, zone), "created_to": local(high, zone)}
            column, value = COLUMNS[dimension], getattr(draw.choice(random_clicks), COLUMNS[dimension])
            asked: dict[str, Any] = {}
            if filtered and value and (filtered == "exclude_" or column in FILTERED):
                asked = {column if filtered == "only" else filtered + column: value}

            def is_in(row: ClickRow, low: int = low, high: int = high, asked: Any = asked) -> bool:
                is_timely = low // 1000 <= millis_of(row.hash) // 1000 <= high // 1000
                return is_timely and all(
                    (getattr(row, name.removeprefix("exclude_")) == wanted) is not name.startswith("exclude_")
                    for name, wanted in asked.items()
                )

            body = await report(
                client, group_by=",".join(groups), tz=str(zone), date_basis=basis, **query, **asked
            )
            expected = recount(
                list(filter(is_in, random_clicks)),
                groups,
                zone,
                [one for one in timed if is_in(one["click"])],
            )
            assert told(body, groups) == expected, (groups, zone, query, asked)


SORTED = (
    *("clicks", "duplicates", "conversions_approved", "cr", "invalid_rate", "approval_rate"),
    *("payout_USD", "pending_revenue_EUR", "epc_JPY", "profit_EUR", "margin_USD", "time_to_conversion"),
)


def value_of(row: dict[str, Any], name: str) -> Decimal | None:
    """What a row is sorted by. An amount that it has not got is 0, but a profit is not."""
    measure, _, currency = name.rpartition("_") if name[-3:].isupper() else (name, "", "")
    if not currency:
        return None if row[measure] is None else Decimal(row[measure])
    blank = None if measure in ("profit", "margin") or (measure == "epc" and not row["clicks"]) else "0"
    value = row[measure].get(currency, blank)
    return None if value is None else Decimal(value)


async def test_rows_are_sorted_and_the_others_added_up(
    database: Settings, random_clicks: list[ClickRow]
) -> None:
    draw = random.Random(23)
    await store_conversions(
        database, [random_conversion(draw, draw.choice(random_clicks)) for _ in range(300)]
    )
    async with api_of(database, scopes=SCOPES) as client:
        for _ in range(60):
            groups = draw.sample(GROUPS, draw.randint(1, 3))
            name, minus = draw.choice(SORTED), draw.choice(("", "-"))
            measures = ",".join((*SUMS, *(one.rstrip("_USDERJPY") for one in SORTED)))
            query: dict[str, Any] = {"group_by": ",".join(groups), "measures": measures}
            least = draw.choice((0, 0, 3))
            only = draw.choice((False, True))
            every = await report(client, **query)
            limit = draw.choice((1, 3, 10_000))
            some = await report(
                client,
                **query,
                sort=minus + name,
                limit=limit,
                min_clicks=least,
                with_conversions=str(only).lower(),
            )
            chosen = [row for row in every["data"] if row["clicks"] >= least and (converted(row) or not only)]
            wanted = [value_of(row, name) for row in chosen]
            known = sorted((value for value in wanted if value is not None), reverse=bool(minus))
            expected = [*known, *[None] * wanted.count(None)][:limit]
            assert [value_of(row, name) for row in some["data"]] == expected, (query, name, minus)
            assert all(row in every["data"] for row in some["data"])
            assert some["totals"] == every["totals"]
            rest = some["other"] or dict.fromkeys((*CLICK_SUMS, *COUNTS), 0)
            for count in (*CLICK_SUMS, *COUNTS):
                assert sum(row[count] for row in some["data"]) + rest[count] == every["totals"][count]
            assert (some["other"] is None) == (len(some["data"]) == len(every["data"]))


def converted(row: dict[str, Any]) -> int:
    return sum(row[f"conversions_{status}"] for status in STATUSES)


async def test_rows_are_sorted_by_a_group(database: Settings) -> None:
    times = [(NOON, 10), (NOON + 3_600_000, 9), (NOON + 7_200_000, 9)]
    await store(
        database, [a_row(hash=hash_at(millis, n), offer_id=offer) for n, (millis, offer) in enumerate(times)]
    )
    async with api_of(database, scopes=SCOPES) as client:
        for sort, expected in (
            ("offer", [9, 9, 10]),
            ("-offer", [10, 9, 9]),
            ("hour", [10, 9, 9]),
            ("-hour", [9, 9, 10]),
        ):
            body = await report(client, group_by="offer,hour", sort=sort)
            assert [row["offer_id"] for row in body["data"]] == expected, sort


async def test_time_to_conversion_is_of_each_group_and_of_all(database: Settings) -> None:
    clicks = [a_row(hash=hash_at(NOON, n), offer_id=3 + n % 2) for n in range(2)]
    await store(database, clicks)
    took = {3: [5, 9, 10, 86_400], 4: [7, 86_401, 86_402]}
    await store_conversions(
        database,
        [
            a_conversion(click, millis=NOON + 1000 * seconds, status=status)
            for click in clicks
            for seconds, status in zip(took[click.offer_id], STATUSES, strict=False)
        ],
    )
    measures = "time_to_conversion,under_10_seconds,over_24_hours"
    async with api_of(database, scopes=SCOPES) as client:
        body = await report(client, group_by="offer", measures=measures, sort="-over_24_hours")
        assert "time_to_conversion" not in (await report(client, group_by="offer"))["totals"]
        limited = await report(client, group_by="offer", measures=measures, limit=1)
    names = measures.split(",")
    assert [[row["offer_id"], *(row[name] for name in names)] for row in body["data"]] == [
        [4, 86_401, "0.333333", "0.666667"],
        [3, 9, "0.500000", "0.000000"],
    ]
    assert [body["totals"][name] for name in names] == [10, "0.428571", "0.285714"]
    assert limited["other"]["time_to_conversion"] is None


COMPARISONS = [
    ("previous", "2024-10-27", "2024-10-27", "2024-10-26", "2024-10-26"),
    ("previous", "2024-10-01", "2024-10-31", "2024-09-01", "2024-09-30"),
    ("last_week", "2024-10-07", "2024-10-13", "2024-09-30", "2024-10-06"),
    ("last_month", "2024-10-26 03:00:00", "2024-10-28", "2024-09-26 03:00:00", "2024-09-28"),
    ("custom", "2024-10-04", "2024-10-06", "2024-10-26", "2024-10-28"),
    ("custom", "2024-10-01", "2024-11-01", "2011-12-29", "2012-01-30"),
]


def moved_key(group: str, own: Any, start: str, other_start: str) -> Any:
    """The key that the report has for a day, week or month of the other span."""
    if group not in TIMES:
        return own
    day = datetime.fromisoformat(own).date()
    first, other = (datetime.fromisoformat(text).date() for text in (start, other_start))
    if group == "month":
        months = (day.year - other.year + first.year) * 12 + day.month - other.month + first.month - 1
        return f"{months // 12:04}-{months % 12 + 1:02}-01"
    back = group == "week"
    place = (day - (other - timedelta(days=other.weekday() * back))).days
    return (first - timedelta(days=first.weekday() * back) + timedelta(days=place)).isoformat()


@pytest.mark.parametrize(("how", "start", "end", "other_start", "other_end"), COMPARISONS)
async def test_compared_sums_are_those_of_the_other_span(
    database: Settings,
    random_clicks: list[ClickRow],
    how: str,
    start: str,
    end: str,
    other_start: str,
    other_end: str,
) -> None:
    draw = random.Random(29)
    await store_conversions(
        database, [random_conversion(draw, draw.choice(random_clicks)) for _ in range(300)]
    )
    measures = ",".join(SUMS)
    async with api_of(database, scopes=SCOPES) as client:
        for _ in range(12):
            groups = draw.sample([group for group in GROUPS if group != "hour"], draw.randint(1, 3))
            zone = {"group_by": ",".join(groups), "tz": draw.choice(ZONES), "measures": measures}
            names = [COLUMNS.get(group, group) for group in groups]
            custom = {"compare_from": other_start, "compare_to": other_end} if how == "custom" else {}
            query = {**zone, "created_from": start, "created_to": end}
            body = await report(client, **query, compare=how, **custom)
            own = await report(client, **query)
            other = await report(client, **zone, created_from=other_start, created_to=other_end)

            def by_key(rows: list[dict[str, Any]], names: list[str] = names) -> dict[Any, Any]:
                return {tuple(row[name] for name in names): {n: row[n] for n in SUMS} for row in rows}

            expected = {
                tuple(
                    moved_key(group, value, start, other_start)
                    for group, value in zip(groups, key, strict=True)
                ): sums
                for key, sums in by_key(other["data"]).items()
            }
            rows = {tuple(row[name] for name in names): row["compared"] for row in body["data"]}
            nothing = dict.fromkeys((*CLICK_SUMS, *COUNTS), 0) | {kind: {} for kind in MONEY}
            assert rows == {key: expected.get(key, nothing) for key in rows}, query
            assert by_key(own["data"]).items() <= by_key(body["data"]).items()
            left_out = expected.keys() - rows.keys()
            assert all(any(g in TIMES for g in groups) for _ in left_out)
            assert body["totals"]["compared"] == other["totals"]
            assert (body["other"] is None) == (not left_out)
            assert {name: body["totals"][name] for name in SUMS} == own["totals"]


async def test_compared_hours_meet_by_the_time_since_the_start(database: Settings) -> None:
    day = NOON // 86_400_000 * 86_400_000
    hours = [(day, 1), (day, 7), (day - 7 * 86_400_000, 7), (day - 7 * 86_400_000, 9)]
    rows = [a_row(hash=hash_at(start + hour * 3_600_000, n)) for n, (start, hour) in enumerate(hours)]
    await store(database, rows)
    query = {"created_from": "2024-10-10", "created_to": "2024-10-10", "compare": "last_week"}
    async with api_of(database, scopes=SCOPES) as client:
        body = await report(client, group_by="hour", **query)
        text = (await client.get(REPORTS, params={"group_by": "hour", "format": "csv", **query})).text
    found = [(row["hour"][11:13], row["clicks"], row["compared"]["clicks"]) for row in body["data"]]
    assert found == [("01", 1, 0), ("07", 1, 1), ("09", 0, 1)]
    table = list(csv.DictReader(io.StringIO(text)))
    assert [(row["clicks"], row["clicks_compared"]) for row in table] == [("1", "0"), ("1", "1"), ("0", "1")]


async def test_requested_offer_shows_what_its_fallback_took(database: Settings) -> None:
    hits = [a_row(hash=hash_at(NOON, n), requested_offer_id=3) for n in range(3)]
    forwarded = hits[0]._replace(offer_id=4, status="forwarded", reason=17)
    await store(database, [forwarded, *hits[1:]])
    await store_conversions(database, [a_conversion(forwarded)])
    async with api_of(database, scopes=SCOPES) as client:
        (row,) = (await report(client, group_by="requested_offer"))["data"]
        both = (await report(client, group_by="requested_offer,offer"))["data"]
    assert (row["requested_offer_id"], row["gross"], row["invalid"]) == (3, 3, 1)
    assert (row["conversions_approved"], row["payout"]) == (1, {"USD": "1.50"})
    assert [(one["offer_id"], one["gross"], one["payout"]) for one in both] == [
        (3, 2, {}),
        (4, 1, {"USD": "1.50"}),
    ]


async def add_up(settings: Settings) -> None:
    assert settings.postgres_dsn
    connection = await connect(settings.postgres_dsn)
    await conversion_counts.add_up(connection)
    await connection.close()


def as_grouped(click: ClickRow, conversion: dict[str, Any], basis: str) -> ClickRow:
    """The click that tells the groups of a conversion, at the time that counts."""
    return click._replace(hash=conversion["hash"]) if basis == "conversion" else click


async def test_column_of_csv_for_each_currency(database: Settings) -> None:
    click = a_row(hash=hash_at(NOON))
    await store(database, [click, a_row(hash=hash_at(NOON, 1), offer_id=4)])
    await store_conversions(
        database,
        [a_conversion(click, payout="5"), a_conversion(click, revenue_currency="EUR", status="hold")],
    )
    async with api_of(database, scopes=SCOPES) as client:
        text = (await client.get(REPORTS, params={"group_by": "offer", "format": "csv"})).text
    rows = {row["offer_id"]: row for row in csv.DictReader(io.StringIO(text, newline=""))}
    money = ("payout_USD", "revenue_USD", "pending_payout_USD", "pending_revenue_EUR")
    assert [rows["3"][name] for name in money] == ["5.00", "2.00", "1.50", "2.00"]
    assert [rows["4"][name] for name in money] == ["0.00"] * 4
    assert "payout_EUR" not in rows["3"]


def is_ambiguous(millis: int, zone: ZoneInfo) -> bool:
    time = datetime.fromtimestamp(millis // 1000, zone)
    return time.utcoffset() != time.replace(fold=1 - time.fold).utcoffset()


async def test_hour_that_clocks_show_twice_is_two(database: Settings) -> None:
    change = int(datetime(2024, 10, 27, 1, tzinfo=UTC).timestamp()) * 1000
    await store(database, [a_row(hash=hash_at(change + minutes * 60_000)) for minutes in (-30, 30, 31)])
    async with api_of(database, scopes=SCOPES) as client:
        body = await report(client, group_by="hour", tz="Europe/Berlin")
    assert [(row["hour"], row["clicks"]) for row in body["data"]] == [
        ("2024-10-27T02:00:00+02:00", 1),
        ("2024-10-27T02:00:00+01:00", 2),
    ]


async def test_rows_have_names_and_come_by_time_then_by_clicks(database: Settings) -> None:
    await run_sql(database, "INSERT INTO advertiser (id, name) VALUES (1, 'A')")
    await run_sql(database, "INSERT INTO offer (id, name, advertiser_id) VALUES (4, 'Four', 1)")
    days = [(NOON, 3), (NOON, 4), (NOON + 1, 4), (NOON - 86_400_000, 3)]
    await store(
        database, [a_row(hash=hash_at(millis, n), offer_id=offer) for n, (millis, offer) in enumerate(days)]
    )
    sums = {"uniques": 1, "duplicates": 0, "invalid": 0}
    measures = ",".join(SUMS)
    async with api_of(database, scopes=SCOPES) as client:
        body = await report(client, group_by="offer,day", measures=measures)
        csv_query = {"group_by": "day,offer", "format": "csv", "measures": measures}
        answer = await client.get(REPORTS, params=csv_query)
    rows = [("2024-10-09", 3, None, 1), ("2024-10-10", 4, "Four", 2), ("2024-10-10", 3, None, 1)]
    assert body == {
        "data": [
            {"offer_id": offer, "offer_name": name, "day": day}
            | {"clicks": n, **sums, "uniques": n, "gross": n}
            | NO_CONVERSIONS
            for day, offer, name, n in rows
        ],
        "other": None,
        "totals": {"clicks": 4, **sums, "uniques": 4, "gross": 4} | NO_CONVERSIONS,
    }
    assert answer.headers["content-type"].startswith("text/csv")
    table = list(csv.reader(io.StringIO(answer.text)))
    assert table[0] == ["day", "offer_id", "offer_name", *CLICK_SUMS, *COUNTS]
    assert table[1:] == [
        [day, str(offer), name or "", str(n), str(n), "0", "0", str(n), *"00000"]
        for day, offer, name, n in rows
    ]


@pytest.mark.parametrize("group", ["affiliate_source", "browser"])
async def test_groups_beyond_the_limit_are_added_up(database: Settings, group: str) -> None:
    names = ["a", "b", "b", "c", "d", "d", "d"]
    await store(database, [a_row(hash=hash_at(NOON, n), **{group: name}) for n, name in enumerate(names)])
    query = {"group_by": group, "limit": 2, "measures": ",".join(SUMS)}
    async with api_of(database, scopes=SCOPES) as client:
        body = await report(client, **query)
        text = (await client.get(REPORTS, params={**query, "format": "csv", "totals": "true"})).text
    assert [(row[group], row["gross"]) for row in body["data"]] == [("d", 3), ("b", 2)]
    assert (body["other"]["gross"], body["totals"]["gross"]) == (2, 7)
    assert text.splitlines()[-2:] == ['"(other)",2,2,0,0,2,0,0,0,0,0', '"(total)",7,7,0,0,7,0,0,0,0,0']


BAD = [
    ({}, "group_by"),
    ({"group_by": ""}, "group_by"),
    ({"group_by": "offer,offer"}, "group_by"),
    ({"group_by": "offer,day,country,os"}, "group_by"),
    ({"group_by": "ip"}, "group_by"),
    ({"group_by": "all"}, "group_by"),
    ({"group_by": "offer", "format": "xml"}, "format"),
    ({"group_by": "offer", "is_test": "true"}, "is_test"),
    ({"group_by": "offer", "sort": "created_at"}, "sort"),
    ({"group_by": "offer", "sort": "-payout"}, "sort"),
    ({"group_by": "offer", "sort": "clicks_USD"}, "sort"),
    ({"group_by": "offer", "measures": "clicks,joy"}, "measures"),
    ({"group_by": "offer", "limit": "10001"}, "limit"),
    ({"group_by": "offer", "min_clicks": "-1"}, "min_clicks"),
    ({"group_by": "offer", "totals": "true"}, "totals"),
    ({"group_by": "offer", "compare": "previous"}, "created_from"),
    ({"group_by": "offer", "compare": "previous", "created_from": "2024-01-02"}, "created_to"),
    ({"group_by": "offer", "compare": "custom", "compare_to": "2024-01-02"}, "compare_from"),
    ({"group_by": "offer", "compare_to": "2024-01-02"}, "compare_to"),
    (
        {
            "group_by": "offer",
            "created_from": "0001-01-02",
            "created_to": "0001-01-03",
            "compare": "last_year",
        },
        "compare",
    ),
    ({"group_by": "offer", "tz": "Mars"}, "tz"),
    ({"group_by": "offer", "created_from": "2024-01-02", "created_to": "2024-01-01"}, "created_to"),
]


@pytest.mark.parametrize(("query", "field"), BAD)
async def test_unreadable_value_is_named(database: Settings, query: dict[str, str], field: str) -> None:
    async with api_of(database, scopes=SCOPES) as client:
        answer = await client.get(REPORTS, params=query)
    assert answer.status_code == 422
    assert answer.json()["errors"].keys() == {field}


async def test_too_many_days_are_refused(database: Settings) -> None:
    await store(database, [a_row(hash=hash_at(millis)) for millis in (1, NOON)])
    async with api_of(database, scopes=SCOPES) as client:
        answer = await client.get(REPORTS, params={"group_by": "day"})
        assert (answer.status_code, list(answer.json()["errors"])) == (422, ["created_from"])
        body = await report(client, group_by="day", created_from="2024-01-01")
        assert [row["day"] for row in body["data"]] == ["2024-10-10"]


@pytest.mark.parametrize(
    ("query", "clicks"),
    [
        ({"created_from": "2030-01-01"}, 0),
        ({"created_to": "2020-01-01"}, 0),
        ({"created_from": "2024-10-10 12:01:00", "created_to": "2024-10-10 12:02:00"}, 1),
        ({"created_from": "2024-10-10 11:50:00", "created_to": "2024-10-10 12:20:00"}, 2),
        ({"created_from": "2024-10-10 01:00:00", "created_to": "2024-10-10 01:59:59"}, 0),
        ({"created_from": "2024-10-10 01:03:00", "created_to": "2024-10-10 01:04:59"}, 0),
        ({"created_from": "2024-10-09 23:00:00", "created_to": "2024-10-10 11:59:59"}, 0),
        ({"created_from": "2024-10-10 13:00:00", "created_to": "2024-10-10 14:00:00"}, 0),
    ],
)
async def test_short_and_empty_ranges(database: Settings, query: dict[str, str], clicks: int) -> None:
    await store(database, [a_row(hash=hash_at(NOON + 90_000)), a_row(hash=hash_at(NOON + 150_000))])
    async with api_of(database, scopes=SCOPES) as client:
        for group in ("day", "offer"):
            body = await report(client, group_by=group, offer_id=3, **query)
            assert body["totals"]["clicks"] == clicks


async def test_report_without_clicks_has_no_rows(database: Settings) -> None:
    async with api_of(database, scopes=SCOPES) as client:
        for group in GROUPS:
            body = await report(client, group_by=group, tz="Asia/Kathmandu", measures=",".join(SUMS))
            assert body == {
                "data": [],
                "other": None,
                "totals": dict.fromkeys(CLICK_SUMS, 0) | NO_CONVERSIONS,
            }


async def test_scope_is_reports_read(database: Settings) -> None:
    for scopes, status in ((), 401), (("clicks:read",), 403):
        async with api_of(database, scopes=scopes) as client:
            assert (await client.get(REPORTS, params={"group_by": "offer"})).status_code == status


async def test_slow_query_names_the_range_to_narrow(
    database: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sources, "condition_of", lambda _: "pg_sleep(60) IS NULL")
    monkeypatch.setattr("tracker.store.db.STATEMENT_TIMEOUT_SECONDS", 0.2)
    await store(database, [a_row(hash=hash_at(NOON))])
    async with api_of(database, scopes=SCOPES) as client:
        answer = await client.get(REPORTS, params={"group_by": "offer,country"})
    assert (answer.status_code, list(answer.json()["errors"])) == (503, ["created_from"])


async def test_too_many_clicks_are_refused_at_once(
    database: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sources, "MOST_CLICKS", 2)
    rows = [a_row(hash=hash_at(NOON + n * 86_400_000), affiliate_id=513 + n % 2) for n in range(3)]
    await store(database, rows)
    async with api_of(database, scopes=SCOPES) as client:
        query = {"group_by": "offer,country"}
        answer = await client.get(REPORTS, params=query)
        assert (answer.status_code, list(answer.json()["errors"])) == (503, ["created_from"])
        assert "match 3 clicks, and at most 2 can be read one by one" in answer.text
        for further in ({"affiliate_id": 513}, {"created_to": "2024-10-11"}, {"group_by": "offer"}):
            await report(client, **query | further)
