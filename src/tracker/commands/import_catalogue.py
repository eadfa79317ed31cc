"""`tracker import catalogue` and `tracker import forms`: objects of the catalogue from files and presets."""

from __future__ import annotations

import json
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from collections.abc import Mapping, Sequence
from typing import Any

from tracker.commands.arguments import add_confirm, text
from tracker.commands.import_arguments import add_files, add_from, add_mapping, name_the_left_out
from tracker.domain.normalise import id_ as id_of
from tracker.errors import UserError, tell
from tracker.importing import catalogue, entries, meaning, presets, yaml_file
from tracker.importing.catalogue import Result
from tracker.importing.connection import connect
from tracker.importing.entries import Entry
from tracker.importing.meaning import Meaning
from tracker.settings import Settings

_MOST_ERRORS = 50

ABOUT = """\
A FILE is YAML, JSON, or CSV named after its objects, such as offers.csv or offer_urls.csv. It may be gzipped.
Objects have the fields of the management API. They may refer to other objects by name instead of id:

  advertisers:
    - name: PlayGames
  affiliates:
    - {id: 513, name: John Doe}
  offers:
    - id: 3
      name: Puzzle Quest
      advertiser: PlayGames
      urls: [{url: "https://advertiser.test/?click={hash}"}]
      goals: [{is_base: true, payout: "2.50", currency: EUR}]
      affiliates: [{affiliate: John Doe, status: approved}]

A FILE with rows of one kind is named after it, such as offers.json. It may be an answer of another tracker's
API. Its names and values are mapped with the kind in front:

  tracker import catalogue --dry-run offers.csv affiliates.csv --ignore-rest \\
      --map 'offers.Offer ID=id' --map offers.Title=name --map 'offers.Customer=advertiser' \\
      --map-value offers.status:Live=active --map-value 'offers.status:On hold=paused'
  tracker import catalogue --from everflow offers.json affiliates.json

Ids in the file are kept. An object without an id is matched by its unique fields, or else by its name. A
matching object gets the values of the file and keeps the other fields. The import is all or nothing: if
anything is wrong, every error is named and nothing is changed.
"""


ABOUT_FORMS = """\
A form says what links or postbacks of another shape mean. It does not say who sends them: postbacks need the
advertiser's secret or address as before. The forms come into the catalogue like other objects: look at them,
change them and delete them there.

examples:
  tracker import forms --from list
  tracker import forms --from tune --dry-run
  tracker import forms --from tune --host go.example --advertiser 7
"""


def add_arguments(parser: ArgumentParser) -> None:
    add_files(parser)
    add_mapping(parser, "KIND.")
    _add_common(parser)


def add_forms_arguments(parser: ArgumentParser) -> None:
    add_from(parser, is_required=True)
    parser.add_argument("--host", type=text, help="only links and postbacks of this host (any)")
    parser.add_argument(
        "--advertiser", type=_id, metavar="ID", help="only this advertiser's postbacks (every advertiser's)"
    )
    parser.add_argument(
        "--source",
        type=text,
        metavar="NAME",
        help="the --source that its clicks were imported with (--from)",
    )
    _add_common(parser)


def _add_common(parser: ArgumentParser) -> None:
    parser.add_argument("--dry-run", action="store_true", help="show what would change, and change nothing")
    add_confirm(parser, [field for resource in catalogue.RESOURCES for field in resource.confirmable])


def _id(argument: str) -> int:
    id_ = id_of(argument)
    if id_ is None:
        raise ArgumentTypeError(f"{argument!r} is not an id")
    return id_


async def run(settings: Settings, arguments: Namespace) -> int:
    kinds = entries.Kinds(catalogue.RESOURCES)
    meanings = entries.meanings_of(_meanings(arguments), kinds, ignore_rest=arguments.ignore_rest)
    left_out: dict[str, None] = {}
    wanted = [entry for path in arguments.files for entry in entries.read(path, kinds, meanings, left_out)]
    name_the_left_out("the files", left_out)
    return await _bring(settings, arguments, wanted)


async def run_forms(settings: Settings, arguments: Namespace) -> int:
    kinds = entries.Kinds(catalogue.RESOURCES)
    common = {
        "host": arguments.host,
        "advertiser_id": arguments.advertiser,
        "source": arguments.source or arguments.preset,
    }
    preset = presets.load(arguments.preset)
    wanted = [
        entries.form(kinds.top[kind], form, common, f"{preset.name}: {form.get('name')}")
        for kind, forms in preset.forms().items()
        for form in forms
    ]
    return await _bring(settings, arguments, wanted)


def _meanings(arguments: Namespace) -> dict[str, Meaning]:
    """What the files mean by kind: by the options, by --map-file, and by --from."""
    columns: dict[str, dict[str, str]] = {}
    values: dict[str, dict[str, dict[str, str]]] = {}
    for theirs, ours in arguments.map:
        kind, name = _of_kind(theirs, f"--map {theirs}={ours}")
        columns.setdefault(kind, {})[name] = ours
    for named, theirs, ours in arguments.map_value:
        kind, field = _of_kind(named, f"--map-value {named}:{theirs}={ours}")
        values.setdefault(kind, {}).setdefault(field, {})[theirs] = ours
    found = {kind: Meaning(columns.get(kind, {}), values.get(kind, {})) for kind in {**columns, **values}}
    if arguments.map_file:
        content = yaml_file.read(arguments.map_file)
        if not isinstance(content, dict):
            raise UserError(f"{arguments.map_file} is not an object such as {{offers: {{Title: name}}}}")
        _add_below(
            found,
            {kind: meaning.read(part, f"{arguments.map_file}: {kind}") for kind, part in content.items()},
        )
    if arguments.preset:
        _add_below(found, presets.load(arguments.preset).catalogue())
    return found


def _add_below(meanings: dict[str, Meaning], others: Mapping[str, Meaning]) -> None:
    for kind, other in others.items():
        meanings[kind] = meanings[kind].over(other) if kind in meanings else other


def _of_kind(name: str, option: str) -> tuple[str, str]:
    kind, dot, field = name.partition(".")
    if not (dot and field):
        raise UserError(f"{option}: put the kind in front, such as offers.{name}")
    return kind, field


async def _bring(settings: Settings, arguments: Namespace, wanted: Sequence[Entry]) -> int:
    async with connect(settings) as connection:
        result = await catalogue.bring(
            connection,
            wanted,
            is_dry=arguments.dry_run,
            confirmed=frozenset(arguments.confirm),
            defaults=settings.catalogue_defaults,
        )
    for line in result.errors[:_MOST_ERRORS]:
        tell(line)
    if result.errors:
        raise UserError(f"nothing is changed. Errors: {len(result.errors)}")
    for line in result.warnings[:_MOST_ERRORS]:
        tell(f"tracker: warning: {line}")
    print(json.dumps(_plan(result)) if arguments.json else _plan_in_words(result, arguments.dry_run))
    return 0


def _plan(result: Result) -> dict[str, Any]:
    return {
        "created": [change.path for change in result.changes if change.is_new],
        "changed": {change.path: change.fields for change in result.changes if not change.is_new},
        "left": result.left,
    }


def _plan_in_words(result: Result, is_dry: bool) -> str:
    lines = [
        f"{change.path}: new" if change.is_new else f"{change.path}: {', '.join(change.fields)}"
        for change in result.changes
    ]
    new = sum(change.is_new for change in result.changes)
    would_be = "would be " if is_dry else ""
    changed = len(lines) - new
    return "\n".join(
        [*lines, f"{new} {would_be}created, {changed} {would_be}changed, {result.left} left as they are"]
    )
