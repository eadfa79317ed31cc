"""The partition of a visitor's clicks."""

from __future__ import annotations


def partition_of(visitor_key: int, partitions: int) -> int:
    """The partition of all clicks of one visitor, so that it knows which are unique."""
    return visitor_key % partitions
