"""What becomes of a postback to an affiliate after an attempt."""

from __future__ import annotations

from datetime import timedelta

import pytest

from tracker.outbound_http import Answer
from tracker.store.conversions.affiliate_postbacks import Due
from workers.postback_sender import FIRST_PAUSE, MOST_REFUSALS, outcome

FIRST, LAST = 1, MOST_REFUSALS
DAY = timedelta(hours=24)


@pytest.mark.parametrize(
    ("answer", "attempts", "left", "state"),
    [
        (Answer(200), FIRST, DAY, "sent"),
        (Answer(204), LAST + 9, timedelta(0), "sent"),
        (Answer(302), FIRST, DAY, "waiting"),
        (Answer(302), LAST, DAY, "failed"),
        (Answer(404), LAST - 1, DAY, "waiting"),
        (Answer(404), LAST, DAY, "failed"),
        (Answer(error="private", is_barred=True), LAST, DAY, "failed"),
        (Answer(408), LAST, DAY, "waiting"),
        (Answer(425), LAST, DAY, "waiting"),
        (Answer(429), LAST, DAY, "waiting"),
        (Answer(500), LAST, DAY, "waiting"),
        (Answer(101), LAST, DAY, "waiting"),
        (Answer(error="no answer"), LAST + 9, DAY, "waiting"),
        (Answer(500), FIRST, timedelta(0), "failed"),
        (Answer(503, retry_after=60.0), FIRST, timedelta(seconds=59), "failed"),
    ],
)
def test_it_is_sent_waits_or_has_failed(answer: Answer, attempts: int, left: timedelta, state: str) -> None:
    given, pause = outcome(answer, Due(1, "", "", attempts, left))
    assert given == state
    assert (pause is not None) is (state == "waiting")


@pytest.mark.parametrize(
    ("answer", "attempts", "least", "most"),
    [
        (Answer(500), 1, 1, FIRST_PAUSE),
        (Answer(500), 3, 1, FIRST_PAUSE * 4),
        (Answer(500), 60, 1, 7200),
        (Answer(503, retry_after=600.0), 1, 600, 600),
        (Answer(503, retry_after=1e300), 1, 3600, 3600),
    ],
)
def test_pauses_grow_and_differ(answer: Answer, attempts: int, least: float, most: float) -> None:
    due = Due(1, "", "", attempts, 9 * DAY)
    pauses = {outcome(answer, due)[1] or timedelta(0) for _ in range(50)}
    assert min(pauses) >= timedelta(seconds=least)
    assert max(pauses) <= timedelta(seconds=most)
    assert (len(pauses) > 1) is (least < most)
