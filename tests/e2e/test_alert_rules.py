"""Each alert rule fires in a real Prometheus, and ends.

Faults that can be made in seconds are made on a real tracker. For the others a second target shows the rule's
metrics, written as processes write them, with the value of the fault and then without it. The rules are the
shipped ones but for their patience: `for` is 0, and ranges are some seconds.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest
import yaml

from tests.conftest import Furnish, open_directory
from tests.deploy.test_prometheus import RULES
from tests.e2e.running import Up, command, free_port, up, wait_until
from tests.unit.mmdb import write_mmdb
from tracker.metrics.exposition import Exposition
from tracker.metrics.histogram import Histogram
from tracker.ops.backup import last

pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(shutil.which("prometheus") is None, reason="no prometheus here"),
]

_SCRAPE_SECONDS = 6  # the listener waits for a process that hangs for 5
_RANGE = "8s"


class Shown:
    """A target that shows what a test says, and counters that grow while they are said to."""

    def __init__(self) -> None:
        self.fault = ""
        self._scrapes = 0

    def text(self) -> str:
        self._scrapes += 1
        exposition = Exposition()
        fine, wrong = _CASES.get(self.fault, (_nothing, _nothing))
        (wrong if self.fault else fine)(exposition, self._scrapes)
        for name, (well, _) in _CASES.items():
            if name != self.fault:
                well(exposition, 0)
        return exposition.text()


Show = Callable[[Exposition, int], None]


def _nothing(_: Exposition, __: int) -> None:
    """Show nothing."""


def _value(name: str, fine: float, wrong: float, **labels: str) -> tuple[Show, Show]:
    return (
        lambda shown, _: shown.add(name, fine, **labels),
        lambda shown, _: shown.add(name, wrong, **labels),
    )


def _counter(name: str, **labels: str) -> tuple[Show, Show]:
    return (
        lambda shown, _: shown.add(name, 0, **labels),
        lambda shown, scrapes: shown.add(name, scrapes, **labels),
    )


def _redirects(seconds: float, scrapes: int) -> Histogram:
    histogram = Histogram((0.1, 0.25, 1.0))
    histogram.observe(seconds, 100 * scrapes)
    return histogram


def _slow(shown: Exposition, scrapes: int) -> None:
    shown.add_histogram("tracker_redirect_seconds", _redirects(0.9, scrapes), edge="9", outcome="recorded")


def _full(shown: Exposition, _: int) -> None:
    shown.add("tracker_disk_free_bytes", 5)
    shown.add("tracker_disk_bytes", 100)


def _roomy(shown: Exposition, _: int) -> None:
    shown.add("tracker_disk_free_bytes", 50)
    shown.add("tracker_disk_bytes", 100)


def _stuck(shown: Exposition, _: int) -> None:
    shown.add("tracker_stream_up", 1, edge="9")
    shown.add("tracker_spool_bytes", 77, edge="9")


def _behind(shown: Exposition, _: int) -> None:
    shown.add("tracker_standby_behind_bytes", 500e6, api="9")


_CASES: dict[str, tuple[Show, Show]] = {
    "TrackerClicksRefused": _counter("tracker_clicks_not_recorded_total", edge="9", answer="refuse"),
    "TrackerOneCopy": _counter("tracker_clicks_one_copy_total", edge="9"),
    "TrackerVisitorsForgotten": _counter("tracker_visitors_unknown_total", edge="9"),
    "TrackerRestarts": (
        lambda shown, _: shown.add("process_start_time_seconds", 1, process="edge-9"),
        lambda shown, scrapes: shown.add("process_start_time_seconds", scrapes, process="edge-9"),
    ),
    "TrackerRedirectsSlow": (_nothing, _slow),
    "TrackerCompleteUntilLate": _value("tracker_complete_until_seconds", 1, 301),
    "TrackerWorkersBehind": _value("tracker_stream_clicks", 9, 100_001, partition="0"),
    "TrackerCountsLate": _value("tracker_count_delta_seconds", 1, 61),
    "TrackerDiskFills": (_roomy, _full),
    "TrackerClockOff": _value("tracker_clock_skew_seconds", 0, -1.5, edge="9"),
    "TrackerPostbacksOverdue": _value("tracker_affiliate_postbacks", 0, 1, state="overdue"),
    "TrackerAttention": _value("tracker_alerts", 0, 1, kind="secret_expired"),
    "TrackerSpoolWaits": (_nothing, _stuck),
    "TrackerStandbyUnused": (_nothing, _behind),
    "TrackerPartitionsMissing": _value("tracker_partitions_ahead", 7, 1),
}


@contextmanager
def serving(shown: Shown) -> Iterator[int]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = shown.text().encode()
            self.send_response(200)
            self.send_header("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_port
        server.shutdown()


class Prometheus:
    """A running one."""

    def __init__(self, port: int) -> None:
        self._url = f"http://127.0.0.1:{port}/api/v1"

    def ask(self, path: str) -> Any:
        with urlopen(f"{self._url}/{path}", timeout=10) as answer:
            return json.load(answer)["data"]

    def is_up(self) -> bool:
        try:
            return len(self.ask("targets")["activeTargets"]) == 2
        except OSError:
            return False

    @property
    def firing(self) -> set[str]:
        return {
            one["labels"]["alertname"] for one in self.ask("alerts")["alerts"] if one["state"] == "firing"
        }


@contextmanager
def prometheus(folder: Path, real: int, shown: int) -> Iterator[Prometheus]:
    rules = [
        rule | {"for": "0s", "expr": re.sub(r"\[\d+[mh]\]", f"[{_RANGE}]", rule["expr"])} for rule in RULES
    ]
    (folder / "rules.yaml").write_text(yaml.safe_dump({"groups": [{"name": "t", "rules": rules}]}))
    jobs = [
        {"job_name": "tracker", "static_configs": [{"targets": [f"127.0.0.1:{real}"]}]},
        {
            "job_name": "shown",
            "scrape_interval": "1s",
            "scrape_timeout": "1s",
            "static_configs": [{"targets": [f"127.0.0.1:{shown}"]}],
        },
    ]
    times = {
        "scrape_interval": f"{_SCRAPE_SECONDS}s",
        "scrape_timeout": f"{_SCRAPE_SECONDS}s",
        "evaluation_interval": "1s",
    }
    config = {"global": times, "rule_files": ["rules.yaml"], "scrape_configs": jobs}
    (folder / "prometheus.yaml").write_text(yaml.safe_dump(config))
    port = free_port()
    words = [
        "prometheus",
        f"--config.file={folder}/prometheus.yaml",
        f"--storage.tsdb.path={folder}/data",
        f"--web.listen-address=127.0.0.1:{port}",
        "--query.lookback-delta=15s",
    ]
    with (folder / "log").open("wb") as log, subprocess.Popen(words, stdout=log, stderr=log) as process:
        try:
            running = Prometheus(port)
            wait_until(lambda: running.is_up() or process.poll() is not None)
            assert process.poll() is None, (folder / "log").read_text()
            yield running
        finally:
            process.terminate()


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    with open_directory() as made:
        yield made


@pytest.fixture(scope="module")
def geo(folder: Path) -> Path:
    path = folder / "geo.mmdb"
    write_mmdb(path, "GeoLite2-City", {"8.8.8.0/24": {}}, built=int(time.time()))
    path.chmod(0o644)
    return path


@pytest.fixture(scope="module")
def tracker(furnish: Furnish, folder: Path, geo: Path) -> Iterator[Up]:
    with up(furnish(folder / "var"), TRACKER_GEOIP_DB=str(geo)) as running:
        yield running


@pytest.fixture(scope="module")
def shown() -> Shown:
    return Shown()


@pytest.fixture(scope="module")
def watching(tracker: Up, shown: Shown, folder: Path) -> Iterator[Prometheus]:
    (folder / "prometheus").mkdir()
    with serving(shown) as port, prometheus(folder / "prometheus", tracker.metrics_port, port) as running:
        wait_until(lambda: not running.firing)
        yield running


@pytest.mark.timeout(180)
@pytest.mark.parametrize("name", _CASES)
def test_rule_fires_at_its_value_and_ends(watching: Prometheus, shown: Shown, name: str) -> None:
    shown.fault = name
    wait_until(lambda: name in watching.firing)
    shown.fault = ""
    wait_until(lambda: name not in watching.firing)


Fault = Callable[[Up, Path], Callable[[], object]]
"""Makes a fault. What it returns ends it."""


def _frozen(words: str) -> Fault:
    def freeze(tracker: Up, _: Path) -> Callable[[], object]:
        pid = tracker.child(words)
        os.kill(pid, signal.SIGSTOP)
        return lambda: os.kill(pid, signal.SIGCONT)

    return freeze


def _away(tracker: Up, geo: Path) -> Callable[[], object]:
    """Freeze the stream server. An edge notices by its next click."""
    end = _frozen("valkey-server")(tracker, geo)
    tracker.get(tracker.link)
    return end


def _stream(tracker: Up, *words: object) -> Any:
    import redis

    with redis.Redis(unix_socket_path=str(tracker.data_dir / "run" / "valkey.sock")) as client:
        return client.execute_command(*map(str, words))


def _bad_entry(tracker: Up, _: Path) -> Callable[[], object]:
    _stream(tracker, "XADD", "clicks:{0}", "*", "record", "no record")
    return lambda: command(tracker, "dead-letters", "drop", "--all", "--yes", may_warn=True)


def _lost_click(tracker: Up, _: Path) -> Callable[[], object]:
    """Take a recorded click back on one side of the ledger, and put it there again."""
    tracker.get(tracker.link)
    minute = int(time.time()) // 60 - 1
    hour = f"ledger:{{0}}:{minute // 60}"
    _stream(tracker, "HINCRBY", hour, f"{minute % 60}:r", 1)
    return lambda: _stream(tracker, "HINCRBY", hour, f"{minute % 60}:r", -1)


def _old_backup(tracker: Up, _: Path) -> Callable[[], object]:
    def note(age: timedelta) -> None:
        last.note(tracker.data_dir, Path("/backup"), f"{datetime.now(UTC) - age:%Y-%m-%dT%H:%M:%SZ}")

    note(timedelta(days=3))
    return lambda: note(timedelta(hours=1))


def _old_geo(_: Up, geo: Path) -> Callable[[], object]:
    def lay(days: int) -> None:
        new = geo.with_suffix(".new")
        write_mmdb(new, "GeoLite2-City", {"8.8.8.0/24": {}}, built=int(time.time()) - days * 86_400)
        new.chmod(0o644)
        new.replace(geo)

    lay(61)
    return lambda: lay(1)


_FAULTS: dict[str, Fault] = {
    "TrackerProcessDown": _frozen("tracker worker"),
    "TrackerStreamAway": _away,
    "TrackerEngineDown": _frozen("valkey-server"),
    "TrackerDeadLetters": _bad_entry,
    "TrackerLedgerUnbalanced": _lost_click,
    "TrackerBackupOld": _old_backup,
    "TrackerGeoOld": _old_geo,
}


@pytest.mark.timeout(180)
@pytest.mark.parametrize("name", _FAULTS)
def test_rule_fires_at_its_fault_and_ends(watching: Prometheus, tracker: Up, geo: Path, name: str) -> None:
    end = _FAULTS[name](tracker, geo)
    try:
        wait_until(lambda: name in watching.firing)
    finally:
        end()
    wait_until(lambda: name not in watching.firing)


def test_every_rule_is_proved() -> None:
    assert {*_CASES, *_FAULTS} == {rule["alert"] for rule in RULES}
