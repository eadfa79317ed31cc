"""Presets: what the files of well-known platforms mean, by their own pages.

A preset is a file of presets/. Each part names the page that its names were read from, and the day.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from tracker.errors import UserError
from tracker.importing import meaning, yaml_file
from tracker.importing.meaning import Meaning

DIRECTORY = Path(__file__).with_suffix("")
_ABOUT = ("page", "read_on", "kind", "note")
"""Keys of a form that are no fields of it."""


class Part(NamedTuple):
    """A part of a preset, and where its names are from."""

    name: str  # as `tracker import NAME`, such as "clicks" or "catalogue offers"
    page: str
    read_on: str


class Preset(NamedTuple):
    """What the files of one platform mean."""

    name: str
    platform: str
    content: Mapping[str, Any]

    def rows(self, kind: str) -> Meaning:
        """The meaning of its clicks or conversions.

        Raises:
            UserError: it has no such part.
        """
        if kind not in self.content:
            raise self._without(kind)
        return meaning.read(self.content[kind], f"{self.name}: {kind}")

    def catalogue(self) -> dict[str, Meaning]:
        """The meanings of the kinds of its catalogue.

        Raises:
            UserError: it has none.
        """
        kinds = self.content.get("catalogue")
        if not kinds:
            raise self._without("catalogue")
        return {kind: meaning.read(part, f"{self.name}: {kind}") for kind, part in kinds.items()}

    def forms(self) -> dict[str, list[dict[str, Any]]]:
        """Its forms of links and postbacks, by their kind in a catalogue.

        Raises:
            UserError: it has none.
        """
        kinds = self.content.get("forms")
        if not kinds:
            raise self._without("forms")
        return {
            kind: [{name: value for name, value in form.items() if name not in _ABOUT} for form in forms]
            for kind, forms in kinds.items()
        }

    def parts(self) -> Iterator[Part]:
        """All parts, for lists."""
        for kind in ("clicks", "conversions"):
            if kind in self.content:
                yield _part(kind, self.content[kind])
        for kind, part in self.content.get("catalogue", {}).items():
            yield _part(f"catalogue {kind}", part)
        for kind, forms in self.content.get("forms", {}).items():
            for form in forms:
                yield _part(f"forms {kind}: {form.get('name', '')}", form)

    def _without(self, part: str) -> UserError:
        known = [name for name in ("clicks", "conversions", "catalogue", "forms") if self.content.get(name)]
        return UserError(f"--from {self.name} has no {part}, only {', '.join(known)}")


def _part(name: str, content: Mapping[str, Any]) -> Part:
    return Part(name, content.get("page", ""), content.get("read_on", ""))


def names() -> list[str]:
    """The names of all presets."""
    return sorted(path.stem for path in DIRECTORY.glob("*.yaml"))


def load(name: str) -> Preset:
    """One preset.

    Raises:
        UserError: no preset has this name.
    """
    if name not in names():
        raise UserError(f"--from {name} is not one of {', '.join(names())}: see `--from list`")
    content = yaml_file.read(DIRECTORY / f"{name}.yaml")
    return Preset(name, content["platform"], content)
