"""docs/reference/logs.md names every event of the log."""

from __future__ import annotations

import re

from tests.docs.log_events import ROOT, events, table

_OWN = {
    "time",
    "level",
    "service",
    "pid",
    "logger",
    "message",
    "request_id",
    "left_out",
    "traceback",
}


def test_events_are_those_of_the_page() -> None:
    page = (ROOT / "docs/reference/logs.md").read_text()
    documented = page.partition("## Events\n\n")[2].strip()
    assert documented == table(), "python -m tests.docs.log_events prints what the page needs"


def test_event_of_each_log_call_has_a_name() -> None:
    assert [event.where for event in events() if not re.fullmatch(r"[a-z]+(_[a-z]+)*", event.name)] == []


def test_event_fields_are_not_those_of_every_line() -> None:
    assert [event.where for event in events() if _OWN & set(event.fields)] == []


def test_event_has_one_level_and_the_same_fields_everywhere() -> None:
    kinds: dict[str, set[tuple[str, tuple[str, ...]]]] = {}
    for event in events():
        kinds.setdefault(event.name, set()).add((event.level, event.fields))
    assert {name: kind for name, kind in kinds.items() if len(kind) > 1} == {}
