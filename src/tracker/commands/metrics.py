"""`tracker metrics`: what every process of the data directory counts."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace

from tracker.commands.arguments import add_fd
from tracker.processes.metrics_listener import create_metrics
from tracker.processes.serving import serve
from tracker.settings import Settings

_ELSEWHERE = """\
`tracker up` runs it. Where edges, API and workers are started one by one, start it beside them, once a
TRACKER_DATA_DIR and under the same account: it asks them over the sockets in TRACKER_DATA_DIR/metrics.
"""


def add_arguments(parser: ArgumentParser) -> None:
    add_fd(parser)
    parser.epilog = _ELSEWHERE


def run(settings: Settings, arguments: Namespace) -> int:
    return serve(
        create_metrics(settings),
        "TRACKER_METRICS_PORT",
        settings.metrics_host,
        settings.metrics_port,
        arguments.fd,
        host_variable="TRACKER_METRICS_HOST",
    )
