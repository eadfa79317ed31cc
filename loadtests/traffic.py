"""What visitors of the demo catalogue's links send: made up at random, from real User-Agent strings."""

from __future__ import annotations

import csv
from collections import defaultdict, deque
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from random import Random
from typing import NamedTuple, TypeVar
from urllib.parse import urlencode

_T = TypeVar("_T")

USER_AGENTS = Path(__file__).parent.parent / "tests" / "unit" / "user_agents.tsv"

OFFERS = {1: 8, 2: 5, 3: 4, 4: 2, 5: 1}
"""Offers of the demo catalogue, and how much of the traffic each gets."""
AFFILIATES = {id_: 40 // (id_ - 500) for id_ in range(501, 521)} | {599: 1}
"""A few big affiliates, many small ones, and the test affiliate."""
UNKNOWN_OFFER = 987_654_321
UNUSED_SUB = "aff_sub20"
"""Carries the run's name, by which its clicks are found again."""

_DEVICES = {"phone": 62, "desktop": 24, "tablet": 5, "tv": 1, "console": 1, "bot": 4, "": 3}
_KINDS = {"click": 96, "head": 1, "prefetch": 2, "lost": 1}
_REPEATS = 0.3
_REMEMBERED = 2_000
_IPV6_SHARE = 0.25
_SOURCES = ("", "", "newsletter", "fb", "google ads", "Zürich", "日本語", "50%+off")
_CLICK_IDS = ("", "", "gclid", "fbclid", "ttclid")


class Visitor(NamedTuple):
    ip: str
    user_agent: str


class Request(NamedTuple):
    kind: str  # click, head, prefetch (speculative, not to be stored) or lost (no such offer)
    method: str
    target: str
    headers: dict[str, str]
    external_id: str  # unique in the run, so that an answer and a stored row can be matched
    offer_id: int
    visitor: Visitor


class Traffic:
    """An endless stream of requests; the same name and seed give the same ones."""

    def __init__(self, run: str, seed: int) -> None:
        self._run = run
        self._random = Random(seed)
        self._count = 0
        self._known: deque[Visitor] = deque(maxlen=_REMEMBERED)
        self._user_agents = _read_user_agents()

    def next(self) -> Request:
        self._count += 1
        kind = self._pick(_KINDS)
        offer_id = UNKNOWN_OFFER if kind == "lost" else self._pick(OFFERS)
        external_id = f"{self._run}-{self._count}"
        visitor = self._visitor()
        headers = {"User-Agent": visitor.user_agent, "X-Forwarded-For": visitor.ip}
        if kind == "prefetch":
            headers["Sec-Purpose"] = "prefetch;prerender"
        return Request(
            kind=kind,
            method="HEAD" if kind == "head" else "GET",
            target=f"/offer/{offer_id}?{urlencode(self._query(external_id))}",
            headers=headers,
            external_id=external_id,
            offer_id=offer_id,
            visitor=visitor,
        )

    def _query(self, external_id: str) -> dict[str, str]:
        query = {
            "affiliate_id": str(self._pick(AFFILIATES)),
            "aff_sub": f"campaign {self._random.randrange(40)}",
            "aff_sub2": f"creative-{self._random.randrange(400)}",
            "source": self._random.choice(_SOURCES),
            "external_id": external_id,
            UNUSED_SUB: self._run,
            self._random.choice(_CLICK_IDS): f"{self._random.getrandbits(64):x}",
        }
        return {name: value for name, value in query.items() if name and value}

    def _visitor(self) -> Visitor:
        if self._known and self._random.random() < _REPEATS:
            return self._random.choice(self._known)
        visitor = Visitor(self._address(), self._random.choice(self._user_agents[self._pick(_DEVICES)]))
        self._known.append(visitor)
        return visitor

    def _address(self) -> str:
        if self._random.random() < _IPV6_SHARE:
            return str(IPv6Address(0x2A00 << 112 | self._random.getrandbits(108)))
        return str(IPv4Address(self._random.randrange(24, 100) << 24 | self._random.getrandbits(24)))

    def _pick(self, weights: dict[_T, int]) -> _T:
        return self._random.choices(list(weights), list(weights.values()))[0]


def _read_user_agents() -> dict[str, list[str]]:
    by_type: dict[str, list[str]] = defaultdict(list)
    with USER_AGENTS.open(newline="") as lines:
        for row in csv.DictReader(lines, delimiter="\t", quoting=csv.QUOTE_NONE):
            by_type[row["type"]].append(row["user_agent"])
    return by_type
