"""What exports are made of: JSON values, row after row, of some rows at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import orjson

from tracker.store.paging import Row

Block = list[bytes]

_ROWS = 100
"""As many as take little memory, which is then still warm."""


def blocks_of(rows: Sequence[Row], keys: Sequence[str]) -> Iterator[Block]:
    for start in range(0, len(rows), _ROWS):
        yield [orjson.dumps(row[key]) for row in rows[start : start + _ROWS] for key in keys]
