"""Arguments that several commands take."""

from __future__ import annotations

import os
from argparse import ArgumentParser, ArgumentTypeError
from collections.abc import Callable, Sequence

from tracker.domain.normalise import text_of, trim
from tracker.errors import UserError

ELSEWHERE = """\
A process on another machine than the engines needs TRACKER_REDIS_URL and TRACKER_POSTGRES_DSN.
Without them it looks for the embedded engines under its own TRACKER_DATA_DIR.
"""


def text(argument: str) -> str:
    """Reads text as every other input is read: terminal bytes that are not UTF-8 become escapes."""
    return text_of(os.fsencode(argument))


def whole(low: int, high: int) -> Callable[[str], int]:
    """Reads a whole number from a range."""

    def read(text: str) -> int:
        text = trim(text)
        if not (text.isascii() and text.isdigit()) or not low <= int(text) <= high:
            raise ArgumentTypeError(f"{text!r} is not a whole number from {low} to {high}")
        return int(text)

    return read


def assignment(argument: str) -> tuple[str, str]:
    """Reads FIELD=VALUE."""
    name, equals, value = text(argument).partition("=")
    if not equals or not name:
        raise ArgumentTypeError(f"{argument!r} is not FIELD=VALUE")
    return name, value


def each_once(assignments: Sequence[tuple[str, str]]) -> dict[str, str]:
    """Fields with their values.

    Raises:
        UserError: a field is repeated.
    """
    names = [name for name, _ in assignments]
    if twice := next((name for name in names if names.count(name) > 1), ""):
        raise UserError(f"{twice} is repeated")
    return dict(assignments)


def add_slot(parser: ArgumentParser, others: str) -> None:
    parser.add_argument(
        "--slot",
        type=whole(0, 9999),
        default=0,
        metavar="N",
        help=f"its own number among all {others} (default: 0)",
    )


def add_fd(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--fd", type=whole(0, 1 << 20), metavar="N", help="serve on this inherited listening socket"
    )


def add_confirm(parser: ArgumentParser, fields: Sequence[str]) -> None:
    parser.add_argument(
        "--confirm",
        action="append",
        default=[],
        choices=fields,
        metavar="FIELD",
        help=f"repeatable: change a field that needs a confirmation ({', '.join(fields)})",
    )


def add_json(parser: ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print JSON")
