"""Wrong rows of imported files are named by their kinds."""

from __future__ import annotations

import pytest

from tracker.importing.files import Line
from tracker.importing.wrong_rows import WrongRows


def _said(wrong: list[tuple[Line, str]], capsys: pytest.CaptureFixture[str]) -> list[str]:
    rows = WrongRows("c.csv")
    rows.add(wrong)
    rows.end()
    assert rows.number == len(wrong)
    return capsys.readouterr().err.splitlines()


def test_every_kind_of_error_is_named_with_its_count(capsys: pytest.CaptureFixture[str]) -> None:
    """The last row is wrong in a way of its own: a thousand equal errors do not hide it."""
    many = [(Line(n, {"": "a,b"}), f"has {n} columns where the header has 13") for n in range(2, 1_002)]
    clicks = [(Line(n, {"click_hash": f"x {n}"}), f"click_hash x {n} matches no click") for n in range(20)]
    said = _said([*many, *clicks, (Line(7_000, {}), "offer_id '9' matches no offer")], capsys)
    assert len(said) == 10 + 10 + 1 + 2
    assert said[0] == "c.csv:2: has 2 columns where the header has 13"
    assert said[-3:] == [
        "c.csv:7000: offer_id '9' matches no offer",
        "c.csv: and 990 more rows as 2: has 2 columns where the header has 13",
        "c.csv: and 10 more rows as 0: click_hash x 0 matches no click",
    ]


@pytest.mark.parametrize(
    ("value", "other"),
    [
        ("a", "b"),
        ("it's", 'say "it"'),
        ("5", "77777"),
        ("a b c", "c"),
        ("\\'", "'"),
        (5, 6),
    ],
)
def test_errors_that_differ_in_values_are_of_one_kind(
    value: str | int, other: str | int, capsys: pytest.CaptureFixture[str]
) -> None:
    for form in ("goal {} matches no goal", "status {!r} must be one of x, y", "goal {!r} {}"):
        wrong = [
            (Line(n, {"goal": each}), form.format(each, each)) for n, each in enumerate([value, other] * 6)
        ]
        assert len(_said(wrong, capsys)) == 11, form


def test_kinds_without_number_take_little_space(capsys: pytest.CaptureFixture[str]) -> None:
    said = _said([(Line(n, {}), "x" * n) for n in range(1_000)], capsys)
    assert len(said) == 200 + 10 + 1
    assert said[-1] == "c.csv: and 790 more rows as 200: is wrong in another way"
