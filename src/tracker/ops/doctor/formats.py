"""Whether workers and edges have the same versions of records. They differ during an upgrade."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from tracker.ops.doctor.finding import Finding, cannot_read
from tracker.ops.doctor.servers import UNREACHABLE_STREAM, StreamResult, time_limit
from tracker.settings import Settings
from tracker.stream.formats import Formats, Word, Worker
from tracker.stream.ledger import ALIVE_MILLIS, StreamLedger
from tracker.stream.record import NEWEST, OLDEST


async def check(settings: Settings, _: StreamResult) -> list[Finding]:
    """The versions that live workers read, and those that live edges write."""
    assert settings.redis_url
    try:
        async with (
            time_limit(),
            Formats(settings.redis_url, settings.partitions) as formats,
            StreamLedger(settings.redis_url) as stream,
        ):
            workers = [worker for worker in await formats.workers() if worker.holds_slot]
            now, heartbeats = await stream.heartbeats()
            alive = {each.field for each in heartbeats if now - each.sent_at < ALIVE_MILLIS}
            edges = await formats.edges(sorted(alive))
    except UNREACHABLE_STREAM as error:
        return [cannot_read("formats", error)]
    return findings(workers, edges)


def findings(workers: Collection[Worker], edges: Mapping[str, Word | None]) -> list[Finding]:
    """One finding for each kind of disagreement. `edges`: None for an edge of a release without words."""
    found = [*_doubled(edges), *_unreadable(workers, edges), *_former_workers(workers), *_former_edges(edges)]
    if found:
        return found
    if not workers:
        text = f"no worker runs: edges write clicks of version {OLDEST}, which the next one reads"
        return [Finding("formats", "ok", text)]
    return [Finding("formats", "ok", f"all workers and edges know clicks of version {NEWEST}")]


def _doubled(edges: Mapping[str, Word | None]) -> list[Finding]:
    """Edges that two processes are, on copies of one disk. They renew one heartbeat."""
    advice = "stop one, delete edges/SLOT.run in its TRACKER_DATA_DIR, and give it another --slot"
    return [
        Finding("formats", "fail", f"two processes run as edge {edge}, on copies of one disk", advice)
        for edge, word in edges.items()
        if word and word.rival
    ]


def _unreadable(workers: Collection[Worker], edges: Mapping[str, Word | None]) -> list[Finding]:
    """Edges that write what a worker does not read. The edges see it within a second."""
    advice = "if this stays, start workers and edges of one release, then tracker dead-letters replay --all"
    return [
        Finding("formats", "fail", f"edge {edge} writes clicks that worker {worker.slot} cannot read", advice)
        for edge, word in edges.items()
        for worker in workers
        if word and max(word.clicks, default=OLDEST) not in worker.word.clicks
    ]


def _former_workers(workers: Collection[Worker]) -> list[Finding]:
    slots = sorted({worker.slot for worker in workers if NEWEST not in worker.word.clicks})
    text = f"workers of a former release: {', '.join(slots)}. Edges write clicks that these can read"
    return [Finding("formats", "warn", text, "restart them with this release")] if slots else []


def _former_edges(edges: Mapping[str, Word | None]) -> list[Finding]:
    former = sorted(edge for edge, word in edges.items() if word is None)
    text = f"edges of a former release: {', '.join(former)}. They write clicks of version {OLDEST}"
    return [Finding("formats", "warn", text, "restart them with this release")] if former else []
