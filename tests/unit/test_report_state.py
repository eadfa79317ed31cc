"""The state of the report page: what its form and its addresses mean."""

from __future__ import annotations

from urllib.parse import parse_qsl

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tracker.dashboard import words
from tracker.dashboard.reports.rows import Way, ways_of
from tracker.dashboard.reports.state import MOST_OPEN, State, state_of
from tracker.domain.click_fields import FILTERS
from tracker.domain.periods import PERIODS
from tracker.reading.reports.comparison import OTHERS
from tracker.reading.reports.query import FIELDS
from tracker.store.reports.measures import MEASURES

WEEK = "group_by=offer&period=last_7_days"
FORM = "form=1&was=last_7_days&group_by=offer"
DAYS = "created_from=2026-11-01&created_to=2026-11-02"


def read(query: str) -> str:
    return state_of(parse_qsl(query, keep_blank_values=True)).query


@pytest.mark.parametrize(
    ("query", "meant"),
    [
        ("", WEEK),
        ("offer_id=&tz=", WEEK),
        ("period=today", "group_by=offer&period=today"),
        ("group_by=day&created_to=2026-11-01", "group_by=day&created_to=2026-11-01"),
        (f"{FORM}&group_by=country&group_by=&period=today", "group_by=offer%2Ccountry&period=today"),
        (f"{FORM}&group_by=offer&period=today", "group_by=offer&period=today"),
        (f"{FORM}&period=last_7_days&{DAYS}", f"group_by=offer&{DAYS}"),
        (f"{FORM}&period=custom&{DAYS}", f"group_by=offer&{DAYS}"),
        (f"{FORM}&period=today&{DAYS}", "group_by=offer&period=today"),
        (f"{FORM}&period=custom", WEEK),
        (f"{WEEK}&measures=clicks&measures=cr,clicks", f"{WEEK}&measures=clicks%2Ccr"),
        (f"{FORM}&period=today&add=offer_id&value=3,5", "group_by=offer&period=today&offer_id=3%2C5"),
        (f"{FORM}&period=today&add=city&how=not&value=Ede", "group_by=offer&period=today&exclude_city=Ede"),
        (f"{FORM}&period=today&add=city&how=empty", "group_by=offer&period=today&without=city"),
        (f"{FORM}&period=today&add=city&how=some", "group_by=offer&period=today&without=exclude_city"),
        (f"{FORM}&period=today&add=city", "group_by=offer&period=today"),
        (f"{WEEK}&compare=previous&compare_from=2026-11-01", f"{WEEK}&compare=previous"),
        (
            f"{WEEK}&open=b&compare=custom&compare_from=2026-11-01",
            f"{WEEK}&compare=custom&compare_from=2026-11-01&open=b",
        ),
    ],
)
def test_address_means_a_state(query: str, meant: str) -> None:
    assert read(query) == meant


def test_open_rows_are_few_and_the_last_ones() -> None:
    many = "&".join(f"open=offer%3D{n}" for n in range(30))
    assert state_of(parse_qsl(f"{WEEK}&{many}")).all("open") == [
        f"offer={n}" for n in range(30 - MOST_OPEN, 30)
    ]


_NAMES = ("group_by", "period", "created_from", "tz", "offer_id", "measures", "sort", "compare", "compare_to")
_OF_PAGE = ("open", "without", "form", "was", "add", "how", "value", "rows", "chart")
_VALUES = st.sampled_from(
    ["", "offer", "today", "custom", "2026-11-01", "3", "clicks,cr", "a&b=ü", "previous"]
)


@given(st.lists(st.tuples(st.sampled_from([*_NAMES, *_OF_PAGE]), _VALUES), max_size=12))
@settings(max_examples=300)
def test_address_of_a_state_means_that_state(pairs: list[tuple[str, str]]) -> None:
    state = state_of(pairs)
    assert state_of(parse_qsl(state.query, keep_blank_values=True)) == state
    assert state.groups
    assert state.get("period") or any(name.startswith("created_") for name, _ in state.pairs)


@pytest.mark.parametrize(
    ("opened", "ways"),
    [
        (["offer=3"], [(("offer", 3),)]),
        (["offer=3&country="], [(("offer", 3), ("country", None))]),
        (["offer=3&country=NL", "offer=3"], [(("offer", 3),), (("offer", 3), ("country", "NL"))]),
        (["country=NL"], []),
        (["offer=3&country=NL&day=2026-11-01"], []),
        (["", "offer", "x=y"], [(("offer", None),)]),
    ],
)
def test_open_rows_are_those_of_the_groups(
    opened: list[str], ways: list[tuple[tuple[str, object], ...]]
) -> None:
    state = State((("group_by", "offer,country,day"), *(("open", one) for one in opened)))
    assert ways_of(state) == [Way(way) for way in ways]


def test_everything_has_a_name_for_people() -> None:
    assert words.GROUPS.keys() == FIELDS.keys()
    assert words.MEASURES.keys() == MEASURES.keys()
    assert words.FILTERS.keys() == {field.name for field in FILTERS} - {"is_test"}
    assert words.PERIODS.keys() == PERIODS.keys()
    assert words.COMPARISONS.keys() == {*OTHERS, "custom"}
