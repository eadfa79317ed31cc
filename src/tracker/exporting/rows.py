"""Writes clicks and conversions as the API exports them."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Iterable, Sequence
from contextlib import aclosing
from typing import IO

from tracker.api.http.exports import format_of
from tracker.reading.query import FileQuery
from tracker.store.json_chunks import Block

NEEDED = ("hash", "created_at")
"""Keys that the store reads a row by."""


async def write(
    chunks: AsyncGenerator[Iterable[Block], None],
    keys: Sequence[str],
    shown: Sequence[str],
    query: FileQuery,
    out: IO[bytes],
    *,
    limit: int | None = None,
    tell: Callable[[int], None] = lambda _rows: None,
) -> None:
    """Write each block of rows with `keys` as soon as it is read, with the keys of `shown` in their order.

    `limit`: the most rows. None: all. `tell` gets the number of rows so far.
    """
    write_head, writer, _, _ = format_of(query)
    rows_as_file = writer(shown)
    places = [keys.index(key) for key in shown]
    is_whole = places == list(range(len(keys)))
    out.write(write_head(shown))
    rows = 0
    async with aclosing(chunks):
        async for blocks in chunks:
            for block in blocks:
                left = len(block) if limit is None else (limit - rows) * len(keys)
                if left <= 0:
                    return
                part = block[:left]
                out.write(rows_as_file(part if is_whole else _chosen(part, len(keys), places)))
                rows += len(part) // len(keys)
            tell(rows)


def _chosen(block: Block, width: int, places: Sequence[int]) -> Block:
    """Some columns of rows."""
    chosen = [b""] * (len(block) // width * len(places))
    for n, place in enumerate(places):
        chosen[n :: len(places)] = block[place::width]
    return chosen
