"""Writes small mmdb files for tests, after https://maxmind.github.io/MaxMind-DB/."""

from collections.abc import Mapping, Sequence
from ipaddress import ip_network
from pathlib import Path
from typing import NamedTuple

_MARKER = b"\xab\xcd\xefMaxMind.com"
_STRING, _UINT16, _UINT32, _MAP, _UINT64, _ARRAY, _BOOL = 2, 5, 6, 7, 9, 11, 14


class _Uint(NamedTuple):
    kind: int
    number: int


def write_mmdb(
    path: Path,
    kind: str,
    networks: Mapping[str, object],
    ip_version: int = 6,
    record_size: int = 24,
    aliases: Sequence[str] = (),
    built: int = 1_700_000_000,
) -> Path:
    """A database of this type. Networks with the same record share its place in the file.

    IPv4 networks lie at ::/96 of the tree. `aliases`: IPv6 networks that lead there too.
    """
    nodes: list[list[int | bytes | None]] = [[None, None]]
    for text, record in networks.items():
        _insert(nodes, _bits(text, ip_version), _encode(record))
    for text in aliases:
        _insert(nodes, _bits(text, ip_version), _ipv4_node(nodes))
    tree, data, places = b"", b"", dict[bytes, int]()
    for node in nodes:
        records = []
        for side in node:
            if isinstance(side, bytes):
                if side not in places:
                    places[side] = len(data)
                    data += side
                records.append(len(nodes) + 16 + places[side])
            else:
                records.append(len(nodes) if side is None else side)
        tree += node_bytes(*records, record_size)
    metadata = {
        "binary_format_major_version": _Uint(_UINT16, 2),
        "binary_format_minor_version": _Uint(_UINT16, 0),
        "build_epoch": _Uint(_UINT64, built),
        "database_type": kind,
        "description": {"en": "for tests"},
        "ip_version": _Uint(_UINT16, ip_version),
        "languages": ["en"],
        "node_count": len(nodes),
        "record_size": _Uint(_UINT16, record_size),
    }
    path.write_bytes(tree + bytes(16) + data + _MARKER + _encode(metadata))
    return path


def node_bytes(left: int, right: int, record_size: int) -> bytes:
    """A node. With 28 bits, the byte in the middle begins with the highest 4 bits of the left record."""
    if record_size == 28:
        left = left % (1 << 24) << 4 | left >> 24
    return (left << record_size | right).to_bytes(record_size // 4, "big")


def _bits(text: str, ip_version: int) -> str:
    network = ip_network(text)
    width = network.max_prefixlen
    bits = format(int(network.network_address), f"0{width}b")[: network.prefixlen]
    return "0" * 96 + bits if ip_version == 6 and network.version == 4 else bits


def _insert(nodes: list[list[int | bytes | None]], bits: str, record: bytes | int) -> None:
    at = 0
    for bit in map(int, bits[:-1]):
        following = nodes[at][bit]
        if following is None:
            nodes.append([None, None])
            nodes[at][bit] = following = len(nodes) - 1
        assert isinstance(following, int), "networks must not overlap"
        at = following
    nodes[at][int(bits[-1])] = record


def _ipv4_node(nodes: list[list[int | bytes | None]]) -> int:
    at = 0
    for _ in range(96):
        following = nodes[at][0]
        assert isinstance(following, int), "an alias needs networks of IPv4"
        at = following
    return at


def _encode(value: object) -> bytes:
    match value:
        case bool():
            return _control(_BOOL, int(value))
        case _Uint(kind, number):
            raw = number.to_bytes((number.bit_length() + 7) // 8, "big")
            return _control(kind, len(raw)) + raw
        case int():
            return _encode(_Uint(_UINT32, value))
        case str():
            raw = value.encode()
            return _control(_STRING, len(raw)) + raw
        case dict():
            return _control(_MAP, len(value)) + b"".join(_encode(k) + _encode(v) for k, v in value.items())
        case list():
            return _control(_ARRAY, len(value)) + b"".join(map(_encode, value))
    raise TypeError(type(value))


def _control(kind: int, size: int) -> bytes:
    small = min(size, 29)
    first = bytes([small]) + bytes([kind - 7]) if kind > 7 else bytes([kind << 5 | small])
    return first + (bytes([size - 29]) if small == 29 else b"")
