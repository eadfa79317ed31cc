"""Exports: rows as they come, as NDJSON or CSV."""

from __future__ import annotations

from asyncio import create_task, sleep
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from typing import Literal

import orjson
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from tracker.api.problems import SECURITY_HEADERS
from tracker.store.blocks import Block
from tracker.store.click_row import Row

CSV = "text/csv; charset=utf-8; header=present"

_Write = Callable[[Block], bytes]


async def answer_export(
    request: Request,
    chunks: AsyncIterator[Iterable[Block]],
    *,
    name: str,
    keys: Sequence[str],
    format_: Literal["ndjson", "csv"],
    headers: Mapping[str, str],
) -> Response:
    """All chunks as a file."""
    disposition = f'attachment; filename="{name}.{format_}"'
    headers = {**SECURITY_HEADERS, **headers, "Content-Disposition": disposition}
    write_head, writer, media_type = _FORMATS[format_]
    if request.method == "HEAD":
        return Response(headers=headers, media_type=media_type)
    # The first chunk is read before the answer begins, so that what fails at once is answered as an error.
    first = await _next(chunks)
    stream = _stream(write_head(keys), first, chunks, writer(keys))
    return StreamingResponse(stream, headers=headers, media_type=media_type)


def csv_header(keys: Iterable[str]) -> bytes:
    return (",".join(keys) + "\r\n").encode()


def csv_rows(rows: Iterable[Row]) -> bytes:
    return b"".join(b",".join(map(_csv_value, map(orjson.dumps, row.values()))) + b"\r\n" for row in rows)


async def _stream(
    head: bytes, blocks: Iterable[Block] | None, chunks: AsyncIterator[Iterable[Block]], write: _Write
) -> AsyncIterator[bytes]:
    yield head
    while blocks is not None:
        following = create_task(_next(chunks))  # Postgres works on it while these are written
        try:
            for block in blocks:
                await sleep(0)  # a fast client's stream would not let anything else run
                yield write(block)
            blocks = await following
        finally:
            following.cancel()


async def _next(chunks: AsyncIterator[Iterable[Block]]) -> Iterable[Block] | None:
    return await anext(chunks, None)


def _ndjson(keys: Sequence[str]) -> _Write:
    start, *between = [
        b'%b"%b":' % (b"," if number else b"{", key.encode()) for number, key in enumerate(keys)
    ]
    return lambda block: _set(block, start, between, b"}\n")


def _csv(keys: Sequence[str]) -> _Write:
    between = [b","] * (len(keys) - 1)
    return lambda block: _set(list(map(_csv_value, block)), b"", between, b"\r\n")


def _set(block: Block, start: bytes, between: Sequence[bytes], end: bytes) -> bytes:
    """Rows, each from `start` to `end`, with `between` between their values."""
    parts = [b""] * (2 * len(block))
    parts[::2] = [end + start, *between] * (len(block) // (len(between) + 1))
    parts[1::2] = block
    parts[0] = start
    return b"".join(parts) + end


def _csv_value(value: bytes) -> bytes:
    """Of a JSON value that is no object and no array."""
    if value == b"null":
        return b""
    if b"\\" not in value:
        return value
    return b'"%b"' % orjson.loads(value).replace('"', '""').encode()


_FORMATS: dict[str, tuple[Callable[[Iterable[str]], bytes], Callable[[Sequence[str]], _Write], str]] = {
    "ndjson": (lambda _keys: b"", _ndjson, "application/x-ndjson"),
    "csv": (csv_header, _csv, CSV),
}
