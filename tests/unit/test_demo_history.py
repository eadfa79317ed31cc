"""The made-up history of `tracker demo`: it follows from its seed, and each row is made when it is read."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import islice
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from tracker.importing import catalogue, entries
from tracker.importing.demo import fill
from tracker.importing.demo.campaigns import APPEALS, CAMPAIGNS
from tracker.importing.demo.traffic import Event, Goal, Network, Offer, Span, Url, events

UNTIL = datetime(2026, 11, 30, 12, tzinfo=UTC)
SPAN = Span(UNTIL, days=14, clicks=6_000, seed=1)


def network() -> Network:
    """The catalogue's file, with its places as ids."""
    read = list(entries.read(fill.CATALOGUE, entries.Kinds(catalogue.RESOURCES)))
    given: dict[str, list[dict[str, Any]]] = {}
    for place, entry in enumerate(read, 1):
        offer = (entry.parent and entry.parent.given.get("external_id")) or entry.given.get("external_id")
        given.setdefault(entry.resource.table.name, []).append({**entry.given, "id": place, "of": offer})
    offers = {
        offer["of"]: Offer(
            offer["id"],
            tuple(Url(url["id"], url["url"], 1) for url in given["offer_url"] if url["of"] == offer["of"]),
            {goal["name"]: a_goal(goal) for goal in given["goal"] if goal["of"] == offer["of"]},
        )
        for offer in given["offer"]
    }
    return Network(offers, {affiliate["of"]: affiliate["id"] for affiliate in given["affiliate"]})


def a_goal(row: dict[str, Any]) -> Goal:
    amounts = Decimal(row["payout"]), Decimal(row["revenue"])
    return Goal(row["id"], row["name"], row.get("payout_type") == "percent", *amounts, row["currency"])


NETWORK = network()


def history(span: Span = SPAN) -> list[Event]:
    return list(events(NETWORK, span))


def test_campaigns_name_objects_of_the_catalogue() -> None:
    assert {campaign.offer for campaign in CAMPAIGNS} == APPEALS.keys() == NETWORK.offers.keys()
    assert {campaign.sender.affiliate for campaign in CAMPAIGNS} < NETWORK.affiliates.keys()
    for name, appeal in APPEALS.items():
        assert list(appeal.rates) == list(NETWORK.offers[name].goals), name


@given(seed=st.integers(0, 2**31), days=st.integers(1, 40), clicks=st.integers(1, 300))
@settings(max_examples=20, deadline=None)
def test_history_follows_from_its_seed(seed: int, days: int, clicks: int) -> None:
    span = Span(UNTIL, days, clicks, seed)
    made = history(span)
    assert made == history(span)
    assert len(made) == clicks
    times = [event.click["created_at"] for event in made]
    begin, end = (int(at.timestamp() * 1000) for at in (span.begin, span.until))
    assert times == sorted(times)
    assert begin <= times[0] <= times[-1] < end
    assert made != history(span._replace(seed=seed + 1))
    for event in made:
        at = [event.click["created_at"], *(row["created_at"] for row in event.conversions)]
        assert at == sorted(at)
        assert at[-1] < end
    ids = [row["legacy_id"] for event in made for row in event.conversions]
    assert len(ids) == len(set(ids))


def test_history_moves_with_its_end() -> None:
    later = history(SPAN._replace(until=UNTIL + timedelta(days=7)))
    week = 7 * 86_400_000
    assert [event.click["created_at"] + week for event in history()] == [
        event.click["created_at"] for event in later
    ]


def test_history_of_any_length_begins_at_once() -> None:
    first = islice(events(NETWORK, SPAN._replace(clicks=10**12)), 3)
    assert [event.click["legacy_id"] for event in first] == [
        f"1-{int(UNTIL.timestamp()):x}-{n}" for n in range(3)
    ]


def test_history_is_believable() -> None:
    made = history()
    clicks = [event.click for event in made]
    conversions = [row for event in made for row in event.conversions]
    assert {row["status"] for row in conversions} == {"approved", "pending", "hold", "rejected"}
    assert {row["currency"] for row in conversions} == {"EUR", "USD"}
    assert any(row["refunded"] for row in conversions)
    assert {click["reason"] for click in clicks} == {0, 10, 30, 40, 50}
    assert len({click["country_code"] for click in clicks}) == 12
    assert len({click["browser"] for click in clicks}) > 5
    hours = Counter(click["created_at"] // 3_600_000 % 24 for click in clicks)
    assert max(hours.values()) > 2 * min(hours.values()), "days have a rhythm"
    assert 0.05 < sum(not click["is_unique"] for click in clicks if click["reason"] == 0) / len(clicks) < 0.4


def test_one_affiliate_is_visibly_bad() -> None:
    own = NETWORK.affiliates["demo-bad"]
    made = history()
    share = {
        is_bad: (
            sum(event.click["is_bot"] for event in made if (event.click["affiliate_id"] == own) is is_bad)
            / sum((event.click["affiliate_id"] == own) is is_bad for event in made)
        )
        for is_bad in (True, False)
    }
    assert share[True] > 0.4
    assert share[False] < 0.05
    bad = [event for event in history(SPAN._replace(clicks=60_000)) if event.click["affiliate_id"] == own]
    assert {event.click["isp"] for event in bad} == {"Nimbus Hosting"}
    waits = [row["created_at"] - event.click["created_at"] for event in bad for row in event.conversions[:1]]
    assert waits
    assert max(waits) < 4_000, "nobody fills a form in so few seconds"
    assert {row["status"] for event in bad for row in event.conversions} <= {"rejected", "hold"}
