"""Chunks of an export: the JSON values of some rows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import orjson

from tracker.store.paging import Row

Block = list[bytes]

_ROWS = 100
"""A number of rows that needs little memory and stays in the caches."""


def blocks_of(rows: Sequence[Row], keys: Sequence[str]) -> Iterator[Block]:
    for start in range(0, len(rows), _ROWS):
        yield [orjson.dumps(row[key]) for row in rows[start : start + _ROWS] for key in keys]
