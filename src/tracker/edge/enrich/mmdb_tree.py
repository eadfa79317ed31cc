"""Finds where in an mmdb file the record of an address lies, without reading the record.

maxminddb tells no position. Its look-up always reads the whole record, which takes most of its time. Many
networks share one record, so a place that was read once can be remembered by its position.

The format is that of the MaxMind DB File Format Specification 2.0, "Binary Search Tree Section":
https://maxmind.github.io/MaxMind-DB/. The tree is walked as maxminddb walks it.
"""

from __future__ import annotations

from mmap import ACCESS_READ, mmap
from struct import Struct
from typing import Final

MOST_REMEMBERED: Final = 65_536
"""Most networks that are remembered, and most blocks of networks."""
DAMAGED: Final = 0
"""The position of an address whose way through the tree ends nowhere. The tree itself is there."""

_IPV4_BYTES: Final = 4
# Bytes of a block of networks, and of a network. Of IPv6: a provider's, and a customer's largest (RFC 6177).
_BLOCK_OF_IPV4: Final = 2
_NETWORK_OF_IPV4: Final = 3
_BLOCK_OF_IPV6: Final = 4
_NETWORK_OF_IPV6: Final = 6
_ZEROS_BEFORE_IPV4 = bytes(12)  # a tree of IPv6 has the IPv4 networks at ::/96
_read_word: Final = Struct(">I").unpack_from


class SearchTree:
    """The search tree of one file. Each node has two records: where to go on for the next bit 0, and for 1.

    A record is a number. One below the count of nodes is the next node. The count itself says that there are
    no data. A number above it is a position in the data.
    """

    def __init__(self, descriptor: int, node_count: int, record_size: int, ip_version: int) -> None:
        """Map the tree of an open file, whose descriptor may be closed afterwards.

        The numbers are those of the file's metadata, which maxminddb has judged. `record_size`: 24, 28 or 32
        bits.

        Raises:
            OSError: the file cannot be mapped.
            ValueError: the file is shorter than its tree.
        """
        self._count = node_count
        self._node_bytes = record_size // 4
        self._right = self._node_bytes - 4  # records are read as the first and the last 32 bits of a node
        self._right_mask = (1 << record_size) - 1
        self._left_shift = 0 if record_size == 32 else 8
        self._left_top = 0xF0 if record_size == 28 else 0  # its highest bits are in the byte of the middle
        self._tree = mmap(descriptor, node_count * self._node_bytes, access=ACCESS_READ)
        self._has_ipv6 = ip_version == 6
        self._ipv4_start = self._walk(0, _ZEROS_BEFORE_IPV4) if self._has_ipv6 else 0
        self._networks: dict[bytes, int] = {}
        self._blocks: dict[bytes, int] = {}

    def find(self, address: bytes) -> int:
        """The position of an address, given as 4 or 16 bytes in network order: below 2**32. Never raises.

        Addresses with the same position have the same record, or none. Only DAMAGED says nothing.
        """
        length = _NETWORK_OF_IPV4 if len(address) == _IPV4_BYTES else _NETWORK_OF_IPV6
        node = self._networks.get(address[:length])
        if node is None:
            node = self._after_network(address[:length])
        if node < self._count:
            node = self._walk(node, address[length:])
        return node if node >= self._count else DAMAGED

    def close(self) -> None:
        self._tree.close()

    def _after_network(self, network: bytes) -> int:
        if len(network) == _NETWORK_OF_IPV4:
            node = self._after_block(self._ipv4_start, network[:_BLOCK_OF_IPV4])
            node = self._walk(node, network[_BLOCK_OF_IPV4:])
        elif self._has_ipv6:
            node = self._after_block(0, network[:_BLOCK_OF_IPV6])
            node = self._walk(node, network[_BLOCK_OF_IPV6:])
        else:
            node = self._count
        if len(self._networks) >= MOST_REMEMBERED:
            self._networks.clear()
        self._networks[network] = node
        return node

    def _after_block(self, start: int, block: bytes) -> int:
        node = self._blocks.get(block)
        if node is None:
            node = self._walk(start, block)
            if len(self._blocks) >= MOST_REMEMBERED:
                self._blocks.clear()
            self._blocks[block] = node
        return node

    def _walk(self, node: int, way: bytes) -> int:
        """The record at the end of the way, or the first one on it that is no node."""
        tree, count, size, right = self._tree, self._count, self._node_bytes, self._right
        mask, shift, top = self._right_mask, self._left_shift, self._left_top
        for byte in way:
            for bit in range(7, -1, -1):
                if node >= count:
                    return node
                goes_right = byte >> bit & 1
                word: int = _read_word(tree, node * size + (right if goes_right else 0))[0]
                node = word & mask if goes_right else word >> shift | (word & top) << 20
        return node
