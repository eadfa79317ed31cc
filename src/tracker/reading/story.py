"""The story of one click: why it went where it went, and all that came of it, in the order of time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, tzinfo
from typing import Any, Final, NamedTuple

from tracker.domain import reasons
from tracker.domain.click_id import millis_of
from tracker.domain.model import Reason, Status
from tracker.ops.explain import explain_stored
from tracker.reading.postbacks import without_money
from tracker.reading.visibility import Visibility
from tracker.store.catalogue.changes import changes_since
from tracker.store.clicks.columns import local_second
from tracker.store.conversions import affiliate_postbacks
from tracker.store.conversions import list as conversion_list
from tracker.store.conversions import postbacks as postback_log
from tracker.store.conversions.list import ConversionFilter
from tracker.store.db import Pool
from tracker.store.paging import Page, Row
from tracker.store.time_span import ALL_TIME

MOST: Final = 100
"""Most conversions, postbacks and sent postbacks of a story: the newest."""


class Sight(NamedTuple):
    """What somebody sees of a story besides the click."""

    conversions: Visibility | None = None  # None: nothing of them
    has_postbacks: bool = False  # advertisers' postbacks
    sent: Sequence[str] = ()  # keys of the postbacks to the affiliate. () = nothing of them
    has_book: bool = False  # entries and corrections of conversions
    has_rules: bool = False


class Event(NamedTuple):
    """One line of a story."""

    second: int  # Unix time
    kind: str
    text: str
    path: str | None  # of the object in the API, without the beginning: conversions/17


_SENDERS: Final = {
    "postback": "A postback",
    "pixel": "A pixel",
    "api": "A request to the API",
    "import": "An imported conversion",
}
_NOTHING: Final = Page([], 0, False)
_BOOK: Final = ("entries", "corrections")


async def story(pool: Pool, click: Row, zone: tzinfo, sight: Sight) -> dict[str, object]:
    """The story of a click. `click`: its row, with the keys that are seen."""
    conversions = await _conversions(pool, click, sight)
    ids = [int(str(row["id"])) for row in conversions.rows]
    postbacks = await _postbacks(pool, click, ids, sight)
    sent = await _sent(pool, ids, sight)
    parts = {"conversions": conversions, "postbacks": postbacks, "sent_postbacks": sent}
    seen = {
        "conversions": sight.conversions is not None,
        "postbacks": sight.has_postbacks,
        "sent_postbacks": bool(sight.sent),
    }
    events = [
        *_of_click(click),
        *(event for row in postbacks.rows for event in _of_postback(row)),
        *(event for row in conversions.rows for event in _of_conversion(row)),
        *(event for row in sent.rows for event in _of_sent(row)),
    ]
    return {
        "click": click,
        "why": why(click),
        "today": await _today(pool, click, zone) if sight.has_rules else None,
        "events": [_shown(event, zone) for event in sorted(events, key=lambda event: event.second)],
        **{name: _rows(part.rows, zone) if seen[name] else None for name, part in parts.items()},
        "totals": {name: part.total if seen[name] else None for name, part in parts.items()},
    }


async def _conversions(pool: Pool, click: Row, sight: Sight) -> Page:
    if sight.conversions is None:
        return _NOTHING
    of_click = sight.conversions.narrow(ConversionFilter(equals=(("click_hash", str(click["hash"])),)))
    page = await conversion_list.whole(pool, of_click, UTC, MOST)
    rows = sight.conversions.show(page.rows)
    if not sight.has_book:
        rows = [row | {name: None for name in _BOOK if name in row} for row in rows]
    return page._replace(rows=rows)


async def _postbacks(pool: Pool, click: Row, conversion_ids: Sequence[int], sight: Sight) -> Page:
    if not sight.has_postbacks or sight.conversions is None:
        return _NOTHING
    click_ids = [str(click["hash"]), *([str(click["legacy_id"])] if click["legacy_id"] else [])]
    page = await postback_log.of_click(pool, click_ids, conversion_ids, UTC, MOST)
    return page._replace(rows=list(map(without_money, page.rows))) if sight.conversions.hides_money else page


async def _sent(pool: Pool, conversion_ids: Sequence[int], sight: Sight) -> Page:
    if not sight.sent or not conversion_ids:
        return _NOTHING
    of_conversions = {"conversion_id": list(conversion_ids)}
    page = await affiliate_postbacks.POSTBACKS.page(pool, of_conversions, ALL_TIME, UTC, 1, MOST)
    return page._replace(rows=[{key: row[key] for key in sight.sent} for row in page.rows])


async def _today(pool: Pool, click: Row, zone: tzinfo) -> dict[str, Any] | None:
    """What today's rules say of the click, and how often they were changed since."""
    async with pool.acquire() as connection:
        judged = await explain_stored(connection, click)
        if judged is None:
            return None
        offer, affiliate = f"offers/{click['requested_offer_id']}", f"affiliates/{click['affiliate_id']}"
        urls = (f"{offer}/urls/{url['id']}" for url in judged["urls"])
        paths = [offer, affiliate, f"{offer}/{affiliate}", *urls]
        number, last = await changes_since(connection, paths, millis_of(str(click["hash"])))
    return {
        "changes": number,
        "last_change_at": None if last is None else local_second(last.timestamp(), zone),
        **judged,
    }


def why(click: Row) -> list[str]:
    """Why the click went where it went, in sentences of what is stored and seen."""
    return [*_asked(click), *_visitor(click), _outcome(click)]


def _asked(click: Row) -> Iterator[str]:
    if click.get("requested_offer_id"):
        url = click.get("requested_url_id")
        yield f"The link asked for offer {click['requested_offer_id']}{f' and its URL {url}' if url else ''}."
    if click["is_test"]:
        yield "It was a test click. Rules do not refuse these, and no report counts them."


def _visitor(click: Row) -> Iterator[str]:
    if click["is_bot"]:
        rule = click.get("bot_reason")
        yield f"The visitor was a bot{f' by the rule {rule}' if rule else ''}. No cap counts bots."
    first = click["group_hash"]
    if click["is_unique"]:
        yield "It was the visitor's first click in the offer's window: unique."
    elif first and first != click["hash"]:
        yield f"The visitor's first click in the offer's window was {first}: not unique."
    else:
        yield "It does not count as unique."
    if click.get("verdict_late"):
        yield "That was decided after the redirect, because the stream server was away."


def _outcome(click: Row) -> str:
    url, status = click["offer_url_id"], click["status"]
    reason = click.get("reason")
    cause = f", because {reasons.meaning(int(str(reason)))} (reason {reason})" if reason else ""
    if status == Status.REJECTED:
        return f"It was rejected{cause}."
    to = f"offer {click['offer_id']}, URL {url}" if url else "a fallback URL"
    if status == Status.FORWARDED:
        return f"It was forwarded to {to}{cause}."
    note = f" ({reasons.meaning(Reason.VISITOR_UNKNOWN)})" if reason == Reason.VISITOR_UNKNOWN else ""
    return f"It was accepted and sent to {to}{note}."


def _of_click(click: Row) -> Iterator[Event]:
    second, path = millis_of(str(click["hash"])) // 1000, f"clicks/{click['hash']}"
    place = click.get("country_code")
    yield Event(second, "click", f"A visitor clicked{f' in {place}' if place else ''}.", path)
    yield Event(second, "redirect", _outcome(click), path)


def _of_postback(row: Row) -> Iterator[Event]:
    reason = f": {row['reason']}" if row["reason"] else ""
    sender = _SENDERS.get(str(row["source"]), str(row["source"]))
    text = f"{sender} arrived from {row['ip'] or 'an unknown address'}: {row['result']}{reason}."
    yield Event(_second(row, "created_at"), "postback", text, f"postbacks/{row['hash']}")


def _of_conversion(row: Row) -> Iterator[Event]:
    path, name = f"conversions/{row['id']}", f"Conversion {row['id']}"
    goal = f" of goal {row['goal_id']}" + (f" ({row['goal_name']})" if row["goal_name"] else "")
    changes = _list(row, "changes")
    first = changes[0]["status_after"] if changes else row["status"]
    text = f"{name}{goal} arrived as {first}{_money(row)}."
    yield Event(_second(row, "created_at"), "conversion", text, path)
    for change in changes[1:]:
        by = f" by {change['author']}" if change["author"] else ""
        text = f"{name}: {change['status_before']} became {change['status_after']} ({change['source']}{by})."
        yield Event(_second(change, "at"), "change", text, path)
    if "changes" not in row and row["updated_at"] != row["created_at"]:
        text = f"{name} was last changed. It is {row['status']}."
        yield Event(_second(row, "updated_at"), "change", text, path)
    for entry in _list(row, "entries"):
        text = f"{name}: {entry['kind']} booked{_money(entry)}."
        yield Event(_second(entry, "booked_at"), "booking", text, path)
    for correction in _list(row, "corrections"):
        amounts = ", ".join(
            f"{side} {correction[f'{side}_before']} became {correction[side]} {row[f'{side}_currency']}"
            for side in ("payout", "revenue")
            if correction[f"{side}_before"] != correction[side]
        )
        text = f"{name} was corrected by {correction['author']}: {amounts or correction['reason']}."
        yield Event(_second(correction, "at"), "correction", text, path)


def _of_sent(row: Row) -> Iterator[Event]:
    path, name = f"sent-postbacks/{row['id']}", f"The postback to affiliate {row['affiliate_id']}"
    made = f"{name} about conversion {row['conversion_id']} was made."
    yield Event(_second(row, "created_at"), "sent_postback", made, path)
    if row["last_attempt_at"] is not None:
        status = f"HTTP {row['last_status']}" if row["last_status"] else row.get("last_error") or "no answer"
        text = f"{name} is {row['state']} after attempt {row['attempts']}: {status}."
        yield Event(_second(row, "last_attempt_at"), "attempt", text, path)


def _list(row: Row, key: str) -> Sequence[Mapping[str, Any]]:
    found: Any = row.get(key)
    return found or ()


def _money(row: Mapping[str, Any]) -> str:
    """The amounts that are seen."""
    sides = (side for side in ("payout", "revenue") if side in row)
    told = ", ".join(f"{side} {row[side]} {row[f'{side}_currency']}" for side in sides)
    return f", {told}" if told else ""


def _second(row: Mapping[str, Any], key: str) -> int:
    """The time of a row that was read in UTC."""
    return int(datetime.fromisoformat(row[key]).replace(tzinfo=UTC).timestamp())


def _shown(event: Event, zone: tzinfo) -> dict[str, object]:
    return event._asdict() | {"at": local_second(event.second, zone), "second": event.second}


def _rows(rows: Iterable[Mapping[str, Any]], zone: tzinfo) -> list[dict[str, object]]:
    """Rows that were read in UTC, with their times in a zone."""
    return [{key: _local(key, row, zone) for key in row} for row in rows]


def _local(key: str, row: Mapping[str, Any], zone: tzinfo) -> object:
    value = row[key]
    if isinstance(value, list):
        return _rows(value, zone)
    if value is not None and (key == "at" or key.endswith("_at")):
        return local_second(_second(row, key), zone)
    return value
