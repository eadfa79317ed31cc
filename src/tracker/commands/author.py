"""The author of changes that commands make, and whether they agree to them."""

from __future__ import annotations

import os
import pwd
import sys

from tracker.domain.normalise import word
from tracker.store.catalogue.edit import Author


def author() -> Author:
    """The user of the operating system who runs the command."""
    try:
        user = pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        user = str(os.getuid())
    return Author(None, f"command line: {user}")


def agrees(question: str) -> bool:
    """Ask on a terminal. Elsewhere nobody can agree."""
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        return False
    return word(input(f"{question} [y/N] ")) in ("y", "yes")
