"""The servers of PostgreSQL beside the primary: whether they can be used, and what a commit waits for."""

from __future__ import annotations

from tracker.ops.doctor.finding import Finding, Level, cannot_read
from tracker.ops.doctor.servers import ANSWER_SECONDS, StreamResult
from tracker.ops.doctor.settings import without_password
from tracker.settings import Settings
from tracker.store import db, standby
from tracker.store.standby import Server, Standby

_UNREADABLE = (*db.UNREACHABLE, db.REFUSED)
_TWO_DISKS = "set synchronous_standby_names = 'ANY 1 (*)' and synchronous_commit = on on the primary"


async def check(settings: Settings, _: StreamResult) -> list[Finding]:
    """What is worth knowing about each server, and about what a commit waits for."""
    assert settings.postgres_dsn
    try:
        primary = await standby.ask_server(settings.postgres_dsn, "primary")
    except _UNREADABLE as error:
        return [cannot_read("standby", error)]
    findings = [*await _others(settings.postgres_dsn, primary), *_commits(settings, primary)]
    if settings.read_dsn is None:
        return [
            *findings,
            Finding("standby", "ok", "TRACKER_READ_DSN is unset: the primary answers all reads"),
        ]
    return [*findings, *await _readable(settings.postgres_dsn, settings.read_dsn)]


async def _others(dsn: str, primary: Server) -> list[Finding]:
    """The further servers of TRACKER_POSTGRES_DSN, one of which is the next primary."""
    servers = db.servers_of(dsn)
    if len(servers) == 1:
        return []
    findings, primaries = [], []
    for server in servers:
        where = without_password(server)
        try:
            said = await standby.ask_server(server)
        except _UNREADABLE as error:
            why = str(error) or type(error).__name__
            text = f"{where} cannot be used: {why}"
            findings.append(Finding("standby", "warn", text, "start it again, as a standby of the primary"))
            continue
        if said.system != primary.system:
            text = f"{where} belongs to another cluster than the primary"
            findings.append(Finding("standby", "fail", text, "take it out of TRACKER_POSTGRES_DSN"))
        if not said.is_standby:
            primaries.append(where)
    if len(primaries) > 1:
        text = f"there are several primaries: {', '.join(primaries)}"
        advice = "stop the old one at once, then make it a standby by pg_rewind or pg_basebackup"
        findings.append(Finding("standby", "fail", text, advice))
    return findings or [Finding("standby", "ok", f"{len(servers)} servers answer, one is the primary")]


def _commits(settings: Settings, primary: Server) -> list[Finding]:
    """What a click that is stored is safe from, if there is any standby."""
    is_alone = settings.read_dsn is None and not primary.followers and not primary.names
    if is_alone and len(db.servers_of(settings.postgres_dsn or "")) == 1:
        return []
    level, text, advice = _safety(primary)
    return [Finding("standby", level, text, advice)]


def _safety(primary: Server) -> tuple[Level, str, str]:
    if not primary.names or primary.commit_waits in ("off", "local"):
        text = "a commit waits for the primary's disk alone: with it the clicks stored last would be lost"
        return "warn", text, _TWO_DISKS
    if primary.commit_waits == "remote_write":
        text = "a commit waits for the standby's memory, not for its disk (synchronous_commit = remote_write)"
        return "warn", text, _TWO_DISKS
    if not primary.followers:
        text = "no standby is connected: commits wait for one, and clicks wait on the stream"
        return "fail", text, "start a standby that synchronous_standby_names names"
    return "ok", f"a click is on two disks before it leaves the stream ({primary.names})", ""


async def _readable(dsn: str, read_dsn: str) -> list[Finding]:
    """The server of TRACKER_READ_DSN."""
    where = without_password(read_dsn)
    async with await db.open_pool(dsn, size=1) as pool:
        spare = await Standby.open(read_dsn, pool, longest_wait=ANSWER_SECONDS)
        try:
            behind = await spare.behind()
            if behind is None:
                text = f"{where} cannot be used, so the primary answers reads: {spare.why_unusable}"
                return [Finding("standby", "fail", text, "start it, or correct TRACKER_READ_DSN")]
            written = await spare.written()
            is_late = (await spare.wait(written, standby.LONGEST_LAG_SECONDS) or 0) < written.lsn
        finally:
            await spare.close()
    said = await standby.ask_server(read_dsn)
    return [_lag(where, behind, is_late=is_late), *_conflicts(where, said)]


def _lag(where: str, behind: int, *, is_late: bool) -> Finding:
    if not is_late:
        return Finding("standby", "ok", f"{where} is {behind:,} bytes behind")
    seconds = standby.LONGEST_LAG_SECONDS
    text = f"{where} is more than {seconds:g} s behind ({behind:,} bytes), so the primary answers reads"
    return Finding("standby", "warn", text, "is its replay paused, its disk slow, or the way to it narrow?")


def _conflicts(where: str, said: Server) -> list[Finding]:
    """What reads and the replay do to each other."""
    findings = []
    if not said.gives_feedback:
        text = f"{where}: hot_standby_feedback is off: long reads are broken off, and go to the primary"
        findings.append(Finding("standby", "warn", text, "set hot_standby_feedback = on on the standby"))
    if said.longest_conflict == "-1":
        text = f"{where}: max_standby_streaming_delay is -1: one long read may hold its replay back for ever"
        findings.append(Finding("standby", "warn", text, "set it to 30s, as it is by default"))
    return findings
