from __future__ import annotations

from pathlib import Path

import pytest

from tests.integration.metrics_client import ask_listener, metrics_of
from tracker.metrics_socket import answering
from tracker.processes.metrics_listener import merge
from tracker.settings import Settings

ONE = """\
# HELP clicks Clicks.
# TYPE clicks counter
clicks{edge="0",status="a b"} 1
# HELP up Up.
# TYPE up gauge
up{edge="0"} 1
waiting 7
"""
OTHER = """\
# HELP clicks Clicks, as a later version words it.
# TYPE clicks counter
clicks{edge="1",status="a b"} 2
# HELP up Up.
# TYPE up gauge
up{edge="1"} 0
waiting 8
# HELP more More.
# TYPE more counter
more 3
"""
BOTH = """\
# HELP clicks Clicks.
# TYPE clicks counter
clicks{edge="0",status="a b"} 1
clicks{edge="1",status="a b"} 2
# HELP up Up.
# TYPE up gauge
up{edge="0"} 1
waiting 7
up{edge="1"} 0
# HELP more More.
# TYPE more counter
more 3
"""


@pytest.mark.parametrize(
    ("texts", "merged"), [([], ""), ([ONE], ONE), ([ONE, ""], ONE), ([ONE, OTHER], BOTH)]
)
def test_metrics_stand_once_with_all_samples(texts: list[str], merged: str) -> None:
    assert merge(texts) == merged


async def count(_: str) -> str:
    return ONE


async def serves(domain: str) -> str:
    return "ours" if domain == "go.example" else "not ours"


async def not_loaded(_: str) -> str:
    return ""


@pytest.mark.anyio
async def test_metrics_name_every_process(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path)
    async with answering(tmp_path, "edge-0", {"metrics": count}), answering(tmp_path, "worker-0", {}):
        answer = await ask_listener(settings, "/metrics")
        assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
        head = [line for line in answer.text.splitlines() if "tracker_process_up" in line]
        assert head[1:] == [
            "# TYPE tracker_process_up gauge",
            'tracker_process_up{process="edge-0"} 1.0',
            'tracker_process_up{process="worker-0"} 1.0',
        ]
        assert answer.text.endswith(ONE)
    assert "tracker_process_up" not in await metrics_of(settings), "nobody runs"


HOSTS = [
    ("?domain=go.example", 200),
    ("?domain=GO.example", 404),
    ("?domain=", 404),
    ("", 404),
    ("?domain=go.example%0Ametrics", 404),
    ("?domain=go.example%20x", 404),
    ("?domain=g%C3%B6.example", 404),
    (f"?domain={'x' * 256}", 404),
]


@pytest.mark.anyio
async def test_tracking_host_is_looked_up_at_edges_with_a_catalogue(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path)
    async with answering(tmp_path, "edge-0", {"serves": not_loaded}), answering(tmp_path, "api-8001", {}):
        assert (await ask_listener(settings, "/hosts/serves?domain=go.example")).status_code == 503
        async with answering(tmp_path, "edge-1", {"serves": serves}):
            for query, status in HOSTS:
                assert (await ask_listener(settings, f"/hosts/serves{query}")).status_code == status, query


REQUESTS = [
    ("GET", "/metrics", 200),
    ("HEAD", "/metrics", 200),
    ("POST", "/metrics", 405),
    ("DELETE", "/hosts/serves", 405),
    ("GET", "/", 404),
    ("GET", "/metrics/", 404),
    ("GET", "//metrics", 404),
    ("GET", "/metrics/../etc/passwd", 404),
    ("GET", "/offer/3", 404),
]


@pytest.mark.anyio
async def test_other_paths_are_not_served(tmp_path: Path) -> None:
    for method, path, status in REQUESTS:
        answer = await ask_listener(Settings(data_dir=tmp_path), path, method)
        assert answer.status_code == status, (method, path)
