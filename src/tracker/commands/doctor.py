"""`tracker doctor`: what is amiss, and what to do about it."""

from __future__ import annotations

import asyncio
import json
from argparse import ArgumentParser, Namespace

from tracker import doctor
from tracker.commands.arguments import add_json
from tracker.settings import Settings


def add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("--only", choices=doctor.TOPICS, help="check this alone")
    add_json(parser)


def run(settings: Settings, arguments: Namespace) -> int:
    findings = asyncio.run(doctor.examine(settings, arguments.only))
    if arguments.json:
        print(json.dumps([finding._asdict() for finding in findings], indent=2))
    else:
        print("\n".join(map(str, findings)))
    return int(any(finding.level == "fail" for finding in findings))
