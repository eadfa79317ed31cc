"""Exports clicks: Postgres writes JSON values, Python only joins them to rows.

Fetching columns as Python values takes twice as long.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterable, Iterator, Sequence
from datetime import tzinfo
from functools import lru_cache, partial
from typing import NamedTuple

import orjson

from tracker.store import feeds, standby
from tracker.store.clicks import columns as click_columns
from tracker.store.clicks import counts as click_counts
from tracker.store.clicks import kept
from tracker.store.clicks import list as click_list
from tracker.store.clicks.list import Chosen, ClickFilter
from tracker.store.db import Connection, Pool
from tracker.store.json_chunks import Block, blocks_of
from tracker.store.paging import Order, reading

CHUNK_ROWS = 5_000
"""Rows that are read together: some 3 MB, of which two are in memory."""

_BLOCK_BYTES = 1 << 15
_VALUE_END, _ROW_END = b"\x01", b"\n"
_CONTROLS = bytes(range(0x20))
_NULL = b"null"
_NEEDED = ("hash", "created_at")  # the position of the next chunk, and the time that is made of the hash
_SECOND_ENDS = tuple(b'%02d"' % second for second in range(60))


class DroppedMeanwhileError(Exception):
    """Retention dropped rows of an export that had begun. It must not look complete."""


class _Chunk(NamedTuple):
    blocks: Iterable[Block]
    rows: int
    last_hash: str


async def export(
    pool: Pool, clicks: ClickFilter, order: Order, keys: Sequence[str]
) -> AsyncGenerator[Iterable[Block], None]:
    """All clicks of a filter that are stored at the first chunk, in chunks of blocks with some keys.

    Between chunks it holds no connection and no snapshot, however slow the reader is.
    """

    async def begin(pool: Pool) -> tuple[int, list[ClickFilter]]:
        async with reading(pool, "repeatable_read") as connection:
            newest = await feeds.given(connection, feeds.CLICKS)
            kept_clicks = await click_list.kept_of(connection, clicks)
            return newest, await _pieces(connection, kept_clicks, order)

    async def go_on(piece: ClickFilter, after: str | None, pool: Pool) -> _Chunk:
        async with reading(pool, "read_committed") as connection:
            chosen = await click_list.choose(
                connection, piece, order, CHUNK_ROWS, after=after, newest_id=newest
            )
            chunk = await _read(connection, chosen, order.zone, keys)
            if piece.span.low < await kept.since(connection):
                raise DroppedMeanwhileError("days of this export were dropped while it was read")
            return chunk

    newest, pieces = await standby.read(pool, begin)
    for piece in pieces:
        last: str | None = None
        while True:
            chunk = await standby.read(pool, partial(go_on, piece, last))
            if chunk.rows:
                yield chunk.blocks
            if chunk.rows < CHUNK_ROWS:
                break
            last = chunk.last_hash


async def _pieces(connection: Connection, clicks: ClickFilter, order: Order) -> list[ClickFilter]:
    """A filter in pieces: planning for the partitions of a few days takes a fraction of the time for all."""
    if clicks.is_of_conversions:
        return [clicks]
    counted = await click_counts.days(connection, clicks.tally or click_counts.ALL_CLICKS, clicks.span)
    spans = click_counts.cut(clicks.span, counted, CHUNK_ROWS)
    return [clicks._replace(span=span) for span in (reversed(spans) if order.newest_first else spans)]


async def _read(connection: Connection, chosen: Chosen, zone: tzinfo, keys: Sequence[str]) -> _Chunk:
    parts: list[bytes] = []
    needed = [key for key in _NEEDED if key not in keys]
    keys = [*keys, *needed]

    async def take(part: bytes) -> None:
        parts.append(part)

    # A value that CSV quotes is a JSON string, unless it has control characters. It may contain a comma.
    status = await connection.copy_from_query(
        click_columns.select_json(chosen.clicks, chosen.sort, chosen.viewer, keys),
        *chosen.values,
        output=take,
        format="csv",
        delimiter=_VALUE_END.decode(),
        null=_NULL.decode(),
        escape="\\",
        force_quote=[key for key in keys if key in click_columns.TEXTS],
    )
    text, rows = b"".join(parts), int(status.removeprefix("COPY "))
    if not rows:
        return _Chunk((), 0, "")
    if not _is_plain(text, rows, len(keys)):
        found = await click_list.rows(connection, chosen, zone)
        blocks: Iterable[Block] = blocks_of(found, keys[: len(keys) - len(needed)])
        return _Chunk(blocks, len(found), str(found[-1]["hash"]))
    last = text[text.rfind(_ROW_END, 0, -1) + 1 :].split(_VALUE_END)
    blocks = _blocks(text, keys, zone)
    if needed:
        blocks = (_without_last(block, len(keys), len(needed)) for block in blocks)
    return _Chunk(blocks, rows, str(orjson.loads(last[keys.index("hash")])))


def _without_last(block: Block, width: int, number: int) -> Block:
    """The rows of a block without their last values."""
    for place in range(number):
        del block[width - place - 1 :: width - place]
    return block


def _is_plain(text: bytes, rows: int, keys: int) -> bool:
    """Whether no value has a control character. Then the only ones are the separators after values."""
    return len(text) - len(text.translate(None, _CONTROLS)) == rows * (keys + 1)


def _blocks(text: bytes, keys: Sequence[str], zone: tzinfo) -> Iterator[Block]:
    width, hash_at, created_at = len(keys), keys.index("hash"), keys.index("created_at")
    start = 0
    while start < len(text):
        end = text.find(_ROW_END, start + _BLOCK_BYTES)
        rows, start = text[start:end], len(text) if end < 0 else end + 1
        block = rows.replace(_ROW_END, _VALUE_END).split(_VALUE_END)
        conversions = block[width :: width + 1]
        del block[width :: width + 1]
        block[created_at::width] = [_created(hash_, zone) for hash_ in block[hash_at::width]]
        for number, told in enumerate(conversions):
            if told != _NULL:
                _tell(block, slice(number * width, (number + 1) * width), keys, told)
        yield block


def _created(hash_: bytes, zone: tzinfo) -> bytes:
    minute, millis = divmod(int(hash_[1:13], 16), 60_000)
    start = _minute_start(minute, zone)
    if start:
        return start + _SECOND_ENDS[millis // 1000]
    return b'"%b"' % click_columns.local_second(minute * 60 + millis // 1000, zone).encode()


@lru_cache(4096)
def _minute_start(minute: int, zone: tzinfo) -> bytes:
    """The JSON text of a minute up to its seconds. Empty if the zone was not ahead by whole minutes."""
    start = click_columns.local_second(minute * 60, zone)
    return b'"%b' % start[:-2].encode() if start.endswith("00") else b""


def _tell(block: Block, where: slice, keys: Sequence[str], conversions: bytes) -> None:
    """Complete a row with the values of its conversions."""
    row = dict(zip(keys, map(orjson.loads, block[where]), strict=True))
    click_columns.tell(row, orjson.loads(orjson.loads(conversions)))
    block[where] = [orjson.dumps(row[key]) for key in keys]
