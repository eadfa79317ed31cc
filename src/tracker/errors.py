"""Errors that the operator can fix, each with one line that says what is wrong and what to do."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping, Sequence

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")


class UserError(Exception):
    """An error that the operator can fix. Its message is one line that says how."""


def print_error(line: str, code: int = 1) -> int:
    """Print the line on stderr and return the exit code."""
    tell(f"tracker: {' '.join(line.split())}")
    return code


def tell(line: str) -> None:
    """Print a line on stderr. Names in a foreign file may have characters that steer a terminal."""
    print(_CONTROL.sub(lambda found: f"\\x{ord(found[0]):02x}", line), file=sys.stderr)


class CannotStartError(UserError):
    """Something cannot be started. The message is one line for the operator."""


Errors = Mapping[str, Sequence[str]]
"""Messages by field or parameter."""


def in_words(errors: Errors) -> str:
    """The first message of each field, in one line."""
    return "; ".join(f"{field} {messages[0]}" for field, messages in errors.items())
