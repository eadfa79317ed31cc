"""Which caps a click counts for."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

from tracker.model import Cap, Counter, Offer, Terms
from tracker.periods import QUARTER, bounds


def counters(offer: Offer, terms: Terms, affiliate_id: int, millis: int) -> tuple[Counter, ...]:
    """The counters of the caps that apply to a click followed at a moment (Unix milliseconds).

    Those are the offer's for everybody together, and for the affiliate its own; the offer's each-affiliate
    caps where it has none of the same kind and period. A count keeps its name when its limit changes.
    """
    if not offer.caps and not terms.caps:
        return ()
    quarter = millis // (QUARTER * 1000)
    return _counters(offer.id, offer.time_zone, offer.caps, terms.caps, affiliate_id, quarter)


def lowered(counters: tuple[Counter, ...], elsewhere: Sequence[int]) -> tuple[Counter, ...]:
    """The same counters, each limit less what was counted elsewhere; never below nothing."""
    return tuple(
        counter._replace(limit=max(counter.limit - counted, 0)) if counted else counter
        for counter, counted in zip(counters, elsewhere, strict=True)
    )


@lru_cache(maxsize=8192)
def _counters(
    offer_id: int, zone: str, of_all: tuple[Cap, ...], own: tuple[Cap, ...], affiliate_id: int, quarter: int
) -> tuple[Counter, ...]:
    replaced = {(cap.uniques_only, cap.period) for cap in own}
    kept = (
        cap for cap in of_all if cap.affiliate_id is None or (cap.uniques_only, cap.period) not in replaced
    )
    return tuple(_counter(cap, offer_id, zone, affiliate_id, quarter) for cap in (*kept, *own))


def _counter(cap: Cap, offer_id: int, zone: str, affiliate_id: int, quarter: int) -> Counter:
    start, end = bounds(cap.period, zone, quarter * QUARTER * 1000)
    whose = "all" if cap.affiliate_id is None else affiliate_id
    what = "uniques" if cap.uniques_only else "clicks"
    series = f":{cap.series}" if cap.series else ""  # what an earlier cap has counted is not this one's
    name = f"{offer_id}:{whose}:{what}:{cap.period}:{start}{series}"
    return Counter(name, cap.uniques_only, cap.limit, end)
