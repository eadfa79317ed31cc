"""`tracker health`: whether the processes of a data directory answer."""

from __future__ import annotations

import asyncio
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from re import compile as pattern

from tracker.errors import UserError
from tracker.metrics_socket import ask
from tracker.settings import Settings

_NAME = pattern(r"[a-z]+-[0-9]{1,5}")
_NAMES = """\
A process is named by its kind, and by its slot or port: edge-0, worker-0, api-8001. Each is asked over its
socket in TRACKER_DATA_DIR/metrics, so its event loop must work. Exit code 1 if one does not answer, or if
none runs. /health/ready of edges and APIs says more: whether visitors should come.
"""


def add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument(
        "processes", nargs="*", type=_name, metavar="PROCESS", help="such as worker-0 (default: all that run)"
    )
    parser.epilog = _NAMES


def run(settings: Settings, arguments: Namespace) -> int:
    answers = asyncio.run(_ask(settings, arguments.processes))
    if not answers:
        raise UserError(f"no process runs in {settings.data_dir.resolve()}")
    for name, is_alive in answers.items():
        print(f"{name} {'answers' if is_alive else 'does not answer'}")
    return 0 if all(answers.values()) else 1


async def _ask(settings: Settings, names: list[str]) -> dict[str, bool]:
    found: dict[str, str | None] = {}
    for each in await asyncio.gather(*(ask(settings.data_dir, name, "alive") for name in names or ["*"])):
        found |= each
    return {name: found.get(name) is not None for name in names or found}


def _name(text: str) -> str:
    if not _NAME.fullmatch(text):
        raise ArgumentTypeError(f"{text!r} is not a process such as edge-0, worker-0 or api-8001")
    return text
