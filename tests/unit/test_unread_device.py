"""Clicks whose device is left to the worker become the same rows as others, whatever asks for the device."""

from __future__ import annotations

import csv
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.factories.clicks import HASH, free_texts
from tests.factories.rows import Row, affiliate_row, cap_row, offer_row, terms_row, url_row
from tracker import device
from tracker.device import UnreadDevice
from tracker.domain.macros import MACROS
from tracker.domain.model import Click, Device, Link, Outcomes, Visitor
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
RULES: tuple[Row, ...] = (
    {},
    {"country": ["NL"]},
    {"language": ["de"]},
    {"schedule": ["daily 09:00-17:00"]},
    {"os": ["Android"]},
    {"platform": ["ARM"]},
    {"browser": {"not": ["Chrome"]}},
    {"device_type": ["phone", "bot"]},
    {"os": ["Windows"], "device_type": {"not": ["tablet"]}},
)
CACHES = (device.read, device._read_os, device._read_platform, device._read_browser)
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


url_text = st.sampled_from([f"{URL}v={{{name}}}" for name in sorted(MACROS)])
targeting = st.sampled_from(RULES)
fallback = st.one_of(
    st.just({}),
    st.builds(lambda text: {"fallback_url": text}, url_text),
    st.builds(lambda id_: {"fallback_offer_id": id_}, st.integers(1, 4)),  # there is no offer 4
)


@st.composite
def catalogues(draw: st.DrawFn) -> tuple[list[Row], Row]:
    """Rows of offers and of the network."""
    offers = [
        offer_row(
            id_,
            targeting=draw(targeting),
            status=draw(st.sampled_from(["active", "paused"])),
            duplicates=draw(st.sampled_from(["redirect", "block", "fallback"])),
            duplicates_forced=True,
            caps=[cap_row(1)] * draw(st.integers(0, 1)),
            free=list(free_texts("%7Bbrowser%7D")),
            urls=[
                url_row(id_ * 10 + n, draw(url_text), targeting=draw(targeting), **draw(fallback))
                for n in range(draw(st.integers(1, 2)))
            ],
            **draw(fallback),
        )
        for id_ in (1, 2)
    ]
    return offers, draw(fallback)


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
        assert isinstance(left.device, UnreadDevice)
        assert left.bot_reason == read.bot_reason
        outcomes = prepare_outcomes(read, catalogue)
        assert prepare_outcomes(left, catalogue) == outcomes
        assert rows_of(left, outcomes) == rows_of(read, outcomes)


def fields_of(unread: UnreadDevice) -> Device:
    return Device(*(getattr(unread, name) for name in Device._fields))


@pytest.mark.parametrize("hints", HINTS)
def test_fields_are_those_of_the_whole_device(hints: str) -> None:
    for agent in (*AGENTS, "x" * 400, "\udfff Android 14; armv8"):
        assert fields_of(UnreadDevice(agent, hints)) == device.read(agent, hints)


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(AGENTS), st.text(), st.integers(0, 300), st.text(), st.integers(0, 7))
def test_fields_are_those_of_the_whole_device_for_any_text(
    agent: str, text: str, at: int, hint: str, nth: int
) -> None:
    agent, hints = f"{agent[:at]}{text}{agent[at:]}", "\n" * nth + hint
    assert fields_of(UnreadDevice(agent, hints)) == device.read(agent, hints)


@pytest.mark.parametrize(
    ("ask", "reads_all"),
    [
        (lambda unread: unread.os, False),
        (lambda unread: unread.os_version, False),
        (lambda unread: unread.platform, False),
        (lambda unread: unread.browser, False),
        (lambda unread: unread.browser_version, False),
        (lambda unread: unread.brand, True),
        (lambda unread: unread.model, True),
        (lambda unread: unread.type, True),
    ],
)
def test_only_what_is_asked_for_is_read(ask: Callable[[UnreadDevice], str], reads_all: bool) -> None:
    before = device.read.cache_info().misses
    ask(UnreadDevice(f"Mozilla/5.0 {ask.__code__.co_firstlineno}", ""))
    assert device.read.cache_info().misses - before == reads_all


def test_click_that_nothing_asks_reads_no_device() -> None:
    visitor = Visitor("192.0.2.7", "Mozilla/5.0 of a visitor whom nothing asks")
    catalogue = catalogue_of([offer_row(1, urls=[url_row(1, f"{URL}{{free_1}}&u={{user_agent}}")])])
    before = [cache.cache_info().misses for cache in CACHES]
    click = click_of(catalogue, visitor)
    encode(click, prepare_outcomes(click, catalogue))
    assert [cache.cache_info().misses for cache in CACHES] == before
