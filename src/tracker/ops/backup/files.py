"""The files of a backup, and the manifest that vouches for them."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from typing import BinaryIO, NamedTuple

from tracker.errors import UserError

MANIFEST = "manifest.json"
DUMP = "postgres.dump"
VERSION = 1
"""Of the layout; a restore knows this one."""

_CHUNK = 1 << 20
_PATH = re.compile(rf"{re.escape(DUMP)}|(valkey|spool|edges)/[^/.][^/]*")


class BackupError(UserError):
    """A backup cannot be made or used; the message is one line for the operator."""


class File(NamedTuple):
    """A file of a backup, its path seen from there."""

    path: str
    size: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a backup holds."""

    made_at: str
    """The moment that it is of."""
    tracker: str
    postgresql: str
    valkey: str
    """Versions that it was made with."""
    stored: int
    """Clicks in the table, exactly."""
    waiting: int
    """Clicks on the stream; at least, for edges go on while their number is asked."""
    files: tuple[File, ...]
    version: int = VERSION

    @property
    def size(self) -> int:
        return sum(file.size for file in self.files)

    def __str__(self) -> str:
        return (
            f"{self.made_at}, {self.stored} clicks stored and {self.waiting} on the stream, "
            f"{self.size / (1 << 20):.1f} MB in {len(self.files)} files"
        )


def write_manifest(directory: Path, manifest: Manifest) -> None:
    text = json.dumps(asdict(manifest) | {"files": [file._asdict() for file in manifest.files]}, indent=2)
    path = directory / MANIFEST
    with explained(path), _created(path) as target:
        target.write(f"{text}\n".encode())


def check(directory: Path) -> Manifest:
    """Read all of a backup, and return its manifest if everything is as that says.

    Raises:
        BackupError: something is missing, damaged or unknown.
    """
    manifest = _read_manifest(directory)
    for file in manifest.files:
        if digest(directory / file.path) != (file.size, file.sha256):
            raise BackupError(f"{directory / file.path} is not what was backed up: use another backup")
    return manifest


def copy(source: BinaryIO, target: Path, size: int = sys.maxsize) -> None:
    """Copy so many bytes, or all there are, to a new file that only we may read."""
    with explained(target), _created(target) as copied:
        for chunk in _chunks(source, size):
            copied.write(chunk)


def create(path: Path) -> None:
    """Make an empty file that only we may read."""
    with explained(path):
        path.touch(mode=0o600, exist_ok=False)


def digest(path: Path) -> tuple[int, str]:
    """Size and SHA-256 of a file."""
    size, hashed = 0, sha256()
    with explained(path), path.open("rb") as file:
        for chunk in _chunks(file, sys.maxsize):
            size += len(chunk)
            hashed.update(chunk)
    return size, hashed.hexdigest()


def sync_directory(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


@contextmanager
def explained(path: Path) -> Iterator[None]:
    """What the system says against a file becomes a line that names it."""
    try:
        yield
    except OSError as error:
        raise BackupError(f"{error.filename or path}: {error.strerror}") from error


def say(text: str) -> None:
    """Tell the operator how far we are."""
    print(f"tracker: {text}", file=sys.stderr, flush=True)


def _read_manifest(directory: Path) -> Manifest:
    path = directory / MANIFEST
    with explained(path):
        text = path.read_bytes()
    try:
        fields = json.loads(text)
        version = fields["version"]
        manifest = Manifest(**fields | {"files": tuple(File(**file) for file in fields["files"])})
    except (ValueError, TypeError, KeyError) as error:
        raise BackupError(f"{path} cannot be read: use another backup") from error
    if version != VERSION:
        raise BackupError(f"{directory} is a backup of layout {version!r}, and {VERSION} is known here")
    for file in manifest.files:
        if not _PATH.fullmatch(file.path):
            raise BackupError(f"{path} names {file.path!r}, which is no file of a backup")
    return manifest


@contextmanager
def _created(path: Path) -> Iterator[BinaryIO]:
    """A new file, on disk when this is left."""
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        yield file
        file.flush()
        os.fsync(file.fileno())


def _chunks(file: BinaryIO, size: int) -> Iterator[bytes]:
    while chunk := file.read(min(_CHUNK, size)):
        size -= len(chunk)
        yield chunk
