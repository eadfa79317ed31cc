"""How safe answered clicks are on the stream server."""

from __future__ import annotations

from collections.abc import Mapping

from tracker.ops.doctor import copies
from tracker.ops.doctor.finding import Finding, Level
from tracker.ops.doctor.servers import StreamResult, by_server
from tracker.settings import Settings
from tracker.stream.server_info import StreamFacts
from tracker.stream.visitor_memory import InUse

_MB = 1 << 20
_SHORT_OF_MEMORY = 0.8  # of the bytes that visitors may take


async def check(settings: Settings, stream: StreamResult) -> list[Finding]:
    if isinstance(stream, Exception):
        return [Finding("durability", "fail", "unknown, because the stream server cannot be reached")]
    return [
        *by_server(
            (facts.place, check(facts)) for check in (_level, _eviction, _memory) for facts in stream.servers
        ),
        *_visitors(stream.visitors, settings.unique_bytes),
        *(await copies.check(settings) if settings.copies > 1 else ()),
    ]


_DURABILITY: Mapping[str, tuple[Level, str, str]] = {
    "always": ("ok", "a redirect is sent after its click is on disk", ""),
    "everysec": (
        "warn",
        "a power cut may lose the last second of clicks",
        "set appendfsync always on the server",
    ),
    "no": ("fail", "a power cut may lose half a minute of clicks", "set appendfsync always on the server"),
    "memory": (
        "fail",
        "clicks not yet in PostgreSQL are lost when the stream server ends",
        "set appendonly yes and appendfsync always on the server",
    ),
}


def _level(facts: StreamFacts) -> Finding:
    unknown: tuple[Level, str, str] = ("warn", "this level is unknown", "ask the server's operator")
    level, meaning, advice = _DURABILITY.get(facts.durability, unknown)
    return Finding("durability", level, f"level in force: {facts.durability}: {meaning}", advice)


def _eviction(facts: StreamFacts) -> Finding:
    if facts.policy == "noeviction":
        return Finding(
            "durability",
            "ok",
            "maxmemory-policy noeviction: a full server refuses new clicks and keeps the old ones",
        )
    text = f"maxmemory-policy {facts.policy}: a full server deletes clicks"
    return Finding("durability", "fail", text, "set maxmemory-policy noeviction on the server")


def _memory(facts: StreamFacts) -> Finding:
    if facts.maxmemory:
        return Finding("durability", "ok", f"maxmemory {facts.maxmemory >> 20} MB")
    text = "maxmemory is not set: the kernel may kill a server that grows too large"
    return Finding("durability", "warn", text, "set maxmemory on the server")


def _visitors(visitors: InUse, most: int | None) -> list[Finding]:
    """How full the memory of visitors is, and how many networks have used up their share."""
    megabytes = f"{visitors.bytes / _MB:.1f} MB of at most {visitors.allowed / _MB:.1f}"
    text = f"remembered visitors take {megabytes}"
    advice = "raise TRACKER_UNIQUE_MB, and maxmemory (embedded: TRACKER_STREAM_MB), or shorten unique_window"
    if visitors.is_full:
        text += ": new visitors count as not unique, with reason 41"
    is_short = visitors.is_full or visitors.bytes > visitors.allowed * _SHORT_OF_MEMORY
    findings = [Finding("durability", "warn" if is_short else "ok", text, advice if is_short else "")]
    if visitors.closed:
        text = f"networks that have used up their eighth of it: {visitors.closed}"
        advice = "export their clicks with reason 41, and block the addresses if these are no people"
        findings.append(Finding("durability", "warn", text, advice))
    if most is not None and most > visitors.allowed:
        text = f"TRACKER_UNIQUE_MB is over three quarters of maxmemory: {visitors.allowed // _MB} in force"
        findings.append(Finding("durability", "warn", text, "lower it, or raise maxmemory"))
    return findings
