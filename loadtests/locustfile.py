"""Visitors who follow tracking links; what each was answered is written down for the check afterwards.

Run by loadtests/run.py, which sets LOAD_RUN (the run's name), LOAD_ANSWERS (the file to write), LOAD_PAUSE_MS
and LOAD_CLICKS (0 = until the time is up). No redirect is followed.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from time import perf_counter
from typing import Any

import gevent  # type: ignore[import-untyped]
from locust import FastHttpUser, between, events, task
from locust.env import Environment
from locust.exception import StopUser

from loadtests.traffic import Request, Traffic

_RUN = os.environ["LOAD_RUN"]
_PAUSE = int(os.environ["LOAD_PAUSE_MS"]) / 1_000
_CLICKS = int(os.environ["LOAD_CLICKS"])

_traffic = Traffic(_RUN, seed=int.from_bytes(os.urandom(8)))
_answers = Path(os.environ["LOAD_ANSWERS"]).open("w", encoding="utf-8")  # noqa: SIM115 - closed at the end
_sent = 0


class Visitor(FastHttpUser):
    wait_time = between(0, 2 * _PAUSE)
    network_timeout = 30.0
    connection_timeout = 30.0

    @task
    def follow_a_link(self) -> None:
        global _sent
        if _all_sent():
            raise StopUser
        _sent += 1
        request = _traffic.next()
        begun = perf_counter()
        with self.client.request(
            request.method,
            request.target,
            name=request.kind,
            headers=request.headers,
            allow_redirects=False,
            catch_response=True,
        ) as response:
            _write_down(request, response, perf_counter() - begun)
            if is_right(request.kind, response.status_code):
                response.success()
            else:
                response.failure(f"{request.kind} was answered {response.status_code}")


def is_right(kind: str, status: int) -> bool:
    """Whether a kind of request should be answered so."""
    if kind == "lost":
        return status == 404
    return 400 <= status < 600 or status == 204 if kind == "prefetch" else status == 302


def _write_down(request: Request, response: Any, seconds: float) -> None:
    status = response.status_code
    answer = {
        "kind": request.kind,
        "external_id": request.external_id,
        "offer_id": request.offer_id,
        "ip": request.visitor.ip,
        "user_agent": request.visitor.user_agent,
        "status": status,
        "right": is_right(request.kind, status),
        "location": response.headers.get("location", "") if response.headers else "",
        "ms": round(seconds * 1_000, 2),
    }
    _answers.write(json.dumps(answer) + "\n")


def _all_sent() -> bool:
    return 0 < _CLICKS <= _sent


@events.init.add_listener  # type: ignore[untyped-decorator]
def _end_when_all_is_sent(environment: Environment, **_: object) -> None:
    def watch() -> None:
        runner = environment.runner
        while runner is not None and not (_all_sent() and runner.user_count == 0):
            gevent.sleep(0.1)
        if runner is not None:
            runner.quit()

    if _CLICKS:
        gevent.spawn(watch)


@events.quitting.add_listener  # type: ignore[untyped-decorator]
def _close(**_: object) -> None:
    _answers.close()
