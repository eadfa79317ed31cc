"""Reads who follows a link from one request, cropping every string."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from hashlib import blake2b
from socket import AF_INET, AF_INET6, inet_ntop, inet_pton
from typing import Any

from tracker.edge.text import read
from tracker.model import Link, Visitor
from tracker.settings import Network

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
_FORWARDED_PAIR = re.compile(r'\s*([A-Za-z]+)=(?:"([^"]*)"|([^\s;,"]*))\s*(?:;|$)')
_MAPPED = bytes(10) + b"\xff\xff"  # of IPv4 in IPv6 (RFC 4291, section 2.5.5.2)
_ZERO_ID = re.compile(r"[0-]*")

Headers = Mapping[bytes, bytes]


def is_speculative(headers: Headers) -> bool:
    """Whether a browser or mail program only looks ahead: nobody has clicked yet."""
    for name in (b"sec-purpose", b"purpose", b"x-moz"):
        value = headers.get(name)
        if value is not None and _SPECULATION.search(value):
            return True
    return False


def read_visitor(scope: Mapping[str, Any], headers: Headers, trusted: tuple[Network, ...]) -> Visitor:
    """The visitor of an ASGI request. Forwarding headers count only when the peer is a trusted proxy."""
    peer = scope["client"][0] if scope["client"] else ""
    scheme, host = scope["scheme"], _text(headers, b"host", MAX_HOST)
    if trusted and is_trusted(peer, trusted):
        ip, scheme, host = _forwarded(scope, headers, peer, scheme, host, trusted)
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
        f"{scheme}://{host}{read(target, MAX_REQUESTED_LINK)}",
        _text(headers, b"sec-fetch-dest", MAX_FETCH),
        _text(headers, b"sec-fetch-user", MAX_FETCH),
    )


def visitor_key(link: Link, visitor: Visitor, secret: bytes) -> int:
    """64 bits that stand for one visitor: the device's advertising id, else address and User-Agent.

    Keyed, so that nobody without the deployment's key can tell an address from a stored visitor key.
    """
    who = ((link.gaid or link.idfa) and _device_id(link)) or f"{_network(visitor.ip)} {visitor.user_agent}"
    keyed = _keyed(secret).copy()
    keyed.update(who.encode())
    return int.from_bytes(keyed.digest())


@lru_cache(8)
def _keyed(secret: bytes) -> blake2b:
    return blake2b(digest_size=8, key=secret)  # copied for each visitor: the key is half the work


def _device_id(link: Link) -> str:
    """The advertising id, "" where it is absent or all zeros (tracking refused)."""
    for device_id in (link.gaid, link.idfa):
        if device_id and not _ZERO_ID.fullmatch(device_id):
            return device_id
    return ""


@lru_cache(65_536)
def plain_address(text: str) -> str:
    """An IP address in its canonical form, IPv4-mapped IPv6 as IPv4, without zone; "" where it is none."""
    packed = _packed(text)
    return inet_ntop(AF_INET if len(packed) == 4 else AF_INET6, packed) if packed else ""


def _packed(text: str) -> bytes:
    """The 4 or 16 bytes of an address; none where it is no address.

    By the C library: `ipaddress` takes ten times as long, and every new visitor comes by here.
    """
    try:
        if ":" not in text:
            return inet_pton(AF_INET, text)
        packed = inet_pton(AF_INET6, text.partition("%")[0])
    except (OSError, ValueError):
        return b""
    return packed[12:] if packed.startswith(_MAPPED) else packed


@lru_cache(65_536)
def is_trusted(peer: str, trusted: tuple[Network, ...]) -> bool:
    packed = _packed(peer)
    address = int.from_bytes(packed)
    return any(
        len(packed) == size and address & mask == network for size, network, mask in _as_integers(trusted)
    )


@lru_cache(8)
def _as_integers(networks: tuple[Network, ...]) -> list[tuple[int, int, int]]:
    """(bytes of an address, network, mask) of each network."""
    return [
        (network.max_prefixlen // 8, int(network.network_address), int(network.netmask))
        for network in networks
    ]


@lru_cache(65_536)
def _network(ip: str) -> str:
    """What of an address stays the same for one visitor: IPv6 without its interface half (RFC 8981)."""
    return inet_pton(AF_INET6, ip)[:8].hex() if ":" in ip else ip


def _text(headers: Headers, name: bytes, limit: int) -> str:
    value = headers.get(name)
    return read(value, limit) if value else ""


def _client_hints(headers: Headers) -> str:
    return "\n".join(_text(headers, name, MAX_CLIENT_HINTS // len(_HINTS)) for name in _HINTS)


def _forwarded(
    scope: Mapping[str, Any],
    headers: Headers,
    peer: str,
    scheme: str,
    host: str,
    trusted: tuple[Network, ...],
) -> tuple[str, str, str]:
    """Client address, scheme and host as the trusted proxies tell them.

    The address is the right-most hop that is no trusted proxy: what stands left of it, anybody could have
    written. `Forwarded` (RFC 7239) is read where it is sent, else the X-Forwarded-* headers.
    """
    hops, proto, named_host = _hops(scope, headers)
    client = peer
    for hop in reversed(hops):
        client = hop
        if not is_trusted(hop, trusted):
            break
    if proto in ("http", "https"):
        scheme = proto
    return plain_address(client) or plain_address(peer), scheme, named_host or host


def _hops(scope: Mapping[str, Any], headers: Headers) -> tuple[list[str], str, str]:
    """(addresses from the left, scheme, host) of the forwarding headers."""
    forwarded = _joined(scope, headers, b"forwarded")
    if forwarded:
        elements = [_pairs(element) for element in forwarded.split(",")]
        nearest = elements[-1]
        return (
            [_node(pairs["for"]) for pairs in elements if "for" in pairs],
            nearest.get("proto", ""),
            nearest.get("host", "")[:MAX_HOST],
        )
    return (
        [_node(hop) for hop in _joined(scope, headers, b"x-forwarded-for").split(",") if hop.strip()],
        _joined(scope, headers, b"x-forwarded-proto").rpartition(",")[2].strip().lower(),
        _joined(scope, headers, b"x-forwarded-host").rpartition(",")[2].strip()[:MAX_HOST],
    )


def _joined(scope: Mapping[str, Any], headers: Headers, name: bytes) -> str:
    """All lines of a header as one (RFC 9110, section 5.3), the last kilobytes of them."""
    if name not in headers:
        return ""
    value = b",".join(line for header, line in scope["headers"] if header == name)
    return read(value[-MAX_REFERRER:], MAX_REFERRER)


def _pairs(element: str) -> dict[str, str]:
    return {name.lower(): quoted or plain for name, quoted, plain in _FORWARDED_PAIR.findall(element)}


def _node(text: str) -> str:
    """The address of a hop without its port: 1.2.3.4, 1.2.3.4:80, [2001:db8::1]:80, 2001:db8::1."""
    text = text.strip().strip('"')
    if text.startswith("["):
        return text[1:].partition("]")[0]
    return text.partition(":")[0] if text.count(":") == 1 else text
