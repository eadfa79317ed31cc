"""Records of version 2 leave the device out. They make the same rows as records of version 1."""

from __future__ import annotations

import pytest

from tests.factories.clicks import HASH, a_click, outcomes_of
from tests.unit.test_click_fields import RECORD as FIRST
from tracker import device
from tracker.device import UnreadDevice
from tracker.domain.model import Click
from tracker.stream.record import NEWEST, OLDEST, VERSIONS, Undecodable, decode, encode, in_oldest

ANSWER = b"0" + bytes.fromhex(HASH)
PHONE = (
    "Mozilla/5.0 (Linux; Android 10; K) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/124.0.0.0 Mobile "
    "Safari/537.36"
)
HINTS = '"Chromium";v="124"\n?1\n"Android"\n"14.0.0"\n"Pixel 8"'
SECOND = (
    b'\x02["01900000000070008000000000000001",null,false,42,513,null,[3,513,null,"","","","",'
    b'["","","","","","","","","","","","","","","","","","","",""],["","","","",""]],'
    b'["192.0.2.7","Mozilla/5.0","","en","","t.test","http://t.test/offer/3?affiliate_id=513","",""],'
    b'null,["NL",null,"Amsterdam",null,"UNK"],[["accepted",0,3,132,1,1,"https://x.test/"]]]'
)
"""The record of a click without a device. A release that changes it keeps this one readable."""


def record_of(click: Click) -> bytes:
    return encode(click, outcomes_of(click))[1]


def test_record_without_a_device_has_the_second_version() -> None:
    assert record_of(a_click(device=UnreadDevice("", ""))) == SECOND


def test_versions_are_the_new_one_and_the_former_one() -> None:
    assert VERSIONS == (OLDEST, NEWEST)
    assert (FIRST[0], SECOND[0]) == VERSIONS


@pytest.mark.parametrize(("agent", "hints"), [("", ""), ("Mozilla/5.0", ""), (PHONE, ""), (PHONE, HINTS)])
def test_worker_reads_the_device_that_the_edge_left_out(agent: str, hints: str) -> None:
    click = a_click(user_agent=agent)
    click = click._replace(
        visitor=click.visitor._replace(client_hints=hints), device=UnreadDevice(agent, hints)
    )
    eager = click._replace(device=device.read(agent, hints))
    lazy, whole = record_of(click), record_of(eager)
    assert decode({b"a": ANSWER, b"r": lazy}) == decode({b"a": ANSWER, b"r": whole})
    assert in_oldest(lazy) == whole
    assert in_oldest(whole) is whole


@pytest.mark.parametrize(
    ("part", "by"),
    [
        (b'"Mozilla/5.0"', b"7"),
        (b'"Mozilla/5.0"', b"[]"),
        (b"null,[", b"["),
        (b'["192.0.2.7"', b'{},["192.0.2.7"'),
    ],
)
def test_damaged_record_without_a_device_is_undecodable(part: bytes, by: bytes) -> None:
    damaged = SECOND.replace(part, by)
    for record in (damaged, in_oldest(damaged)):
        with pytest.raises(Undecodable):
            decode({b"a": ANSWER, b"r": record})


def test_record_of_an_unknown_version_is_undecodable() -> None:
    later = b"\x03" + SECOND[1:]
    with pytest.raises(Undecodable, match="version"):
        decode({b"a": ANSWER, b"r": later})
    assert in_oldest(later) == later
