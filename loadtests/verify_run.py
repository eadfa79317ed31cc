"""Whether each redirect that was answered is stored exactly once, and nothing else is."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

Answer = Mapping[str, Any]
"""A line that locustfile.py wrote."""
Row = Mapping[str, Any]
"""A click as the read API shows it."""

_SHOWN = 5


def problems(answers: Sequence[Answer], rows: Sequence[Row]) -> list[str]:
    """What is wrong, one line a kind of fault; nothing where all is well."""
    stored: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        stored[row["external_id"]].append(row)
    asked = {answer["external_id"]: answer for answer in answers}
    redirected = [answer for answer in answers if is_recorded(answer)]
    unanswered = {answer["external_id"] for answer in answers if answer["status"] == 0}
    recorded = {answer["external_id"] for answer in redirected} | unanswered
    hashes = Counter(row["hash"] for row in rows)
    faults = [
        _fault(
            "answered but not stored", (a for a in redirected if a["external_id"] not in stored), _of_answer
        ),
        _fault("stored more than once", (same[0] for same in stored.values() if len(same) > 1), _of_row),
        _fault("stored but never to be", (r for r in rows if r["external_id"] not in recorded), _of_row),
        _fault("hash not distinct", (r for r in rows if hashes[r["hash"]] > 1), _of_row),
        _fault(
            "redirected_link is not the Location that was sent",
            (
                r
                for r in rows
                if r["external_id"] in asked and not _has_its_location(r, asked[r["external_id"]])
            ),
            _of_row,
        ),
    ]
    if are_addresses_believed(answers, rows):
        faults += _visitor_faults(rows, asked)
    return [fault for fault in faults if fault]


def is_recorded(answer: Answer) -> bool:
    return bool(answer["kind"] == "click" and answer["status"] == 302)


def are_addresses_believed(answers: Iterable[Answer], rows: Iterable[Row]) -> bool:
    """Whether the tracker took the visitors' addresses from X-Forwarded-For."""
    sent = {answer["ip"] for answer in answers}
    return any(row["ip"] in sent for row in rows)


def _visitor_faults(rows: Sequence[Row], asked: Mapping[str, Answer]) -> list[str]:
    wrong = (
        r for r in rows if r["external_id"] in asked and not _has_its_visitor(r, asked[r["external_id"]])
    )
    groups: dict[tuple[Any, ...], list[Row]] = defaultdict(list)
    for row in rows:
        if not row["is_test"] and not row["is_bot"] and row["status"] == "accepted":
            groups[row["offer_id"], row["ip"], row["user_agent"]].append(row)
    return [
        _fault("ip or user_agent is not the one sent", wrong, _of_row),
        _fault(
            "visitor of an offer without one first click, which all share as group_hash",
            (group[0] for group in groups.values() if not _has_one_first_click(group)),
            _of_row,
        ),
    ]


def _has_one_first_click(group: Sequence[Row]) -> bool:
    """One unique click, the first; or none, where the visitor has been seen before this run."""
    first = {row["group_hash"] for row in group}
    unique = [row["hash"] for row in group if row["is_unique"]]
    if len(first) != 1:
        return False
    return unique == list(first) or (not unique and first.isdisjoint(row["hash"] for row in group))


def _has_its_location(row: Row, answer: Answer) -> bool:
    return bool(answer["status"] == 0 or row["redirected_link"] == answer["location"])


def _has_its_visitor(row: Row, answer: Answer) -> bool:
    return bool(row["ip"] == answer["ip"] and row["user_agent"] == answer["user_agent"])


def _of_answer(answer: Answer) -> str:
    return f"{answer['external_id']} {answer['location']}"


def _of_row(row: Row) -> str:
    return f"{row['external_id']} {row['hash']}"


def _fault(name: str, found: Iterable[Any], show: Callable[[Any], str]) -> str:
    shown = [show(each) for each in found]
    more = ", …" if len(shown) > _SHOWN else ""
    return f"{name}: {len(shown)} ({', '.join(shown[:_SHOWN])}{more})" if shown else ""
