"""The addresses that requests for other people may go to: public ones only.

The tables are our own. Python's `is_global` is also used, but its versions differ: 3.11.7 calls most of
192.0.0.0/24 global. It does not know the clouds' metadata services.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

Network = IPv4Network | IPv6Network


def _networks(*texts: str) -> tuple[Network, ...]:
    return tuple(map(ip_network, texts))


PORTS = (80, 443)
"""The ports that are allowed at a public address."""

# The IPv4 special-purpose registry of IANA (RFC 6890) as of 2025. Globally reachable entries are included,
# because they lead to anycast services and relays. Multicast is added.
_SPECIAL = _networks(
    "0.0.0.0/8",  # this network
    "10.0.0.0/8",  # private
    "100.64.0.0/10",  # shared, behind carriers' NAT
    "127.0.0.0/8",  # loopback
    "169.254.0.0/16",  # link-local
    "172.16.0.0/12",  # private
    "192.0.0.0/24",  # protocol assignments
    "192.0.2.0/24",  # documentation
    "192.31.196.0/24",  # AS112
    "192.52.193.0/24",  # AMT relays
    "192.88.99.0/24",  # 6to4 relays
    "192.168.0.0/16",  # private
    "192.175.48.0/24",  # AS112
    "198.18.0.0/15",  # benchmarks
    "198.51.100.0/24",  # documentation
    "203.0.113.0/24",  # documentation
    "224.0.0.0/4",  # multicast
    "240.0.0.0/4",  # reserved, and broadcast
    # The entries of the IPv6 registry within the public internet.
    "2001::/23",  # Teredo, ORCHID and other assignments (RFC 2928)
    "2001:db8::/32",  # documentation
    "2002::/16",  # 6to4
    "2620:4f:8000::/48",  # AS112
    "3fff::/20",  # documentation
)
_GLOBAL_UNICAST = IPv6Network("2000::/3")
"""The public IPv6 internet (RFC 4291, section 2.4). Other addresses are refused."""

# Services that give away the machine's own credentials. An operator's networks cannot allow them.
_METADATA = _networks(
    "169.254.0.0/16",  # AWS, Azure, Google, Oracle, Scaleway, Tencent and others: all of link-local
    "100.100.100.200/32",  # Alibaba
    "168.63.129.16/32",  # Azure's wire server, at an address that looks public
    "192.0.0.192/32",  # Oracle, formerly
    "fe80::/10",  # OpenStack, Akamai: all of link-local
    "fd00:ec2::/32",  # AWS
    "fd20:ce::/32",  # Google
    "fd00:c1::/32",  # Oracle
    "fd00:42::42/128",  # Scaleway
    "fd00:a9fe:a9fe::1/128",  # Akamai
    "fd00:100::100:200/128",  # Alibaba
)

# Prefixes of IPv6 addresses that contain an IPv4 address, and the number of bits after it.
_HOLDING_IPV4 = (
    (IPv6Network("::/96"), 0),  # IPv4-compatible (RFC 4291, section 2.5.5.1)
    (IPv6Network("::ffff:0:0/96"), 0),  # IPv4-mapped
    (IPv6Network("::ffff:0:0:0/96"), 0),  # IPv4-translated (RFC 2765)
    (IPv6Network("64:ff9b::/96"), 0),  # NAT64 (RFC 6052)
    (IPv6Network("64:ff9b:1::/48"), 0),  # NAT64 of a network's own (RFC 8215), by the usual prefix
    (IPv6Network("2002::/16"), 80),  # 6to4 (RFC 3056)
)
_TEREDO = IPv6Network("2001::/32")
_ALL_IPV4 = (1 << 32) - 1


def refusal(address: str, port: int, allowed: Collection[Network] = ()) -> str:
    """Why a request may not go to an address, or "".

    In the operator's allowed networks every port is allowed, except for metadata services of clouds.
    """
    try:
        ip = ip_address(address)
    except ValueError:
        return f"{address!r} is not an address"
    if _is_metadata(ip):
        return f"{ip} is not a public address"
    if _is_in(ip, allowed):
        return ""
    if not _is_public(ip):
        return f"{ip} is not a public address"
    return "" if port in PORTS else f"port {port} is not one of {', '.join(map(str, PORTS))}"


def _is_public(ip: IPv4Address | IPv6Address) -> bool:
    if _is_in(ip, _SPECIAL) or not ip.is_global:
        return False
    return isinstance(ip, IPv4Address) or (ip in _GLOBAL_UNICAST and ip.scope_id is None)


def _is_metadata(ip: IPv4Address | IPv6Address) -> bool:
    return _is_in(ip, _METADATA) or (isinstance(ip, IPv6Address) and any(map(_is_metadata, _held(ip))))


def _is_in(ip: IPv4Address | IPv6Address, networks: Collection[Network]) -> bool:
    return any(ip in network for network in networks)


def _held(ip: IPv6Address) -> Iterator[IPv4Address]:
    """The IPv4 addresses that a request to an IPv6 address may reach."""
    for network, bits in _HOLDING_IPV4:
        if ip in network:
            yield IPv4Address(int(ip) >> bits & _ALL_IPV4)
    if ip in _TEREDO:  # the client's address, with each bit inverted (RFC 4380, section 4)
        yield IPv4Address(~int(ip) & _ALL_IPV4)
