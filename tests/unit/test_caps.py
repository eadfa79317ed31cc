from __future__ import annotations

import pytest

from tests.factories.clicks import an_offer
from tracker.domain.caps import counters, lowered
from tracker.domain.model import NO_TERMS, Cap, Counter, Period

MOMENT = 1_767_225_600_000  # 2026-01-01T00:00:00Z
DAY = 1_767_225_600, 1_767_312_000
BERLIN_DAY = 1_767_222_000, 1_767_308_400

EVERYBODY = Cap(None, False, Period.DAY, 100)
EACH = Cap(0, False, Period.DAY, 10)
EACH_UNIQUES = Cap(0, True, Period.DAY, 7)
EACH_TOTAL = Cap(0, False, Period.TOTAL, 50)
OWN = Cap(513, False, Period.DAY, 20)
OWN_UNIQUES = Cap(513, True, Period.DAY, 2)

OF_EVERYBODY = Counter(f"3:all:clicks:day:{DAY[0]}", False, 100, DAY[1])
OF_EACH = Counter(f"3:513:clicks:day:{DAY[0]}", False, 10, DAY[1])
OF_EACH_UNIQUES = Counter(f"3:513:uniques:day:{DAY[0]}", True, 7, DAY[1])
OF_EACH_TOTAL = Counter("3:513:clicks:total:0", False, 50, 0)

CASES = [
    ("none", (), (), ()),
    ("everybody's", (EVERYBODY,), (), (OF_EVERYBODY,)),
    ("each affiliate's", (EACH,), (), (OF_EACH,)),
    ("an affiliate's own", (), (OWN,), (OF_EACH._replace(limit=20),)),
    ("its own takes each one's place", (EACH,), (OWN,), (OF_EACH._replace(limit=20),)),
    ("and never everybody's", (EVERYBODY,), (OWN,), (OF_EVERYBODY, OF_EACH._replace(limit=20))),
    (
        "another kind takes no place",
        (EACH,),
        (OWN_UNIQUES,),
        (OF_EACH, OF_EACH_UNIQUES._replace(limit=2)),
    ),
    (
        "nor does another period",
        (EACH_TOTAL, EACH_UNIQUES),
        (OWN, OWN_UNIQUES),
        (OF_EACH_TOTAL, OF_EACH._replace(limit=20), OF_EACH_UNIQUES._replace(limit=2)),
    ),
]


@pytest.mark.parametrize(("case", "of_offer", "of_terms", "expected"), CASES)
def test_caps_that_apply(
    case: str, of_offer: tuple[Cap, ...], of_terms: tuple[Cap, ...], expected: tuple[Counter, ...]
) -> None:
    offer, terms = an_offer(caps=of_offer), NO_TERMS._replace(caps=of_terms)
    assert counters(offer, terms, 513, MOMENT) == expected, case


def test_period_is_the_offers_own_clock() -> None:
    offer = an_offer(caps=(EVERYBODY,), time_zone="Europe/Berlin")
    (counter,) = counters(offer, NO_TERMS, 513, MOMENT)
    assert (counter.name, counter.expires) == (f"3:all:clicks:day:{BERLIN_DAY[0]}", BERLIN_DAY[1])


@pytest.mark.parametrize(
    ("other", "is_same"),
    [
        ({"caps": (EACH._replace(limit=99),)}, True),
        ({"name": "Another name"}, True),
        ({"caps": (EACH._replace(uniques_only=True),)}, False),
        ({"caps": (EACH._replace(period=Period.MONTH),)}, False),
        ({"caps": (EACH._replace(affiliate_id=None),)}, False),
        ({"id": 4}, False),
    ],
)
def test_count_has_one_name_for_all_limits(other: dict[str, object], is_same: bool) -> None:
    offer = an_offer(caps=(EACH,))
    (before,) = counters(offer, NO_TERMS, 513, MOMENT)
    (after,) = counters(offer._replace(**other), NO_TERMS, 513, MOMENT + 1)
    assert (before.name == after.name) is is_same


def test_caps_count_per_affiliate_and_period() -> None:
    offer = an_offer(caps=(EACH,))
    names = {
        counters(offer, NO_TERMS, affiliate_id, moment)[0].name
        for affiliate_id in (513, 514)
        for moment in (MOMENT - 1, MOMENT, MOMENT + 86_399_999, MOMENT + 86_400_000)
    }
    assert len(names) == 2 * 3


@pytest.mark.parametrize(
    ("limits", "elsewhere", "expected"),
    [
        ([], [], []),
        ([10], [0], [10]),
        ([10, 10], [3, 0], [7, 10]),
        ([10], [10], [0]),
        ([10], [11], [0]),
        ([0], [5], [0]),
    ],
)
def test_counts_of_other_partitions_lower_a_limit(
    limits: list[int], elsewhere: list[int], expected: list[int]
) -> None:
    before = tuple(OF_EACH._replace(name=f"{n}", limit=limit) for n, limit in enumerate(limits))
    after = lowered(before, elsewhere)
    assert after == tuple(
        counter._replace(limit=limit) for counter, limit in zip(before, expected, strict=True)
    )
