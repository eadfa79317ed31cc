"""The check of the load test, and the faults it finds."""

import pytest

from loadtests.verify_run import problems

FIRST, SECOND = "0" * 31 + "1", "0" * 31 + "2"


def answer(external_id: str, **changes: object) -> dict[str, object]:
    location = f"https://ad.example/?c={external_id}"
    told = {"kind": "click", "external_id": external_id, "status": 302, "location": location}
    return told | {"ip": "24.0.0.1", "user_agent": "A"} | changes


def row(external_id: str, hash_: str, **changes: object) -> dict[str, object]:
    return {
        "external_id": external_id,
        "hash": hash_,
        "group_hash": FIRST,
        "is_unique": hash_ == FIRST,
        "is_test": False,
        "is_bot": False,
        "status": "accepted",
        "offer_id": 3,
        "ip": "24.0.0.1",
        "user_agent": "A",
        "redirected_link": f"https://ad.example/?c={external_id}",
    } | changes


ANSWERS = [answer("a"), answer("b")]
ROWS = [row("a", FIRST), row("b", SECOND)]


@pytest.mark.parametrize(
    ("answers", "rows"),
    [
        (ANSWERS, ROWS),
        ([*ANSWERS, answer("h", kind="head"), answer("p", kind="prefetch", status=503)], ROWS),
        ([answer("a", status=0, location=""), answer("b")], ROWS),  # unknown whether it was answered
        ([answer("a", status=0, location="")], []),
        (ANSWERS, [row("a", FIRST, group_hash="9", is_unique=False), row("b", SECOND, group_hash="9")]),
        (ANSWERS, [row(each, h, ip="127.0.0.1") for each, h in (("a", FIRST), ("b", SECOND))]),
        ([answer("t")], [row("t", SECOND, is_test=True, is_unique=False, group_hash=None)]),
    ],
)
def test_complete_run_has_no_problem(answers, rows):
    assert problems(answers, rows) == []


@pytest.mark.parametrize(
    ("answers", "rows", "fault"),
    [
        (ANSWERS, ROWS[:1], "answered but not stored: 1 (b "),
        (ANSWERS, [*ROWS, row("b", "3")], "stored more than once: 1 (b "),
        (ANSWERS, [*ROWS, row("c", "3")], "stored but never to be: 1 (c "),
        ([*ANSWERS, answer("h", kind="head")], [*ROWS, row("h", "3")], "stored but never to be: 1 (h "),
        (
            [*ANSWERS, answer("p", kind="prefetch", status=503)],
            [*ROWS, row("p", "3")],
            "stored but never to be",
        ),
        ([*ANSWERS, answer("x", status=503)], [*ROWS, row("x", "3")], "stored but never to be: 1 (x "),
        (ANSWERS, [ROWS[0], row("b", FIRST, is_unique=False)], "hash not distinct: 2"),
        (
            ANSWERS,
            [ROWS[0], row("b", SECOND, redirected_link="https://ad.example/")],
            "redirected_link is not",
        ),
        (ANSWERS, [ROWS[0], row("b", SECOND, ip="24.0.0.2")], "ip or user_agent is not the one sent: 1 (b "),
        (ANSWERS, [ROWS[0], row("b", SECOND, is_unique=True)], "visitor of an offer without one first click"),
        (ANSWERS, [row("a", FIRST, is_unique=False), ROWS[1]], "visitor of an offer without one first click"),
        (
            ANSWERS,
            [ROWS[0], row("b", SECOND, group_hash=SECOND)],
            "visitor of an offer without one first click",
        ),
    ],
)
def test_faults_are_found(answers, rows, fault):
    assert any(found.startswith(fault) for found in problems(answers, rows))
