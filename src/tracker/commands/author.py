"""The author of changes that commands make."""

from __future__ import annotations

import os
import pwd

from tracker.store.catalogue.edit import Author


def author() -> Author:
    """The user of the operating system who runs the command."""
    try:
        user = pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        user = str(os.getuid())
    return Author(None, f"command line: {user}")
