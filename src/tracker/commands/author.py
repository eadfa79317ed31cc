"""The author of changes that commands make, and whether they agree to them."""

from __future__ import annotations

import os
import pwd
import sys

from tracker.domain.normalise import word
from tracker.store.catalogue.edit import Author


def author() -> Author:
    """The user of the operating system who runs the command."""
    return Author(None, f"command line: {user_name()}")


def user_name() -> str:
    """The name of the user who runs the command, or the number of one without a name."""
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return str(os.getuid())


def agrees(question: str) -> bool:
    """Ask on a terminal. Elsewhere nobody can agree."""
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        return False
    return word(input(f"{question} [y/N] ")) in ("y", "yes")
