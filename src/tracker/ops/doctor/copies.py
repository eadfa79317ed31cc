"""Whether the stream server's replicas keep what TRACKER_COPIES=2 promises."""

from __future__ import annotations

from tracker.ops.doctor.finding import Finding
from tracker.ops.doctor.servers import UNREACHABLE_STREAM, by_server, time_limit
from tracker.settings import Settings
from tracker.stream.server_info import ReplicaFacts, ask_replicas

_TOPIC = "durability"
_ON_DISK = "set appendonly yes and appendfsync always on it. One that has just joined needs some seconds"
_NOT_ZERO = "set min-replicas-to-write 0: then the server and the edges' spools have the two copies meanwhile"


async def check(settings: Settings) -> list[Finding]:
    """Write to the stream server, and see which replicas have it."""
    assert settings.redis_url
    try:
        async with time_limit():
            each = await ask_replicas(settings.redis_url, settings.append_timeout)
            return [*by_server((facts.place, finding) for facts in each for finding in findings(facts))]
    except UNREACHABLE_STREAM as error:
        why = str(error) or type(error).__name__
        advice = _NOT_ZERO if "NOREPLICAS" in why else "it needs WAITAOF: Valkey, or Redis 7.2"
        return [Finding(_TOPIC, "fail", f"TRACKER_COPIES=2: the replicas cannot be asked: {why}", advice)]


def findings(facts: ReplicaFacts) -> list[Finding]:
    """What the replicas confirm, and what one copy would mean here."""
    return [_confirmed(facts), *_refusing(facts), _alone(facts)]


def _confirmed(facts: ReplicaFacts) -> Finding:
    if not facts.connected:
        advice = "start one on another machine: replicaof, appendonly yes, appendfsync always"
        return Finding(_TOPIC, "fail", "no replica is connected: no click has a second copy there", advice)
    if not facts.reached:
        text = f"replicas that are connected: {facts.connected}. None of them confirms a write"
        return Finding(_TOPIC, "fail", text, "look at its log, and at the way to it")
    if not facts.on_disk:
        text = f"replicas that are connected: {facts.connected}. None of them confirms a write on disk"
        return Finding(_TOPIC, "fail", text, _ON_DISK)
    if facts.on_disk < facts.connected:
        text = f"of {facts.connected} replicas only {facts.on_disk} confirm a write on disk"
        return Finding(_TOPIC, "warn", text, f"the others must not take over. {_ON_DISK.capitalize()}")
    text = f"replicas that have a click on disk before its redirect is sent: {facts.on_disk}"
    return Finding(_TOPIC, "ok", text)


def _refusing(facts: ReplicaFacts) -> list[Finding]:
    if not facts.least:
        return []
    text = f"min-replicas-to-write is {facts.least}: without a replica the server refuses clicks"
    return [Finding(_TOPIC, "warn", text, _NOT_ZERO)]


def _alone(facts: ReplicaFacts) -> Finding:
    if facts.is_elsewhere:
        return Finding(_TOPIC, "ok", "while no replica confirms, this machine's spool is the second copy")
    text = "this machine is the stream server's: its spool is no second copy while no replica confirms"
    advice = "TRACKER_ON_LOSS decides about clicks then: run edges on other machines, or add a second replica"
    return Finding(_TOPIC, "warn", text, advice)
