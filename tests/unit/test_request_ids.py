"""Ids of requests: of the answer, and of the log lines that a request causes."""

from __future__ import annotations

import logging
import re
from contextvars import Context

import pytest
from httpx import ASGITransport, AsyncClient
from starlette.types import Receive, Scope, Send

from tracker.processes import request_ids
from tracker.processes.request_ids import RequestIds

pytestmark = pytest.mark.anyio

_RANDOM = re.compile(r"[0-9a-f]{16}")


async def answer(scope: Scope, _: Receive, send: Send) -> None:
    assert scope["request_id"] == request_ids.current()
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": request_ids.current().encode()})


async def ask(peer: str, **headers: str) -> tuple[str, str]:
    site = RequestIds(answer, {"10.0.0.1": True, "10.0.0.2": False}.__getitem__)
    transport = ASGITransport(site, client=(peer, 5000))
    async with AsyncClient(transport=transport, base_url="http://api") as client:
        response = await client.get("/", headers={k.replace("_", "-"): v for k, v in headers.items()})
    return response.headers["X-Request-ID"], response.text


@pytest.mark.parametrize(
    ("peer", "sent", "is_kept"),
    [
        ("10.0.0.1", "abc-123.D_8", True),
        ("10.0.0.1", "a" * 64, True),
        ("10.0.0.1", "a" * 65, False),
        ("10.0.0.1", "short", False),
        ("10.0.0.1", "with space", False),
        ("10.0.0.1", 'a"},{"b', False),
        ("10.0.0.2", "abc-123.D_8", False),
    ],
)
async def test_id_of_a_trusted_proxy_is_kept(peer: str, sent: str, is_kept: bool) -> None:
    header, seen = await ask(peer, X_Request_ID=sent)
    assert header == seen
    assert header == sent if is_kept else _RANDOM.fullmatch(header)


async def test_id_is_another_one_for_each_request() -> None:
    ids = {(await ask("10.0.0.2"))[0] for _ in range(8)}
    assert len(ids) == 8
    assert all(map(_RANDOM.fullmatch, ids))


async def test_log_line_outside_requests_has_no_id() -> None:
    outside = Context()  # this task may have the id of an earlier test's request
    assert outside.run(request_ids.current) == ""
    assert not hasattr(outside.run(logging.makeLogRecord, {}), "request_id")
