"""`tracker import`: move in from another tracker, or from another installation of this one."""

from __future__ import annotations

import asyncio
from argparse import ArgumentParser, Namespace, RawDescriptionHelpFormatter
from collections.abc import Callable, Coroutine, Mapping
from typing import Any, NamedTuple

from tracker.commands import import_catalogue, import_rows, import_undo
from tracker.commands.arguments import add_json
from tracker.errors import UserError
from tracker.settings import Settings

_ABOUT = """\
Import the catalogue first, then clicks, then conversions: each refers to the ones before. You can import
while the tracker runs, and import a file again: existing rows stay unchanged.
"""


class _Kind(NamedTuple):
    """What can be imported, or taken back."""

    purpose: str
    about: str
    add_arguments: Callable[[ArgumentParser], None]
    run: Callable[[Settings, Namespace], Coroutine[Any, Any, int]]
    description: str = ""  # the purpose as a sentence, unless it begins with Import


_KINDS: Mapping[str, _Kind] = {
    "catalogue": _Kind(
        "advertisers, offers with their parts, affiliates",
        import_catalogue.ABOUT,
        import_catalogue.add_arguments,
        import_catalogue.run,
    ),
    "forms": _Kind(
        "the forms of a platform's links and postbacks",
        import_catalogue.ABOUT_FORMS,
        import_catalogue.add_forms_arguments,
        import_catalogue.run_forms,
    ),
    "clicks": _Kind(
        "historic clicks with their ids",
        import_rows.ABOUT_CLICKS,
        import_rows.add_arguments,
        import_rows.run,
    ),
    "conversions": _Kind(
        "historic conversions",
        import_rows.ABOUT_CONVERSIONS,
        import_rows.add_arguments,
        import_rows.run,
    ),
    "undo": _Kind(
        "take back what the imports of a source stored",
        import_undo.ABOUT,
        import_undo.add_arguments,
        import_undo.run,
        "Take back what the imports of a source stored.",
    ),
}


def add_arguments(parser: ArgumentParser) -> None:
    parser.epilog = _ABOUT
    parsers = parser.add_subparsers(dest="kind", metavar="KIND", required=True)
    for name, kind in _KINDS.items():
        added = parsers.add_parser(
            name,
            help=kind.purpose,
            description=kind.description or f"Import {kind.purpose}.",
            epilog=kind.about,
            formatter_class=RawDescriptionHelpFormatter,
        )
        add_json(added)
        kind.add_arguments(added)


def run(settings: Settings, arguments: Namespace) -> int:
    try:
        return asyncio.run(_KINDS[arguments.kind].run(settings, arguments))
    except OSError as error:
        if error.filename is None:  # this error is a server's, not a file's
            raise
        raise UserError(f"{error.filename}: {(error.strerror or str(error)).lower()}") from None
