"""`tracker api`: the API, its docs and the dashboard."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace

from tracker import secret_key
from tracker.commands.arguments import ELSEWHERE, add_fd
from tracker.processes.api import create_site
from tracker.processes.garbage import collect_as_api
from tracker.processes.serving import serve
from tracker.settings import Settings


def add_arguments(parser: ArgumentParser) -> None:
    add_fd(parser)
    parser.epilog = ELSEWHERE


def run(settings: Settings, arguments: Namespace) -> int:
    key = secret_key.load(settings.key_file)  # made at the first start, and refused before anything is served
    site = create_site(settings, key)
    collect_as_api()
    return serve(
        site,
        "api",
        "TRACKER_API_PORT",
        settings.host,
        settings.api_port,
        arguments.fd,
        drain_seconds=settings.drain_seconds,
    )
