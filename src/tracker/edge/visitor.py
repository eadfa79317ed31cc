"""Reads who follows a link from one request, cropping every string."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from hashlib import blake2b
from typing import Any, NamedTuple

from tracker.edge.address import Headers, Proxies, network_of, plain_address
from tracker.edge.text import crop, read
from tracker.model import Link, Visitor

MAX_USER_AGENT = 500
MAX_CLIENT_HINTS = 1000
MAX_REFERRER = 2000
MAX_HOST = 255
MAX_LANGUAGE = 200
MAX_FETCH = 50
MAX_REQUESTED_LINK = 8192 + MAX_HOST + len("https://")

_HINTS = (
    b"sec-ch-ua",
    b"sec-ch-ua-mobile",
    b"sec-ch-ua-platform",
    b"sec-ch-ua-platform-version",
    b"sec-ch-ua-model",
    b"sec-ch-ua-arch",
    b"sec-ch-ua-bitness",
    b"sec-ch-ua-full-version-list",
)
_SPECULATION = re.compile(rb"\b(?:prefetch|prerender|preview)\b", re.IGNORECASE)
_ZERO_ID = re.compile(r"[0-]*")


def is_speculative(headers: Headers) -> bool:
    """Whether a browser or mail program only looks ahead: nobody has clicked yet."""
    for name in (b"sec-purpose", b"purpose", b"x-moz"):
        value = headers.get(name)
        if value is not None and _SPECULATION.search(value):
            return True
    return False


def read_visitor(scope: Mapping[str, Any], headers: Headers, proxies: Proxies) -> Visitor:
    """The visitor of an ASGI request. Forwarding headers count only when the peer is a trusted proxy."""
    peer = scope["client"][0] if scope["client"] else ""
    scheme, host = scope["scheme"], _text(headers, b"host", MAX_HOST)
    if proxies.trusts(peer):
        origin = proxies.origin(peer, headers, scope["headers"])
        ip, scheme, host = origin.ip, origin.scheme or scheme, origin.host[:MAX_HOST] or host
    else:
        ip = plain_address(peer)
    target = scope["raw_path"] + b"?" + scope["query_string"] if scope["query_string"] else scope["raw_path"]
    return Visitor(
        ip,
        _text(headers, b"user-agent", MAX_USER_AGENT),
        _client_hints(headers) if b"sec-ch-ua" in headers else "",
        _text(headers, b"accept-language", MAX_LANGUAGE),
        _text(headers, b"referer", MAX_REFERRER),
        host,
        f"{scheme}://{host}{crop(target.decode('utf-8', 'replace'), MAX_REQUESTED_LINK)}",
        _text(headers, b"sec-fetch-dest", MAX_FETCH),
        _text(headers, b"sec-fetch-user", MAX_FETCH),
    )


class Identity(NamedTuple):
    """Whom a visitor is taken for."""

    key: int  # 64 bits
    is_certain: bool  # by a cookie or device id; behind one address and User-Agent there may be thousands


def identify(link: Link, visitor: Visitor, secret: bytes, cookie_key: int | None) -> Identity:
    """By the visitor's cookie, else by the device's advertising id, else by address and agent.

    Keyed, so that nobody without the deployment's key can tell an address from a stored visitor key.
    """
    if cookie_key is not None:
        return Identity(cookie_key, True)
    device_id = (link.gaid or link.idfa) and _device_id(link)
    keyed = _keyed(secret).copy()
    keyed.update((device_id or f"{network_of(visitor.ip)} {visitor.user_agent}").encode())
    return Identity(int.from_bytes(keyed.digest()), device_id != "")


@lru_cache(8)
def _keyed(secret: bytes) -> blake2b:
    return blake2b(digest_size=8, key=secret)  # copied for each visitor: the key is half the work


def _device_id(link: Link) -> str:
    """The advertising id, "" where it is absent or all zeros (tracking refused)."""
    for device_id in (link.gaid, link.idfa):
        if device_id and not _ZERO_ID.fullmatch(device_id):
            return device_id
    return ""


def _text(headers: Headers, name: bytes, limit: int) -> str:
    value = headers.get(name)
    return read(value, limit) if value else ""


def _client_hints(headers: Headers) -> str:
    return "\n".join(_text(headers, name, MAX_CLIENT_HINTS // len(_HINTS)) for name in _HINTS)
