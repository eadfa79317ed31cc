"""Errors that the operator can fix, each with one line that says what is wrong and what to do."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping, Sequence

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


class UserError(Exception):
    """An error that the operator can fix. Its message is one line that says how."""


def print_error(line: str, code: int = 1) -> int:
    """Print the line on stderr and return the exit code."""
    tell(f"tracker: {' '.join(line.split())}")
    return code


def tell(line: str) -> None:
    """Print a line on stderr."""
    print(printable(line), file=sys.stderr)


def printable(line: str) -> str:
    """The line with control characters escaped. Foreign names may have some, and they steer a terminal."""
    return _CONTROL.sub(lambda found: ascii(found[0])[1:-1], line)


class CannotStartError(UserError):
    """Something cannot be started. The message is one line for the operator."""


Errors = Mapping[str, Sequence[str]]
"""Messages by field or parameter."""


def in_words(errors: Errors) -> str:
    """The first message of each field, in one line."""
    return "; ".join(f"{field} {messages[0]}" for field, messages in errors.items())


def in_log(request_id: str) -> str:
    """Where the log says more about a failed request."""
    return f", under the request id {request_id}" if request_id else ""
