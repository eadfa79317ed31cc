"""Which rows a filter leaves to an owner."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tracker.reading.visibility import Visibility
from tracker.store.clicks.list import ClickFilter
from tracker.store.conditions import Among, Equals, Further
from tracker.store.token_owner import Owner

_IDS = range(1, 7)
_own = st.lists(st.sampled_from(_IDS), min_size=1, max_size=4, unique=True).map(sorted).map(tuple)
_several = st.lists(st.sampled_from(_IDS), min_size=1, max_size=3).map(tuple)


def _matches(equals: Equals, further: Further, row: dict[str, int]) -> bool:
    return all(row[column] == value for column, value in equals) and all(
        (row[one.column] in one.values) != one.is_excluded for one in further
    )


@given(
    own=_own,
    one=st.none() | st.sampled_from(_IDS),
    among=st.none() | _several,
    excluded=st.none() | _several,
    offer=st.none() | st.sampled_from(_IDS),
)
def test_filter_of_an_owner_has_exactly_its_rows_that_match(
    own: tuple[int, ...],
    one: int | None,
    among: tuple[int, ...] | None,
    excluded: tuple[int, ...] | None,
    offer: int | None,
) -> None:
    equals: Equals = (("affiliate_id", one),) if one is not None else ()
    equals += (("offer_id", offer),) if offer is not None else ()
    further: Further = (Among("affiliate_id", among),) if among is not None and one is None else ()
    further += (Among("affiliate_id", excluded, is_excluded=True),) if excluded is not None else ()
    wanted = ClickFilter(equals=equals, further=further)
    narrowed = Visibility((), Owner("affiliate", own)).narrow(wanted)
    for affiliate in (0, *_IDS):
        for of_offer in _IDS:
            row = {"affiliate_id": affiliate, "offer_id": of_offer}
            expected = affiliate in own and _matches(equals, further, row)
            found = _matches(narrowed.equals, narrowed.further, row)
            assert found == expected or affiliate == 0, (narrowed, row)
    assert len({column for column, _ in narrowed.equals}) == len(narrowed.equals)
    assert (narrowed.tally is not None) == (offer is None)
