"""Requests to addresses that others have chosen, against real servers."""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from ipaddress import ip_network
from typing import Any

import pytest

from tests.integration.fake_affiliate import OK, RESET, SILENCE, FakeAffiliate, status
from tests.unit.test_public_addresses import NOT_PUBLIC
from tracker import outbound_http
from tracker.outbound_http import Caller, Delivery

pytestmark = pytest.mark.anyio

HERE = (ip_network("127.0.0.1/32"),)


@pytest.fixture
async def partner() -> AsyncIterator[FakeAffiliate]:
    async with FakeAffiliate().listening() as partner:
        yield partner


async def here(_host: str, _port: int) -> list[str]:
    return ["127.0.0.1"]


ANSWERS: list[tuple[bytes | None, Delivery]] = [
    (OK, Delivery(200)),
    (status(404), Delivery(404)),
    (status(302, "Location: http://127.0.0.1/"), Delivery(302)),
    (status(503, "Retry-After: 7"), Delivery(503, retry_after=7.0)),
    (status(503, "Retry-After: soon"), Delivery(503)),
    (status(429, "Retry-After: Mon, 01 Jan 2024 00:00:00 GMT"), Delivery(429, retry_after=0.0)),
    (status(429, "Retry-After: Mon, 01 Jan 99999999999999 00:00:00 GMT"), Delivery(429)),
    (status(200, "Set-Cookie: a=b"), Delivery(200)),
    (b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 3\r\n\r\nxyz", Delivery(200)),
    (b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\ncut off", Delivery(200)),
    (b"HTTP/1.1 200 OK\r\nContent-Length: 9999999\r\n\r\n" + b"x" * 9_999_999, Delivery(200)),
    (b"SSH-2.0-OpenSSH\r\n\r\n", Delivery(error="ClientResponseError")),
    (b"HTTP/1.1 200 OK\r\nX: " + b"x" * 100_000 + b"\r\n\r\n", Delivery(error="ClientResponseError")),
]


async def test_answers_of_affiliates_are_understood(partner: FakeAffiliate) -> None:
    async with Caller(HERE, look_up=here) as caller:
        for said, understood in ANSWERS:
            partner.answers.append(said)
            answer = await caller.get(f"http://partner.example:{partner.port}/in?x=%2F&y=a+b", {"A": "b"})
            assert answer == understood, said[:60] if said else said
            partner.answers.append(said)
            posted = await caller.post(f"http://partner.example:{partner.port}/in", {}, b"body")
            assert posted == understood, said[:60] if said else said
    assert len(partner.asked) == 2 * len(ANSWERS), "redirects are not followed"
    assert {(asked.method, asked.body) for asked in partner.asked[1::2]} == {("POST", b"body")}
    for asked in partner.asked[::2]:
        assert asked.target == "/in?x=%2F&y=a+b"
        assert asked.headers["Host"] == f"partner.example:{partner.port}"
        assert asked.headers["A"] == "b"
        assert "Cookie" not in asked.headers


async def test_closed_connection_is_retried_once(partner: FakeAffiliate) -> None:
    partner.answers += [RESET, RESET]
    async with Caller(HERE, look_up=here) as caller:
        answer = await caller.get(f"http://partner.example:{partner.port}/", {})
    assert answer == Delivery(error="the connection was closed before a response")
    assert len(partner.asked) == 2


async def test_silent_host_is_abandoned(partner: FakeAffiliate) -> None:
    partner.answers.append(SILENCE)
    async with Caller(HERE, look_up=here, answer_seconds=0.2) as caller:
        answer = await caller.get(f"http://partner.example:{partner.port}/", {})
    assert answer == Delivery(error="no answer within 0.2 s")


@pytest.mark.parametrize(
    ("host", "addresses", "why"),
    [
        ("127.0.0.1", [], "127.0.0.1 is not a public address"),
        ("[::1]", [], "::1 is not a public address"),
        ("[::ffff:127.0.0.1]", [], "::ffff:7f00:1 is not a public address"),
        ("partner.example", ["127.0.0.1"], "127.0.0.1 is not a public address"),
        (
            "partner.example",
            ["10.0.0.1", "::1"],
            "10.0.0.1 is not a public address; ::1 is not a public address",
        ),
        ("partner.example", ["8.8.8.8"], "port {} is not one of 80, 443"),
        ("partner.example", [], "its name has no address"),
        ("localhost", ["127.0.0.1"], "127.0.0.1 is not a public address"),
    ],
)
async def test_internal_address_is_not_asked(
    partner: FakeAffiliate, host: str, addresses: list[str], why: str
) -> None:
    async def look_up(_host: str, _port: int) -> list[str]:
        return addresses

    async with Caller(look_up=look_up) as caller:
        answer = await caller.get(f"http://{host}:{partner.port}/", {})
    assert answer == Delivery(error=why.format(partner.port), is_barred=True)
    assert partner.asked == []


class _Guard:
    """Refuses connections beyond loopback before their first packet, and lists them."""

    def __init__(self) -> None:
        self.tried: list[object] = []
        self.is_on = False

    def __call__(self, event: str, arguments: tuple[Any, ...]) -> None:
        if self.is_on and event in ("socket.connect", "socket.sendto"):
            self.tried.append(arguments[1])
            if not isinstance(arguments[1], tuple) or arguments[1][0] not in ("127.0.0.1", "::1"):
                raise OSError("this test sends nothing beyond loopback")


_guard = _Guard()
sys.addaudithook(_guard)  # cannot be taken off again (PEP 578)


@pytest.fixture
def tried() -> Iterator[list[object]]:
    """The addresses that sockets were to be connected to."""
    _guard.tried, _guard.is_on = [], True
    yield _guard.tried
    _guard.is_on = False


@pytest.mark.parametrize("address", NOT_PUBLIC)
async def test_barred_address_is_refused_before_a_socket_is_connected(
    address: str, tried: list[object]
) -> None:
    async def look_up(_host: str, _port: int) -> list[str]:
        return [address]

    literal = f"[{address.replace('%', '%25')}]" if ":" in address else address
    async with Caller(look_up=look_up) as caller:
        for host in (literal, "metadata.example"):
            url = f"http://{host}/latest/meta-data/"
            for answer in (await caller.get(url, {}), await caller.post(url, {}, b"{}")):
                assert answer.is_barred, host
                assert "is not a" in answer.error
    assert tried == []


@pytest.mark.parametrize(
    ("host", "why"),
    [
        ("169.254.169.254.", "'169.254.169.254.' is not an address"),
        ("2852039166", "'2852039166' is not an address"),
        ("127.1", "'127.1' is not an address"),
        ("0x7f.1", "127.0.0.1 is not a public address"),
        ("localhost.", "127.0.0.1 is not a public address"),
        ("metadata.google.internal", "169.254.169.254 is not a public address"),
    ],
)
async def test_barred_address_is_refused_in_every_spelling(host: str, why: str, tried: list[object]) -> None:
    async def look_up(host: str, _port: int) -> list[str]:
        return ["169.254.169.254" if host.startswith("metadata") else "127.0.0.1"]

    async with Caller(look_up=look_up) as caller:
        assert await caller.get(f"http://{host}/", {}) == Delivery(error=why, is_barred=True)
    assert tried == []


@pytest.mark.parametrize("address", NOT_PUBLIC)
async def test_strict_request_goes_to_no_network_that_the_operator_allows(
    address: str, tried: list[object]
) -> None:
    async def look_up(_host: str, _port: int) -> list[str]:
        return [address]

    literal = f"[{address.replace('%', '%25')}]" if ":" in address else address
    async with Caller((ip_network("0.0.0.0/0"), ip_network("::/0")), look_up=look_up) as caller:
        for host in (literal, "own.example"):
            answer = await caller.get(f"http://{host}/in", {}, is_strict=True)
            assert answer.is_barred, host
            assert "is not a" in answer.error
    assert tried == []


async def test_strict_and_other_requests_to_one_host_are_told_apart(
    partner: FakeAffiliate, tried: list[object]
) -> None:
    async def look_up(_host: str, _port: int) -> list[str]:
        return ["127.0.0.1"]

    url = f"http://own.example:{partner.port}/in"
    async with Caller(HERE, look_up=look_up) as caller:
        turns = (False, True) * 4
        answers = await asyncio.gather(*(caller.get(url, {}, is_strict=is_strict) for is_strict in turns))
    assert [answer.is_barred for answer in answers] == [*turns]
    assert [answer.status for answer in answers] == [None if is_strict else 200 for is_strict in turns]
    assert len(tried) == 4


async def test_connections_go_only_to_checked_addresses(partner: FakeAffiliate, tried: list[object]) -> None:
    async def look_up(_host: str, _port: int) -> list[str]:
        return ["169.254.169.254", "168.63.129.16", "127.0.0.1", "::ffff:10.0.0.1"]

    async with Caller(HERE, look_up=look_up) as caller:
        assert (await caller.get(f"http://rebinding.example:{partner.port}/", {})).status == 200
    assert tried == [("127.0.0.1", partner.port)]


async def test_name_with_changing_addresses_is_connected_at_the_checked_one(partner: FakeAffiliate) -> None:
    said = iter([["127.0.0.1"], ["127.0.0.2"], ["10.0.0.1", "127.0.0.1"]])

    async def look_up(_host: str, _port: int) -> list[str]:
        return next(said)

    async with Caller(HERE, look_up=look_up) as caller:
        url = f"http://rebinding.example:{partner.port}/"
        answers = [await caller.get(url, {}) for _ in range(3)]
    assert [answer.status for answer in answers] == [200, None, 200]
    assert [answer.is_barred for answer in answers] == [False, True, False]
    assert next(said, None) is None, "each attempt asks once"
    assert len(partner.asked) == 2


async def test_unknown_host_name_delays_no_other(
    partner: FakeAffiliate, monkeypatch: pytest.MonkeyPatch
) -> None:
    told, asked = threading.Event(), list[str]()

    def look_up(host: str, _port: int) -> list[str]:
        asked.append(host)
        if host == "slow.example":
            told.wait()
            raise OSError("no answer")
        return ["127.0.0.1"]

    monkeypatch.setattr(outbound_http, "_system_addresses", look_up)
    async with Caller(HERE, answer_seconds=1.0) as asking:
        slow = [asking.get(f"http://slow.example:{partner.port}/{n}", {}) for n in range(300)]
        waiting = asyncio.gather(*slow)
        while not asked:
            await asyncio.sleep(0.01)
        assert (await asking.get(f"http://partner.example:{partner.port}/", {})).status == 200
        assert {answer.error for answer in await waiting} == {"no answer within 1 s"}
        assert asked == ["slow.example", "partner.example"]
        told.set()
        while asking._looking:
            await asyncio.sleep(0.01)


async def test_names_are_resolved_by_the_system(partner: FakeAffiliate) -> None:
    async with Caller(HERE) as caller:
        assert (await caller.get(f"http://localhost:{partner.port}/", {})).status == 200
        nowhere = await caller.get("http://nowhere.invalid/", {})
        assert nowhere == Delivery(error="its name has no address")
