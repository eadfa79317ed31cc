"""A client of the metrics' listener for the processes of some settings, in this process or others."""

from __future__ import annotations

import re

from httpx import ASGITransport, AsyncClient, Response

from tracker.edge.metrics import Metrics
from tracker.metrics.exposition import Exposition
from tracker.metrics.families import FAMILIES
from tracker.processes.metrics_listener import create_metrics
from tracker.settings import Settings

_SAMPLE = re.compile(r"(\w+)(?:\{(.*)\})? (\S+)$")
_LABEL = re.compile(r'(\w+)="([^"]*)"')


async def ask_listener(settings: Settings, path: str, method: str = "GET") -> Response:
    transport = ASGITransport(create_metrics(settings))
    async with AsyncClient(transport=transport, base_url="http://metrics.test") as client:
        return await client.request(method, path)


async def metrics_of(settings: Settings) -> str:
    answer = await ask_listener(settings, "/metrics")
    assert answer.status_code == 200
    return plain(answer.text)


def plain(text: str) -> str:
    """An exposition with labels in the order of their family, and whole numbers without a fraction."""
    lines = []
    for line in text.splitlines():
        name, labels, value = _SAMPLE.match(line).groups() if _SAMPLE.match(line) else (line, "", "")  # type: ignore[union-attr]
        if not value:
            lines.append(line)
            continue
        given = dict(_LABEL.findall(labels or ""))
        order = [*FAMILIES[name].labels] if name in FAMILIES else sorted(given)
        shown = ",".join(f'{label}="{given[label]}"' for label in order)
        number = float(value)
        lines.append(f"{name}{{{shown}}} {number:.15g}".replace("{} ", " "))
    return "".join(f"{line}\n" for line in lines)


def of_edge(metrics: Metrics) -> str:
    """What an edge's counters show."""
    shown = Exposition()
    metrics.show(shown)
    return plain(shown.text())
