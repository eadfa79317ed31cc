"""Where a request that somebody else has chosen may go: to public addresses, and nowhere within."""

from __future__ import annotations

from collections.abc import Collection
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

Network = IPv4Network | IPv6Network

PORTS = (80, 443)
"""Those that may be asked at a public address."""

# The internet at large (RFC 4291, section 2.4), and what of it leads to other addresses, or nowhere.
_GLOBAL_UNICAST = IPv6Network("2000::/3")
_NOT_FOR_HOSTS = (
    IPv6Network("2001::/23"),  # Teredo, ORCHID and other special purposes (RFC 2928)
    IPv6Network("2001:db8::/32"),
    IPv6Network("2002::/16"),  # 6to4: holds an IPv4 address
    IPv6Network("3fff::/20"),
    IPv4Network("192.88.99.0/24"),  # 6to4 relays
)


def refusal(address: str, port: int, allowed: Collection[Network] = ()) -> str:
    """Why a request does not go to an address; "" where it does. In the networks allowed every port is."""
    ip = ip_address(address)
    if any(ip in network for network in allowed):
        return ""
    if not _is_public(ip):
        return f"{ip} is not a public address"
    return "" if port in PORTS else f"port {port} is none of {', '.join(map(str, PORTS))}"


def _is_public(ip: IPv4Address | IPv6Address) -> bool:
    if any(ip in network for network in _NOT_FOR_HOSTS) or not ip.is_global:
        return False
    return ip in _GLOBAL_UNICAST if ip.version == 6 else not (ip.is_multicast or ip.is_reserved)
