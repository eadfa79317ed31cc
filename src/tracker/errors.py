"""What the operator is told, in one line, of what went wrong and can be put right."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence


class UserError(Exception):
    """Something that the operator can put right; the message is the line that says what."""


def print_error(line: str, code: int = 1) -> int:
    """Say it; returns the exit code that goes with it."""
    print(f"tracker: {' '.join(line.split())}", file=sys.stderr)
    return code


class CannotStartError(UserError):
    """Something cannot be started; the message is one line for the operator."""


Errors = Mapping[str, Sequence[str]]
"""Messages by field or parameter."""


def in_words(errors: Errors) -> str:
    """The first message of each field, in one line."""
    return "; ".join(f"{field} {messages[0]}" for field, messages in errors.items())
