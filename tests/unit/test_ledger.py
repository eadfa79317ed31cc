"""The state of a minute, by counts from before, Postgres, the streams, and after."""

from __future__ import annotations

import pytest

from tracker.ops.ledger import LONGEST, Seen, State, amiss, judge, minutes_between
from tracker.stream.ledger import UNKNOWN, Counts

MINUTE = 29_000_000

_NOTHING = Seen(Counts(), 0, None, None, Counts(), 0, is_hour_counted=True)


def seen(stored: int, before: Counts, after: Counts | None = None, **changes: object) -> Seen:
    after = before if after is None else after
    return _NOTHING._replace(before=before, stored=stored, after=after)._replace(**changes)


STORED = Counts(recorded=3, stored=3)
WAITING = Counts(recorded=3, stored=1)


@pytest.mark.parametrize(
    ("read", "difference", "state"),
    [
        pytest.param(seen(3, STORED), 0, State.BALANCED, id="all stored"),
        pytest.param(seen(2, STORED), 1, State.UNBALANCED, id="one lost"),
        pytest.param(seen(4, STORED), -1, State.UNBALANCED, id="one twice"),
        pytest.param(seen(1, WAITING), 0, State.BALANCED, id="two in flight"),
        pytest.param(seen(3, WAITING), -2, State.SETTLING, id="two stored, and not off the stream yet"),
        pytest.param(seen(4, WAITING), -3, State.UNBALANCED, id="more stored than was in flight"),
        pytest.param(seen(0, WAITING), 1, State.UNBALANCED, id="lost while others are in flight"),
        pytest.param(seen(3, WAITING, STORED), 0, State.BALANCED, id="taken off meanwhile"),
        pytest.param(
            seen(1, WAITING, STORED), 2, State.SETTLING, id="stored and taken off after Postgres was read"
        ),
        pytest.param(seen(0, WAITING, STORED), 3, State.UNBALANCED, id="one lost before that"),
        pytest.param(
            seen(0, Counts(recorded=2, dead=1, given_up=1)), 0, State.BALANCED, id="dead and given up"
        ),
        pytest.param(
            seen(1, Counts(recorded=2, stored=1, duplicates=1)), 0, State.BALANCED, id="a duplicate"
        ),
        pytest.param(
            seen(1, Counts(recorded=1, stored=1, duplicates=1)), 0, State.UNBALANCED, id="off twice"
        ),
        pytest.param(seen(0, Counts(), spooled=5), 0, State.BALANCED, id="spooled"),
        pytest.param(seen(1, WAITING, found=(2, 0)), 0, State.BALANCED, id="found on the stream"),
        pytest.param(seen(1, WAITING, found=(1, 0)), 1, State.UNBALANCED, id="gone from the stream"),
        pytest.param(seen(1, WAITING, found=(3, 0)), -1, State.UNBALANCED, id="one too many on the stream"),
        pytest.param(seen(3, WAITING, STORED, found=(1, 0)), 0, State.BALANCED, id="counted while some left"),
        pytest.param(
            seen(0, Counts(1, dead=1), found=(0, 0)), 1, State.UNBALANCED, id="gone from the dead letters"
        ),
        pytest.param(seen(3, STORED, rows=3), 0, State.BALANCED, id="rows as counted"),
        pytest.param(seen(3, STORED, rows=2), 0, State.UNBALANCED, id="a row is missing"),
        pytest.param(seen(3, STORED, lost_answered=1), 0, State.UNBALANCED, id="answered and lost"),
        pytest.param(seen(2, STORED, lost_answered=1), 1, State.UNBALANCED, id="one missing, another lost"),
        pytest.param(seen(3, Counts()), -3, State.UNBALANCED, id="rows of nowhere"),
        pytest.param(seen(3, Counts(), is_hour_counted=False), -3, State.UNCOUNTED, id="counts are gone"),
        pytest.param(
            seen(3, Counts(), is_hour_counted=False, rows=2), -3, State.UNBALANCED, id="so is a row"
        ),
    ],
)
def test_minute_is_judged(read: Seen, difference: int, state: State) -> None:
    minute = judge(MINUTE, read)
    assert (minute.difference, minute.state) == (difference, state)


@pytest.mark.parametrize(
    ("read", "fault"),
    [
        (seen(2, STORED), "1 missing"),
        (seen(4, STORED, lost_answered=2), "1 too many, 2 answered and lost by the stream server"),
        (seen(3, STORED, rows=2, lost_answered=2), "2 rows are in the table, 3 were counted"),
        (seen(1, Counts(recorded=1, stored=1, duplicates=1)), "its counts contradict each other"),
    ],
)
def test_fault_of_a_minute_has_words(read: Seen, fault: str) -> None:
    assert amiss(judge(MINUTE, read)) == fault


@pytest.mark.parametrize(
    ("counts", "spooled", "not_known"),
    [
        (Counts(recorded=5, answered=3), 0, 2),
        (Counts(recorded=5, answered=5), 0, 0),
        (Counts(recorded=0, answered=2), 3, 1),
        (Counts(recorded=0, answered=2), 1, 0),  # its edge has not sent its spooled count yet
    ],
)
def test_unanswered_recorded_click_is_shown_as_such(counts: Counts, spooled: int, not_known: int) -> None:
    minute = judge(MINUTE, seen(0, counts, spooled=spooled))
    assert (minute.not_known_answered, minute.recorded) == (not_known, counts.recorded + spooled)


@pytest.mark.parametrize(
    ("counts", "found", "shown"),
    [
        (Counts(dead=1), None, (1, 0, 1, 0)),
        (Counts(dead=1), (2, 1), (3, 2, 1, 0)),
        (Counts(given_up=1), None, (1, 0, 0, 1)),
    ],
)
def test_entries_without_a_readable_hash_are_shown_outside_minutes(
    counts: Counts, found: tuple[int, int] | None, shown: tuple[int, ...]
) -> None:
    minute = judge(UNKNOWN, seen(0, counts, found=found))
    assert (minute.recorded, minute.in_flight, minute.dead, minute.given_up) == shown
    assert minute.state is State.BALANCED


@pytest.mark.parametrize(
    ("first", "last", "minutes"),
    [
        (120, 120, range(2, 3)),
        (119, 180, range(1, 4)),
        (-5, 30, range(1)),
        ((2**31 - 1) * 60, 2**60, range(2**31 - 1, 2**31)),
    ],
)
def test_seconds_are_rounded_to_whole_minutes(first: int, last: int, minutes: range) -> None:
    assert minutes_between(first, last) == minutes


@pytest.mark.parametrize(
    ("first", "last", "why"), [(180, 119, "is after to"), (0, LONGEST * 60, "is more than 31 days before to")]
)
def test_ledger_range_must_hold_minutes_within_its_limit(first: int, last: int, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        minutes_between(first, last)
