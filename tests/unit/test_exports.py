"""The memory of an export while it runs and after each kind of end."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncGenerator, Iterable, Iterator
from contextlib import ExitStack
from types import NoneType
from typing import Any
from weakref import ref

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.types import Message

from tracker.api.http.exports import MOST_OF_A_TOKEN, MOST_RUNNING, RunningExports, answer_export
from tracker.api.http.problems import Problem
from tracker.reading.query import FormatQuery
from tracker.store.json_chunks import Block

pytestmark = pytest.mark.anyio

HOW_THEY_END = ("whole", "client leaves", "client stalls and is cut", "rows fail", "server stops")


class Rows(list[Block]):
    """A chunk that can be weakly referenced."""


class Export:
    """An export of endless chunks, ended in one of the ways after its first."""

    def __init__(self, end: str) -> None:
        self.end = end
        self.app = Starlette()
        self.app.state.exports = RunningExports()
        self.chunks: list[ref[Rows]] = []
        self.is_closed = False
        self.sent: list[Message] = []
        self.left, self.reached = asyncio.Event(), asyncio.Event()

    async def run(self) -> None:
        scope = {"type": "http", "method": "GET", "headers": [], "app": self.app, "state": {"token_id": 7}}
        answer = await answer_export(
            Request(scope), self.rows(), name="rows", keys=("a",), query=FormatQuery()
        )
        answering = asyncio.create_task(answer(scope, self.receive, self.send))
        await self.reached.wait()
        if self.end in ("client leaves", "client stalls and is cut"):
            self.left.set()
        if self.end == "server stops":
            answering.cancel()
        await asyncio.wait([answering])
        if not answering.cancelled():
            assert isinstance(answering.exception(), RuntimeError if self.end == "rows fail" else NoneType)

    async def rows(self) -> AsyncGenerator[Iterable[Block], None]:
        try:
            for number in range(3):
                rows = Rows([[b"1"]])
                self.chunks.append(ref(rows))
                yield rows
                if number and self.end == "rows fail":
                    self.reached.set()
                    raise RuntimeError
                if number and self.end in ("client leaves", "server stops"):
                    self.reached.set()
                    await asyncio.Event().wait()
        finally:
            self.is_closed = True

    async def receive(self) -> Message:
        await self.left.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        self.sent.append(message)
        if self.end == "client stalls and is cut" and message.get("body"):
            self.reached.set()
            await asyncio.Event().wait()
        if not message.get("more_body", True):
            self.reached.set()


@pytest.fixture
def _uncollected() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("_uncollected")
@pytest.mark.parametrize("end", HOW_THEY_END)
async def test_export_lets_go_of_its_rows_without_a_collector(end: str) -> None:
    export = Export(end)
    await export.run()
    assert export.is_closed
    assert [chunk() for chunk in export.chunks] == [None] * len(export.chunks)
    assert len(export.chunks) >= 2
    is_whole = not export.sent[-1].get("more_body", True)
    assert is_whole == (end == "whole")
    with export.app.state.exports.one_more(7):
        assert export.app.state.exports.number == 1


def _taken(running: RunningExports, token_ids: Iterable[int]) -> ExitStack:
    taken = ExitStack()
    for token_id in token_ids:
        taken.enter_context(running.one_more(token_id))
    return taken


@pytest.mark.parametrize(
    ("others", "status"),
    [([7] * MOST_OF_A_TOKEN, 429), ([number // MOST_OF_A_TOKEN + 8 for number in range(MOST_RUNNING)], 503)],
)
async def test_exports_at_once_are_bounded_by_token_and_in_all(others: list[int], status: int) -> None:
    running = RunningExports()
    with _taken(running, others[1:]), running.one_more(7):
        pass
    with _taken(running, others), pytest.raises(Problem) as raised, running.one_more(7):
        pass
    refusal: Any = raised.value
    assert (refusal.status_code, refusal.headers["Retry-After"]) == (status, "10")
    assert running.number == 0


BLOCKS = [
    ([b"1", b'"a"', b"null", b"2", b'"b,c"', b"true"], b'1,"a",\r\n2,"b,c",true\r\n'),
    ([b"null", b'"null"', b"null"], b',"null",\r\n'),
    ([b"1", b'"a\\"b"', b"null", b"2", b'"c"', b'"\\\\"'], b'1,"a""b",\r\n2,"c","\\"\r\n'),
    ([b"1", b'"\\n\\u0001"', b"false"], b'1,"\n\x01",false\r\n'),
]


@pytest.mark.parametrize(("block", "rows"), BLOCKS)
async def test_cells_of_csv_are_values_without_escapes(block: Block, rows: bytes) -> None:
    async def chunks() -> AsyncGenerator[Iterable[Block], None]:
        yield [block, block]

    sent: list[bytes] = []

    async def receive() -> Message:
        await asyncio.Event().wait()
        raise AssertionError

    async def send(message: Message) -> None:
        sent.append(message.get("body", b""))

    app = Starlette()
    app.state.exports = RunningExports()
    scope = {"type": "http", "method": "GET", "headers": [], "app": app, "state": {"token_id": 7}}
    query = FormatQuery(format="csv")
    answer = await answer_export(Request(scope), chunks(), name="rows", keys=("a", "b", "c"), query=query)
    await answer(scope, receive, send)
    assert b"".join(sent) == b"a,b,c\r\n" + rows + rows
