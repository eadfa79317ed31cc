from __future__ import annotations

import pytest

from tracker.domain.rates import read_rate


@pytest.mark.parametrize(
    ("text", "requests", "seconds"),
    [("600/minute", 600, 60), ("1/second", 1, 1), ("1000000/hour", 1_000_000, 3600)],
)
def test_rate_is_read(text: str, requests: int, seconds: int) -> None:
    rate = read_rate(text)
    assert (rate.requests, rate.seconds, str(rate)) == (requests, seconds, text)


@pytest.mark.parametrize(
    "text",
    [
        *("", "600", "0/minute", "-1/minute", "1.5/second", "600 / minute", "600/day", "600/Minute"),
        *("1000001/hour", "06/minute", "٦/minute", "600/minute\n"),
    ],
)
def test_invalid_rate_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not a rate such as 600/minute"):
        read_rate(text)
