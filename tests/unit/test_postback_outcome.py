"""The state of an affiliate postback after an attempt."""

from __future__ import annotations

from datetime import timedelta

import pytest

from tracker.outbound_http import Delivery
from tracker.store.deliveries import Due
from workers.sender import FIRST_PAUSE, MOST_REFUSALS, outcome

FIRST, LAST = 1, MOST_REFUSALS
DAY = timedelta(hours=24)


@pytest.mark.parametrize(
    ("answer", "attempts", "left", "state"),
    [
        (Delivery(200), FIRST, DAY, "sent"),
        (Delivery(204), LAST + 9, timedelta(0), "sent"),
        (Delivery(302), FIRST, DAY, "waiting"),
        (Delivery(302), LAST, DAY, "failed"),
        (Delivery(404), LAST - 1, DAY, "waiting"),
        (Delivery(404), LAST, DAY, "failed"),
        (Delivery(error="private", is_barred=True), LAST, DAY, "failed"),
        (Delivery(408), LAST, DAY, "waiting"),
        (Delivery(425), LAST, DAY, "waiting"),
        (Delivery(429), LAST, DAY, "waiting"),
        (Delivery(500), LAST, DAY, "waiting"),
        (Delivery(101), LAST, DAY, "waiting"),
        (Delivery(error="no answer"), LAST + 9, DAY, "waiting"),
        (Delivery(500), FIRST, timedelta(0), "failed"),
        (Delivery(503, retry_after=60.0), FIRST, timedelta(seconds=59), "failed"),
    ],
)
def test_postback_is_sent_waits_or_has_failed(
    answer: Delivery, attempts: int, left: timedelta, state: str
) -> None:
    given, pause = outcome(answer, Due(1, "", "", attempts, left))
    assert given == state
    assert (pause is not None) is (state == "waiting")


@pytest.mark.parametrize(
    ("answer", "attempts", "least", "most"),
    [
        (Delivery(500), 1, 1, FIRST_PAUSE),
        (Delivery(500), 3, 1, FIRST_PAUSE * 4),
        (Delivery(500), 60, 1, 7200),
        (Delivery(503, retry_after=600.0), 1, 600, 600),
        (Delivery(503, retry_after=1e300), 1, 3600, 3600),
    ],
)
def test_pauses_grow_and_differ(answer: Delivery, attempts: int, least: float, most: float) -> None:
    due = Due(1, "", "", attempts, 9 * DAY)
    pauses = {outcome(answer, due)[1] or timedelta(0) for _ in range(50)}
    assert min(pauses) >= timedelta(seconds=least)
    assert max(pauses) <= timedelta(seconds=most)
    assert (len(pauses) > 1) is (least < most)
