from concurrent.futures import ThreadPoolExecutor
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracker.domain import click_id
from tracker.domain.click_id import Mint, first_hash_at, hash_at, is_click_hash, millis_of


def test_hashes_are_uuid7_and_strictly_increase() -> None:
    mint = Mint()
    hashes = [mint.hash() for _ in range(20_000)]
    assert hashes == sorted(set(hashes))
    assert all(is_click_hash(hash_) and UUID(hash_).version == 7 for hash_ in hashes)


def test_hash_has_its_time() -> None:
    hashes = [hash_at(1_700_000_000_000, sequence) for sequence in (0, 1, 99)]
    assert hashes == sorted(hashes)
    assert len({hash_at(5) for _ in range(100)}) == 100
    assert all(is_click_hash(hash_) and millis_of(hash_) == 1_700_000_000_000 for hash_ in hashes)


def test_clock_that_steps_back_is_not_followed(monkeypatch: pytest.MonkeyPatch) -> None:
    mint = Mint()
    monkeypatch.setattr(click_id, "time_ns", lambda: 1_000_000_000_000)
    first = mint.hash()
    monkeypatch.setattr(click_id, "time_ns", lambda: 1_000_000)
    assert millis_of(first) == 1_000_000
    assert mint.hash() > first


def test_full_millisecond_runs_into_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(click_id, "time_ns", lambda: 5_000_000)
    mint = Mint()
    hashes = [mint.hash() for _ in range(5000)]
    assert hashes == sorted(set(hashes))
    assert {millis_of(hash_) for hash_ in hashes} == {5, 6}


def test_mints_never_make_the_same_id() -> None:
    def mint_many(_: int) -> list[str]:
        mint = Mint()
        return [mint.hash() for _ in range(2000)]

    with ThreadPoolExecutor(4) as pool:
        hashes = [hash_ for part in pool.map(mint_many, range(4)) for hash_ in part]
    assert len(set(hashes)) == len(hashes)


@given(st.integers(0, (1 << 48) - 1))
def test_time_is_the_lower_bound_of_its_hashes(millis: int) -> None:
    assert millis_of(first_hash_at(millis)) == millis
    assert first_hash_at(millis) < f"{millis:012x}7000{'8' + '0' * 15}"


@pytest.mark.parametrize("millis", [-1, 1 << 48])
def test_time_beyond_48_bits_is_refused(millis: int) -> None:
    with pytest.raises(ValueError, match="outside the time"):
        first_hash_at(millis)


@pytest.mark.parametrize(
    ("text", "is_one"),
    [
        ("01900000000070008000000000000001", True),
        ("0190000000007000c000000000000001", False),  # variant
        ("01900000000040008000000000000001", False),  # version 4
        ("0190000000007000800000000000000", False),
        ("0190000000007000800000000000000G", False),
        ("0190000000007000800000000000000A", False),  # we write lowercase
        ("12e9d2d9f07cb9a097bac01a127c9e00", False),
        ("", False),
    ],
)
def test_click_hash_is_recognised(text: str, is_one: bool) -> None:
    assert is_click_hash(text) is is_one
