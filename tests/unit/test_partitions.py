from __future__ import annotations

import random
from collections import Counter

import pytest

from tracker.stream.partitions import partition_of


@pytest.mark.parametrize("partitions", [1, 2, 3, 64])
def test_visitors_are_spread_evenly(partitions: int) -> None:
    chance = random.Random(partitions)
    share = 64_000 // partitions
    seen = Counter(partition_of(chance.getrandbits(64), partitions) for _ in range(64_000))
    assert set(seen) == set(range(partitions))
    assert all(0.8 * share < number < 1.2 * share for number in seen.values())
