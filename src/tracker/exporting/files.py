"""New files that appear when they are complete. Only their owner may read them: they have personal data."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from itertools import count, takewhile
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import IO

from tracker.errors import UserError

_BUFFER = 1 << 20  # bytes


class NewFiles:
    """The files of one export in a directory."""

    def __init__(self, directory: Path, family: str, *, force: bool) -> None:
        """`family`: a pattern of the names that the export may write.

        Its group `part` is the number of a further file.
        """
        self.paths: list[Path] = []
        """The files so far, in the order of writing."""
        self._directory = directory
        self._family = re.compile(family)
        self._force = force
        self._written: dict[Path, IO[bytes]] = {}  # by the files that they become
        self._closing = ExitStack()

    def open(self, name: str) -> IO[bytes]:
        assert self._family.fullmatch(name), name
        path = self._directory / name
        if path.is_dir():
            raise UserError(f"{path} is a directory: name a file")
        if path.exists() and not self._force:
            raise _is_there(path)
        # Its mode is 0600.
        new = NamedTemporaryFile(  # noqa: SIM115 - vanish closes it
            "wb", _BUFFER, dir=self._directory, prefix=f".{name}.", suffix=".part", delete=False
        )
        file: IO[bytes] = self._closing.enter_context(new)
        self.paths.append(path)
        self._written[path] = file
        return file

    def former(self) -> list[Path]:
        """The files of an earlier export.

        Further files follow each other. So offers.2024.csv is somebody's own, unless there are 2,023 more.
        """
        if not self._directory.is_dir():
            return []
        found: dict[str, dict[int, Path]] = {}
        for path in self._directory.iterdir():
            if named := self._family.fullmatch(path.name):
                part, first = named.groupdict().get("part"), path.name
                if part:
                    first = first[: named.start("part") - 1] + first[named.end("part") :]
                found.setdefault(first, {})[int(part or 1)] = path
        return sorted(path for parts in found.values() for path in _in_a_row(parts))

    def appear(self) -> None:
        """Put the files in the place of all former ones."""
        for file in self._written.values():
            file.flush()
            os.fsync(file.fileno())
        for path, file in self._written.items():
            Path(file.name).replace(path)
        for path in self.former():
            if path not in self._written:
                path.unlink()

    def vanish(self) -> None:
        """Close the files, and remove those that did not appear."""
        self._closing.close()
        for file in self._written.values():
            Path(file.name).unlink(missing_ok=True)


def _in_a_row(parts: Mapping[int, Path]) -> Iterator[Path]:
    """The files from the first or second one to the first gap."""
    if 1 in parts:
        yield parts[1]
    yield from map(parts.__getitem__, takewhile(parts.__contains__, count(2)))


def _is_there(path: Path) -> UserError:
    return UserError(f"{path} is there already: --force replaces it")


@contextmanager
def new_files(directory: Path, family: str, *, force: bool) -> Iterator[NewFiles]:
    """Files that appear at the end, unless an error ends the block.

    Raises:
        UserError: there is one already, and it may not be replaced. Or `open` was given a directory.
    """
    files = NewFiles(directory, family, force=force)
    for path in files.former():
        if not path.is_file():
            raise UserError(f"{path} is not a file: write to stdout (-) instead")
        if not force:
            raise _is_there(path)
    try:
        yield files
        files.appear()
    finally:
        files.vanish()
