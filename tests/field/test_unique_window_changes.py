"""Changing the unique window or scope of a running offer: known visitors stay known."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from httpx import AsyncClient

from tests.factories.clicks import a_click, an_offer, outcomes_of
from tests.integration.api_client import api_of, run_sql
from tests.integration.edge_client import PATIENCE, edge_of, recorded
from tests.integration.importing import Importer, importer
from tests.integration.stream_client import DAY, NOON, append, append_entries, click_at, stored
from tests.integration.test_create_clicks import CLICK, create_one, writing
from tracker.domain.click_id import Mint
from tracker.domain.model import FormerUniqueness, Offer
from tracker.settings import Settings
from tracker.store.catalogue import read as stored_catalogue
from tracker.store.catalogue.demo import load_demo
from tracker.store.db import connect
from tracker.stream.appender import Appender, AppendError
from tracker.stream.record import Decision, decode, encode
from tracker.stream.visitor_memory import VisitorMemory

__all__ = ["importer"]
pytestmark = pytest.mark.anyio

OFFER = "/backend/open-api/v1/users/offers/3"
DEVICE = "38400000-8cf0-11bd-b23e-10b96e40000d"
LINK = f"/offer/3?affiliate_id=513&gaid={DEVICE}"
UNNAMED = "/offer/3?affiliate_id=513"  # its visitor is known by address and User-Agent
OTHER = LINK.replace(DEVICE, DEVICE.replace("38400000", "38400001"))
AGENT = {"User-Agent": CLICK["user_agent"]}
HOUR = 3_600_000

SHORTER, LONGER = {"unique_window": 3_600}, {"unique_window": 172_800}
PER_AFFILIATE, PER_OFFER = {"unique_scope": "offer_affiliate"}, {"unique_scope": "offer"}


# Links


CHANGES: list[tuple[str, dict[str, Any], list[dict[str, Any]]]] = [
    ("shorter", {}, [SHORTER]),
    ("longer", {}, [LONGER]),
    ("scope of the affiliate", {}, [PER_AFFILIATE]),
    ("scope of the offer", PER_AFFILIATE, [PER_OFFER]),
    ("both", {}, [SHORTER | PER_AFFILIATE]),
    ("twice", {}, [SHORTER, LONGER]),
    ("there and back", {}, [SHORTER, {"unique_window": 86_400}]),
    ("four times", {}, [{"unique_window": seconds} for seconds in (60, 120, 180, 240)]),
]


@pytest.mark.parametrize(("before", "changes"), [c[1:] for c in CHANGES], ids=[c[0] for c in CHANGES])
async def test_visitor_from_before_the_change_stays_blocked(
    database: Settings, before: dict[str, Any], changes: list[dict[str, Any]]
) -> None:
    await prepare_offer(database, **before, duplicates="block")
    async with edge_of(database, demo=False) as edge:
        assert (await edge.get(LINK, headers=AGENT)).status_code == 302
        for change in changes:
            accepted = await change_live(database, edge, **change)
        links = (LINK, LINK, OTHER, OTHER)
        statuses = [(await edge.get(link, headers=AGENT)).status_code for link in links]
    assert statuses == [403, 403, accepted, 403]
    first, again, once_more, new, newer = await recorded(database)
    assert [row.group_hash for row in (again, once_more)] == [first.hash] * 2
    assert [row.is_unique for row in (first, again, once_more, new)] == [True, False, False, True]
    assert newer.group_hash == new.hash


POLICIES = [("redirect", 0, "accepted"), ("fallback", 40, "forwarded")]


@pytest.mark.parametrize(("duplicates", "reason", "status"), POLICIES, ids=[p[0] for p in POLICIES])
async def test_visitor_from_before_the_change_is_a_duplicate_by_the_policy(
    database: Settings, duplicates: str, reason: int, status: str
) -> None:
    await prepare_offer(database, duplicates=duplicates, fallback_url="https://else.test/")
    async with edge_of(database, demo=False) as edge:
        await edge.get(LINK, headers=AGENT)
        await change_live(database, edge, **SHORTER)
        await edge.get(LINK, headers=AGENT)
    first, again = await recorded(database)
    assert (again.is_unique, again.group_hash) == (False, first.hash)
    assert (again.reason, again.status) == (reason, status)


async def test_bots_and_test_clicks_name_the_first_click_from_before_the_change(database: Settings) -> None:
    await prepare_offer(database)
    async with edge_of(database, demo=False) as edge:
        await edge.get(LINK, headers=AGENT)
        await change_live(database, edge, **SHORTER)
        await edge.get(LINK, headers={"User-Agent": "Googlebot/2.1"})
    first, bot = await recorded(database)
    assert (bot.is_bot, bot.group_hash, bot.is_unique) == (True, first.hash, False)


AGES = [
    ("longer: of 20 h ago, in both windows", 86_400, 172_800, 20, False),
    ("longer: of 30 h ago, still remembered, in the window of now", 86_400, 172_800, 30, False),
    ("shorter: of 20 h ago, in both windows", 172_800, 86_400, 20, False),
    ("shorter: of 30 h ago, whose window is over by now", 172_800, 86_400, 30, True),
]


@pytest.mark.parametrize(
    ("window", "then", "hours", "is_new"), [a[1:] for a in AGES], ids=[a[0] for a in AGES]
)
async def test_new_window_counts_from_the_first_click(
    database: Settings, window: int, then: int, hours: int, *, is_new: bool
) -> None:
    await prepare_offer(database, unique_window=window, duplicates="block", duplicates_forced=True)
    settings = replace(database, geoip_db=())
    at = (datetime.now(UTC) - timedelta(hours=hours)).strftime("%Y-%m-%d %H:%M:%S")
    async with writing(settings), api_of(settings, scopes=("clicks:write", "clicks:backfill")) as api:
        first = await create_one(api, created_at=at)
    await update(database, unique_window=then)
    async with edge_of(database, demo=False) as edge:
        assert (await edge.get(UNNAMED, headers=AGENT)).status_code == (302 if is_new else 403)
    (row,) = await recorded(database)
    assert (row.group_hash == first["hash"], row.is_unique) == (not is_new, is_new)


async def test_explain_and_created_clicks_know_visitors_of_before_the_change(database: Settings) -> None:
    await prepare_offer(database)
    settings = replace(database, geoip_db=())
    async with (
        writing(settings),
        api_of(settings, scopes=("clicks:write", "offers:read")) as api,
    ):
        first = await create_one(api)
        await update(database, **SHORTER)
        asked = {"url": f"http://t.test{UNNAMED}", "ip": CLICK["ip"], "user_agent": CLICK["user_agent"]}
        explained = (await api.get("/backend/open-api/v1/explain", params=asked)).json()
        again = await create_one(api)
    assert (explained["first_click"], explained["is_unique"]) == (first["hash"], False)
    assert (again["group_hash"], again["is_unique"]) == (first["hash"], False)


async def test_unchanged_offers_have_no_former_window(database: Settings) -> None:
    await prepare_offer(database, name="Another", duplicates="block", unique_window=86_400)
    assert await kept(database) == []
    await update(database, **SHORTER)
    await update(database, **LONGER)
    assert await kept(database) == [(86_400, "offer"), (3_600, "offer")]
    await update(database, unique_window=86_400)
    assert await kept(database) == [(172_800, "offer"), (3_600, "offer")], "what holds now is not former"
    for seconds in range(60, 66):
        await update(database, unique_window=seconds)
    assert len(await kept(database)) == 4
    await run_sql(
        database, "UPDATE former_uniqueness SET changed_at = changed_at - interval '1 hour 70 seconds'"
    )
    assert await kept(database) == [], "whom they remember is out of the present window"
    await run_sql(database, "UPDATE former_uniqueness SET until = now()")
    await update(database, unique_window=66)
    assert await kept(database) == [(65, "offer")], "what remembers nobody is gone"


# The script


BEFORE = 2 * NOON  # a time until which a former setting remembers visitors


def offer_of(window: int, *former: tuple[int, bool], per_affiliate: bool = False) -> Offer:
    return an_offer(
        unique_window=window,
        unique_per_affiliate=per_affiliate,
        former_uniqueness=tuple(FormerUniqueness(*each, BEFORE) for each in former),
    )


DAILY, MONTHLY = 86_400, 2_592_000
AFTER = offer_of(MONTHLY, (DAILY, False))


async def test_visitor_after_the_change_is_remembered_for_the_new_window(
    database: Settings,
) -> None:
    first = click_at(NOON, 1, offer=offer_of(DAILY))
    later = [NOON + 22 * HOUR, NOON + 5 * DAY, NOON + 30 * DAY - 1, NOON + 30 * DAY]
    clicks = [click_at(at, n, offer=AFTER) for n, at in enumerate(later, 2)]
    answers = await append(database, first, *clicks)
    assert answers == [Decision(0, first.hash), *[Decision(1, first.hash)] * 3, Decision(0, clicks[-1].hash)]


async def test_forgotten_visitor_is_new(database: Settings) -> None:
    first, later = click_at(NOON, 1, offer=offer_of(DAILY)), click_at(NOON + 5 * DAY, 2, offer=AFTER)
    assert await append(database, first, later) == [Decision(0, first.hash), Decision(0, later.hash)]


async def test_former_setting_ends_with_its_time(database: Settings) -> None:
    over = an_offer(unique_window=MONTHLY, former_uniqueness=(FormerUniqueness(DAILY, False, NOON + HOUR),))
    first = click_at(NOON, 1, offer=offer_of(DAILY))
    later, in_time = click_at(NOON + HOUR, 2, offer=over), click_at(NOON + HOUR - 1, 3, offer=over)
    assert await append(database, first, later) == [Decision(0, first.hash), Decision(0, later.hash)]
    assert await append(database, in_time) == [Decision(1, later.hash)]


async def test_edge_that_knows_the_change_later_than_others_is_read(database: Settings) -> None:
    late = click_at(NOON, 1, offer=offer_of(DAILY))
    assert await append(database, late, click_at(NOON + 1, 2, offer=AFTER)) == [
        Decision(0, late.hash),
        Decision(1, late.hash),
    ]


async def test_scopes_are_read_where_they_were_kept(database: Settings) -> None:
    per_affiliate, whole = offer_of(DAILY, per_affiliate=True), offer_of(DAILY, (DAILY, True))
    first = click_at(NOON, 1, offer=per_affiliate)
    same = click_at(NOON + 1, 2, offer=whole)
    other = click_at(NOON + 2, 3, offer=whole, affiliate_id=514)
    answers = await append(database, first, same, other)
    assert answers == [Decision(0, first.hash), Decision(1, first.hash), Decision(1, first.hash)]

    split = offer_of(DAILY, (DAILY, False), per_affiliate=True)
    first, other = (
        click_at(NOON, 4, offer=offer_of(DAILY), visitor_key=9),
        click_at(NOON + 1, 5, offer=split, affiliate_id=514, visitor_key=9),
    )
    assert await append(database, first, other) == [Decision(0, first.hash), Decision(1, first.hash)]


async def test_spooled_clicks_know_visitors_of_before_the_change(database: Settings) -> None:
    assert database.redis_url
    first = click_at(NOON, 1, offer=offer_of(DAILY))
    await append(database, first)
    appender = Appender(database.redis_url)
    late = [click_at(NOON + n, n + 1, offer=AFTER) for n in (1, 2)]
    entries = [encode(click, outcomes_of(click)) for click in late]
    await appender.append_late(b"spool", 1, entries, PATIENCE, is_uncertain=False)
    await appender.close()
    rows_ = [decode(delivery.fields) for delivery in await stored(database)][1:]
    assert [(row.is_unique, row.group_hash, row.verdict_late) for row in rows_] == [
        (False, first.hash, True)
    ] * 2


async def test_visitor_from_before_the_change_is_known_without_room(database: Settings) -> None:
    assert database.redis_url
    first = a_click(hash=(mint := Mint()).hash(), offer=offer_of(DAILY))
    await append(database, first)
    appender = Appender(database.redis_url, memory=VisitorMemory(0))
    again, new = (a_click(hash=mint.hash(), offer=AFTER, visitor_key=key) for key in (42, 43))
    entries = [encode(click, outcomes_of(click)) for click in (again, new)]
    receipt = await appender.look(entries, PATIENCE)
    await appender.close()
    known, unknown = receipt.answers
    assert (known, unknown.is_unknown) == (Decision(1, first.hash), True)


async def test_look_writes_nothing(database: Settings) -> None:
    assert database.redis_url
    first = click_at(NOON, 1, offer=offer_of(DAILY))
    await append(database, first)
    appender = Appender(database.redis_url)
    click = click_at(NOON + 22 * HOUR, 2, offer=AFTER)
    looked = await appender.look([encode(click, outcomes_of(click))], PATIENCE)
    await appender.close()
    assert looked.answers == [Decision(1, first.hash)]
    later = click_at(NOON + 5 * DAY, 3, offer=AFTER)
    assert await append(database, later) == [Decision(0, later.hash)]


MALFORMED = [
    ("cut off", b"f\x00\x01\x51\x80"),
    ("no window", b"f" + bytes(12)),
    ("after a cap", b"c" + bytes(12) + b"\x01x" + b"f\x00\x01\x51\x80" + bytes(8)),
]


@pytest.mark.parametrize("item", [m[1] for m in MALFORMED], ids=[m[0] for m in MALFORMED])
async def test_malformed_former_setting_is_refused(database: Settings, item: bytes) -> None:
    click = click_at(NOON, 1)
    control, record = encode(click, outcomes_of(click))
    with pytest.raises(AppendError, match="BADBATCH"):
        await append_entries(database, [(control + item, record)])
    assert await stored(database) == []


# The change is announced before it is made


ASKED = [
    ("scope of the offer", [PER_AFFILIATE], PER_OFFER, "unique_scope", "through another affiliate"),
    (
        "fifth setting in two windows",
        [{"unique_window": seconds} for seconds in (600, 660, 720, 780)],
        {"unique_window": 840},
        "unique_window",
        "without those of 600 s by offer",
    ),
]


@pytest.mark.parametrize(
    ("before", "change", "field", "says"), [a[1:] for a in ASKED], ids=[a[0] for a in ASKED]
)
async def test_change_that_forgets_visitors_is_made_when_it_is_confirmed(
    database: Settings, before: Sequence[dict[str, Any]], change: dict[str, Any], field: str, says: str
) -> None:
    await prepare_offer(database)
    async with api_of(database, scopes=("offers:read", "offers:write")) as api:
        for each in before:
            assert (await api.patch(OFFER, json=each)).status_code == 200
        refused = await api.patch(OFFER, json=change)
        assert refused.status_code == 409
        assert list(refused.json()["errors"]) == [field]
        (why,) = refused.json()["errors"][field]
        assert says in why
        assert f"?confirm={field}" in why
        assert (await api.get(OFFER)).json()[field] != change[field], "nothing is changed"
        other = {"unique_scope": "unique_window", "unique_window": "unique_scope"}[field]
        assert (await api.patch(OFFER, json=change, params={"confirm": other})).status_code == 409
        confirmed = await api.patch(OFFER, json=change, params={"confirm": f"{other},{field}"})
        assert confirmed.status_code == 200
        assert confirmed.json()[field] == change[field]
        assert (await api.patch(OFFER, json=change)).status_code == 200, "nothing changes any more"


@pytest.mark.parametrize("confirm", ["", "yes", "unique_scope,", "name"])
async def test_confirm_names_fields_that_can_be_asked_about(database: Settings, confirm: str) -> None:
    await prepare_offer(database)
    async with api_of(database, scopes=("offers:write",)) as api:
        refused = await api.patch(OFFER, json=SHORTER, params={"confirm": confirm})
        assert (refused.status_code, list(refused.json()["errors"])) == (422, ["confirm"])
        elsewhere = await api.patch(f"{OFFER}/urls/132", json={"weight": 2}, params={"confirm": "weight"})
        assert (elsewhere.status_code, list(elsewhere.json()["errors"])) == (422, ["confirm"])


WARNED = [
    ("longer", {}, LONGER, ["unique_window: visitors of the last 86400 s are remembered"]),
    ("scope of the affiliate", {}, PER_AFFILIATE, ["unique_scope: visitors who are remembered stay dupl"]),
    ("shorter", {}, SHORTER, []),
    ("scope of the offer", PER_AFFILIATE, PER_OFFER, []),
]


@pytest.mark.parametrize(
    ("before", "change", "warnings"), [w[1:] for w in WARNED], ids=[w[0] for w in WARNED]
)
async def test_answer_warns_of_a_change_without_effect(
    database: Settings, before: dict[str, Any], change: dict[str, Any], warnings: list[str]
) -> None:
    await prepare_offer(database, **(before or PER_OFFER))
    async with api_of(database, scopes=("offers:read", "offers:write")) as api:
        answer = await api.patch(OFFER, json=change, params={"confirm": "unique_scope"})
    told = answer.json().get("warnings", [])
    assert len(told) == len(warnings)
    assert all(text.startswith(start) for text, start in zip(told, warnings, strict=True))


async def test_command_line_asks_before_it_changes(database: Settings, importer: Importer) -> None:
    await prepare_offer(database, **PER_AFFILIATE)
    words = ("offers", "set", "3", "unique_scope=offer")
    for more in ((), ("--dry-run",)):
        done = await importer.command(*words, *more)
        assert done.code == 1
        assert "through another affiliate" in done.err
        assert "--confirm unique_scope" in done.err
        assert done.err.count("\n") == 1
    assert (await importer.command(*words, "--dry-run", "--confirm", "unique_scope")).code == 0
    assert await scope(importer) == "offer_affiliate"
    assert (await importer.command(*words, "--confirm", "unique_scope")).code == 0
    assert await scope(importer) == "offer"


async def test_import_asks_before_it_changes_anything(database: Settings, importer: Importer) -> None:
    await prepare_offer(database, **PER_AFFILIATE)
    content = "offers:\n  - {id: 3, unique_scope: offer}\naffiliates:\n  - {id: 514, name: Jane Roe}\n"
    file = importer.file("catalogue.yaml", content)
    for more in ((), ("--dry-run",)):
        done = await importer.run("catalogue", file, *more)
        assert done.code == 1
        assert "unique_scope 'offer' makes visitors unique once more" in done.err
        assert "catalogue.yaml" in done.err
    assert await scope(importer) == "offer_affiliate"
    assert (await importer.run("catalogue", file, "--dry-run", "--confirm", "unique_scope")).code == 0
    assert await scope(importer) == "offer_affiliate"
    assert (await importer.run("catalogue", file, "--confirm", "unique_scope")).code == 0
    assert await scope(importer) == "offer"
    assert (await importer.run("catalogue", file)).code == 0, "it is as the file says"


async def test_import_keeps_the_visitors_of_before(database: Settings, importer: Importer) -> None:
    await prepare_offer(database, duplicates="block")
    async with edge_of(database, demo=False) as edge:
        await edge.get(LINK, headers=AGENT)
    file = importer.file("catalogue.yaml", "offers:\n  - {id: 3, unique_window: 3600}\n")
    assert (await importer.run("catalogue", file)).code == 0
    assert (await importer.command("offers", "set", "3", "unique_scope=offer_affiliate")).code == 0
    async with edge_of(database, demo=False) as edge:
        await change_live(database, edge)
        assert (await edge.get(LINK, headers=AGENT)).status_code == 403


async def scope(importer: Importer) -> str:
    ((found,),) = await importer.fetch("SELECT unique_scope FROM offer WHERE id = 3")
    return str(found)


async def kept(settings: Settings) -> list[tuple[int, str]]:
    """The former settings in the catalogue of edges."""
    assert settings.postgres_dsn
    connection = await connect(settings.postgres_dsn)
    try:
        ((_, row),) = await stored_catalogue.read_some(connection, "offer", ["3"])
    finally:
        await connection.close()
    return [(former["window"], former["scope"]) for former in row["former_uniqueness"]]


async def prepare_offer(settings: Settings, **fields: Any) -> None:
    assert settings.postgres_dsn
    await load_demo(settings.postgres_dsn)
    if fields:
        await update(settings, **fields)
    await run_sql(settings, "DELETE FROM former_uniqueness")


async def update(settings: Settings, **fields: Any) -> None:
    said = ", ".join(f"{name} = ${place}" for place, name in enumerate(fields, 1))
    await run_sql(settings, f"UPDATE offer SET {said} WHERE id = 3", *fields.values())


async def change_live(settings: Settings, edge: AsyncClient, **fields: Any) -> int:
    """Change the offer and wait until a HEAD, which records nothing, shows its new status."""
    accepted = 303 if (await edge.head(UNNAMED, headers=AGENT)).status_code == 307 else 307
    await update(settings, **fields, redirect_status=accepted)
    async with asyncio.timeout(PATIENCE):
        while (await edge.head(UNNAMED, headers=AGENT)).status_code != accepted:
            await asyncio.sleep(0.01)
    return accepted
