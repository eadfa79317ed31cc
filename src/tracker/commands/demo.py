"""`tracker demo`: a small network to click through, or a network with a history to look at."""

from __future__ import annotations

import asyncio
from argparse import ArgumentParser, ArgumentTypeError, Namespace, RawDescriptionHelpFormatter
from datetime import UTC, datetime, timedelta

from tracker.commands.arguments import text, whole
from tracker.importing.connection import connect
from tracker.importing.demo.fill import Filled, Wanted, fill
from tracker.importing.demo.traffic import SOURCE, Span
from tracker.settings import Settings
from tracker.store.catalogue.demo import load_demo

_DAYS, _CLICKS, _SEED = 30, 200_000, 1
_ABOUT = f"""\
Without an option: a small network in an empty catalogue.

With one: a network of its own with a made-up history of clicks and conversions. It comes in as an import of
the source "{SOURCE}". The same options make the same history, except that it ends now. A killed run goes on
where it stopped if it is run again, and nothing is stored twice.

examples:
  tracker demo --days 30 --clicks 200000
  tracker import undo --source {SOURCE} --reverse-booked
"""


def add_arguments(parser: ArgumentParser) -> None:
    parser.formatter_class = RawDescriptionHelpFormatter
    parser.description = _ABOUT
    parser.add_argument("--days", type=whole(1, 400), metavar="N", help=f"days of the history ({_DAYS})")
    parser.add_argument(
        "--clicks", type=whole(1_000, 10_000_000), metavar="N", help=f"clicks of the history ({_CLICKS:,})"
    )
    parser.add_argument(
        "--seed", type=whole(0, 2**31), metavar="N", help=f"another seed makes another history ({_SEED})"
    )
    parser.add_argument(
        "--until", type=_moment, metavar="TIME", help="the history's end, such as 2026-11-30T00:00:00Z (now)"
    )
    parser.add_argument(
        "--into-existing", action="store_true", help="also into a tracker that has clicks of its own"
    )


def run(settings: Settings, arguments: Namespace) -> int:
    assert settings.postgres_dsn
    wanted = arguments.days, arguments.clicks, arguments.seed, arguments.until
    if any(each is not None for each in wanted) or arguments.into_existing:
        return asyncio.run(_with_history(settings, arguments))
    loaded = asyncio.run(
        load_demo(settings.postgres_dsn, currency=settings.currency, time_zone=settings.time_zone)
    )
    print("offers 1 to 5, affiliates 501 to 520" if loaded else "nothing to do: the database is not empty")
    return 0


async def _with_history(settings: Settings, arguments: Namespace) -> int:
    span = Span(
        until=arguments.until or datetime.now(UTC).replace(microsecond=0),
        days=arguments.days or _DAYS,
        clicks=arguments.clicks or _CLICKS,
        seed=_SEED if arguments.seed is None else arguments.seed,
    )
    wanted = Wanted(
        span,
        keeps_until=arguments.until is None,
        into_existing=arguments.into_existing,
        data_dir=settings.data_dir,
        defaults=settings.catalogue_defaults,
    )
    async with connect(settings) as connection:
        filled = await fill(connection, wanted)
    print(_in_words(filled, settings))
    return 0


def _in_words(filled: Filled, settings: Settings) -> str:
    span, clicks, conversions = filled
    return f"""\
{clicks.rows:,} clicks and {conversions.rows:,} conversions from {span.begin:%Y-%m-%d %H:%M} to \
{span.until:%Y-%m-%d %H:%M} UTC
look at them       {settings.dashboard}/dashboard/
if nobody can sign in yet
                   tracker users invite EMAIL --role admin
take them back     tracker import undo --source {SOURCE} --reverse-booked"""


def _moment(argument: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text(argument))
    except ValueError:
        raise ArgumentTypeError(f"{argument!r} is not a time such as 2026-11-30T00:00:00Z") from None
    moment = moment.replace(tzinfo=moment.tzinfo or UTC, microsecond=0)
    if moment > datetime.now(UTC) + timedelta(seconds=1):
        raise ArgumentTypeError(f"{argument!r} is in the future")
    return moment.astimezone(UTC)
