from __future__ import annotations

import pytest

from tracker.reading.cursor import Cursor, read_cursor, write_cursor
from tracker.store.clicks.list import ClickFilter
from tracker.store.time_span import Span

CLICKS = ClickFilter(equals=(("offer_id", 3),))
CURSOR = Cursor("0192f1c0" * 4, 2, None)


@pytest.mark.parametrize("total", [None, 0, 123_456])
def test_cursor_reads_back_as_written(total: int | None) -> None:
    cursor = CURSOR._replace(total=total)
    assert read_cursor(write_cursor(cursor, CLICKS, newest_first=True), CLICKS, newest_first=True) == cursor


@pytest.mark.parametrize(
    ("clicks", "newest_first"),
    [
        (CLICKS, False),
        (ClickFilter(), True),
        (CLICKS._replace(equals=(("offer_id", 4),)), True),
        (CLICKS._replace(equals=(("offer_id", "3"),)), True),
        (CLICKS._replace(span=Span(0, 900_000)), True),
        (CLICKS._replace(has_conversions=True), True),
    ],
)
def test_cursor_of_another_list_is_refused(clicks: ClickFilter, newest_first: bool) -> None:
    with pytest.raises(ValueError, match="other filters"):
        read_cursor(write_cursor(CURSOR, CLICKS, newest_first=True), clicks, newest_first=newest_first)


@pytest.mark.parametrize(
    "forged",
    [
        CURSOR._replace(last_hash="zzz"),
        CURSOR._replace(last_hash="0" * 40),
        CURSOR._replace(last_hash="0192F1C0" * 4),
        CURSOR._replace(last_hash=f"{CURSOR.last_hash[:-1]}\n"),
        CURSOR._replace(last_hash=f"{CURSOR.last_hash}.1"),
        CURSOR._replace(number=0),
        CURSOR._replace(number=-1),
        CURSOR._replace(number=10**30),
        CURSOR._replace(total=-1),
        CURSOR._replace(total=10**30),
    ],
)
def test_forged_cursor_is_refused(forged: Cursor) -> None:
    text = write_cursor(forged, CLICKS, newest_first=True)  # the digest is right: anybody can compute it
    with pytest.raises(ValueError, match="was changed"):
        read_cursor(text, CLICKS, newest_first=True)


def test_changed_cursor_is_refused() -> None:
    text = write_cursor(CURSOR, CLICKS, newest_first=True)
    changed = {text[:at] + other + text[at + 1 :] for at in range(len(text)) for other in "Ax9-!"} - {text}
    for cursor in [*changed, "", "!", text + "A", text + "=", text[:-1], "x" * 1000, "é"]:
        with pytest.raises(ValueError, match="other filters"):
            read_cursor(cursor, CLICKS, newest_first=True)
