"""The segments of a directory as a drain sees them."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path

import pytest

from tracker.edge.record.spool_drain import Drain, _joined
from tracker.edge.record.spool_file import Call, Group, Segment
from tracker.stream.appender import MAX_BATCH, MAX_BATCH_BYTES
from tracker.stream.visitor_memory import VisitorMemory

pytestmark = pytest.mark.anyio

NOWHERE = "redis://127.0.0.1:1"
MILLIS = 1_800_000_000_000


def an_empty_segment(directory: Path, millis: int = MILLIS) -> Segment:
    return Segment.create(directory, slot=7, partition=0, first_millis=millis)


async def test_edge_does_not_wait_until_a_large_spool_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    an_empty_segment(tmp_path).close()
    is_read, adopt = threading.Event(), Segment.adopt

    def slowly(path: Path) -> Segment | None:
        is_read.wait()
        return adopt(path)

    monkeypatch.setattr(Segment, "adopt", slowly)
    drain = Drain(NOWHERE, tmp_path, VisitorMemory())
    await drain.start()
    assert drain.first_millis() == MILLIS
    is_read.set()
    while drain.first_millis() is not None:
        await asyncio.sleep(0.01)
    await drain.stop()


async def test_drained_clicks_hold_nothing_back(tmp_path: Path) -> None:
    drain, written_to = Drain(NOWHERE, tmp_path, VisitorMemory()), an_empty_segment(tmp_path)
    await drain._look()
    assert drain.first_millis() == MILLIS
    drain.take(written_to)
    await drain._drain_all()
    assert drain.first_millis() is None
    await drain.stop()


def a_group(lane: bytes, sequence: int, clicks: int = 1, size: int = 1, is_uncertain: bool = False) -> Group:
    return Group(
        Call(lane, sequence), is_uncertain, b"%d;" % sequence, [(b"%d" % sequence, b"r" * size)] * clicks
    )


JOINED = [
    ("nothing", [], []),
    ("one by one", [a_group(b"a", n) for n in (1, 2, 3)], [(3, b"1;2;3;", 3)]),
    ("two lanes", [a_group(b"a", 1), a_group(b"a", 2), a_group(b"b", 1)], [(2, b"1;2;", 2), (1, b"1;", 1)]),
    (
        "what may have been done is by itself",
        [a_group(b"a", 1), a_group(b"a", 2, is_uncertain=True), a_group(b"a", 3), a_group(b"a", 4)],
        [(1, b"1;", 1), (2, b"2;", 1), (4, b"3;4;", 2)],
    ),
    (
        "what another call has done is by itself",
        [a_group(b"a", n)._replace(decided=b"0") for n in (1, 2)],
        [(1, b"1;", 1), (2, b"2;", 1)],
    ),
    (
        "no more clicks than of a call",
        [a_group(b"a", 1, MAX_BATCH - 1), a_group(b"a", 2), a_group(b"a", 3)],
        [(2, b"1;2;", MAX_BATCH), (3, b"3;", 1)],
    ),
    (
        "no more bytes than of a call",
        [a_group(b"a", n, size=MAX_BATCH_BYTES // 3) for n in (1, 2, 3, 4)],
        [(3, b"1;2;3;", 3), (4, b"4;", 1)],
    ),
]


@pytest.mark.parametrize(("groups", "calls"), [case[1:] for case in JOINED], ids=[case[0] for case in JOINED])
def test_clicks_that_came_one_by_one_are_drained_together(
    groups: list[Group], calls: list[tuple[int, bytes, int]]
) -> None:
    joined = _joined(groups)
    assert [(call.call.sequence, call.answered, len(call.entries)) for call in joined] == calls
    assert [entry for call in joined for entry in call.entries] == [
        entry for group in groups for entry in group.entries
    ]
