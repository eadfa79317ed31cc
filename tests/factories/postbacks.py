"""Postbacks of one click for tests. A test names the fields it cares about."""

from __future__ import annotations

from tests.factories.clicks import HASH
from tracker.domain.click_id import first_hash_at, millis_of
from tracker.domain.postback import Postback, Source, read_postback

AN_HOUR = 3_600_000


def hash_after(millis: int, n: int = 0) -> str:
    """A hash made `after` milliseconds after the click of tests."""
    return first_hash_at(millis_of(HASH) + millis)[:12] + f"7{n:03x}8" + "0" * 15


def a_postback(
    source: Source = Source.POSTBACK,
    advertiser_id: int | None = 1,
    ip: str = "198.51.100.9",
    after: int = AN_HOUR,
    n: int = 0,
    **parameters: str,
) -> Postback:
    """A postback of advertiser 1 an hour after its click. `n` distinguishes postbacks of one time."""
    hash_ = hash_after(after, n)
    return read_postback(hash_, source, ip, advertiser_id, {"click_id": HASH} | parameters)
