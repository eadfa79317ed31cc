"""`tracker explain`: shows what a tracking link would do, and why."""

from __future__ import annotations

import asyncio
import json
import logging
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from datetime import UTC, datetime

from tracker.commands.arguments import add_json, text
from tracker.domain.normalise import trim
from tracker.ops.explain import Question, explain, in_words
from tracker.ops.geo_lookup import GeoLookup
from tracker.settings import Settings

_log = logging.getLogger(__name__)


def add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument(
        "url",
        type=text,
        metavar="URL",
        help="the whole tracking link in quotes, such as 'https://…/offer/3?affiliate_id=513'",
    )
    parser.add_argument("--ip", default="", help="the visitor's address")
    parser.add_argument("--ua", type=text, default="", metavar="USER_AGENT", help="the visitor's User-Agent")
    parser.add_argument("--language", type=text, default="", help="the visitor's Accept-Language")
    parser.add_argument("--referrer", type=text, default="", help="the page that contains the link")
    parser.add_argument(
        "--at",
        type=_moment,
        metavar="TIME",
        help="time of the visit, such as 2026-12-24T18:00:00+01:00 (default: now, without an offset: UTC)",
    )
    add_json(parser)


def run(settings: Settings, arguments: Namespace) -> int:
    at: datetime = arguments.at or datetime.now(UTC)
    question = Question(
        arguments.url,
        arguments.ip,
        arguments.ua,
        arguments.language,
        arguments.referrer,
        int(at.timestamp() * 1000),
    )
    with GeoLookup(settings.geoip_db) as geo:
        _warn_of_missing(geo)
        explanation = asyncio.run(explain(settings, geo, question))
    print(json.dumps(explanation, indent=2) if arguments.json else in_words(explanation))
    return 0


def _warn_of_missing(geo: GeoLookup) -> None:
    if not geo.databases:
        _log.warning(
            "no geo database: the visitor's country, region, city and ISP stay unknown", {"event": "geo_none"}
        )
    for database in geo.databases:
        if database.problem:
            _log.warning(
                "geo database not read: %(cause)s", {"event": "geo_unread", "cause": database.problem}
            )


def _moment(text: str) -> datetime:
    try:
        moment = datetime.fromisoformat(trim(text))
    except ValueError as error:
        raise ArgumentTypeError(f"{text!r} is not a time such as 2026-12-24T18:00:00+01:00") from error
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    if moment.timestamp() < 0:
        raise ArgumentTypeError(f"{text!r} is before 1970")
    return moment
