"""Valkey's append-only file at one moment, while Valkey goes on writing it.

It consists of several files. A manifest names them and is replaced as a whole. Files only grow at their end,
and a rewrite replaces them by new ones. An open file stays readable after that. So we capture a moment by
opening the files and noting their sizes. Their content can be copied later.
"""

from __future__ import annotations

import os
from contextlib import ExitStack
from io import BytesIO
from pathlib import Path
from typing import BinaryIO, NamedTuple

_MANIFEST = "appendonly.aof.manifest"
_HISTORY = b"h"  # a file that a rewrite has replaced and will delete


class Part(NamedTuple):
    """One of the files, open, and the number of its bytes that count."""

    name: str
    file: BinaryIO
    size: int


def open_at_once(directory: Path, opened: ExitStack) -> list[Part]:
    """Open the files of this moment.

    Raises:
        OSError: a file cannot be read.
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
    """The `key value` pairs of a line."""
    words = line.split()
    return dict(zip(words[::2], words[1::2], strict=True))


def _open(path: Path, opened: ExitStack) -> Part:
    file = opened.enter_context(path.open("rb"))
    return Part(path.name, file, os.fstat(file.fileno()).st_size)
