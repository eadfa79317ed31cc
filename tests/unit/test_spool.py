"""The files of the spool: reading them back after any damage."""

from __future__ import annotations

import fcntl
import os
from itertools import cycle
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.factories.clicks import a_click, outcomes_of
from tracker.device import UnreadDevice, read
from tracker.domain.click_id import first_hash_at
from tracker.edge.record.spool import SEGMENT_BYTES, Spool, first_millis, segments, size_of
from tracker.edge.record.spool_file import Call, Group, Segment, SpoolError
from tracker.stream.record import ANSWER_BYTES, Entry, encode

MINUTE = 60_000
MILLIS = 1_800_000_000_000 // MINUTE * MINUTE
PLENTY = 1 << 40


def an_entry(millis: int = MILLIS, n: int = 1, aff_sub: str = "") -> Entry:
    click = a_click(hash=first_hash_at(millis)[:12] + f"70008{n:015x}", aff_subs=(aff_sub,))
    return encode(click, outcomes_of(click))


def a_spool(directory: Path, max_bytes: int = PLENTY) -> Spool:
    return Spool(directory, 7, 0, max_bytes)


def left_behind(spool: Spool) -> Path:
    """The segment of a dead edge, without a holder."""
    segment = spool.seal()
    assert segment
    segment.close()
    return segment.path


def adopted(path: Path) -> Segment:
    segment = Segment.adopt(path)
    assert segment
    return segment


def groups_of(path: Path) -> list[Group]:
    segment = adopted(path)
    try:
        return list(segment.groups())
    finally:
        segment.close()


def test_spool_has_records_of_the_oldest_version(tmp_path: Path) -> None:
    agents = ("", "Mozilla/5.0 (X11; Linux x86_64)")
    clicks = [a_click(user_agent=agent, device=UnreadDevice(agent, "")) for agent in agents]
    spool = a_spool(tmp_path)
    spool.append([encode(click, outcomes_of(click)) for click in clicks], b"", None)
    (group,) = groups_of(left_behind(spool))
    eager = [click._replace(device=read(click.visitor.user_agent, "")) for click in clicks]
    assert group.entries == [encode(click, outcomes_of(click)) for click in eager]


@settings(max_examples=30, deadline=None)
@given(
    batches=st.lists(
        st.tuples(
            st.lists(st.tuples(st.integers(1, 1 << 40), st.text()), min_size=1, max_size=5),
            st.binary(max_size=24),
            st.none() | st.integers(1, 1 << 60).map(lambda sequence: Call(b"0123456789abcdef", sequence)),
        ),
        min_size=1,
        max_size=5,
    )
)
def test_spool_returns_its_records(
    tmp_path_factory: pytest.TempPathFactory, batches: list[tuple[list[tuple[int, str]], bytes, Call | None]]
) -> None:
    spool = a_spool(tmp_path_factory.mktemp("spool"))
    written = [
        ([an_entry(n=n, aff_sub=text[:500]) for n, text in clicks], answered, call)
        for clicks, answered, call in batches
    ]
    for entries, answered, call in written:
        spool.append(entries, answered, call)
    groups = groups_of(left_behind(spool))
    assert [(g.entries, g.answered, g.call if g.is_uncertain else None) for g in groups] == written
    own = [group.call for group in groups if not group.is_uncertain]
    assert len({call.lane for call in own}) <= 1
    assert [call.sequence for call in own] == sorted({call.sequence for call in own})


def test_segment_knows_its_minutes_and_first_click(tmp_path: Path) -> None:
    spool = a_spool(tmp_path)
    spool.append([an_entry(MILLIS + 5), an_entry(MILLIS + MINUTE, 2)], b"", None)
    spool.append([an_entry(MILLIS + MINUTE, 3)], b"", None)
    path = left_behind(spool)
    assert first_millis(path) == MILLIS + 5
    segment = adopted(path)
    minute = MILLIS // MINUTE
    assert segment.minutes == {minute: 1, minute + 1: 2}
    segment.drained(next(segment.groups()))
    assert segment.minutes == {minute + 1: 1}
    segment.close()


def test_segment_has_one_holder(tmp_path: Path) -> None:
    spool = a_spool(tmp_path)
    spool.append([an_entry()], b"", None)
    (path,) = segments(tmp_path)
    assert Segment.adopt(path) is None
    left_behind(spool)
    heir = adopted(path)
    assert Segment.adopt(path) is None
    heir.delete()
    assert Segment.adopt(path) is None
    assert segments(tmp_path) == []


def test_copy_keeps_its_call_and_decisions_and_waits_for_nothing(tmp_path: Path) -> None:
    """Its clicks are on the stream. They go there again only if their server is lost."""
    spool, call = a_spool(tmp_path), Call(b"0123456789abcdef", 9)
    decided, answered = bytes(range(2 * ANSWER_BYTES)), b"answered"
    spool.append([an_entry(n=1), an_entry(n=2)], answered, call, decided)
    spool.append([an_entry(n=3)], answered)
    segment = adopted(left_behind(spool))
    copy, own = segment.groups()
    assert (copy.call, copy.is_uncertain, copy.decided, copy.answered) == (call, False, decided, answered)
    assert (own.decided, own.answered) == (b"", answered)
    assert segment.minutes.total() == 1
    for group in (copy, own):
        segment.drained(group)
    assert segment.minutes.total() == 0
    segment.rewind()
    assert (segment.minutes.total(), segment.drained_groups) == (1, 0)
    segment.delete()


@pytest.mark.parametrize("uncertain_call", [None, Call(b"0123456789abcdef", 9)])
def test_torn_end_costs_only_the_torn_record(tmp_path: Path, uncertain_call: Call | None) -> None:
    spool = a_spool(tmp_path)
    spool.append([an_entry(n=1), an_entry(n=2)], b"", None)
    spool.append([an_entry(n=3), an_entry(n=4)], b"", uncertain_call)
    path = left_behind(spool)
    whole = path.read_bytes()
    for cut in range(len(whole)):
        path.write_bytes(whole[:cut])
        groups = groups_of(path)
        entries = [entry for group in groups for entry in group.entries]
        assert entries == [an_entry(n=n) for n in range(1, len(entries) + 1)]
        assert len(entries) < 4
        assert len({group.call for group in groups}) == len(groups)
        assert not any(group.is_uncertain for group in groups), "half a call is not that call"


def test_damage_costs_only_the_damaged_record(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    spool = a_spool(tmp_path)
    written = [an_entry(n=n) for n in range(1, 7)]
    for at in range(0, 6, 2):
        spool.append(written[at : at + 2], b"", Call(b"0123456789abcdef", at + 1) if at == 2 else None)
    path = left_behind(spool)
    whole = path.read_bytes()
    for at in range(0, len(whole) - 1, 7):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 0x55]) + whole[at + 1 :])
        groups = groups_of(path)
        read = [entry for group in groups for entry in group.entries]
        assert len(read) >= 5
        assert [entry for entry in written if entry in read] == read
        assert len({group.call for group in groups}) == len(groups)
        assert all(len(group.entries) == 2 for group in groups if group.is_uncertain)
    assert "bytes are damaged" in caplog.text


def test_damaged_segment_reads_the_same_each_time(tmp_path: Path) -> None:
    spool = a_spool(tmp_path)
    spool.append([an_entry(n=1), an_entry(n=2)], b"", None)
    path = left_behind(spool)
    data = bytearray(path.read_bytes())
    data[30] ^= 0xFF
    path.write_bytes(data)
    assert groups_of(path) == groups_of(path) != []


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("notes.spool", b""),
        ("0190-1-0-lane.spool", b"\xabKH" + (1).to_bytes(4) + (0xA56F56).to_bytes(4) + b"\x09"),
        ("0190-1-x-lane.spool", b""),
    ],
)
def test_foreign_spool_file_is_not_adopted(tmp_path: Path, name: str, content: bytes) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"unpack|version|invalid literal"):
        Segment.adopt(path)
    assert path.read_bytes() == content


def fill(spools: list[Spool]) -> None:
    batch = [an_entry(aff_sub="x" * 40_000)] * 10
    for spool in cycle(spools):
        spool.append(batch, b"", None)


def test_spool_keeps_its_size_limit(tmp_path: Path) -> None:
    """Many writers at the same time have a segment each, begun while there was room."""
    most = 16 << 20
    spools = [Spool(tmp_path, 7, partition, most) for partition in range(8)]
    with pytest.raises(SpoolError, match="TRACKER_SPOOL_MB"):
        fill(spools)
    assert size_of(tmp_path) < 2 * most < 8 * SEGMENT_BYTES
    for spool in spools:
        left_behind(spool)


def test_failing_disk_is_a_spool_error_without_partial_writes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spool = a_spool(tmp_path)
    spool.append([an_entry(n=1)], b"", None)

    def fail(*_: object) -> int:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr("os.fdatasync", fail)
        with pytest.raises(SpoolError, match="No space left"):
            spool.append([an_entry(n=2)], b"", None)
    assert [group.entries for group in groups_of(left_behind(spool))] == [[an_entry(n=1)]]


def test_disk_that_is_full_at_the_start_of_a_segment_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spool = a_spool(tmp_path)
    opened = len(os.listdir("/proc/self/fd"))

    def fail(*_: object) -> int:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr("os.pwrite", fail)
        for _ in range(3):
            with pytest.raises(SpoolError, match="No space left"):
                spool.append([an_entry()], b"", None)
    assert list(tmp_path.iterdir()) == []
    assert len(os.listdir("/proc/self/fd")) == opened


def test_full_disk_is_found_before_a_click_needs_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spool = a_spool(tmp_path)

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr("os.posix_fallocate", fail)
        with pytest.raises(SpoolError, match="No space left"):
            spool.begin(1)
    assert list(tmp_path.iterdir()) == []
    spool.begin(1)
    spool.append([an_entry()], b"", None)
    assert [group.entries for group in groups_of(left_behind(spool))] == [[an_entry()]]


def test_segment_under_creation_is_not_adopted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lock = fcntl.flock

    def lock_after_another_has_looked(fd: int, operation: int) -> None:
        if operation == fcntl.LOCK_EX:
            assert [Segment.adopt(path) for path in segments(tmp_path)] == []
        lock(fd, operation)

    monkeypatch.setattr(fcntl, "flock", lock_after_another_has_looked)
    spool = a_spool(tmp_path)
    spool.append([an_entry()], b"", None)
    assert [group.entries for group in groups_of(left_behind(spool))] == [[an_entry()]]


def test_segment_removed_by_hand_is_still_readable_by_its_holder(tmp_path: Path) -> None:
    spool = a_spool(tmp_path)
    spool.append([an_entry()], b"", None)
    segment = spool.seal()
    assert segment
    segment.path.unlink()
    assert [group.entries for group in segment.groups()] == [[an_entry()]]
    segment.delete()
