"""`tracker import undo`: takes back what the imports of a source stored."""

from __future__ import annotations

import json
from argparse import ArgumentParser, Namespace
from typing import Any

from tracker.commands.arguments import text
from tracker.commands.author import agrees, author
from tracker.domain.money import show
from tracker.errors import tell
from tracker.importing import undo
from tracker.importing.connection import connect
from tracker.importing.undo import Outcome, Undo
from tracker.settings import Settings
from tracker.store.imports.undo import Holder, Kind, Plan

ABOUT = """\
It deletes the clicks that imports of the source stored, their earlier ids and conversions, and takes them out
of all counts. Then the files can be imported again. Clicks of links and of the API stay, and so do those of
other sources.

A booked conversion cannot be deleted, because the book refers to it. With --reverse-booked it becomes
rejected, and its reversal is booked: at its own time, or now if that period is closed. Without this option
the undo is refused if there are such conversions.

A conversion stays if a postback or the operator has changed it since its import. A click stays while a
conversion refers to it.

It shows what would be taken back, and asks. Without a terminal it needs --yes.

It works in batches while the tracker runs. A killed undo goes on if it is run again.

examples:
  tracker import undo --source earlier --dry-run
  tracker import undo --source earlier --reverse-booked --yes
"""


def add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("--source", type=text, required=True, metavar="NAME", help="name of the source")
    parser.add_argument(
        "--kind",
        dest="undone",
        choices=[kind.value for kind in Kind],
        default=Kind.ALL.value,
        help="what is taken back (all)",
    )
    parser.add_argument("--dry-run", action="store_true", help="say what would be taken back, change nothing")
    parser.add_argument(
        "--reverse-booked", action="store_true", help="reject booked conversions, and book their reversals"
    )
    parser.add_argument("--yes", action="store_true", help="take back without asking")


async def run(settings: Settings, arguments: Namespace) -> int:
    wanted = Undo(
        source=arguments.source,
        kind=Kind(arguments.undone),
        author=author(),
        reverses=arguments.reverse_booked,
        is_dry=arguments.dry_run,
    )
    if not arguments.yes:
        wanted = wanted._replace(agrees=lambda outcome: not arguments.json and _agrees(wanted, outcome))
    async with connect(settings) as connection:
        outcome = await undo.run(connection, wanted)
    if arguments.json:
        print(json.dumps(_as_json(wanted, outcome)))
        return 0
    if arguments.yes or wanted.is_dry:
        _name(outcome)
    print(_in_words(wanted, outcome))
    return 0


def _agrees(wanted: Undo, outcome: Outcome) -> bool:
    """Show what would be taken back, and ask."""
    _name(outcome)
    print(_in_words(wanted._replace(is_dry=True), outcome))
    return agrees("Take it back?")


def _name(outcome: Outcome) -> None:
    for line in map(_named, outcome.holders):
        tell(line)


_WHY = {
    "live": "came by a postback or the API",
    "of another source": "was imported with --source {source}",
    "unmarked": "was imported by an earlier version",
    "changed": "was touched by a postback or a person since its import",
    "deleted": "was imported, and --kind leaves conversions out",
    "reversed": "is booked",
    "reversed before": "was booked and reversed",
}


def _named(holder: Holder) -> str:
    why = _WHY[holder.why].format(source=holder.source)
    return f"click {holder.click} stays: conversion {holder.conversion_id} ({holder.status}) {why}"


def _in_words(wanted: Undo, outcome: Outcome) -> str:
    plan = outcome.plan
    lines = [
        f"{wanted.source}: {'would delete' if wanted.is_dry else 'deleted'} {plan.clicks:,} clicks and "
        f"{plan.conversions:,} conversions",
        *([f"{wanted.source}: {_reversed(wanted, plan)}"] if plan.reversed else []),
        *(f"{wanted.source}: {line}" for line in _kept(plan)),
    ]
    return "\n".join(lines)


def _reversed(wanted: Undo, plan: Plan) -> str:
    amounts = undo.in_words(plan.booked)
    if wanted.is_dry:
        need = "" if wanted.reverses else ". This needs --reverse-booked"
        return f"would reverse {plan.reversed:,} booked conversions ({amounts}){need}"
    return f"reversed {plan.reversed:,} booked conversions ({amounts})"


def _kept(plan: Plan) -> list[str]:
    stay = {
        "clicks stay, because conversions or postbacks refer to them": plan.clicks_kept,
        "conversions stay, because postbacks or people have touched them since": plan.changed,
        "conversions stay rejected, because they were booked and reversed before": plan.reversed_before,
        "conversions stay that an earlier version imported without noting their source": plan.unmarked,
    }
    return [f"{number:,} {what}" for what, number in stay.items() if number]


def _as_json(wanted: Undo, outcome: Outcome) -> dict[str, Any]:
    plan = outcome.plan
    booked = [
        {"currency": each.currency, "payout": show(each.payout), "revenue": show(each.revenue)}
        for each in plan.booked
    ]
    return {
        "source": wanted.source,
        "kind": wanted.kind.value,
        "is_dry_run": wanted.is_dry,
        **plan._asdict(),
        "booked": booked,
        "legacy_ids": outcome.legacy_ids,
        "holders": [holder._asdict() for holder in outcome.holders],
    }
