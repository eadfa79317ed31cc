"""Explains what a tracking link would do now, step by step, without recording anything.

It runs the steps of the hot path: edge.click, edge.outcome, and the stream's script as a dry run. The part of
the catalogue that the link needs is read from Postgres.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple
from urllib.parse import unquote_to_bytes, urlsplit

from tracker.domain import macros, targeting
from tracker.domain.click_fields import ADV_SUBS, AFF_SUBS
from tracker.domain.click_id import first_hash_at
from tracker.domain.model import (
    Choice,
    Click,
    Device,
    Fallback,
    Geo,
    Link,
    Outcome,
    Outcomes,
    Reason,
    Rules,
    Status,
    Visitor,
)
from tracker.domain.normalise import pairs, text_of, trim
from tracker.edge.catalogue.catalogue import Catalogue
from tracker.edge.click import assemble
from tracker.edge.enrich.geo import NOWHERE, Locator
from tracker.edge.http import response
from tracker.edge.outcome import choose_offer_url, prepare_outcomes, resolve_fallback
from tracker.edge.read.client_address import plain_address
from tracker.edge.read.lenient_link import read_leniently
from tracker.edge.read.link import MAX_TARGET, is_tracking_path, read_link
from tracker.edge.read.text import crop
from tracker.edge.read.visitor import MAX_LANGUAGE, MAX_REFERRER, MAX_USER_AGENT
from tracker.errors import UserError
from tracker.ops.partial_catalogue import add_touched
from tracker.settings import Settings
from tracker.store import db
from tracker.store.catalogue import read as stored_catalogue
from tracker.store.conversions import closed_offers
from tracker.stream.appender import AppenderPool, AppendError
from tracker.stream.record import Decision, encode
from tracker.stream.visitor_memory import VisitorMemory

Explanation = dict[str, Any]

MAX_MILLIS = 253_402_300_799_999
"""The last moment that can be explained: the end of the year 9999."""

_STREAM_SECONDS = 2.0
_NOT_PLAIN = ("aff_subs", "adv_subs", "query")
_COLUMNS = {name: f"device_{name}" for name in ("os", "os_version", "brand", "model", "type")}


class Question(NamedTuple):
    """A hit to explain. Missing fields are those of an unknown visitor."""

    url: str
    ip: str
    user_agent: str
    language: str
    referrer: str
    millis: int  # time of the visit in Unix milliseconds


class Somewhere(NamedTuple):
    """A locator that finds every address in one country."""

    country: str  # ISO 3166-1 alpha-2

    def locate(self, _ip: str, /) -> Geo:
        return NOWHERE._replace(country_code=self.country)


class UnreadableUrlError(UserError):
    """The URL is not the address of a tracking link. The message says why."""


async def explain(settings: Settings, geo: Locator, question: Question) -> Explanation:
    """The effects of the link, ready for JSON.

    Raises:
        UnreadableUrlError: not an http(s) URL, or too long.
        db.UNREACHABLE: Postgres is away.
    """
    assert settings.postgres_dsn
    visitor, raw_path, query = _visitor(question)
    connection = await db.connect(settings.postgres_dsn)
    try:
        catalogue, link, lenient = await _catalogue(connection, visitor.host, raw_path, query)
        hash_ = first_hash_at(question.millis)
        strict = assemble(hash_, link, visitor, None, catalogue, geo)
        click = (
            assemble(hash_, lenient, visitor, None, catalogue, geo) if lenient and strict is None else strict
        )
        if click is None:
            path = text_of(unquote_to_bytes(raw_path))
            codes = catalogue.link_forms.unknown_codes(visitor.host, path, query)
            return _orphan(link, codes, catalogue)
        closed = await _closed(connection, click)
    finally:
        await connection.close()
    decided = await _decided(settings, click, catalogue)
    return {
        "at": _time(click.millis),
        "link": _link(click.link),
        **({"read_leniently": True} if click is not strict else {}),
        **_parties(click),
        "visitor": _described(click),
        **closed,
        **_rules_of(click, catalogue),
        **decided,
        **_if_active(click, catalogue),
        "problems": _problems(catalogue),
    }


async def explain_stored(connection: db.Connection, row: Mapping[str, Any]) -> Explanation | None:
    """What today's rules say of a stored click, with its device and place as they were stored.

    None if its offer or affiliate is gone. `row`: the click with all keys of its list.
    """
    link, visitor = _stored_link(row), Visitor(**{name: row[name] or "" for name in Visitor._fields})
    catalogue = Catalogue()
    await add_touched(connection, catalogue, [link])
    place = Geo(*(row[name] for name in Geo._fields))
    found = assemble(row["hash"], link, visitor, None, catalogue, _Place(place), leaves_device=True)
    if found is None:
        return None
    device = Device(**{name: row[_COLUMNS.get(name, name)] or "" for name in Device._fields})
    key, is_test = int(row["visitor_key"], 16), bool(row["is_test"])
    click = found._replace(device=device, visitor_key=key, is_test=is_test)
    choice = choose_offer_url(click, click.offer, click.terms, catalogue, is_new=bool(row["is_unique"]))
    return {
        **_parties(click),
        **await _closed(connection, click),
        **_rules_of(click, catalogue),
        "choice": {"offer_url_id": choice.url.id, "reason_name": "none"}
        if isinstance(choice, Choice)
        else {"offer_url_id": None, "reason_name": choice.name.lower()},
        "problems": _problems(catalogue),
    }


class _Place(NamedTuple):
    """The place of one address."""

    place: Geo

    def locate(self, _ip: str, /) -> Geo:
        return self.place


def _stored_link(row: Mapping[str, Any]) -> Link:
    """The link of a stored click, as it was understood then."""
    names = {"url_id": "requested_url_id", "offer_id": "requested_offer_id", "source": "affiliate_source"}
    plain = ("offer_id", "affiliate_id", "url_id", "source", "external_id", "gaid", "idfa")
    values = [row[names.get(name, name)] for name in plain]
    texts = ["" if value is None else value for value in values[3:]]
    subs = (tuple(row[name] or "" for name in some) for some in (AFF_SUBS, ADV_SUBS))
    return Link(*values[:3], *texts, *subs)


def _parties(click: Click) -> Explanation:
    offer, affiliate = click.offer, click.affiliate
    return {
        "offer": {"id": offer.id, "name": offer.name, "rules": _rules(offer.rules, click)},
        "affiliate": {"id": affiliate.id, "name": affiliate.name, "status": affiliate.status},
    }


def _rules_of(click: Click, catalogue: Catalogue) -> Explanation:
    return {
        "is_test": click.is_test,
        "bot_reason": click.bot_reason,
        "urls": _urls(click),
        "fallbacks": _fallbacks(click, catalogue),
    }


def _problems(catalogue: Catalogue) -> list[str]:
    """Errors in the rows that were read."""
    return [f"{table} {key}: {why}" for (table, key), whys in catalogue.problems.items() for why in whys]


async def _closed(connection: db.Connection, click: Click) -> Explanation:
    """Until when the offer is closed, for everyone or for the affiliate, and by which cap if it was one."""
    offer, affiliate = click.offer, click.affiliate
    untils = {"everyone": offer.closed_until, f"affiliate {affiliate.id}": click.terms.closed_until}
    caps = [
        (await closed_offers.by_cap(connection, [offer.id])).get(offer.id, ""),
        await closed_offers.for_affiliate(connection, offer.id, affiliate.id),
    ]
    closings = [
        {"for": whom, "until": _time(until), "by": cap or "the operator"}
        for (whom, until), cap in zip(untils.items(), caps, strict=True)
        if until > click.millis
    ]
    return {"closed": closings} if closings else {}


def _visitor(question: Question) -> tuple[Visitor, bytes, bytes]:
    """The client, and the path and query as they would be sent."""
    try:
        parts = urlsplit(question.url)
    except ValueError as error:
        raise UnreadableUrlError(f"{error}") from error
    if parts.scheme not in ("http", "https") or not parts.netloc:
        raise UnreadableUrlError("give the whole tracking link, from http:// or https:// on")
    if len(question.url) > MAX_TARGET:
        raise UnreadableUrlError(f"a link is at most {MAX_TARGET} bytes")
    visitor = Visitor(
        ip=plain_address(trim(question.ip)),
        user_agent=crop(question.user_agent, MAX_USER_AGENT),
        language=crop(question.language, MAX_LANGUAGE),
        referrer=crop(question.referrer, MAX_REFERRER),
        host=parts.netloc.rpartition("@")[2],
        requested_link=question.url,
    )
    return visitor, parts.path.encode(), parts.query.encode()


async def _catalogue(
    connection: db.Connection, host: str, raw_path: bytes, query: bytes
) -> tuple[Catalogue, Link, Link | None]:
    """The part of the catalogue that this link needs, and the link as read strictly and leniently."""
    catalogue, path = Catalogue(), text_of(unquote_to_bytes(raw_path))
    if is_tracking_path(path):
        link, lenient = read_link(path, query), read_leniently(raw_path, query)
    else:
        await _add_forms(connection, catalogue, path, query)
        link = catalogue.link_forms.link(host, path, query)
        form = catalogue.link_forms.find(host, path)
        lenient = read_leniently(raw_path, query) if form is None else None
    await add_touched(connection, catalogue, [link, *([lenient] if lenient else [])])
    return catalogue, link, lenient


async def _add_forms(connection: db.Connection, catalogue: Catalogue, path: str, query: bytes) -> None:
    """Add the link forms that may match a path, and the codes that they may find in a link."""
    forms = await stored_catalogue.read_link_forms(connection, path)
    texts = {*path.split("/"), *(value for _, value in pairs(query))}
    texts |= {str(value) for _, form in forms for value in form.get("constants", {}).values()}
    for key, row in await stored_catalogue.read_link_codes(connection, sorted(texts)):
        catalogue.put("link_code", key, row)
    for key, row in forms:
        catalogue.put("link_form", key, row)


def _orphan(link: Link, unknown_codes: Sequence[str], catalogue: Catalogue) -> Explanation:
    unknown = [
        *([] if link.offer_id in catalogue.offers else ["offer"]),
        *([] if link.affiliate_id in catalogue.affiliates else ["affiliate"]),
    ]
    location = catalogue.orphan_location()
    return {
        "link": _link(link),
        "unknown": unknown,
        **({"unknown_codes": list(unknown_codes)} if unknown_codes else {}),
        "answer": {"http_status": 302 if location else 404, "location": location, "recorded": False},
    }


async def _decided(settings: Settings, click: Click, catalogue: Catalogue) -> Explanation:
    """The stream's decision. If the stream is away, every possible outcome of the click."""
    assert settings.redis_url
    outcomes = prepare_outcomes(click, catalogue)
    prepared = {name: _outcome(click, catalogue, outcome) for name, outcome in outcomes._asdict().items()}
    appenders = AppenderPool(settings.redis_url, VisitorMemory.of(settings))
    try:
        looked, counts = await _look(appenders, click, outcomes)
    except AppendError as error:
        return {"stream": f"the stream server cannot be reached: {error}", "outcomes": prepared}
    finally:
        await appenders.close()
    chosen = outcomes[looked.outcome]
    if looked.is_unknown:
        chosen = chosen._replace(reason=Reason.VISITOR_UNKNOWN)
    takes = outcomes.unique.status == "accepted" and not click.is_test and click.bot_reason is None
    return {
        "caps": _caps(click, counts),
        "first_click": looked.first_hash if looked.first_hash != click.hash else None,
        "is_unique": takes and looked.first_hash == click.hash,
        **({"outcomes": prepared} if len(set(outcomes)) > 1 else {}),
        "answer": _outcome(click, catalogue, chosen),
        "macros": _macros(click, catalogue, chosen),
    }


async def _look(appenders: AppenderPool, click: Click, outcomes: Outcomes) -> tuple[Decision, list[int]]:
    """The decision of the visitor's partition, and the counts of all partitions for each cap."""
    click, counts = await appenders.counted(click, _STREAM_SECONDS)
    (looked,) = (await appenders.of(click).look([encode(click, outcomes)], _STREAM_SECONDS)).answers
    return looked, counts


def _caps(click: Click, counts: Sequence[int]) -> list[Explanation]:
    return [
        {
            "cap": counter.name,
            "counts": "uniques" if counter.uniques_only else "clicks",
            "count": count,
            "limit": counter.limit,
            "until": _time(counter.expires * 1000) if counter.expires else None,
        }
        for counter, count in zip(click.counters, counts, strict=True)
    ]


def _outcome(click: Click, catalogue: Catalogue, outcome: Outcome) -> Explanation:
    facts: Explanation = {
        "http_status": _http_status(catalogue, outcome),
        "status": outcome.status.value,
        "reason": outcome.reason.value,
        "reason_name": outcome.reason.name.lower(),
        "offer_id": outcome.offer_id,
        "offer_url_id": outcome.offer_url_id,
        "location": outcome.location,
    }
    if outcome.reason is Reason.OFFER_MISCONFIGURED:
        facts["problem"] = click.offer.problem
    return facts


def _http_status(catalogue: Catalogue, outcome: Outcome) -> int:
    if outcome.status is Status.REJECTED:
        return response.refusal(outcome.reason).status
    return catalogue.offers[outcome.offer_id].redirect_status


def _if_active(click: Click, catalogue: Catalogue) -> Explanation:
    """The outcome of a visitor's first click if the draft offer were active."""
    if not click.offer.is_draft or click.is_test:
        return {}
    live = click._replace(offer=click.offer._replace(is_active=True))
    return {"if_active": _outcome(live, catalogue, prepare_outcomes(live, catalogue).unique)}


def _macros(click: Click, catalogue: Catalogue, outcome: Outcome) -> dict[str, str]:
    """The value of each macro in the URL, before percent-encoding."""
    choices = (choice for _, _, choice in _chain(click, catalogue) if isinstance(choice, Choice))
    if outcome.status is Status.ACCEPTED:
        choices = (Choice(click.offer, click.terms, url) for url in click.offer.urls)
    for choice in choices:
        if (choice.offer.id, choice.url.id or None) == (outcome.offer_id, outcome.offer_url_id):
            return {name: macros.value(name, click, choice) for name in choice.url.template[1::2]}
    return {}


def _fallbacks(click: Click, catalogue: Catalogue) -> list[Explanation]:
    """The chain of fallbacks of a refused click, with each link's decision about this click."""
    return [
        {
            "of": level,
            "to": macros.text(fallback.url.template) if fallback.url else f"offer {fallback.offer_id}",
            "takes": isinstance(choice, Choice),
            **({} if isinstance(choice, Choice) else {"reason_name": choice.name.lower()}),
        }
        for level, fallback, choice in _chain(click, catalogue)
    ]


def _chain(click: Click, catalogue: Catalogue) -> list[tuple[str, Fallback, Choice | Reason]]:
    offer = click.offer
    choice = choose_offer_url(click, offer, click.terms, catalogue, is_new=True)
    url = choice.url if isinstance(choice, Choice) else targeting.requested_url(offer, click.link)
    chain = {"url": url and url.fallback, "offer": offer.fallback, "network": catalogue.fallback}
    return [
        (level, fallback, resolve_fallback(click, catalogue, fallback))
        for level, fallback in chain.items()
        if fallback
    ]


def _urls(click: Click) -> list[Explanation]:
    return [
        {
            "id": url.id,
            "name": url.name,
            "weight": url.weight,
            "asked_for": url.id == click.link.url_id,
            "may_take": targeting.may_take(url, click, is_new=True),
            "unique_only": url.unique_only,
            "rules": _rules(url.rules, click),
        }
        for url in click.offer.urls
    ]


def _rules(rules: Rules, click: Click) -> list[Explanation]:
    return [{"rule": rule.text, "holds": rule.holds(click)} for rule in rules]


def _described(click: Click) -> Explanation:
    return {
        "ip": click.visitor.ip,
        "user_agent": click.visitor.user_agent,
        "known_by": "device id" if click.is_certain else "address and User-Agent",
        "key": f"{click.visitor_key:016x}",
        **{_COLUMNS.get(name, name): getattr(click.device, name) for name in Device._fields},
        **click.geo._asdict(),
    }


def _link(link: Link) -> Explanation:
    fields: Mapping[str, Any] = link._asdict()
    subs = {f"aff_sub{n or ''}": sub for n, sub in _numbered(link.aff_subs)}
    subs |= {f"adv_sub{n or ''}": sub for n, sub in _numbered(link.adv_subs)}
    plain = {name: value for name, value in fields.items() if value and name not in _NOT_PLAIN}
    return plain | subs


def _numbered(subs: Sequence[str]) -> list[tuple[int, str]]:
    return [(n if n > 1 else 0, sub) for n, sub in enumerate(subs, 1) if sub]


def _time(millis: int) -> str:
    return datetime.fromtimestamp(millis / 1000, UTC).isoformat(timespec="seconds")


def in_words(explanation: Explanation) -> str:
    """An explanation for a terminal, one line per fact."""
    lines: list[str] = []
    for topic, value in explanation.items():
        lines += _lines(topic, value, 0)
    return "\n".join(lines)


def _lines(name: str, value: Any, depth: int) -> list[str]:
    indent = "  " * depth
    if isinstance(value, dict):
        return [
            f"{indent}{name}:",
            *(line for key, item in value.items() for line in _lines(key, item, depth + 1)),
        ]
    if isinstance(value, list) and value and isinstance(value[0], dict):
        return [
            f"{indent}{name}:",
            *(f"{indent}  - {', '.join(_pair(key, each) for key, each in item.items())}" for item in value),
        ]
    return [f"{indent}{_pair(name, value)}"]


def _pair(name: str, value: Any) -> str:
    return f"{name}: {_word(value)}"


def _word(value: Any) -> str:
    if value is None or value in ("", []):
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return "; ".join(_rule_word(item) for item in value)
    return str(value)


def _rule_word(item: Any) -> str:
    if isinstance(item, dict):
        return f"{item['rule']} ({'holds' if item['holds'] else 'does not hold'})"
    return str(item)
