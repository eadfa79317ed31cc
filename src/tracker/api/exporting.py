"""Exports: rows as they come, as NDJSON or CSV."""

from __future__ import annotations

from asyncio import create_task, sleep
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from typing import Literal

import orjson
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from tracker.api.problems import SECURITY_HEADERS
from tracker.store.click_list import Row

CSV = "text/csv; charset=utf-8; header=present"

_Write = Callable[[list[Row]], bytes]

_WRITTEN_AT_ONCE = 100
"""Rows: as many as take little memory, which is then still warm."""


async def answer_export(
    request: Request,
    chunks: AsyncIterator[list[Row]],
    *,
    name: str,
    keys: Iterable[str],
    format_: Literal["ndjson", "csv"],
    headers: Mapping[str, str],
) -> Response:
    """All chunks as a file."""
    disposition = f'attachment; filename="{name}.{format_}"'
    headers = {**SECURITY_HEADERS, **headers, "Content-Disposition": disposition}
    head, write, media_type = _FORMATS[format_]
    if request.method == "HEAD":
        return Response(headers=headers, media_type=media_type)
    # The first chunk is read before the answer begins, so that what fails at once is answered as an error.
    first = await _next(chunks)
    stream = _stream(head(keys), first, chunks, write)
    return StreamingResponse(stream, headers=headers, media_type=media_type)


def csv_header(keys: Iterable[str]) -> bytes:
    return (",".join(keys) + "\r\n").encode()


def csv_rows(rows: list[Row]) -> bytes:
    return "".join(",".join(map(_csv_value, row.values())) + "\r\n" for row in rows).encode()


async def _stream(
    head: bytes, rows: list[Row], chunks: AsyncIterator[list[Row]], write: _Write
) -> AsyncIterator[bytes]:
    yield head
    while rows:
        following = create_task(_next(chunks))  # Postgres works on it while these are written
        try:
            for start in range(0, len(rows), _WRITTEN_AT_ONCE):
                await sleep(0)  # a fast client's stream would not let anything else run
                yield write(rows[start : start + _WRITTEN_AT_ONCE])
            rows = await following
        finally:
            following.cancel()


async def _next(chunks: AsyncIterator[list[Row]]) -> list[Row]:
    return await anext(chunks, [])


def _ndjson(rows: list[Row]) -> bytes:
    return b"".join(orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE) for row in rows)


def _csv_value(value: object) -> str:
    if isinstance(value, str):
        return '"' + value.replace('"', '""') + '"'
    return "" if value is None else str(value).lower()  # an id, true or false


_FORMATS: dict[str, tuple[Callable[[Iterable[str]], bytes], _Write, str]] = {
    "ndjson": (lambda _keys: b"", _ndjson, "application/x-ndjson"),
    "csv": (csv_header, csv_rows, CSV),
}
