"""`tracker metrics`: the metrics of every process of the data directory."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace

from tracker.commands.arguments import add_fd
from tracker.processes.metrics_listener import create_metrics
from tracker.processes.serving import serve
from tracker.settings import Settings

_ELSEWHERE = """\
`tracker up` runs it. If you start edges, API and workers one by one, start `tracker metrics` beside them.
Each TRACKER_DATA_DIR needs one, under the same account: it queries the sockets in TRACKER_DATA_DIR/metrics.
"""


def add_arguments(parser: ArgumentParser) -> None:
    add_fd(parser)
    parser.epilog = _ELSEWHERE


def run(settings: Settings, arguments: Namespace) -> int:
    return serve(
        create_metrics(settings),
        "metrics",
        "TRACKER_METRICS_PORT",
        settings.metrics_host,
        settings.metrics_port,
        arguments.fd,
        host_variable="TRACKER_METRICS_HOST",
    )
