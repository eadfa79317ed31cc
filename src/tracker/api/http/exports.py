"""Exports: streams of rows as NDJSON, as CSV, or as CSV for spreadsheets."""

from __future__ import annotations

from asyncio import FIRST_COMPLETED, Task, create_task, sleep, wait
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from tracker.api.http.problems import SECURITY_HEADERS, Problem
from tracker.domain.spreadsheet import defused
from tracker.reading.query import FileQuery
from tracker.store.json_chunks import Block
from tracker.store.paging import Row

CSV = "text/csv; charset=utf-8; header=present"
NDJSON = "application/x-ndjson"

STREAMED = (NDJSON, "text/csv")
"""Media types of an export, without their parameters."""

MOST_RUNNING = 32
"""Most exports that run at a time. Each holds two chunks, some 8 MB, until its client has read them. A client
that reads nothing is cut off (protocol.SEND_SECONDS)."""
MOST_OF_A_TOKEN = 4
"""Most exports of one token that run at a time, so that other tokens find a place."""

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"  # spreadsheets take a file without one for the machine's own code page
_RETRY_AFTER = {"Retry-After": "10"}  # seconds

_Chunks = AsyncGenerator[Iterable[Block], None]
_Write = Callable[[Block], bytes]


class RunningExports:
    """The number of running exports, by token."""

    def __init__(self) -> None:
        self._of_token: Counter[int] = Counter()

    @property
    def number(self) -> int:
        return self._of_token.total()

    @contextmanager
    def one_more(self, token_id: int) -> Iterator[None]:
        """Take a place for an export of a token.

        Raises:
            Problem: 429 if the token runs MOST_OF_A_TOKEN already, 503 if all tokens run MOST_RUNNING.
        """
        if self._of_token[token_id] >= MOST_OF_A_TOKEN:
            detail = f"This token has {MOST_OF_A_TOKEN} exports running. Try again when one has ended."
            raise Problem(429, detail, headers=_RETRY_AFTER)
        if self.number >= MOST_RUNNING:
            raise Problem(503, f"{MOST_RUNNING} exports are running. Try again later.", headers=_RETRY_AFTER)
        self._of_token[token_id] += 1
        try:
            yield
        finally:
            self._of_token[token_id] -= 1
            self._of_token += Counter()  # drops tokens without exports


async def answer_export(
    request: Request,
    chunks: _Chunks,
    *,
    name: str,
    keys: Sequence[str],
    query: FileQuery,
) -> Response:
    """All chunks as a file.

    Raises:
        Problem: 422 for a separator with a format that has none.
    """
    query.check_separator()
    write_head, writer, media_type, extension = format_of(query)
    disposition = f'attachment; filename="{name}.{extension}"'
    headers = {**SECURITY_HEADERS, "Content-Disposition": disposition}
    if request.method == "HEAD":
        return Response(headers=headers, media_type=media_type)
    place = request.app.state.exports.one_more(request.state.token_id)
    return _Export(place, write_head(keys), chunks, writer(keys), headers=headers, media_type=media_type)


class _Export(Response):
    """A streamed answer. It ends when its client leaves.

    Starlette's StreamingResponse runs in a task group that keeps the error which cancels it, and that error's
    traceback keeps the frames of the stream: a cycle, which holds two chunks until a collector finds it. Here
    no frame keeps an error that it has raised, so what an abandoned export held is free once it has ended.
    """

    def __init__(self, place: Any, head: bytes, chunks: _Chunks, write: _Write, **more: Any) -> None:
        super().__init__(**more)
        del self.headers["content-length"]
        self._place = place
        self._head = head
        self._chunks = chunks
        self._write = write

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with self._place:
            sending, leaving = create_task(self._send(send)), create_task(_left(receive))
            try:
                await wait((sending, leaving), return_when=FIRST_COMPLETED)
                if sending.done():
                    sending.result()
            finally:
                await _end(sending, leaving)
                del sending  # it keeps its error, which keeps this frame

    async def _send(self, send: Send) -> None:
        ahead = create_task(_next(self._chunks))
        try:
            # The first chunk is read before the answer begins: what fails at once is answered as an error.
            blocks = await ahead
            await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
            await send({"type": "http.response.body", "body": self._head, "more_body": True})
            while blocks is not None:
                ahead = create_task(_next(self._chunks))  # Postgres works on it while these are written
                for block in blocks:
                    await sleep(0)  # a fast client's stream would not let anything else run
                    await send({"type": "http.response.body", "body": self._write(block), "more_body": True})
                blocks = await ahead
            await send({"type": "http.response.body", "body": b"", "more_body": False})
        finally:
            await _end(ahead)
            del ahead  # it keeps its error, which keeps this frame
            await self._chunks.aclose()


async def _left(receive: Receive) -> None:
    """Wait until the client leaves."""
    while (await receive())["type"] != "http.disconnect":
        pass


async def _next(chunks: _Chunks) -> Iterable[Block] | None:
    return await anext(chunks, None)


async def _end(*tasks: Task[Any]) -> None:
    """Cancel tasks and wait for their end."""
    for task in tasks:
        task.cancel()
    await wait(tasks)


def csv_file(keys: Iterable[str], rows: Iterable[Row]) -> bytes:
    """Rows as CSV for programs: every value as it is."""
    body = (b",".join(map(_csv_value, map(orjson.dumps, row.values()))) + b"\r\n" for row in rows)
    return _header(keys, ",") + b"".join(body)


def excel_file(keys: Iterable[str], rows: Iterable[Row], separator: str) -> bytes:
    """Rows as CSV for spreadsheets."""
    between = separator.encode()
    body = (between.join(map(_excel_value, map(orjson.dumps, row.values()))) + b"\r\n" for row in rows)
    return _BYTE_ORDER_MARK + _header(keys, separator) + b"".join(body)


def _header(keys: Iterable[str], separator: str) -> bytes:
    return (separator.join(keys) + "\r\n").encode()


def _ndjson(keys: Sequence[str]) -> _Write:
    start, *between = [
        b'%b"%b":' % (b"," if number else b"{", key.encode()) for number, key in enumerate(keys)
    ]
    return lambda block: _set(block, start, between, b"}\n")


def _csv(keys: Sequence[str]) -> _Write:
    between = [b","] * (len(keys) - 1)

    def write(block: Block) -> bytes:
        # A text without escapes is its own cell, and a call for each value would take most of the time.
        rows = _set([b"" if value == b"null" else value for value in block], b"", between, b"\r\n")
        return rows if b"\\" not in rows else _set(list(map(_csv_value, block)), b"", between, b"\r\n")

    return write


def _excel(keys: Sequence[str], separator: str) -> _Write:
    between = [separator.encode()] * (len(keys) - 1)
    return lambda block: _set(list(map(_excel_value, block)), b"", between, b"\r\n")


def _set(block: Block, start: bytes, between: Sequence[bytes], end: bytes) -> bytes:
    """Rows, each from `start` to `end`, with `between` between their values."""
    parts = [b""] * (2 * len(block))
    parts[::2] = [end + start, *between] * (len(block) // (len(between) + 1))
    parts[1::2] = block
    parts[0] = start
    return b"".join(parts) + end


def _csv_value(value: bytes) -> bytes:
    """A JSON value as a cell. The value is not an object or an array."""
    if value == b"null":
        return b""
    if b"\\" not in value:
        return value
    return b'"%b"' % orjson.loads(value).replace('"', '""').encode()


def _excel_value(value: bytes) -> bytes:
    """A JSON value as a cell that a spreadsheet does not take for a formula."""
    if value[1:2] not in _MAY_BE_FORMULA or value[:1] != b'"':
        return _csv_value(value)
    return b'"%b"' % defused(orjson.loads(value)).replace('"', '""').encode()


# How a text may begin that is a formula: a sign, an apostrophe, a blank, an escape of JSON, a byte of UTF-8.
_MAY_BE_FORMULA = frozenset(bytes([byte]) for byte in (*b"=+-@' \\", *range(0x80, 0x100)))


class FileFormat(NamedTuple):
    """How rows become a file."""

    write_head: Callable[[Sequence[str]], bytes]
    writer: Callable[[Sequence[str]], _Write]
    media_type: str
    extension: str


def format_of(query: FileQuery) -> FileFormat:
    """The format of an export."""
    separator = query.separator or ","
    if query.format == "excel":
        return FileFormat(
            lambda keys: _BYTE_ORDER_MARK + _header(keys, separator),
            lambda keys: _excel(keys, separator),
            CSV,
            "csv",
        )
    if query.format == "csv":
        return FileFormat(lambda keys: _header(keys, ","), _csv, CSV, "csv")
    return FileFormat(lambda _keys: b"", _ndjson, NDJSON, "ndjson")
