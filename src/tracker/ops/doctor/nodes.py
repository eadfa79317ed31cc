"""Whether the nodes of a cluster or of sentinels are as a tracker needs them, and share its work evenly."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from typing import NamedTuple

from tracker.ops.doctor.finding import Finding
from tracker.ops.doctor.servers import StreamResult
from tracker.settings import Settings
from tracker.stream.homes import SLOTS, Server
from tracker.stream.server_info import StreamFacts

_TOPIC = "nodes"


class Move(NamedTuple):
    """A partition that another primary should have."""

    partition: int
    source: Server
    target: Server


async def check(settings: Settings, stream: StreamResult) -> list[Finding]:
    """Nothing, if there is one server without replicas that we know of."""
    if isinstance(stream, Exception) or len(stream.servers) + len(stream.away) == 1:
        return []
    places = [facts.place for facts in stream.servers]
    return [
        _spread(stream.servers, settings.partitions),
        *_away(stream.away),
        *_alone([*places, *stream.away]),
        *_moving(stream.servers),
        *_needing_all(stream.servers),
        *(_needing_nobody(stream.servers) if settings.copies == 1 else ()),
    ]


def even(having: Mapping[Server, list[int]]) -> list[Move]:
    """The fewest moves after which no primary has two partitions more than another.

    The highest partitions move. Partition 0 stays: it has the postbacks too.
    """
    having = {server: sorted(partitions) for server, partitions in having.items()}
    moves: list[Move] = []
    while True:
        least, most = (pick(having, key=lambda server: len(having[server])) for pick in (min, max))
        if len(having[most]) - len(having[least]) < 2:
            return moves
        partition = having[most].pop()
        having[least].append(partition)
        moves.append(Move(partition, most, least))


def _spread(servers: list[StreamFacts], partitions: int) -> Finding:
    primaries = [facts for facts in servers if not facts.place.is_replica]
    having = {
        facts.place: [number for number in facts.place.partitions if number < partitions]
        for facts in primaries
    }
    shares = ", ".join(f"{server.address} has {len(numbers)}" for server, numbers in having.items())
    numbers = f"{len(primaries)} primaries, {len(servers) - len(primaries)} replicas"
    text = f"{numbers}; of {partitions} partitions {shares}"
    if not (moves := even(having)):
        return Finding(_TOPIC, "ok", text)
    can = all(facts.cluster and facts.cluster.moves_at_once for facts in primaries)
    return Finding(_TOPIC, "warn", text, _command(moves) if can else _without_command(moves))


def _command(moves: list[Move]) -> str:
    """One command for each primary that has too many."""
    by_source: dict[Server, dict[str, list[int]]] = defaultdict(lambda: defaultdict(list))
    for move in moves:
        by_source[move.source][move.target.node].append(SLOTS[move.partition])
    return " && ".join(_of_source(source, targets) for source, targets in by_source.items())


def _of_source(source: Server, targets: Mapping[str, list[int]]) -> str:
    assert source.address
    words = ["valkey-cli", "-h", source.address.host, "-p", str(source.address.port), "CLUSTER MIGRATESLOTS"]
    for node, slots in targets.items():
        words += ("SLOTSRANGE", *(f"{slot} {slot}" for slot in slots), "NODE", node)
    return " ".join(words)


def _without_command(moves: list[Move]) -> str:
    slots = ", ".join(f"{SLOTS[move.partition]} to {move.target.address}" for move in moves)
    return (
        "Valkey 9 moves slots in one step, under load. With this server stop edges, workers and APIs first, "
        f"and move slot {slots} with --cluster reshard"
    )


def _away(away: list[Server]) -> list[Finding]:
    advice = "start it again, with its append-only file, or replace it with an empty node of a new name"
    return [Finding(_TOPIC, "warn", f"replica {one.address} does not answer", advice) for one in away]


def _alone(places: list[Server]) -> list[Finding]:
    """Primaries without a replica. One that is away counts: it has a finding of its own."""
    replicas = [place for place in places if place.is_replica]
    alone = [
        place
        for place in places
        if not place.is_replica and not any(replica.primary == place.node for replica in replicas)
    ]
    advice = "add a replica: without one nobody takes over, and its disk has the only copy of waiting clicks"
    return [Finding(_TOPIC, "warn", f"{one.address} has no replica", advice) for one in alone]


def _moving(servers: list[StreamFacts]) -> list[Finding]:
    text = "{} moves slots the old way ({}): calls fail meanwhile, and caps may count a click twice"
    advice = "end the move with CLUSTER SETSLOT … STABLE, and use CLUSTER MIGRATESLOTS while edges run"
    return [
        Finding(_TOPIC, "fail", text.format(facts.place.address, " ".join(facts.cluster.moving)), advice)
        for facts in servers
        if facts.cluster and facts.cluster.moving
    ]


def _needing_all(servers: list[StreamFacts]) -> list[Finding]:
    where = [str(facts.place.address) for facts in servers if facts.cluster and facts.cluster.needs_all]
    text = f"cluster-require-full-coverage yes on {', '.join(where)}: while one primary is away, all refuse"
    return [Finding(_TOPIC, "warn", text, "set it to no on every node")] if where else []


def _needing_nobody(servers: list[StreamFacts]) -> list[Finding]:
    """Servers behind sentinels that take clicks which nobody else has. A cluster's nodes know better."""
    lonely = [facts for facts in servers if facts.least_replicas == 0 and not facts.cluster]
    where = [str(facts.place.address) for facts in lonely]
    text = f"min-replicas-to-write 0 on {', '.join(where)}: a former primary that comes back takes clicks"
    advice = "set it to 1, best with two replicas: sentinels demote it after ten seconds, and these are lost"
    return [Finding(_TOPIC, "warn", text, advice)] if where else []
