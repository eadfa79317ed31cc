"""Measure what each step of the hot path takes, in one process and without the stream.

The steps are the edge's own, called as edge.redirect calls them: each for all of the hits that came together.
Kernel, network and the append are left out; `make bench` has them.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Callable, Sequence
from ipaddress import ip_network
from statistics import median
from time import perf_counter
from typing import Any, cast

import uvicorn
from uvicorn.server import ServerState

from loadtests.subjects import CannotMeasure, open_house, write_requests
from loadtests.traffic import AFFILIATES, OFFERS
from tracker.domain.click_id import Mint
from tracker.edge.catalogue.catalogue import Catalogue
from tracker.edge.click import assemble
from tracker.edge.enrich.geo import GeoReader
from tracker.edge.http import response
from tracker.edge.http.batching import MAX_TOGETHER
from tracker.edge.http.fast_path import LinkProtocol
from tracker.edge.http.hit import Hit
from tracker.edge.outcome import prepare_outcomes
from tracker.edge.read import cookie
from tracker.edge.read.client_address import Proxies
from tracker.edge.read.link import read_link
from tracker.edge.read.visitor import identify, is_speculative, read_visitor
from tracker.errors import CannotStartError
from tracker.settings import packaged_geoip
from tracker.store.catalogue import read as stored_catalogue
from tracker.store.db import connect
from tracker.stream.record import encode

Step = Callable[[], Sequence[Any]]


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m loadtests.hot_path_steps", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("--rounds", type=int, default=400, help="of 32 hits each (%(default)s)")
    try:
        asyncio.run(_measure(parser.parse_args(argv).rounds))
    except (CannotMeasure, CannotStartError) as error:
        print(f"steps: {error}", file=sys.stderr)
        return 2
    return 0


async def _measure(rounds: int) -> None:
    async with open_house() as house:
        catalogue = await catalogue_of(house.postgres.url)
        file = write_requests(house.directory / "requests", tuple(OFFERS), tuple(AFFILIATES))
        requests = file.read_bytes().split(b"\x1e")
    taken: dict[str, list[float]] = {}
    edge = Edge(catalogue, requests)
    for _ in range(rounds):
        for name, seconds in edge.round():
            taken.setdefault(name, []).append(seconds / MAX_TOGETHER * 1e6)
    print(report({name: median(each) for name, each in taken.items()}))


async def catalogue_of(dsn: str) -> Catalogue:
    catalogue, connection = Catalogue(), await connect(dsn)
    try:
        secret = await stored_catalogue.visitor_secret(connection)
        await catalogue.load(secret, stored_catalogue.read_all(connection))
    finally:
        await connection.close()
    return catalogue


class Edge:
    """The steps, on the next hits of a pool of requests, over and over."""

    def __init__(self, catalogue: Catalogue, requests: Sequence[bytes]) -> None:
        self._catalogue, self._mint = catalogue, Mint()
        self._geo = GeoReader(packaged_geoip())
        self._proxies = Proxies((ip_network("127.0.0.1/32"),))
        self._requests, self._at = requests, 0
        self._links = _Links()
        config = uvicorn.Config(cast(Any, self._links), log_config=None, proxy_headers=False)
        config.load()
        state = ServerState()
        state.default_headers = [(b"date", b"Thu, 26 Nov 2026 01:02:03 GMT")]
        self._connections = [LinkProtocol(config, state, {}) for _ in range(MAX_TOGETHER)]
        for connection in self._connections:
            connection.connection_made(cast(Any, _Transport()))

    def round(self) -> list[tuple[str, float]]:
        """What each step took for MAX_TOGETHER hits, in seconds."""
        taken: list[tuple[str, float]] = []

        def step(name: str, do: Step) -> Any:
            begun = perf_counter()
            done = do()
            taken.append((name, perf_counter() - begun))
            return done

        catalogue, proxies, geo = self._catalogue, self._proxies, self._geo
        hits: list[Hit] = step("HTTP: read", self._read)
        requests = [hit.request for hit in hits]
        step("is it a prefetch", lambda: [is_speculative(request.headers) for request in requests])
        visitors = step("visitor", lambda: [read_visitor(request, proxies) for request in requests])
        links = step("link", lambda: [read_link(request.path, request.query) for request in requests])
        secret = catalogue.visitor_secret
        keys = step("cookie", lambda: [cookie.read(each.headers, b"tv", secret) for each in requests])
        hashes = step("hash", lambda: [self._mint.hash() for _ in hits])
        told = list(zip(hashes, links, visitors, keys, strict=True))
        clicks = step("click", lambda: [assemble(*each, catalogue, geo, leaves_device=True) for each in told])
        step("  of it: visitor key", lambda: [identify(*each[1:3], secret, None) for each in told])
        outcomes = step(
            "verdict, URL, Location", lambda: [prepare_outcomes(click, catalogue) for click in clicks]
        )
        step("record", lambda: list(map(encode, clicks, outcomes)))
        answers = step(
            "answer",
            lambda: [
                response.redirect(302, prepared.unique.location, click.offer.referrer_policy)
                for click, prepared in zip(clicks, outcomes, strict=True)
            ],
        )
        step("HTTP: write", lambda: self._give(hits, answers))
        return taken

    def _give(self, hits: Sequence[Hit], answers: Sequence[response.Response]) -> Sequence[Hit]:
        for hit, given in zip(hits, answers, strict=True):
            hit.give(given)
        return hits

    def _read(self) -> Sequence[Hit]:
        self._links.taken = []
        for connection in self._connections:
            connection.data_received(self._requests[self._at % len(self._requests)])
            self._at += 1
        return self._links.taken


class _Links:
    """Takes hits, and leaves them."""

    taken: list[Hit]

    def is_link(self, path: str) -> bool:
        return path.startswith("/offer/")

    def take(self, hit: Hit) -> None:
        self.taken.append(hit)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        raise CannotMeasure("a request went another way than that of links")


class _Transport:
    """Of a browser that reads nothing."""

    def get_extra_info(self, name: str) -> object:
        return ("127.0.0.1", 80) if name in ("peername", "sockname") else None

    def get_write_buffer_size(self) -> int:
        return 0

    def is_closing(self) -> bool:
        return False

    def write(self, data: bytes) -> None:
        """It goes nowhere."""

    def close(self) -> None:
        """Nor is there anything to close."""


def report(taken: dict[str, float]) -> str:
    lines = [f"{'step':40} µs a click", *(f"{name:40} {micros:10.2f}" for name, micros in taken.items())]
    whole = sum(micros for name, micros in taken.items() if not name.startswith(" "))
    return "\n".join([*lines, f"{'together':40} {whole:10.2f}"])


if __name__ == "__main__":
    sys.exit(main())
