"""Reads the visitor of a request, and crops every string."""

from __future__ import annotations

import re
from functools import lru_cache
from hashlib import blake2b
from typing import Final, TypeAlias

from tracker.domain.click_fields import LONGEST
from tracker.domain.model import Link, Visitor, fast
from tracker.domain.normalise import device_id
from tracker.edge.http.request import Headers, Request
from tracker.edge.read.client_address import Proxies, network_of, plain_address
from tracker.edge.read.text import crop, texts

MAX_USER_AGENT = LONGEST["user_agent"]
MAX_CLIENT_HINTS = LONGEST["client_hints"]
MAX_REFERRER = LONGEST["referrer"]
MAX_HOST: Final = LONGEST["host"]
MAX_LANGUAGE = LONGEST["language"]
MAX_FETCH = LONGEST["fetch_dest"]
MAX_REQUESTED_LINK: Final = LONGEST["requested_link"]

_HINTS: Final[tuple[bytes, ...]] = (  # of any length: mypyc makes a tuple of a known length again each time
    b"sec-ch-ua",
    b"sec-ch-ua-mobile",
    b"sec-ch-ua-platform",
    b"sec-ch-ua-platform-version",
    b"sec-ch-ua-model",
    b"sec-ch-ua-arch",
    b"sec-ch-ua-bitness",
    b"sec-ch-ua-full-version-list",
)
_HOSTS: Final = texts(MAX_HOST)
_USER_AGENTS: Final = texts(MAX_USER_AGENT)
_LANGUAGES: Final = texts(MAX_LANGUAGE)
_REFERRERS: Final = texts(MAX_REFERRER)
_FETCHES: Final = texts(MAX_FETCH)
_HINT_TEXTS: Final = texts(MAX_CLIENT_HINTS // len(_HINTS))
# Headers of prefetches and previews. Sec-Purpose is that of the Fetch standard, once Sec-Fetch-Purpose.
# Purpose and X-Purpose are those of WebKit, Chrome and Meta's apps, X-Moz and Moz-Purpose those of Firefox.
_LOOKS_AHEAD: Final[tuple[bytes, ...]] = (
    b"sec-purpose",
    b"sec-fetch-purpose",
    b"purpose",
    b"x-purpose",
    b"x-moz",
    b"moz-purpose",
)
_SPECULATION: Final = re.compile(rb"\b(?:prefetch|prerender|preview|instant)\b", re.IGNORECASE)


def is_speculative(headers: Headers) -> bool:
    """Whether a request is a prefetch or preview by a browser, app or mail program, and not a click."""
    for name in _LOOKS_AHEAD:  # noqa: SIM110 (any() with a generator costs twice as much)
        if name in headers and _SPECULATION.search(headers[name]):
            return True
    return False


def read_visitor(request: Request, proxies: Proxies) -> Visitor:
    """The visitor of a request. Forwarding headers count only when the peer is a trusted proxy."""
    _, scheme, peer, _, target, query, headers = request
    host = _HOSTS[headers.get(b"host", b"")]
    if proxies.trusts[peer]:
        ip, outer_scheme, outer_host = proxies.origin(peer, headers)
        scheme, host = outer_scheme or scheme, outer_host[:MAX_HOST] or host
    else:
        ip = plain_address(peer)
    if query:
        target = b"%b?%b" % (target, query)
    fields = (
        ip,
        _USER_AGENTS[headers.get(b"user-agent", b"")],
        _client_hints(headers) if b"sec-ch-ua" in headers else "",
        _LANGUAGES[headers.get(b"accept-language", b"")],
        _REFERRERS[headers.get(b"referer", b"")],
        host,
        f"{scheme}://{host}{crop(target.decode('utf-8', 'replace'), MAX_REQUESTED_LINK)}",
        _FETCHES[headers.get(b"sec-fetch-dest", b"")],
        _FETCHES[headers.get(b"sec-fetch-user", b"")],
    )
    return fast(Visitor, fields)


Identity: TypeAlias = tuple[int, bool]
"""A visitor's key of 64 bits, and whether it is certain: by a cookie or device id.

Thousands may share one address and User-Agent.
"""


def identify(link: Link, visitor: Visitor, secret: bytes, cookie_key: int | None) -> Identity:
    """Identify a visitor by cookie, else by the device's advertising id, else by address and User-Agent.

    The hash is keyed: without the deployment's key nobody can find the address of a stored visitor key.
    """
    if cookie_key is not None:
        return cookie_key, True
    device = device_id(link.gaid) or device_id(link.idfa) if link.gaid or link.idfa else ""
    ip = visitor.ip
    keyed = _keyed(secret).copy()
    keyed.update((device or f"{network_of(ip) if ':' in ip else ip} {visitor.user_agent}").encode())
    return int.from_bytes(keyed.digest(), "big"), device != ""


@lru_cache(8)
def _keyed(secret: bytes) -> blake2b:
    return blake2b(digest_size=8, key=secret)  # copied for each visitor: the key costs half the time


def _client_hints(headers: Headers) -> str:
    return "\n".join([_HINT_TEXTS[headers.get(name, b"")] for name in _HINTS])
