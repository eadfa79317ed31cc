"""Manual conversions: single ones through the API, and files of statuses."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import datetime
from decimal import Decimal
from typing import NamedTuple

import orjson

from tracker.domain.conversion import goals_named
from tracker.domain.normalise import trim
from tracker.domain.postback import DEFAULT_WORDS, ConversionStatus, Postback, Source, meaning, no_status
from tracker.domain.unstored import AskUnstored
from tracker.domain.webhooks import PERIOD_CLOSED
from tracker.store import legacy_clicks
from tracker.store.clicks.idempotency import Conflict
from tracker.store.conversions import apply_postback, status_words
from tracker.store.conversions import lock as conversion_lock
from tracker.store.conversions import status as conversion_status
from tracker.store.conversions.results import Applied
from tracker.store.db import Connection, Pool
from tracker.store.webhooks import events

_PATIENCE = "10s"  # longest wait for other changes of conversions
_LONG_SECONDS = "120s"  # longest statement of a change of many

_REQUEST = "SELECT digest, hashes FROM conversion_request WHERE (token_id, key) = ($1, $2)"
_NOTE_REQUEST = (
    "INSERT INTO conversion_request (token_id, key, digest, hashes) VALUES ($1, $2, $3, $4::uuid[])"
)
_FIND = """
SELECT id, encode(uuid_send(click_hash), 'hex') AS click_hash, goal_id, status, sale_amount, sale_currency
FROM conversion WHERE id = $1
"""
# A hash is a conversion's or a click's. An order id is unique within an advertiser's goal. It is looked up as
# it was written, then in its normal form.
_MATCH = """
WITH told AS MATERIALIZED (
    SELECT * FROM unnest($1::integer[], $2::uuid[], $3::text[], $4::text[], $5::bigint[])
        AS told (line, hash, order_id, order_text, advertiser_id)
), found AS (
    SELECT line, conversion.id, told.advertiser_id
    FROM told JOIN conversion ON conversion.hash = told.hash
    UNION
    SELECT line, conversion.id, told.advertiser_id
    FROM told JOIN conversion ON conversion.click_hash = told.hash
    UNION
    SELECT line, conversion.id, told.advertiser_id
    FROM told JOIN conversion ON conversion.order_id = told.order_text
    UNION
    SELECT line, conversion.id, told.advertiser_id
    FROM told JOIN conversion ON conversion.order_id = told.order_id
    WHERE NOT EXISTS (SELECT FROM conversion WHERE conversion.order_id = told.order_text)
)
SELECT line, id, conversion.advertiser_id, offer_id, goal_id
FROM found JOIN conversion USING (id)
WHERE found.advertiser_id IS NULL OR found.advertiser_id = conversion.advertiser_id
ORDER BY line, id
"""
_GOALS = "SELECT id, offer_id, name, code, is_archived FROM goal WHERE offer_id = ANY ($1)"
_LAST_CLOSE = "SELECT max(until) FROM period_close"
_CLOSE = """
INSERT INTO period_close (until, author) VALUES ($1, $2)
RETURNING json_build_object('id', id, 'until', until, 'closed_at', closed_at, 'author', author)::text
"""


class Request(NamedTuple):
    """Conversions of one request, and the key of a repeated request."""

    token_id: int
    key: str | None
    digest: bytes
    postbacks: Sequence[Postback]


class Line(NamedTuple):
    """A line of a file. It names a conversion by a hash or an order id."""

    number: int
    hash: str | None
    order_id: str | None
    order_text: str | None  # the same as it was written
    goal: str  # id, code or name, "" without a goal
    advertiser_id: int | None
    word: str  # for the status
    sale_status: str | None
    click_text: str = ""  # the click's id in an earlier tracker, as it was written
    legacy_id: str = ""  # the conversion's own id there


class Found(NamedTuple):
    """A conversion before the operator's change."""

    id: int
    click_hash: str
    goal_id: int
    status: ConversionStatus
    sale_amount: Decimal | None
    sale_currency: str | None


class LineResult(NamedTuple):
    """The result of a line. It has a reason if no conversion matches, or if it did not get its status."""

    number: int
    conversion_id: int | None
    before: ConversionStatus | None
    after: ConversionStatus | None
    reason: str = ""


class NotLater(ValueError):  # noqa: N818 - the name is clear
    """The books are already closed up to that time."""


class _TrialIsOverError(Exception):
    pass


@asynccontextmanager
async def changing(pool: Pool, *, is_trial: bool = False, is_long: bool = False) -> AsyncIterator[Connection]:
    """A transaction that excludes other changes of conversions. An exception undoes it.

    So does the end of a trial, which only shows the effects. `is_long`: a statement has two minutes.
    """
    async with pool.acquire() as connection:
        with suppress(_TrialIsOverError):
            async with connection.transaction():
                await connection.execute(f"SET LOCAL lock_timeout = '{_PATIENCE}'")
                if is_long:
                    await connection.execute(f"SET LOCAL statement_timeout = '{_LONG_SECONDS}'")
                await conversion_lock.lock(connection)
                yield connection
                if is_trial:
                    raise _TrialIsOverError


async def tell(
    pool: Pool, request: Request, complete_until: int | None, ask_unstored: AskUnstored
) -> list[Applied]:
    """Apply a request once, even if it is repeated with its key.

    `complete_until` and `ask_unstored`: as in apply_postback.take.

    Raises:
        Conflict: the key was used with another body.
    """
    async with changing(pool) as connection:
        postbacks = await _reserve(connection, request)
        return await apply_postback.take(connection, postbacks, complete_until, ask_unstored)


async def find(connection: Connection, id_: int) -> Found | None:
    """The conversion with an id."""
    row = await connection.fetchrow(_FIND, id_)
    return row and Found(*row)._replace(status=ConversionStatus(row["status"]))


async def set_statuses(
    pool: Pool, lines: Sequence[Line], author: str, *, dry_run: bool, source: str | None = None
) -> list[LineResult]:
    """Set the status of each line in one transaction. A dry run rolls it back.

    `source`: the earlier tracker whose ids the lines have. None: any.
    """
    async with changing(pool, is_trial=dry_run, is_long=True) as connection:
        return await _set_statuses(connection, lines, author, source)


async def close_period(connection: Connection, until: datetime, author: str) -> str:
    """Close the books up to a time, for good. Returns the row as JSON.

    Raises:
        NotLater: they are already closed up to that time or a later one.
    """
    last = await connection.fetchval(_LAST_CLOSE)
    if last is not None and until <= last:
        closed = last.astimezone(until.tzinfo).isoformat()
        raise NotLater(f"is not later than {closed}, up to which the books are closed")
    row = str(await connection.fetchval(_CLOSE, until, author))
    await events.note(connection, PERIOD_CLOSED, "period-closes", orjson.loads(row))
    return row


async def _reserve(connection: Connection, request: Request) -> Sequence[Postback]:
    """The request's postbacks, by the hashes of its first arrival."""
    if request.key is None:
        return request.postbacks
    row = await connection.fetchrow(_REQUEST, request.token_id, request.key)
    if row is None:
        hashes = [postback.hash for postback in request.postbacks]
        await connection.execute(_NOTE_REQUEST, request.token_id, request.key, request.digest, hashes)
        return request.postbacks
    if row["digest"] != request.digest:
        raise Conflict(None, "Idempotency-Key", "was used with another body")
    pairs = zip(request.postbacks, row["hashes"], strict=True)
    return [postback._replace(hash=hash_.hex) for postback, hash_ in pairs]


async def _set_statuses(
    connection: Connection, lines: Sequence[Line], author: str, source: str | None
) -> list[LineResult]:
    found = await _find_all(connection, lines, source)
    words = await status_words.read(connection, {line.word for line in lines})
    known = {word for _, word in words} | DEFAULT_WORDS.keys()
    ids: dict[int, _Wanted] = {}  # the line to apply, by conversion
    refused: dict[int, str] = {}
    for line in lines:
        match = found[line.number]
        reason = "" if line.word in known else f"status {no_status()}"
        reason = reason or match.reason
        status = meaning(line.word, match.advertiser_id, words)
        if not reason and match.id in ids:
            reason = f"is of the same conversion as line {ids[match.id].line.number}"
        if not reason and status is None:
            reason = f"status {line.word!r} is no word of its advertiser"
        if status and not reason:
            ids[match.id] = _Wanted(line, status)
        refused[line.number] = reason
    done = await _set_each(connection, ids, author)
    return [
        LineResult(line.number, None, None, None, refused[line.number])
        if refused[line.number]
        else done[line.number]
        for line in lines
    ]


async def _find_all(connection: Connection, lines: Sequence[Line], source: str | None) -> dict[int, _Match]:
    """The one conversion of each line, or why it is unknown."""
    named = [(line.number, line.hash, line.order_id, line.order_text, line.advertiser_id) for line in lines]
    named += [
        (line.number, hash_, None, None, line.advertiser_id)
        for line, hash_ in await _earlier(connection, lines, source)
    ]
    columns = zip(*named, strict=True) if named else [()] * 5
    found: defaultdict[int, list[_Candidate]] = defaultdict(list)
    for number, *candidate in await connection.fetch(_MATCH, *columns):
        found[number].append(_Candidate(*candidate))
    goals: defaultdict[int, list[_Goal]] = defaultdict(list)
    of_offers = {each.offer_id for line in lines if line.goal for each in found.get(line.number, ())}
    for goal in await connection.fetch(_GOALS, list(of_offers)) if of_offers else ():
        goals[goal["offer_id"]].append(_Goal(*goal))
    return {line.number: _match(line, found.get(line.number, []), goals) for line in lines}


async def _earlier(
    connection: Connection, lines: Sequence[Line], source: str | None
) -> list[tuple[Line, str]]:
    """The lines with ids of an earlier tracker, and the hashes of what these are of."""
    texts = {line.click_text for line in lines} - {""}
    clicks = await legacy_clicks.find(connection, texts | {trim(text) for text in texts})
    legacy_ids = {line.legacy_id for line in lines} - {""}
    conversions = await legacy_clicks.find_conversions(connection, legacy_ids)
    found = [(line, clicks.get(line.click_text) or clicks.get(trim(line.click_text), ())) for line in lines]
    found += [(line, conversions.get(line.legacy_id, ())) for line in lines]
    return [(line, row.hash) for line, rows in found for row in rows if source is None or row.is_of(source)]


def _unmatched(line: Line) -> str:
    named = trim(line.click_text) or line.legacy_id
    return f"{named} {NO_CONVERSION}" if named else NO_CONVERSION


def _match(line: Line, candidates: Sequence[_Candidate], goals: Mapping[int, Sequence[_Goal]]) -> _Match:
    if not candidates:
        return _Match(reason=_unmatched(line))
    if line.goal:
        by_id = [each for each in candidates if str(each.goal_id) == line.goal]
        named = {each.offer_id: goals_named(line.goal, goals.get(each.offer_id, ())) for each in candidates}
        if not by_id and any(len(own) > 1 for own in named.values()):
            return _Match(reason=f"goal {line.goal!r} is the code or name of several: give its id")
        if not by_id and not any(named.values()) and not line.goal.isdecimal():
            return _Match(reason=f"goal {line.goal!r} is the code or name of no goal of its offer")
        candidates = by_id or [
            each for each in candidates if each.goal_id in (goal.id for goal in named[each.offer_id])
        ]
    if not candidates:
        return _Match(reason=NO_CONVERSION)
    if len(candidates) > 1:
        return _Match(reason=f"is of {len(candidates)} conversions: give goal_id or advertiser_id too")
    return _Match(candidates[0].id, candidates[0].advertiser_id)


NO_CONVERSION = "matches no conversion"


class _Candidate(NamedTuple):
    """A conversion that a line's hash or order id may mean."""

    id: int
    advertiser_id: int
    offer_id: int
    goal_id: int


class _Goal(NamedTuple):
    id: int
    offer_id: int
    name: str
    code: str | None
    is_archived: bool


class _Match(NamedTuple):
    """The conversion of a line, or why it is unknown."""

    id: int = 0
    advertiser_id: int | None = None
    reason: str = ""


class _Wanted(NamedTuple):
    """The new status of a conversion, and its line."""

    line: Line
    status: ConversionStatus


async def _set_each(
    connection: Connection, wanted: Mapping[int, _Wanted], author: str
) -> dict[int, LineResult]:
    alike: dict[ConversionStatus, list[int]] = defaultdict(list)
    for id_, (_, status) in wanted.items():
        alike[status].append(id_)
    sale_statuses = {
        id_: line.sale_status for id_, (line, _) in wanted.items() if line.sale_status is not None
    }
    results = {}
    for status, ids in alike.items():
        changed = await conversion_status.set_status(
            connection, ids, status, source=Source.UPLOAD, author=author, sale_statuses=sale_statuses
        )
        for each in changed:
            number = wanted[each.id].line.number
            results[number] = LineResult(number, each.id, each.before, each.after, each.refusal(status))
    return results
