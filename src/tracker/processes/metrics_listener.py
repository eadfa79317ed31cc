"""The listener of `tracker metrics`: the metrics of every process of a data directory in one response.

It has no tokens: every client that reaches it may read it. It accepts no data. It queries the processes over
their sockets (metrics_socket.py), so it needs no stream server and no database.
"""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Iterable, Mapping
from itertools import chain
from pathlib import Path

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from tracker.metrics.exposition import Exposition
from tracker.metrics_socket import ask
from tracker.settings import Settings

_FORMAT = "text/plain; version=0.0.4; charset=utf-8"  # Prometheus' text exposition format
_ENGINES = ("valkey-server", "postgres")
_DOMAIN = re.compile(r"[A-Za-z0-9_.:-]{1,255}")


def create_metrics(settings: Settings) -> Starlette:
    """The listener's application: `/metrics` and `/hosts/serves`, for GET and HEAD."""

    async def metrics(_: Request) -> Response:
        texts = await ask(settings.data_dir, "*", "metrics")
        own = await asyncio.to_thread(_own, texts)
        return _answer(merge([own, *filter(None, texts.values())]), media_type=_FORMAT)

    async def serves_host(request: Request) -> Response:
        """The request of a TLS proxy before it gets a certificate (Caddy's on_demand_tls)."""
        domain = request.query_params.get("domain", "")
        if not _DOMAIN.fullmatch(domain):
            return _answer("not ours\n", 404)
        known = set((await ask(settings.data_dir, "edge-*", f"serves {domain}")).values()) - {None, ""}
        if not known:
            return _answer("no edge knows yet\n", 503)
        return _answer("ours\n") if "ours" in known else _answer("not ours\n", 404)

    app = Starlette(routes=[Route("/metrics", metrics), Route("/hosts/serves", serves_host)])
    app.router.redirect_slashes = False  # its Location header would repeat any Host that a client sends
    return app


def merge(texts: Iterable[str]) -> str:
    """Merge several expositions: each metric once, with the samples of all processes.

    A series that several processes have (such as the backlog in the engines, which every API reads) is shown
    once, from the first of them.
    """
    metrics: dict[str, dict[str, str]] = {}
    lines: dict[str, str] = {}
    for line in chain.from_iterable(text.splitlines() for text in texts):
        if line.startswith("#"):
            series = " ".join(line.split(" ", 3)[:3])  # "# HELP name", "# TYPE name"
            lines = metrics.setdefault(series.rpartition(" ")[2], {})
        else:
            series = line.rpartition(" ")[0]
        lines.setdefault(series, line)
    return "".join(f"{line}\n" for lines in metrics.values() for line in lines.values())


def _own(texts: Mapping[str, str | None]) -> str:
    """What the listener knows by itself: who answers, and the processes of `tracker up` and its engines."""
    shown = Exposition()
    for name, text in texts.items():
        shown.add("tracker_process_up", text is not None, process=name)
    shown.add_process("metrics")
    shown.add_build("metrics")
    for name, pid in _relatives().items():
        shown.add_process(name, pid)
    return shown.text()


def _relatives() -> dict[str, int]:
    """The pids of `tracker up`, if that has started this process, and of its engines."""
    parent = os.getppid()
    if " up" not in _command_line(parent):
        return {}
    found = {"up": parent}
    for task in Path(f"/proc/{parent}/task").glob("*/children"):
        for pid in task.read_text().split():
            words = _command_line(int(pid))
            found |= {name: int(pid) for name in _ENGINES if name in words.partition(" ")[0]}
    return found


def _command_line(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return ""


def _answer(text: str, status: int = 200, media_type: str = "text/plain") -> Response:
    return PlainTextResponse(text, status, {"Cache-Control": "no-store"}, media_type)
