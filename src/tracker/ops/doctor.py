"""`tracker doctor`: is everything here as the promises need it, and if not, what is to be done."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Literal, NamedTuple
from urllib.parse import urlsplit

from tracker.edge.catalogue.catalogue import Catalogue
from tracker.edge.record import spool
from tracker.errors import CannotStartError
from tracker.ops import ledger
from tracker.ops.geo_lookup import GeoLookup
from tracker.ops.ledger import Ledger, Minute
from tracker.ops.upgrade import checks as upgrade
from tracker.ops.upgrade.concern import Concern
from tracker.processes.engines.engine import check_version
from tracker.settings import Settings, packaged_geoip
from tracker.store import db, tokens, unfilled
from tracker.store.catalogue import read as stored_catalogue
from tracker.store.conversions import affiliate_postbacks, goal_prices, sending
from tracker.store.conversions import postbacks as postback_log
from tracker.store.conversions.goal_prices import FineAmount, Unpriced
from tracker.store.unfilled import Unfilled
from tracker.stream import partitions, server_info, visitor_memory
from tracker.stream.ledger import Heartbeat
from tracker.stream.postbacks import PostbackStream
from tracker.stream.reader import UNREACHABLE
from tracker.stream.server_info import StreamFacts
from tracker.stream.visitor_memory import InUse, VisitorMemory

Level = Literal["ok", "warn", "fail"]

ANSWER_SECONDS = 5.0
"""How long a server may take to answer all that it is asked."""

_LEAST_FREE_WARN, _LEAST_FREE_FAIL = 5 << 30, 1 << 30
_MB = 1 << 20
_SHORT_OF_MEMORY = 0.8  # of what visitors may take
_SKEW_WARN, _SKEW_FAIL = 0.2, 1.0  # seconds
_OLD_GEO = timedelta(days=60)
_LATE_MILLIS = 60_000
_LONG_PARKED_SECONDS = 3600
_MOST_MINUTES_NAMED = 5
_SOON, _LATELY = timedelta(days=14), timedelta(days=30)
_MOST_TOKENS_NAMED = 5
_MOST_GOALS_NAMED = 5
_MOST_REASONS_NAMED = 3
_MOST_MACROS_NAMED = 5
_MOST_ROWS_NAMED = 5
_PACKAGED = " (the packaged one, the default)"


_UNASKABLE: tuple[type[Exception], ...] = (*UNREACHABLE, ValueError)
"""ValueError: an option in the query of the URL."""


class Finding(NamedTuple):
    """One line of the report."""

    topic: str
    level: Level
    text: str
    advice: str = ""

    def __str__(self) -> str:
        advice = f"\n{'':18}{self.advice}" if self.advice else ""
        return f"{self.level:4}  {self.topic:10}  {self.text}{advice}"


async def examine(settings: Settings, only: str | None = None) -> list[Finding]:
    """Check every topic, or one, asking only the servers that it needs; `settings` are resolved."""
    found: list[Finding] = []
    asked: _Facts | None = None
    for topic in TOPICS if only is None else (only,):
        if topic in _OF_HERE:
            found += _OF_HERE[topic](settings)
        else:
            asked = asked or await _ask_stream(settings)
            found += await _OF_SERVERS[topic](settings, asked)
    return found


class _StreamState(NamedTuple):
    facts: StreamFacts
    skew: float  # seconds between its clock and ours
    waiting: Mapping[int, int]  # clicks, by partition
    visitors: InUse


_Facts = _StreamState | Exception
_Check = Callable[[Settings], list[Finding]]
_ServerCheck = Callable[[Settings, _Facts], Awaitable[list[Finding]]]


async def _ask_stream(settings: Settings) -> _Facts:
    assert settings.redis_url
    try:
        async with asyncio.timeout(ANSWER_SECONDS):
            facts = await server_info.ask(settings.redis_url)
            skew = abs(time.time() - facts.millis / 1000)
            waiting = await partitions.waiting(settings.redis_url)
            visitors = await visitor_memory.in_use(settings.redis_url, VisitorMemory.of(settings))
            return _StreamState(facts, skew, waiting, visitors)
    except _UNASKABLE as error:
        return error


async def _engines(settings: Settings, asked: _Facts) -> list[Finding]:
    return [_stream(settings, asked), *_strays(settings, asked), await _postgres(settings)]


def _stream(settings: Settings, asked: _Facts) -> Finding:
    assert settings.redis_url
    where = _without_password(settings.redis_url)
    if isinstance(asked, Exception):
        return _unreachable("TRACKER_REDIS_URL", where, asked)
    return _versioned("TRACKER_REDIS_URL", asked.facts.server, asked.facts.version, where)


def _strays(settings: Settings, asked: _Facts) -> list[Finding]:
    """Clicks in partitions that this deployment should not have."""
    beyond = [] if isinstance(asked, Exception) else [n for n in asked.waiting if n >= settings.partitions]
    if not beyond:
        return []
    text = (
        f"clicks wait in partition {', '.join(map(str, beyond))}; TRACKER_PARTITIONS is {settings.partitions}"
    )
    advice = "give all edges and workers the same number; workers drain what an earlier one has left"
    return [Finding("engines", "warn", text, advice)]


async def _postgres(settings: Settings) -> Finding:
    assert settings.postgres_dsn
    where = _without_password(settings.postgres_dsn)
    try:
        async with asyncio.timeout(ANSWER_SECONDS):
            version = await db.version(settings.postgres_dsn)
    except Exception as error:  # wrong passwords and missing databases are findings too
        return _unreachable("TRACKER_POSTGRES_DSN", where, error)
    return _versioned("TRACKER_POSTGRES_DSN", "postgresql", version, where)


def _unreachable(variable: str, where: str, error: Exception) -> Finding:
    advice = f"start it with `tracker up`, or set {variable} to one that runs"
    why = "it does not answer" if isinstance(error, TimeoutError) else str(error) or type(error).__name__
    return Finding("engines", "fail", f"{where} cannot be used: {why}", advice)


def _versioned(variable: str, server: str, version: str, where: str) -> Finding:
    try:
        check_version(variable, server, version)
    except CannotStartError as error:
        return Finding("engines", "fail", str(error), "upgrade it")
    return Finding("engines", "ok", f"{server} {version} at {where}")


async def _durability(settings: Settings, asked: _Facts) -> list[Finding]:
    if isinstance(asked, Exception):
        return [Finding("durability", "fail", "unknown, for the stream server cannot be asked")]
    return [
        _level(asked.facts),
        _eviction(asked.facts),
        _memory(asked.facts),
        *_visitors(asked.visitors, settings.unique_bytes),
    ]


_DURABILITY: Mapping[str, tuple[Level, str, str]] = {
    "always": ("ok", "a redirect is answered only when its click is on disk", ""),
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
    unknown: tuple[Level, str, str] = ("warn", "nothing is known of this level", "ask who runs the server")
    level, meaning, advice = _DURABILITY.get(facts.durability, unknown)
    return Finding("durability", level, f"level in force: {facts.durability}: {meaning}", advice)


def _eviction(facts: StreamFacts) -> Finding:
    if facts.policy == "noeviction":
        return Finding(
            "durability", "ok", "maxmemory-policy noeviction: a full server refuses, it never forgets"
        )
    text = f"maxmemory-policy {facts.policy}: a full server throws clicks away"
    return Finding("durability", "fail", text, "set maxmemory-policy noeviction on the server")


def _memory(facts: StreamFacts) -> Finding:
    if facts.maxmemory:
        return Finding("durability", "ok", f"maxmemory {facts.maxmemory >> 20} MB")
    text = "maxmemory is not set: the kernel may kill a server that has grown too large"
    return Finding("durability", "warn", text, "set maxmemory on the server")


def _visitors(visitors: InUse, most: int | None) -> list[Finding]:
    """How full the memory of visitors is, and whether networks have had their share of it."""
    megabytes = f"{visitors.bytes / _MB:.1f} MB of at most {visitors.allowed / _MB:.1f}"
    text = f"remembered visitors take {megabytes}"
    more = "raise TRACKER_UNIQUE_MB, and maxmemory (embedded: TRACKER_STREAM_MB), or shorten unique_window"
    if visitors.is_full:
        text += ": new visitors count as not unique, with reason 41"
    is_short = visitors.is_full or visitors.bytes > visitors.allowed * _SHORT_OF_MEMORY
    found = [Finding("durability", "warn" if is_short else "ok", text, more if is_short else "")]
    if visitors.closed:
        text = f"networks whose visitors have had their eighth of it: {visitors.closed}"
        advice = "export clicks, and block the addresses of those with reason 41 if nobody clicks there"
        found.append(Finding("durability", "warn", text, advice))
    if most is not None and most > visitors.allowed:
        text = f"TRACKER_UNIQUE_MB is over three quarters of maxmemory: {visitors.allowed // _MB} in force"
        found.append(Finding("durability", "warn", text, "lower it, or raise maxmemory"))
    return found


def _settings(settings: Settings) -> list[Finding]:
    shown = [Finding("settings", "ok", f"{name} = {_shown(value)}") for name, value in settings.variables()]
    if not os.access(settings.data_dir, os.W_OK | os.X_OK):
        text = f"{settings.data_dir.resolve()} is missing or not writable"
        shown.append(Finding("settings", "fail", text, "start `tracker up` once, or set TRACKER_DATA_DIR"))
    return shown


def _shown(value: object) -> str:
    if value is None:
        return "unset"
    if isinstance(value, tuple):
        default = _PACKAGED if value and value == packaged_geoip() else ""
        return (", ".join(map(str, value)) or "none") + default
    return _without_password(value) if isinstance(value, str) and "://" in value else str(value)


def _without_password(url: str) -> str:
    url = re.sub(r"([?&]password=)[^&]*", r"\1***", url)
    parts = urlsplit(url)
    if parts.password is None:
        return url
    return parts._replace(netloc=f"{parts.username or ''}:***@{parts.netloc.rpartition('@')[2]}").geturl()


def _geo(settings: Settings) -> list[Finding]:
    if not settings.geoip_db:
        advice = "set TRACKER_GEOIP_DB to an mmdb file; see docs/guides/geoip.md"
        return [Finding("geo", "warn", "no database: country, region, city and ISP stay unknown", advice)]
    is_default = settings.geoip_db == packaged_geoip()
    with GeoLookup(settings.geoip_db) as lookup:
        return [_database(*database, is_default=is_default) for database in lookup.databases]


def _database(path: object, kind: str, built: datetime | None, problem: str, *, is_default: bool) -> Finding:
    if built is None or problem:
        return Finding("geo", "fail", problem, "put a sound mmdb file there, or correct TRACKER_GEOIP_DB")
    text = f"{path}{_PACKAGED if is_default else ''}: {kind}, built {built:%Y-%m-%d}"
    if datetime.now(UTC) - built > _OLD_GEO:
        return Finding(
            "geo", "warn", f"{text}: old, and addresses move", "fetch a newer one; see docs/guides/geoip.md"
        )
    return Finding("geo", "ok", text)


def _disk(settings: Settings) -> list[Finding]:
    data_dir = settings.data_dir.resolve()
    there = next(path for path in (data_dir, *data_dir.parents) if path.exists())
    free = shutil.disk_usage(there).free
    level: Level = "fail" if free < _LEAST_FREE_FAIL else "warn" if free < _LEAST_FREE_WARN else "ok"
    advice = "" if level == "ok" else "make room, or set TRACKER_DATA_DIR to a larger disk"
    return [
        Finding("disk", level, f"{free / (1 << 30):.1f} GB free under {data_dir}", advice),
        *_spool(data_dir),
    ]


def _spool(data_dir: Path) -> list[Finding]:
    """What waits on this machine's disk for the stream."""
    waiting = spool.segments(data_dir / "spool")
    if not waiting:
        return []
    since = datetime.fromtimestamp(spool.first_millis(waiting[0]) / 1000, UTC)
    megabytes = spool.size_of(data_dir / "spool") / 1e6
    text = f"{megabytes:.1f} MB of clicks since {since:%Y-%m-%d %H:%M} in the spool"
    return [
        Finding("disk", "warn", text, "they go to the stream by themselves once it is there and an edge runs")
    ]


async def _clock(_: Settings, asked: _Facts) -> list[Finding]:
    if isinstance(asked, Exception):
        return [Finding("clock", "warn", "not compared, for the stream server cannot be asked")]
    skew = asked.skew
    level: Level = "fail" if skew > _SKEW_FAIL else "warn" if skew > _SKEW_WARN else "ok"
    advice = "" if level == "ok" else "run NTP (chrony, systemd-timesyncd) on both machines"
    return [Finding("clock", level, f"{skew:.3f} s off the stream server's", advice)]


async def _catalogue(settings: Settings, _: _Facts) -> list[Finding]:
    """What edges would leave out of the catalogue as it is saved now, and what it pays nothing for yet."""
    assert settings.postgres_dsn
    catalogue = Catalogue()
    try:
        connection = await db.connect(settings.postgres_dsn)
        try:
            secret = await stored_catalogue.visitor_secret(connection)
            await catalogue.load(secret, stored_catalogue.read_all(connection))
            concerns = await upgrade.concerns(connection, *upgrade.OF_CATALOGUE)
            unpriced = await goal_prices.without_price(connection)
            fine = await goal_prices.finer_than_units(connection)
        finally:
            await connection.close()
    except (*db.UNREACHABLE, db.REFUSED) as error:
        return [
            Finding(
                "catalogue",
                "fail",
                f"cannot be read: {str(error) or type(error).__name__}",
                "run `tracker migrate`",
            )
        ]
    advice = "correct the row; edges take it within a second"
    found = [
        Finding("catalogue", "fail", f"{table} {key}: {why}", advice)
        for (table, key), whys in catalogue.problems.items()
        for why in whys
    ]
    sound = f"{len(catalogue.offers)} offers, {len(catalogue.affiliates)} affiliates"
    return [*(found or [Finding("catalogue", "ok", sound)]), *_prices(unpriced, fine), *_strange(concerns)]


def _strange(concerns: Mapping[str, Sequence[Concern]]) -> list[Finding]:
    """Rows that edges take, and that do not do what is meant."""
    told = [concern for own in concerns.values() for concern in own]
    found = [
        Finding("catalogue", "warn", f"{concern.where}: {concern.text}")
        for concern in told[:_MOST_ROWS_NAMED]
    ]
    if told:
        text = f"rows of the catalogue that do not do what is meant: {len(told)}"
        found.append(Finding("catalogue", "warn", text, "see tracker doctor --upgrade"))
    return found


def _prices(unpriced: Sequence[Unpriced], fine: Sequence[FineAmount]) -> list[Finding]:
    """Goals that pay nothing yet, as nobody has set what; and amounts that nobody can pay out."""
    found = [_unpriced(goal) for goal in unpriced[:_MOST_GOALS_NAMED]]
    if len(unpriced) > _MOST_GOALS_NAMED:
        more = len(unpriced) - _MOST_GOALS_NAMED
        found.append(Finding("catalogue", "warn", f"and {more} more goals without a price"))
    advice = "set an amount that its currency has; what was booked stays"
    return found + [_fine(amount, advice) for amount in fine[:_MOST_GOALS_NAMED]]


def _fine(fine: FineAmount, advice: str) -> Finding:
    of_terms = f"terms {fine.terms_id} of " if fine.terms_id else ""
    text = f"{of_terms}goal {fine.goal_id}: {fine.side} {fine.text}"
    return Finding("catalogue", "warn", text, advice)


def _unpriced(goal: Unpriced) -> Finding:
    text = (
        f"goal {goal.goal_id} ({goal.goal_name}) of offer {goal.offer_id} ({goal.offer_name}) has no price: "
        f"{goal.on_hold} conversions wait for it"
    )
    advice = (
        f"set one, 0 counts: tracker goals set {goal.offer_id} {goal.goal_id} payout=…; then approve them"
    )
    return Finding("catalogue", "warn", text, advice)


async def _tokens(settings: Settings, _: _Facts) -> list[Finding]:
    """Which tokens have expired, or are about to; and which may do less than when they were made."""
    assert settings.postgres_dsn
    try:
        async with asyncio.timeout(ANSWER_SECONDS):
            connection = await db.connect(settings.postgres_dsn)
            try:
                told = await tokens.ageing(connection, _SOON)
                weakened = await tokens.weakened(connection, _LATELY)
            finally:
                await connection.close()
    except (*db.UNREACHABLE, db.REFUSED) as error:
        why = str(error) or type(error).__name__
        return [Finding("tokens", "fail", f"cannot be read: {why}", "see the topic engines")]
    now = datetime.now(UTC)
    found = [_ageing(name, id_, ends, now) for name, id_, ends in told[:_MOST_TOKENS_NAMED]]
    if len(told) > _MOST_TOKENS_NAMED:
        found.append(Finding("tokens", "warn", f"and {len(told) - _MOST_TOKENS_NAMED} more that have, or do"))
    found += [_weakened(token) for token in weakened[:_MOST_TOKENS_NAMED]]
    if len(weakened) > _MOST_TOKENS_NAMED:
        more = len(weakened) - _MOST_TOKENS_NAMED
        found.append(Finding("tokens", "warn", f"and {more} more that may do less than when they were made"))
    return found or [Finding("tokens", "ok", f"none has expired, or does within {_SOON.days} days")]


def _ageing(name: str, id_: int, ends: datetime, now: datetime) -> Finding:
    does = "has expired" if ends <= now else "expires"
    text = f"token {id_} ({name or 'without a name'}) {does} at {ends:%Y-%m-%d %H:%M} UTC"
    return Finding("tokens", "warn", text, f"make another one, or end it: tracker token revoke {id_}")


def _weakened(token: tokens.Weakened) -> Finding:
    name, used = token.name or "without a name", f"{token.last_used_at:%Y-%m-%d}"
    text = f"token {token.id} ({name}), used {used}, no longer has: {'; '.join(token.lost)}"
    advice = (
        "if it needs that, make another one with the scope named: tracker token create --scope …; "
        f"then tracker token revoke {token.id}"
    )
    return Finding("tokens", "warn", text, advice)


async def _ledger(settings: Settings, _: _Facts) -> list[Finding]:
    """Whether the last day's clicks are all there, and what keeps Complete-Until from going on."""
    now = int(time.time())
    try:
        async with asyncio.timeout(ANSWER_SECONDS):
            told, complete_until = await ledger.ask(settings, ledger.minutes_between(now - 86_400, now))
    except (*_UNASKABLE, *db.UNREACHABLE, db.REFUSED) as error:
        why = str(error) or type(error).__name__
        return [Finding("ledger", "fail", f"cannot be read: {why}", "see the topic engines")]
    until = "" if complete_until is None else f", complete until {ledger.rfc3339(complete_until)}"
    fine = f"every minute of the last day balances: {ledger.totals(told)['recorded']} clicks{until}"
    found = [
        *(*_unbalanced(told), *_dead(told), *_uncounted(told), *_sharing(told, now * 1000)),
        *_holding_back(told, now * 1000),
    ]
    return found or [Finding("ledger", "ok", fine)]


def _unbalanced(told: Ledger) -> list[Finding]:
    advice = "keep the logs of edges and workers, and count the rows: tracker ledger --verify FROM TO"
    return [
        Finding("ledger", "fail", f"{_utc(minute)} does not balance: {ledger.amiss(minute)}", advice)
        for minute in told.unbalanced[:_MOST_MINUTES_NAMED]
    ]


def _utc(minute: Minute) -> str:
    return f"{datetime.fromtimestamp(minute.number * 60, UTC):%Y-%m-%d %H:%M} UTC"


def _dead(told: Ledger) -> list[Finding]:
    text = f"dead letters, clicks that cannot be stored: {told.buried}"
    return [Finding("ledger", "warn", text, "see tracker dead-letters list")] if told.buried else []


def _uncounted(told: Ledger) -> list[Finding]:
    number = sum(minute.state is ledger.State.UNCOUNTED for minute in told.minutes)
    text = f"minutes of the last day of which the stream server has no counts: {number}"
    advice = "was it emptied or replaced? What was on it and not stored is lost"
    return [Finding("ledger", "warn", text, advice)] if number else []


def _sharing(told: Ledger, now: int) -> list[Finding]:
    """Slots that several running edges have."""
    runs: defaultdict[str, set[str]] = defaultdict(set)
    for heartbeat in told.heartbeats:
        if now - heartbeat.sent_at < ledger.ALIVE_MILLIS:
            runs[heartbeat.slot].add(heartbeat.run)
    advice = "start each edge with a --slot of its own, among all machines"
    return [
        Finding(
            "ledger", "fail", f"{len(of)} edges have the slot {slot} (runs {', '.join(sorted(of))})", advice
        )
        for slot, of in sorted(runs.items())
        if len(of) > 1
    ]


def _holding_back(told: Ledger, now: int) -> list[Finding]:
    late = [heartbeat for heartbeat in told.heartbeats if now - heartbeat.low_watermark > _LATE_MILLIS]
    return [Finding("ledger", "warn", *_held_back(heartbeat, now)) for heartbeat in late]


def _held_back(heartbeat: Heartbeat, now: int) -> tuple[str, str]:
    until, spooled = ledger.rfc3339(heartbeat.low_watermark), sum(heartbeat.spooled.values())
    text = f"edge {heartbeat.edge} holds Complete-Until back at {until}, with {spooled} clicks in its spool"
    if now - heartbeat.sent_at <= _LATE_MILLIS:
        return text, "see whether the stream server is well; the edge empties its spool by itself"
    return (
        f"{text}; last heard of at {ledger.rfc3339(heartbeat.sent_at)}",
        f"start it again: tracker edge --slot {heartbeat.slot}; "
        f"if its disk is lost: tracker ledger --forget-edge {heartbeat.field}",
    )


async def _postbacks(settings: Settings, _: _Facts) -> list[Finding]:
    """What is on its way, and what does not get on."""
    try:
        async with asyncio.timeout(ANSWER_SECONDS):
            waiting, unreadable = await _on_stream(settings)
            parked, long_parked = await _parked(settings)
            held, refused, macros = await _not_taken(settings)
    except (*_UNASKABLE, *db.UNREACHABLE, db.REFUSED) as error:
        why = str(error) or type(error).__name__
        return [Finding("postbacks", "fail", f"cannot be read: {why}", "see the topic engines")]
    found = [Finding("postbacks", "ok", f"{waiting} on the stream, {parked} waiting for their clicks")]
    if long_parked:
        text = f"waiting for their clicks for more than an hour: {long_parked}"
        found.append(Finding("postbacks", "warn", text, "see what the topic ledger says of Complete-Until"))
    if unreadable:
        text = f"postbacks that no worker can read: {unreadable}"
        found.append(Finding("postbacks", "warn", text, "see tracker postbacks --unreadable"))
    if held:
        text = f"held, for no goal or status word of theirs is known: {held}"
        advice = "see tracker postbacks --result held; add a goal's code, or a word: tracker status-words add"
        found.append(Finding("postbacks", "warn", text, advice))
    if refused:
        often = "; ".join(f"{times} times {reason}" for reason, times in refused[:_MOST_REASONS_NAMED])
        text = f"refused by edges within a day: {sum(times for _, times in refused)}: {often}"
        found.append(Finding("postbacks", "warn", text, "see tracker postbacks --result refused"))
    return found + [_unfilled("postbacks", "advertiser", macro) for macro in macros[:_MOST_MACROS_NAMED]]


async def _not_taken(settings: Settings) -> tuple[int, list[tuple[str, int]], list[Unfilled]]:
    """How many are held, how many were refused within a day by reason, and what says a macro's name."""
    assert settings.postgres_dsn
    connection = await db.connect(settings.postgres_dsn)
    try:
        yesterday = int((time.time() - 86_400) * 1000)
        held = await postback_log.count_held(connection)
        refused = await postback_log.refused_since(connection, yesterday)
        return held, refused, await unfilled.of_advertisers(connection)
    finally:
        await connection.close()


async def _on_stream(settings: Settings) -> tuple[int, int]:
    assert settings.redis_url
    async with PostbackStream(settings.redis_url) as stream:
        return await stream.waiting()


async def _parked(settings: Settings) -> list[int]:
    """All of them, and those that came long ago."""
    assert settings.postgres_dsn
    now = time.time()
    connection = await db.connect(settings.postgres_dsn)
    try:
        return [
            await postback_log.count_parked(connection, int((now - ago) * 1000))
            for ago in (0, _LONG_PARKED_SECONDS)
        ]
    finally:
        await connection.close()


async def _affiliates(settings: Settings, _: _Facts) -> list[Finding]:
    """Whether affiliates are told of their conversions."""
    assert settings.postgres_dsn
    try:
        async with asyncio.timeout(ANSWER_SECONDS):
            connection = await db.connect(settings.postgres_dsn)
            try:
                counts = await affiliate_postbacks.counts(connection)
                made_at = await sending.copy_of(connection)
                macros = await unfilled.of_affiliates(connection)
            finally:
                await connection.close()
    except (*db.UNREACHABLE, db.REFUSED) as error:
        why = str(error) or type(error).__name__
        return [
            Finding("affiliates", "fail", f"their postbacks cannot be read: {why}", "see the topic engines")
        ]
    found = [Finding("affiliates", "ok", f"postbacks to affiliates that wait: {counts.waiting}")]
    if made_at is not None:
        text = f"none is sent: this database is a copy, from the backup of {made_at:%Y-%m-%d %H:%M:%S} UTC"
        found.append(
            Finding("affiliates", "warn", text, "if the original runs no more: `tracker resume-sending`")
        )
    elif counts.overdue:
        text = f"postbacks to affiliates that nobody sends: {counts.overdue}"
        found.append(
            Finding("affiliates", "warn", text, "does a worker run? Many at one host take their time")
        )
    if counts.failed:
        text = f"postbacks to affiliates given up within a day: {counts.failed}"
        found.append(Finding("affiliates", "warn", text, "see GET …/users/sent-postbacks?state=failed"))
    return found + [_unfilled("affiliates", "affiliate", macro) for macro in macros[:_MOST_MACROS_NAMED]]


def _unfilled(topic: str, who: str, macro: Unfilled) -> Finding:
    text = f"{who} {macro.whose} sends a macro that nobody fills: {macro.name}={macro.macro[:50]}"
    sent = f"{text}, in {macro.times:,} of the last {unfilled.LATEST:,} rows"
    return Finding(topic, "warn", sent, f"tell the {who} to put the value there; it is kept as it came")


_OF_SERVERS: Mapping[str, _ServerCheck] = {
    "engines": _engines,
    "durability": _durability,
    "clock": _clock,
    "catalogue": _catalogue,
    "tokens": _tokens,
    "ledger": _ledger,
    "postbacks": _postbacks,
    "affiliates": _affiliates,
}
_OF_HERE: Mapping[str, _Check] = {"settings": _settings, "geo": _geo, "disk": _disk}

TOPICS = (*_OF_SERVERS, *_OF_HERE)
"""What can be examined alone."""
