"""A set of IP networks with look-ups cheap enough for every click."""

from __future__ import annotations

from ipaddress import IPv4Network, IPv6Network, ip_network
from socket import AF_INET, AF_INET6, inet_ntop, inet_pton

_V4_BITS = 32
_V6_BITS = 128
_MAPPED = IPv6Network("::ffff:0:0/96")  # IPv4 in IPv6 (RFC 4291, section 2.5.5.2)

_Prefixes = dict[int, dict[int, int]]
"""Host bits → network without its host bits → number of additions. Fewest host bits first."""


class Networks:
    """IPv4 and IPv6 networks, each counted as often as it was added.

    A search takes one dict look-up for each prefix length in use: 100,000 networks cost as much as ten.
    """

    def __init__(self) -> None:
        self._v4: _Prefixes = {}
        self._v6: _Prefixes = {}

    def __bool__(self) -> bool:
        return bool(self._v4 or self._v6)

    def add(self, cidr: str) -> None:
        """Add an address or CIDR (RFC 4632, RFC 4291), whose host bits may be set.

        Raises:
            ValueError: it is neither.
        """
        prefixes, host_bits, prefix = self._place(cidr)
        if host_bits not in prefixes:
            prefixes[host_bits] = {}
            _sort(prefixes)
        counts = prefixes[host_bits]
        counts[prefix] = counts.get(prefix, 0) + 1

    def discard(self, cidr: str) -> None:
        """Take one addition back, if there was one.

        Raises:
            ValueError: it is neither an address nor a CIDR.
        """
        prefixes, host_bits, prefix = self._place(cidr)
        counts = prefixes.get(host_bits, {})
        left = counts.pop(prefix, 0) - 1
        if left > 0:
            counts[prefix] = left
        elif left == 0 and not counts:
            del prefixes[host_bits]

    def find(self, ip: str) -> str | None:
        """The narrowest network with the address, as CIDR. None without one, or if `ip` is "".

        `ip`: "", or as edge.read.client_address.plain_address returns it.
        """
        if not ip:
            return None
        family, bits, prefixes = (
            (AF_INET6, _V6_BITS, self._v6) if ":" in ip else (AF_INET, _V4_BITS, self._v4)
        )
        if not prefixes:
            return None
        address = int.from_bytes(inet_pton(family, ip))
        for host_bits, counts in prefixes.items():
            prefix = address >> host_bits
            if prefix in counts:
                network = (prefix << host_bits).to_bytes(bits // 8)
                return f"{inet_ntop(family, network)}/{bits - host_bits}"
        return None

    def _place(self, cidr: str) -> tuple[_Prefixes, int, int]:
        network = _network(cidr)
        host_bits = network.max_prefixlen - network.prefixlen
        prefixes = self._v4 if isinstance(network, IPv4Network) else self._v6
        return prefixes, host_bits, int(network.network_address) >> host_bits


def _network(cidr: str) -> IPv4Network | IPv6Network:
    try:
        network = ip_network(cidr, strict=False)
    except ValueError:
        raise ValueError(f"not an IP address or CIDR: {cidr[:60]!r}") from None
    if isinstance(network, IPv4Network):
        return network
    if network.network_address.scope_id:
        raise ValueError(f"an address with a zone is not a network: {cidr[:60]!r}")
    if network.subnet_of(_MAPPED):
        mapped = int(network.network_address) & 0xFFFF_FFFF
        return IPv4Network((mapped, network.prefixlen - _MAPPED.prefixlen))
    return network


def _sort(prefixes: _Prefixes) -> None:
    """Put the narrowest networks first, in place."""
    for host_bits in sorted(prefixes):
        prefixes[host_bits] = prefixes.pop(host_bits)
