"""The visitor memory allowed by a server's memory, and the network of a visitor."""

from __future__ import annotations

import pytest

from tracker.settings import Settings, SettingsError
from tracker.stream.record import network_number
from tracker.stream.visitor_memory import VisitorMemory

MIB = 1 << 20


@pytest.mark.parametrize(
    ("most", "info", "allowed"),
    [
        (None, {"maxmemory": 256 * MIB, "total_system_memory": 4096 * MIB}, 128),
        (None, {"maxmemory": "268435456"}, 128),
        (None, {"maxmemory": 0, "total_system_memory": 4096 * MIB}, 512),
        (None, {"maxmemory": 0}, 128),
        (None, {}, 128),
        (64 * MIB, {"maxmemory": 256 * MIB}, 64),
        (192 * MIB, {"maxmemory": 256 * MIB}, 192),
        (193 * MIB, {"maxmemory": 256 * MIB}, 192),
        (0, {"maxmemory": 256 * MIB}, 0),
    ],
)
def test_visitor_memory_is_the_setting_and_leaves_a_quarter(
    most: int | None, info: dict[str, object], allowed: int
) -> None:
    assert VisitorMemory(most).allowed(info) == allowed * MIB
    assert VisitorMemory(most, 4).room(info) == allowed * MIB // 4


def test_visitor_memory_is_read_from_settings() -> None:
    variables = {"TRACKER_UNIQUE_MB": "64", "TRACKER_STREAM_MB": "512", "TRACKER_PARTITIONS": "4"}
    settings = Settings.from_env(variables)
    assert VisitorMemory.of(settings) == VisitorMemory(64 * MIB, 4)
    assert settings.stream_bytes == 512 * MIB
    assert dict(settings.variables()).items() >= {"TRACKER_UNIQUE_MB": 64, "TRACKER_STREAM_MB": 512}.items()
    assert dict(Settings.from_env({}).variables())["TRACKER_UNIQUE_MB"] is None
    with pytest.raises(SettingsError, match="TRACKER_UNIQUE_MB: '15' is not a whole number from 16 to"):
        Settings.from_env({"TRACKER_UNIQUE_MB": "15"})


@pytest.mark.parametrize(
    ("one", "other", "is_same"),
    [
        ("192.0.2.1", "192.0.2.254", True),
        ("192.0.2.1", "192.0.3.1", False),
        ("2001:db8:1::1", "2001:db8:1:ffff:ffff::2", True),
        ("2001:db8:1::1", "2001:db8:2::1", False),
    ],
)
def test_network_is_24_bits_of_ipv4_and_48_of_ipv6(one: str, other: str, is_same: bool) -> None:
    assert (network_number(one) == network_number(other)) is is_same


def test_networks_are_spread_over_all_numbers() -> None:
    numbers = [network_number(f"10.{a}.{b}.1") for a in range(256) for b in range(0, 256, 8)]
    counts = [numbers.count(number) for number in range(1, 128)]
    assert sum(counts) == len(numbers)
    assert max(counts) < 2 * len(numbers) / 127
    assert network_number("") == 0
