"""Keys on the stream server: processes of two versions share them, so they never change."""

from __future__ import annotations

import pytest

from tracker.stream import keys


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        (keys.clicks(3), b"clicks:{3}"),
        (keys.dead(3), b"dead:{3}"),
        (keys.edges(3), b"edges:{3}"),
        (keys.ledger(3, 491_000), b"ledger:{3}:491000"),
        (keys.ledger_prefix(3), b"ledger:{3}:"),
        (keys.lane_prefix(3), b"lane:{3}:"),
        (keys.unique_prefix(3), b"unique:{3}:"),
        (keys.remembered(3), b"remembered:{3}"),
        (keys.remembered_parts(3), b"remembered:{3}:parts"),
        (keys.cap_prefix(3), b"cap:{3}:"),
        (keys.writer_prefix(3), b"writer:{3}:"),
        (keys.writer(3, 1), b"writer:{3}:1"),
        (keys.formats("4/0123"), b"formats:{0}:4/0123"),
        (keys.GROUP, b"writers"),
        (keys.CONSUMER, b"writer-"),
        (keys.rate("token:7"), "rate:{0}:token:7"),
        (keys.SLOTS, b"slots:{0}"),
        (keys.DEPLOYMENT, b"deployment:{0}"),
        (keys.POSTBACKS, b"postbacks:{0}"),
        (keys.POSTBACK_BYTES, b"postback-bytes:{0}"),
        (keys.DEAD_POSTBACKS, b"dead-postbacks:{0}"),
        (keys.REFUSED_POSTBACKS, b"refused-postbacks:{0}"),
        (keys.UNMATCHED, b"orphans:{0}"),
    ],
)
def test_key_stays_as_it_was(key: bytes | str, expected: bytes | str) -> None:
    assert key == expected
