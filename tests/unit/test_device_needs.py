"""Clicks whose device is left to the worker become the same rows as others."""

from __future__ import annotations

import csv
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.factories.clicks import HASH, a_click, free_texts
from tests.factories.rows import Row, affiliate_row, cap_row, offer_row, terms_row, url_row
from tracker import device
from tracker.domain import rules
from tracker.domain.macros import MACROS, OF_DEVICE
from tracker.domain.model import UNREAD, Choice, Click, Device, Link, Outcomes, Visitor
from tracker.edge.catalogue.catalogue import Catalogue
from tracker.edge.click import assemble
from tracker.edge.enrich.geo import GeoReader
from tracker.edge.outcome import prepare_outcomes
from tracker.stream.record import decode, encode

_TABLE = Path(__file__).with_name("user_agents.tsv").read_text(encoding="utf-8").splitlines()
AGENTS = [
    *(row["user_agent"] for row in csv.DictReader(_TABLE, delimiter="\t")),
    "",
    "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)",
    "curl/8.0",
]
HINTS = ["", '"Brave";v="124"\n?1\n"Android"\n"14.0.0"\n"SM-X200"\n"arm"\n"64"', "\n?0\n\nx\n\n\n\n"]
DEVICE_RULES = ({"os": ["Android"]}, {"browser": {"not": ["Chrome"]}}, {"device_type": ["phone", "bot"]})
OTHER_RULES: tuple[Row, ...] = (
    {},
    {"country": ["NL"]},
    {"language": ["de"]},
    {"schedule": ["daily 09:00-17:00"]},
)
URL = "https://x.test/{affiliate_id}?"
NETWORK = {"fallback_url": None, "fallback_offer_id": None}
AFFILIATES: dict[int, Row] = {513: {}, 514: {"is_test": True}, 515: {"status": "pending"}}
LINK = Link(1, 513, None, "", "", "", "", ("",) * 20, ("",) * 5)
GEO = GeoReader(())


def catalogue_of(offers: list[Row], network: Row | None = None, free: tuple[str, ...] = ()) -> Catalogue:
    catalogue = Catalogue()
    for offer in offers:
        catalogue.put("offer", str(offer["id"]), offer)
    for id_, changes in AFFILIATES.items():
        catalogue.put("affiliate", str(id_), affiliate_row(id_, **changes))
    catalogue.put("terms", "1:513", terms_row(free=list(free_texts(*free))))
    catalogue.put("network", "1", NETWORK | (network or {}))
    assert catalogue.problems == {}
    return catalogue


def click_of(
    catalogue: Catalogue, visitor: Visitor, link: Link = LINK, *, leaves_device: bool = True
) -> Click:
    click = assemble(HASH, link, visitor, None, catalogue, GEO, leaves_device=leaves_device)
    assert click
    return click


def rows_of(click: Click, outcomes: Outcomes) -> list[Any]:
    """The rows of a click by each decision of the stream."""
    _, record = encode(click, outcomes)
    return [
        decode({b"a": number + bytes(16), b"r": record}) for number in (b"0", b"1", b"2", b"3", b"4", b"5")
    ]


asking = st.sampled_from([f"{URL}v={{{name}}}" for name in ("browser", "device_os", "device_os_version")])
neutral = st.sampled_from([f"{URL}v={{{name}}}" for name in sorted(MACROS.keys() - OF_DEVICE)])
fallback = st.one_of(
    st.just({}),
    st.builds(lambda text: {"fallback_url": text}, neutral),
    st.builds(lambda id_: {"fallback_offer_id": id_}, st.integers(1, 4)),  # there is no offer 4
)


@st.composite
def catalogues(draw: st.DrawFn) -> tuple[list[Row], Row]:
    """Rows of offers and of the network. At most one place of them asks for the device."""
    offers = [
        offer_row(
            id_,
            targeting=draw(st.sampled_from(OTHER_RULES)),
            status=draw(st.sampled_from(["active", "paused"])),
            duplicates=draw(st.sampled_from(["redirect", "block", "fallback"])),
            duplicates_forced=True,
            caps=[cap_row(1)] * draw(st.integers(0, 1)),
            free=list(free_texts("%7Bbrowser%7D")),
            urls=[
                url_row(
                    id_ * 10 + n,
                    draw(neutral),
                    targeting=draw(st.sampled_from(OTHER_RULES)),
                    **draw(fallback),
                )
                for n in range(draw(st.integers(1, 2)))
            ],
            **draw(fallback),
        )
        for id_ in (1, 2)
    ]
    network = draw(fallback)
    offer = draw(st.sampled_from(offers))
    url = draw(st.sampled_from(offer["urls"]))
    match draw(st.sampled_from(["nothing", "rule", "URL's rule", "URL", "URL's", "offer's", "network's"])):
        case "rule":
            offer["targeting"] = offer["targeting"] | draw(st.sampled_from(DEVICE_RULES))
        case "URL's rule":
            url["targeting"] = url["targeting"] | draw(st.sampled_from(DEVICE_RULES))
        case "URL":
            url["url"] = draw(asking)
        case "URL's":
            url |= {"fallback_offer_id": None, "fallback_url": draw(asking)}
        case "offer's":
            offer |= {"fallback_offer_id": None, "fallback_url": draw(asking)}
        case "network's":
            network = {"fallback_url": draw(asking)}
    return offers, network


visitor = st.builds(
    Visitor,
    ip=st.sampled_from(["", "192.0.2.7"]),
    user_agent=st.one_of(
        st.sampled_from(AGENTS), st.sampled_from(AGENTS), st.text(st.characters(exclude_categories=["Cs"]))
    ),
    client_hints=st.sampled_from(HINTS),
    language=st.sampled_from(["", "de-AT,en"]),
)


link = st.builds(
    LINK._replace,
    url_id=st.sampled_from([None, 10, 11, 20]),
    gaid=st.sampled_from(["", "38400000-8cf0-11bd-b23e-10b96e40000d"]),
    source=st.sampled_from(["", "{browser}"]),
)


@settings(max_examples=300, deadline=None)
@given(catalogues(), link, st.lists(visitor, min_size=4, max_size=4))
@example(([offer_row(1), offer_row(2)], {}), LINK, [Visitor("192.0.2.7", AGENTS[0])])
def test_left_device_makes_the_same_rows(
    rows: tuple[list[Row], Row], link: Link, visitors: list[Visitor]
) -> None:
    catalogue = catalogue_of(*rows)
    for offer_id, affiliate_id, visitor in product(catalogue.offers, AFFILIATES, visitors):
        link = link._replace(offer_id=offer_id, affiliate_id=affiliate_id)
        left = click_of(catalogue, visitor, link)
        read = click_of(catalogue, visitor, link, leaves_device=False)
        assert left.bot_reason == read.bot_reason
        outcomes = prepare_outcomes(read, catalogue)
        assert prepare_outcomes(left, catalogue) == outcomes
        assert rows_of(left, outcomes) == rows_of(read, outcomes)


ASKING_URL = f"{URL}b={{browser}}"
ASKS, ASKS_NOT = offer_row(2, urls=[url_row(20, ASKING_URL)]), offer_row(2)
FALLS_TO_2: Row = {"fallback_offer_id": 2}


@pytest.mark.parametrize(
    ("changes", "other", "network", "needs"),
    [
        ({}, ASKS_NOT, {}, False),
        ({}, ASKS, {}, False),
        ({"targeting": {"country": ["NL"]}}, ASKS, {}, False),
        ({"free": list(free_texts("%7Bbrowser%7D"))}, ASKS_NOT, {}, False),
        ({"urls": [url_row(1, f"{URL}{{free_1}}&u={{user_agent}}")]}, ASKS, {}, False),
        *(({"targeting": rule}, ASKS_NOT, {}, True) for rule in (*DEVICE_RULES, {"platform": ["x64"]})),
        ({"urls": [url_row(1, targeting={"os": ["iOS"]})]}, ASKS_NOT, {}, True),
        ({"urls": [url_row(1), url_row(2, ASKING_URL, weight=0)]}, ASKS_NOT, {}, True),
        ({"urls": [url_row(1, fallback_url=ASKING_URL)]}, ASKS_NOT, {}, True),
        ({"urls": [url_row(1, **FALLS_TO_2)]}, ASKS, {}, True),
        ({"fallback_url": ASKING_URL}, ASKS_NOT, {}, True),
        (FALLS_TO_2, ASKS_NOT, {}, False),
        (FALLS_TO_2, ASKS, {}, True),
        (FALLS_TO_2, offer_row(2, fallback_url=ASKING_URL), {}, False),  # it is not asked a second time
        (FALLS_TO_2, offer_row(7), {}, False),
        ({}, ASKS_NOT, {"fallback_url": ASKING_URL}, True),
        ({}, ASKS, FALLS_TO_2, True),
        ({}, ASKS_NOT, FALLS_TO_2, False),
    ],
)
def test_device_is_read_where_a_click_can_meet_a_question(
    changes: Row, other: Row, network: Row, needs: bool
) -> None:
    catalogue = catalogue_of([offer_row(1, **changes), other], network, free=("text",))
    visitor = Visitor("192.0.2.7", AGENTS[0])
    click = click_of(catalogue, visitor)
    assert (click.device is UNREAD) == (not needs)
    if needs:
        assert click.device == device.read(AGENTS[0], "")


def test_device_needs_follow_the_catalogue() -> None:
    catalogue = catalogue_of([offer_row(1, **FALLS_TO_2), ASKS_NOT])
    visitor = Visitor("192.0.2.7", AGENTS[0])

    def is_left() -> bool:
        return click_of(catalogue, visitor).device is UNREAD

    steps: list[tuple[str, str, Row | None, bool]] = [
        ("offer", "2", ASKS, False),
        ("offer", "2", None, True),
        ("network", "1", NETWORK | {"fallback_url": ASKING_URL}, False),
        ("network", "1", None, True),
        ("offer", "1", offer_row(1, fallback_url=ASKING_URL), False),
        ("offer", "1", offer_row(1), True),
    ]
    assert is_left()
    for table, key, row, left in steps:
        catalogue.put(table, key, row)
        assert is_left() == left


def test_macros_of_the_device_are_those_that_read_it() -> None:
    click = a_click()
    choice = Choice(click.offer, click.terms, click.offer.urls[0])
    other = click._replace(device=Device(*(f"other {name}" for name in Device._fields)))
    reading = {name for name, fill in MACROS.items() if fill(click, choice) != fill(other, choice)}
    assert reading == OF_DEVICE


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("country", "NL"),
        ("region", "US-CA"),
        ("os", "iOS"),
        ("platform", "x64"),
        ("device_type", "phone"),
        ("browser", "Chrome"),
        ("language", "de"),
        ("schedule", "daily 00:00-24:00"),
    ],
)
@pytest.mark.parametrize("wanted", [True, False])
def test_rules_of_the_device_are_those_that_read_it(name: str, value: str, wanted: bool) -> None:
    ((rule,), _) = rules.compile({name: [value] if wanted else {"not": [value]}}, "UTC")
    click = a_click()
    answers = {
        rule.holds(click._replace(device=Device(os, "", "", "", type_, platform, browser, "")))
        for os, type_, platform, browser in (("iOS", "phone", "x64", "Chrome"), ("", "", "", ""))
    }
    assert rule.asks_device == (len(answers) == 2)


def test_table_of_rules_is_whole() -> None:
    assert set(rules.NAMES) - {"unique"} == {
        "country", "region", "os", "platform", "device_type", "browser", "language", "schedule"
    }  # fmt: skip
