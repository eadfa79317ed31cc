"""Arguments of several kinds of `tracker import`."""

from __future__ import annotations

from argparse import Action, ArgumentParser, ArgumentTypeError, Namespace
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

from tracker.commands.arguments import text
from tracker.errors import tell
from tracker.importing import presets

_LONGEST_NAME = 60  # characters of a column's name


def add_files(parser: ArgumentParser) -> None:
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE")


class _ListPresets(Action):
    """`--from list` lists the presets instead of an import, as `--help` does."""

    def __call__(
        self, parser: ArgumentParser, namespace: Namespace, value: Any, option_string: str | None = None
    ) -> None:
        if value == "list":
            print("\n".join(_presets_in_words()))
            parser.exit()
        setattr(namespace, self.dest, value)


def _presets_in_words() -> Iterator[str]:
    for preset in map(presets.load, presets.names()):
        yield f"{preset.name} ({preset.platform})"
        yield from (f"  {part.name}: {part.page}, read on {part.read_on}" for part in preset.parts())


def add_from(parser: ArgumentParser, *, is_required: bool = False) -> None:
    parser.add_argument(
        "--from",
        dest="preset",
        action=_ListPresets,
        required=is_required,
        metavar="NAME",
        help=f"the columns and values of a platform: {', '.join(presets.names())}, or list for the "
        "pages they were read from. Other options win over it",
    )


def add_mapping(parser: ArgumentParser, kind: str = "") -> None:
    """`kind`: what stands before the names of a field, as a metavar."""
    add_from(parser)
    parser.add_argument(
        "--map",
        action="append",
        default=[],
        type=_pair,
        metavar=f"{kind}THEIRS=OURS",
        help="repeatable: the file's name for a field. THEIRS= leaves the column out. "
        "Dots lead into nested JSON",
    )
    parser.add_argument(
        "--map-value",
        action="append",
        default=[],
        type=_value,
        metavar=f"{kind}FIELD:THEIRS=OURS",
        help="repeatable: the file's value of our FIELD for a value of ours. FIELD:THEIRS= means no value",
    )
    parts = "{columns: {theirs: ours}, values: {field: {theirs: ours}}, ignore_rest: true, …}"
    parser.add_argument(
        "--map-file",
        type=Path,
        metavar="FILE",
        help="the same as a YAML or JSON file: "
        + (
            f"{{kind: {parts}}}"
            if kind
            else f"{{theirs: ours}}, or {parts} with dates: [format] and rows: path"
        ),
    )
    parser.add_argument(
        "--ignore-rest",
        action="store_true",
        help="leave out columns that have no meaning here, and name them",
    )


def name_the_left_out(path: Path | str, names: Collection[str]) -> None:
    if names:
        named = ", ".join(name[:_LONGEST_NAME] for name in names)
        tell(f"{path}: left out, because they have no meaning here: {named}")


def name_the_not_found(path: Path | str, names: Collection[str]) -> None:
    if names:
        named = ", ".join(repr(name[:_LONGEST_NAME]) for name in names)
        tell(f"{path}: no row has {named}, which --map gives a field")


def _pair(argument: str) -> tuple[str, str]:
    theirs, separator, ours = argument.rpartition("=")
    if not separator or not theirs:
        raise ArgumentTypeError(f"{argument!r} is not THEIRS=OURS, such as transaction_id=legacy_id")
    return text(theirs), ours


def _value(argument: str) -> tuple[str, str, str]:
    field, colon, pair = argument.partition(":")
    theirs, equals, ours = pair.rpartition("=")
    if not (field and colon and equals):
        raise ArgumentTypeError(f"{argument!r} is not FIELD:THEIRS=OURS, such as status:Confirmed=approved")
    return text(field), text(theirs), text(ours)
