"""Valkey's append-only file as it stands at one moment, while Valkey goes on writing it.

It is several files, named by a manifest that is replaced as a whole. None is ever changed but at its end, and
a rewrite puts new ones in their place; one that is open can be read to the end all the same. So a moment is
caught by opening them and noting how long they are, and what they held may be copied later, at leisure.
"""

from __future__ import annotations

import os
from contextlib import ExitStack
from io import BytesIO
from pathlib import Path
from typing import BinaryIO, NamedTuple

_MANIFEST = "appendonly.aof.manifest"
_HISTORY = b"h"  # what a rewrite has replaced, and will delete


class Part(NamedTuple):
    """One of the files, open, of which so many bytes count."""

    name: str
    file: BinaryIO
    size: int


def open_at_once(directory: Path, opened: ExitStack) -> list[Part]:
    """Open what it is made of at this moment.

    Raises:
        OSError: it cannot be read.
    """
    while True:
        manifest = (directory / _MANIFEST).read_bytes()
        lines = [line for line in manifest.splitlines() if _fields(line)[b"type"] != _HISTORY]
        try:
            parts = [_open(directory / os.fsdecode(_fields(line)[b"file"]), opened) for line in lines]
        except FileNotFoundError:
            if (directory / _MANIFEST).read_bytes() == manifest:
                raise
            continue
        if (directory / _MANIFEST).read_bytes() == manifest:
            kept = b"".join(line + b"\n" for line in lines)
            return [Part(_MANIFEST, BytesIO(kept), len(kept)), *parts]


def _fields(line: bytes) -> dict[bytes, bytes]:
    """`file appendonly.aof.1.incr.aof seq 1 type i`, as pairs."""
    words = line.split()
    return dict(zip(words[::2], words[1::2], strict=True))


def _open(path: Path, opened: ExitStack) -> Part:
    file = opened.enter_context(path.open("rb"))
    return Part(path.name, file, os.fstat(file.fileno()).st_size)
