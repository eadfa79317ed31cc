"""`tracker api`: the API and its docs."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace

from tracker.api import create_api
from tracker.commands.arguments import ELSEWHERE, add_fd
from tracker.commands.serving import serve
from tracker.settings import Settings


def add_arguments(parser: ArgumentParser) -> None:
    add_fd(parser)
    parser.epilog = ELSEWHERE


def run(settings: Settings, arguments: Namespace) -> int:
    return serve(create_api(settings), "TRACKER_API_PORT", settings.host, settings.api_port, arguments.fd)
