"""Queries on the command line: the parameters of an endpoint, as words and options."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from textwrap import fill
from urllib.parse import urlencode

from tracker.commands.arguments import assignment, text
from tracker.errors import UserError, in_words
from tracker.parameters import ParameterError, Query
from tracker.reading.query import SomeQuery, read_query

_OPTIONS = {"created_from": "from_", "created_to": "to", "tz": "tz"}
_NAMES = {"created_from": "--from", "created_to": "--to", "group_by": "--group-by"}
_FORMATS = ("csv", "excel", "json")


def add_query(parser: ArgumentParser, model: type[Query], *without: str) -> None:
    """Take the parameters of a model as FIELD=VALUE, except those that have options of their own."""
    parser.add_argument("filters", type=assignment, nargs="*", metavar="FIELD=VALUE")
    formats = parser.add_mutually_exclusive_group()
    formats.add_argument("--csv", action="store_true", help="write CSV for programs")
    formats.add_argument("--excel", action="store_true", help="write CSV for spreadsheets, without formulas")
    formats.add_argument("--json", action="store_true", help="write one JSON object a line")
    add_span(parser, model, *without)


def add_span(parser: ArgumentParser, model: type[Query], *without: str) -> None:
    """Take the times of a model as options, and name its other fields in the help."""
    about = "a date or a time such as '2026-11-01 12:00:00'"
    parser.add_argument("--from", dest="from_", type=text, metavar="TIME", help=f"the earliest: {about}")
    parser.add_argument("--to", type=text, metavar="TIME", help="the latest: a date means its last second")
    parser.add_argument("--tz", type=text, metavar="ZONE", help="time zone of all times (TRACKER_TIME_ZONE)")
    hidden = {*_OPTIONS, *without, "created_at_from", "created_at_to", "format"}
    names = [name for name in model.model_fields if name not in hidden]
    fields = fill(f"fields: {', '.join(names)}", 100, subsequent_indent="  ")
    parser.epilog = f"{parser.epilog}\n{fields}"


def format_asked(arguments: Namespace) -> str:
    """csv, excel or json. Empty: a table for people."""
    return next((name for name in _FORMATS if getattr(arguments, name)), "")


def query_of(arguments: Namespace, model: type[SomeQuery], **further: str) -> SomeQuery:
    """The query that the words and options mean.

    Raises:
        UserError: it names every parameter that is unknown, repeated or unreadable.
    """
    options = {name: getattr(arguments, option) for name, option in _OPTIONS.items()} | further
    given = [*arguments.filters, *((name, value) for name, value in options.items() if value)]
    try:
        return read_query(urlencode(given).encode(), model)
    except ParameterError as error:
        raise user_error(error) from None


def user_error(error: ParameterError) -> UserError:
    """The error of a query, with the names of options."""
    line = in_words({_NAMES.get(name, name): why for name, why in error.errors.items()})
    line = line.replace("is not a parameter of this endpoint", "is not a field of this command (see --help)")
    return UserError(line.replace("is before created_from", "is before --from"))
