"""Nodes of a stream: what a URL says about them, and how their partitions are shared evenly."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracker.ops.doctor.nodes import even
from tracker.ops.doctor.settings import without_password
from tracker.stream.homes import Address, Server, _Asked, homes_of

SERVERS = [Server(Address("10.0.0.1", 7000 + n), f"node-{n}") for n in range(5)]


@given(st.lists(st.integers(0, 4), max_size=64), st.integers(1, 5))
def test_partitions_are_evened_by_the_fewest_moves(owners: list[int], primaries: int) -> None:
    having: dict[Server, list[int]] = {server: [] for server in SERVERS[:primaries]}
    for partition, owner in enumerate(owners):
        having[SERVERS[owner % primaries]].append(partition)
    moves = even(having)
    after = Counter({server: len(numbers) for server, numbers in having.items()})
    for move in moves:
        after[move.source] -= 1
        after[move.target] += 1
    assert max(after.values()) - min(after[server] for server in having) <= 1
    least = len(owners) // primaries
    surplus = sum(max(len(numbers) - least, 0) for numbers in having.values())
    assert len(moves) <= surplus
    assert len({move.partition for move in moves}) == len(moves), "none moves twice"
    assert 0 not in {move.partition for move in moves} or len(having[moves[0].source]) == 1


OPTIONS: list[tuple[str, bool, dict[str, Any], dict[str, Any]]] = [
    (
        "redis+cluster://u:p@a:1,b",
        False,
        {"username": "u", "password": "p"},
        {"username": "u", "password": "p"},
    ),
    ("redis+sentinel://u:p@a:1,b/x?db=2", False, {"username": "u", "password": "p", "db": 2}, {}),
    ("redis+sentinel://a:1,b/x?sentinel_password=q", False, {}, {"password": "q"}),
    ("rediss+sentinel://:p%40@a:1,b/x", True, {"password": "p@"}, {}),
    ("rediss+cluster://a:1,b?ssl_ca_certs=c", True, {"ssl_ca_certs": "c"}, {"ssl_ca_certs": "c"}),
]


@pytest.mark.parametrize(("url", "is_encrypted", "of_servers", "of_nodes"), OPTIONS)
def test_url_names_nodes_and_accounts(
    url: str, is_encrypted: bool, of_servers: dict[str, Any], of_nodes: dict[str, Any]
) -> None:
    homes = homes_of(url)
    assert isinstance(homes, _Asked)
    assert [str(node) for node in homes._nodes] == ["a:1", f"b:{homes._default_port}"]
    assert (homes._is_encrypted, homes._options) == (is_encrypted, of_servers)
    assert homes._nodes_options == of_nodes | {"protocol": 2}


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis+cluster://u:p@a:1,b:2", "redis+cluster://u:***@a:1,b:2"),
        ("redis+sentinel://a/x?sentinel_password=q&db=1", "redis+sentinel://a/x?sentinel_password=***&db=1"),
    ],
)
def test_passwords_of_nodes_are_not_shown(url: str, shown: str) -> None:
    assert without_password(url) == shown
