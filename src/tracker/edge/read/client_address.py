"""The client address, scheme and host of a request, by its peer and by trusted proxies."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from ipaddress import IPv4Network
from socket import AF_INET, AF_INET6, inet_ntop, inet_pton
from typing import NamedTuple

from tracker.domain.model import fast
from tracker.edge.http.request import Headers
from tracker.edge.read.text import Texts
from tracker.settings import Network

MAX_FORWARDED = 2000
"""Bytes read of a forwarding header, from its end: our own proxies wrote the end."""

_FORWARDED = Texts(MAX_FORWARDED)
_FEW_HOPS = 100  # characters of a header worth remembering
_LONGEST = 64  # characters of an address with its zone
_UNKNOWN = "unknown"  # a client that its proxy does not name (RFC 7239, section 6.2)
_MAPPED = bytes(10) + b"\xff\xff"  # of IPv4 in IPv6 (RFC 4291, section 2.5.5.2)


def plain_address(text: str) -> str:
    """An IP address in canonical form, IPv4-mapped IPv6 as IPv4, without zone. "" if it is not an address."""
    return _plain(text) if len(text) <= _LONGEST else ""


@lru_cache(65_536)
def _plain(text: str) -> str:
    packed = _packed(text)
    return inet_ntop(AF_INET if len(packed) == 4 else AF_INET6, packed) if packed else ""


@lru_cache(65_536)
def network_of(ip: str) -> str:
    """The stable part of a visitor's address: IPv6 without its interface half (RFC 8981)."""
    return inet_pton(AF_INET6, ip)[:8].hex() if ":" in ip else ip


class Origin(NamedTuple):
    """A request's origin as proxies report it. "" for each part that they leave out."""

    ip: str
    scheme: str
    host: str


class Proxies:
    """The trusted proxies (TRACKER_TRUSTED_PROXIES)."""

    def __init__(self, networks: Sequence[Network]) -> None:
        self._networks = [
            (network.max_prefixlen // 8, int(network.network_address), int(network.netmask))
            for network in map(_unmapped, networks)
        ]
        self.trusts = lru_cache(65_536)(self._trusts)
        self._client_again = lru_cache(65_536)(self._right_most_stranger)

    def origin(self, peer: str, headers: Headers) -> Origin:
        """Client address, scheme and host as a trusted peer reports them.

        The address is the right-most hop that is not a trusted proxy: anybody could have written the hops
        left of it. `Forwarded` (RFC 7239) is read only without X-Forwarded-For: most proxies set the latter
        and pass a visitor's own `Forwarded` on.
        """
        hops = headers.get(b"x-forwarded-for")
        if hops is None and b"forwarded" in headers:
            return self._rfc7239(peer, _FORWARDED[headers[b"forwarded"][-MAX_FORWARDED:]])
        client = self._client(peer, _FORWARDED[hops[-MAX_FORWARDED:]]) if hops else plain_address(peer)
        scheme, host = headers.get(b"x-forwarded-proto"), headers.get(b"x-forwarded-host")
        scheme_text, host_text = _known(_last(scheme).lower()) if scheme else "", _last(host) if host else ""
        return fast(Origin, (client, scheme_text, host_text))

    def _rfc7239(self, peer: str, forwarded: str) -> Origin:
        # An element without `for` is a hop too: anybody could have written the elements left of it.
        elements = [_pairs(element) for element in forwarded.split(",") if element.strip()]
        hops = ",".join(pairs.get("for", _UNKNOWN) for pairs in elements)
        nearest = elements[-1] if elements else {}
        return Origin(self._client(peer, hops), _known(nearest.get("proto", "")), nearest.get("host", ""))

    def _client(self, peer: str, hops: str) -> str:
        find = self._client_again if len(hops) <= _FEW_HOPS else self._right_most_stranger
        return find(peer, hops)

    def _right_most_stranger(self, peer: str, hops: str) -> str:
        client = peer
        for hop in reversed([_node(hop) for hop in hops.split(",") if hop.strip()]):
            client = hop[:_LONGEST]
            if not self.trusts(client):
                break
        return plain_address(client) or plain_address(peer)

    def _trusts(self, peer: str) -> bool:
        packed = _packed(peer)
        address = int.from_bytes(packed)
        return any(
            len(packed) == size and address & mask == network for size, network, mask in self._networks
        )


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


def _last(listed: bytes) -> str:
    return _FORWARDED[listed[-MAX_FORWARDED:]].rpartition(",")[2].strip()


def _known(scheme: str) -> str:
    return scheme if scheme in ("http", "https") else ""


def _pairs(element: str) -> dict[str, str]:
    pairs = (pair.partition("=") for pair in element.split(";"))
    return {name.strip().lower(): value.strip().strip('"') for name, _, value in pairs}


def _node(text: str) -> str:
    """The address of a hop without its port: 1.2.3.4, 1.2.3.4:80, [2001:db8::1]:80, 2001:db8::1."""
    text = text.strip().strip('"')
    if text.startswith("["):
        return text[1:].partition("]")[0]
    return text.partition(":")[0] if text.count(":") == 1 else text
