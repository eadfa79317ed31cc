"""The client address, scheme and host of a request, by its peer and by trusted proxies."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from ipaddress import IPv4Network
from socket import AF_INET, AF_INET6, inet_ntop, inet_pton
from typing import Final, TypeAlias

from tracker.edge.http.request import Headers
from tracker.edge.read.remembered import Remembered
from tracker.edge.read.text import read
from tracker.settings import Network

MAX_FORWARDED = 2000
"""Bytes read of a forwarding header, from its end: our own proxies wrote the end."""

_REMEMBERED = 65_536  # headers, and peers
_FEW_HOPS = 100  # bytes of a header worth remembering
_LONGEST: Final = 64  # characters of an address with its zone
_UNKNOWN = "unknown"  # a client that its proxy does not name (RFC 7239, section 6.2)
_MAPPED: Final = bytes(10) + b"\xff\xff"  # of IPv4 in IPv6 (RFC 4291, section 2.5.5.2)


def plain_address(text: str) -> str:
    """An IP address in canonical form, IPv4-mapped IPv6 as IPv4, without zone. "" if it is not an address."""
    return _plain(text) if len(text) <= _LONGEST else ""


@lru_cache(65_536)
def _plain(text: str) -> str:
    return _unpacked(_packed(text))


@lru_cache(65_536)
def network_of(ip: str) -> str:
    """The stable part of a visitor's address: IPv6 without its interface half (RFC 8981)."""
    return inet_pton(AF_INET6, ip)[:8].hex() if ":" in ip else ip


Origin: TypeAlias = tuple[str, str, str]
"""A request's address, scheme and host as proxies report them. "" for each part that they leave out."""


class Proxies:
    """The trusted proxies (TRACKER_TRUSTED_PROXIES)."""

    def __init__(self, networks: Sequence[Network]) -> None:
        self._networks = [
            (network.max_prefixlen // 8, int(network.network_address), int(network.netmask))
            for network in map(_unmapped, networks)
        ]
        self.trusts = Remembered(self._trusts, _REMEMBERED, _LONGEST)
        """Whether a peer is one of them: `trusts[peer]`."""
        self._clients = Remembered(self._right_most_stranger, _REMEMBERED, _FEW_HOPS)

    def origin(self, peer: str, headers: Headers) -> Origin:
        """Client address, scheme and host as a trusted peer reports them.

        The address is the right-most hop that is not a trusted proxy: anybody could have written the hops
        left of it. `Forwarded` (RFC 7239) is read only without X-Forwarded-For: most proxies set the latter
        and pass a visitor's own `Forwarded` on.
        """
        hops = headers.get(b"x-forwarded-for")
        if hops is None and b"forwarded" in headers:
            return self._rfc7239(peer, headers[b"forwarded"])
        client = self._clients[hops] if hops else ""
        scheme, host = headers.get(b"x-forwarded-proto"), headers.get(b"x-forwarded-host")
        return (
            client or plain_address(peer),
            _SCHEMES[scheme] if scheme else "",
            _HOSTS[host] if host else "",
        )

    def _rfc7239(self, peer: str, forwarded: bytes) -> Origin:
        # An element without `for` is a hop too: anybody could have written the elements left of it.
        elements = [_pairs(element) for element in _end(forwarded).split(",") if element.strip()]
        hops = ",".join(pairs.get("for", _UNKNOWN) for pairs in elements)
        nearest = elements[-1] if elements else {}
        client = self._clients[hops.encode()] or plain_address(peer)
        return client, _known(nearest.get("proto", "")), nearest.get("host", "")

    def _right_most_stranger(self, hops: bytes) -> str:
        """The address of the right-most hop that is not a trusted proxy, else of the first hop.

        "" if that is not an address.
        """
        text = _end(hops)
        packed = b"" if "," in text else _packed(text)  # one plain address, as nearly all lists are
        if not packed:
            for hop in reversed([_node(hop) for hop in text.split(",") if hop.strip()]):
                packed = _packed(hop[:_LONGEST])
                if not self._has(packed):
                    break
        return _unpacked(packed)

    def _trusts(self, peer: str) -> bool:
        return self._has(_packed(peer))

    def _has(self, packed: bytes) -> bool:
        address = int.from_bytes(packed)
        for size, network, mask in self._networks:  # not any(): its generator costs as much again
            if len(packed) == size and address & mask == network:
                return True
        return False


def _unmapped(network: Network) -> Network:
    """A network of IPv4-mapped addresses as an IPv4 network, since addresses are read as IPv4 too."""
    packed = network.network_address.packed
    if len(packed) == 4 or network.prefixlen < 96 or not packed.startswith(_MAPPED):
        return network
    return IPv4Network((packed[12:], network.prefixlen - 96))


def _packed(text: str) -> bytes:
    """The 4 or 16 bytes of an address. No bytes if it is not an address.

    By the C library: `ipaddress` takes ten times as long, and every new visitor needs this.
    """
    try:
        if ":" not in text:
            return inet_pton(AF_INET, text)
        packed = inet_pton(AF_INET6, text.partition("%")[0])
    except (OSError, ValueError):
        return b""
    return packed[12:] if packed.startswith(_MAPPED) else packed


def _unpacked(packed: bytes) -> str:
    return inet_ntop(AF_INET if len(packed) == 4 else AF_INET6, packed) if packed else ""


def _end(header: bytes) -> str:
    """The part of a forwarding header that is read."""
    return read(header[-MAX_FORWARDED:], MAX_FORWARDED)


def _last(listed: bytes) -> str:
    return _end(listed).rpartition(",")[2].strip()


def _known(scheme: str) -> str:
    return scheme if scheme in ("http", "https") else ""


def _last_scheme(listed: bytes) -> str:
    return _known(_last(listed).lower())


_SCHEMES: Final = Remembered(_last_scheme, _REMEMBERED, _FEW_HOPS)
_HOSTS: Final = Remembered(_last, _REMEMBERED, _FEW_HOPS)


def _pairs(element: str) -> dict[str, str]:
    pairs = (pair.partition("=") for pair in element.split(";"))
    return {name.strip().lower(): value.strip().strip('"') for name, _, value in pairs}


def _node(text: str) -> str:
    """The address of a hop without its port: 1.2.3.4, 1.2.3.4:80, [2001:db8::1]:80, 2001:db8::1."""
    text = text.strip().strip('"')
    if text.startswith("["):
        return text[1:].partition("]")[0]
    return text.partition(":")[0] if text.count(":") == 1 else text
