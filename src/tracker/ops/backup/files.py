"""The files of a backup, and the manifest that describes them."""

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
"""Version of the layout. A restore accepts this one only."""

_CHUNK = 1 << 20
_PATH = re.compile(rf"{re.escape(DUMP)}|(valkey|spool|edges)/[^/.][^/]*")


class BackupError(UserError):
    """A backup cannot be made or used. The message is one line for the operator."""


class File(NamedTuple):
    """A file of a backup, with its path relative to the backup."""

    path: str
    size: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Manifest:
    """The manifest of a backup."""

    made_at: str
    """The time that the backup is of."""
    tracker: str
    postgresql: str
    valkey: str
    """Versions of the programs that made it."""
    stored: int
    """Exact number of clicks in the table."""
    waiting: int
    """Clicks on the stream. It is a lower bound, because edges go on while it is read."""
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
    """Read the whole backup and return its manifest if all files match it.

    Raises:
        BackupError: something is missing, damaged or unknown.
    """
    manifest = read_manifest(directory)
    for file in manifest.files:
        if digest(directory / file.path) != (file.size, file.sha256):
            raise BackupError(f"{directory / file.path} is not what was backed up: use another backup")
    return manifest


def copy(source: BinaryIO, target: Path, size: int = sys.maxsize) -> None:
    """Copy this many bytes, or all of them, to a new file that only we may read."""
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
    """Turn an OSError about a file into a line that names the file."""
    try:
        yield
    except OSError as error:
        raise BackupError(f"{error.filename or path}: {error.strerror}") from error


def say(text: str) -> None:
    """Show our progress to the operator."""
    print(f"tracker: {text}", file=sys.stderr, flush=True)


def read_manifest(directory: Path) -> Manifest:
    """The manifest of a backup.

    Raises:
        BackupError: it cannot be read, or is of an unknown version.
    """
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
        raise BackupError(
            f"{directory} is a backup of layout {version!r}, but this version reads layout {VERSION}"
        )
    for file in manifest.files:
        if not _PATH.fullmatch(file.path):
            raise BackupError(f"{path} names {file.path!r}, which is not a file of a backup")
    return manifest


@contextmanager
def _created(path: Path) -> Iterator[BinaryIO]:
    """A new file that is synced to disk at the end of the context."""
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        yield file
        file.flush()
        os.fsync(file.fileno())


def _chunks(file: BinaryIO, size: int) -> Iterator[bytes]:
    while chunk := file.read(min(_CHUNK, size)):
        size -= len(chunk)
        yield chunk
