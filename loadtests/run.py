"""Load a running tracker, then prove through its read API that each redirect is stored exactly once.

    python -m loadtests.run --profile smoke
    python -m loadtests.run --profile peak --clicks 50000

Exit code 0: everything stored once, thresholds of the profile kept; 1: not; 2: it could not be run.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from secrets import token_hex
from typing import Any

import httpx

from loadtests import verify_run
from loadtests.traffic import UNUSED_SUB
from tracker.settings import Settings, SettingsError

HERE = Path(__file__).parent
CLICKS = "/backend/open-api/v1/users/clicks"
STALL_SECONDS = 15.0
"""How long the number of stored clicks may stand still before the rest counts as missing."""

_LONGEST_RUN = 24 * 3600


class CannotRun(Exception):  # noqa: N818 - one line that says what stands in the way
    """The load test cannot be run; the message is one line for the operator."""


@dataclass(frozen=True, slots=True)
class Profile:
    users: int
    spawn_rate: int
    seconds: int
    pause_ms: int
    failed_share: float
    p95_ms: float
    least_rate: float

    @classmethod
    def named(cls, name: str) -> Profile:
        given = tomllib.loads((HERE / "profiles" / f"{name}.toml").read_text())
        return cls(**given.pop("pass"), **given)


def main(argv: Sequence[str] | None = None) -> int:
    try:
        settings = Settings.from_env()
        return run(_parser(settings).parse_args(argv), settings)
    except (SettingsError, CannotRun, httpx.HTTPError) as error:
        print(f"loadtests: {error}", file=sys.stderr)
        return 2


def run(arguments: argparse.Namespace, settings: Settings) -> int:
    profile = Profile.named(arguments.profile)
    name = f"load-{token_hex(6)}"
    with httpx.Client(base_url=arguments.api, timeout=60, headers=_bearer(arguments.token, settings)) as api:
        _check_reachable(api, arguments.url)
        since = datetime.now(UTC) - timedelta(seconds=2)
        begun = time.monotonic()
        answers = _load(profile, name, arguments.url, arguments.clicks)
        seconds = time.monotonic() - begun
        expected = sum(map(verify_run.is_recorded, answers))
        wanted = {UNUSED_SUB: name, "created_from": f"{since:%Y-%m-%d %H:%M:%S}", "tz": "UTC"}
        print(f"\n{len(answers):,} requests, {expected:,} redirects to be stored; waiting for them")
        _await_stored(api, wanted, expected)
        rows = _export(api, wanted)
    faults = verify_run.problems(answers, rows) + _over_threshold(profile, answers, seconds, arguments.clicks)
    _report(answers, rows, seconds, faults)
    return 1 if faults or not answers else 0


def _parser(settings: Settings) -> argparse.ArgumentParser:
    edge, api = (f"http://127.0.0.1:{port}" for port in (settings.port, settings.api_port))
    parser = argparse.ArgumentParser(prog="python -m loadtests.run", description=__doc__.partition("\n")[0])
    profiles = sorted(path.stem for path in (HERE / "profiles").glob("*.toml"))
    parser.add_argument("--profile", choices=profiles, default="smoke")
    parser.add_argument(
        "--clicks", type=int, default=0, metavar="N", help="stop after N requests, not by time"
    )
    parser.add_argument("--url", default=edge, help="of the edge (%(default)s)")
    parser.add_argument("--api", default=api, help="of the read API (%(default)s)")
    parser.add_argument(
        "--token", default=os.environ.get("LOAD_TOKEN", ""), help="else $LOAD_TOKEN, else the demo's"
    )
    return parser


def _bearer(token: str, settings: Settings) -> dict[str, str]:
    if not token:
        path = settings.data_dir / "demo-token"
        try:
            token = path.read_text().strip()
        except OSError as error:
            raise CannotRun(f"no token: give --token, or let `tracker up` leave one in {path}") from error
    return {"Authorization": f"Bearer {token}"}


def _check_reachable(api: httpx.Client, url: str) -> None:
    try:
        ready = httpx.get(f"{url}/health/ready", timeout=10)
        listed = api.get(CLICKS, params={"per_page": 1})
    except httpx.TransportError as error:
        raise CannotRun(
            f"{url} or {api.base_url} does not answer ({error}); is `make run` running?"
        ) from error
    if ready.status_code != 200:
        raise CannotRun(f"{url} is not ready: {ready.text.strip()}")
    if listed.status_code != 200:
        raise CannotRun(f"the read API answers {listed.status_code}: {listed.text[:200]}")


def _load(profile: Profile, name: str, url: str, clicks: int) -> list[verify_run.Answer]:
    """Run locust in a process of its own: it replaces the standard library's sockets."""
    with tempfile.TemporaryDirectory(prefix="tracker-load-") as directory:
        answers = Path(directory) / "answers.ndjson"
        environ = os.environ | {
            "LOAD_RUN": name,
            "LOAD_ANSWERS": str(answers),
            "LOAD_PAUSE_MS": str(profile.pause_ms),
            "LOAD_CLICKS": str(clicks),
            "PYTHONPATH": str(HERE.parent),
        }
        command: list[str | Path] = [
            sys.executable,
            "-m",
            "locust",
            "-f",
            HERE / "locustfile.py",
            "--headless",
            "--only-summary",
        ]
        command += ["--host", url, "-u", str(profile.users), "-r", str(profile.spawn_rate)]
        command += ["-t", f"{_LONGEST_RUN if clicks else profile.seconds}s", "--exit-code-on-error", "0"]
        command += ["--stop-timeout", "60"]  # let everybody have the answer that is due
        ended = subprocess.run(command, env=environ, check=False)
        if ended.returncode != 0:
            raise CannotRun(f"locust ended with code {ended.returncode}")
        with answers.open(encoding="utf-8") as lines:
            return [json.loads(line) for line in lines]


def _await_stored(api: httpx.Client, wanted: dict[str, str], expected: int) -> None:
    stored, moved = -1, time.monotonic()
    while stored < expected and time.monotonic() - moved < STALL_SECONDS:
        listed = api.get(CLICKS, params=wanted | {"per_page": 1})
        listed.raise_for_status()
        if listed.json()["total"] != stored:
            stored, moved = listed.json()["total"], time.monotonic()
        time.sleep(0.25)


def _export(api: httpx.Client, wanted: dict[str, str]) -> list[verify_run.Row]:
    with api.stream("GET", f"{CLICKS}/export", params=wanted | {"format": "ndjson"}) as export:
        export.raise_for_status()
        return [json.loads(line) for line in export.iter_lines() if line]


def _over_threshold(
    profile: Profile, answers: list[verify_run.Answer], seconds: float, clicks: int
) -> list[str]:
    if not answers:
        return ["no request was sent"]
    failed = sum(not answer["right"] for answer in answers) / len(answers)
    p95, rate = _quantile(answers, 0.95), len(answers) / seconds
    return [
        *([f"{failed:.2%} of requests failed"] if failed > profile.failed_share else []),
        *([f"p95 is {p95:.0f} ms, over {profile.p95_ms:.0f}"] if p95 > profile.p95_ms else []),
        *(
            [f"{rate:.0f} requests/s, under {profile.least_rate:.0f}"]
            if rate < profile.least_rate and not clicks
            else []
        ),
    ]


def _quantile(answers: Sequence[verify_run.Answer], share: float) -> float:
    times: list[Any] = sorted(answer["ms"] for answer in answers)
    return float(times[int(share * (len(times) - 1))])


def _report(
    answers: list[verify_run.Answer], rows: list[verify_run.Row], seconds: float, faults: list[str]
) -> None:
    if answers:
        print(
            f"{len(answers) / seconds:,.0f} requests/s, p50 {_quantile(answers, 0.5):.1f} ms, "
            f"p95 {_quantile(answers, 0.95):.1f} ms, p99 {_quantile(answers, 0.99):.1f} ms"
        )
    print(f"{len(rows):,} clicks stored, {len({row['hash'] for row in rows}):,} distinct hashes")
    for fault in faults:
        print(f"FAILED: {fault}")
    if not faults:
        print(_verdict(are_addresses_believed=verify_run.are_addresses_believed(answers, rows)))


def _verdict(*, are_addresses_believed: bool) -> str:
    if are_addresses_believed:
        return "passed: each redirect answered is stored exactly once, with the Location that was sent"
    return (
        "passed, but address and uniqueness checks were skipped: the visitors' addresses were not believed; "
        "start the tracker with TRACKER_TRUSTED_PROXIES=127.0.0.1/32"
    )


if __name__ == "__main__":
    sys.exit(main())
