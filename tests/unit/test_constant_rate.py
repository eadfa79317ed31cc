"""The load generator of constant rate, against servers that answer, refuse and hang up."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from loadtests import constant_rate, end_to_end, sizing
from loadtests.end_to_end import Run
from loadtests.subjects import CannotMeasure

pytestmark = pytest.mark.anyio

HASH = "019a0000000070008123456789abcdef"
FOUND = f"HTTP/1.1 302 Found\r\nlocation: https://ad.example/?c={HASH}&s=1\r\n\r\n".encode()
BUSY = b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n"
REQUEST = b"GET /offer/3 HTTP/1.1\r\nHost: t\r\n\r\n"


@pytest.mark.parametrize(
    ("answers", "failed"),
    [([FOUND], 0), ([FOUND, FOUND, BUSY], 20), ([FOUND, FOUND, FOUND, b""], 15)],
    ids=["found", "some refused", "some hung up on"],
)
async def test_load_requests_are_sent_once_and_counted(
    tmp_path: Path, answers: list[bytes], failed: int
) -> None:
    asked = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal asked
        while (await reader.read(65536)) == REQUEST:
            answer = answers[asked % len(answers)]
            asked += 1
            if not answer:
                break
            writer.write(answer)
        writer.close()
        await writer.wait_closed()

    serving: list[asyncio.Task[None]] = []

    def begin(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        serving.append(asyncio.create_task(serve(reader, writer)))

    file = tmp_path / "requests"
    file.write_bytes(REQUEST)
    async with await asyncio.start_server(begin, "127.0.0.1", 0) as server:
        told = await constant_rate.load(server.sockets[0].getsockname()[1], 300, 0.2, file, 0)
        await asyncio.gather(*serving)
    assert (told["requests"], told["failed"], asked) == (60, failed, 60)
    assert told["hashes"] == (int(HASH[16:], 16) if (60 - failed) % 2 else 0)
    assert told["p50_ms"] <= told["p99_ms"] <= told["p999_ms"]


TOLD = {
    "requests": 6000.0,
    "seconds": 10.0,
    "failed": 0.0,
    "cpu": 2.0,
    "p50_ms": 1.0,
    "p99_ms": 2.0,
    "p999_ms": 3.0,
}
KEPT = Run(600.0, TOLD, 600, {"edge": 60.0, "worker": 20.0})


@pytest.mark.parametrize(
    ("run", "is_kept_up_with"),
    [
        (KEPT, True),
        (KEPT._replace(left=601), False),
        (KEPT._replace(told={**TOLD, "failed": 1.0}), False),
        (KEPT._replace(told={**TOLD, "seconds": 11.0}), True),
        (KEPT._replace(told={**TOLD, "seconds": 11.1}), False),
    ],
)
def test_rate_kept_up_with_is_found(run: Run, is_kept_up_with: bool) -> None:
    assert run.is_kept_up_with == is_kept_up_with


def test_generators_own_cores_are_deducted() -> None:
    said = end_to_end.report((1_100.0, 900.0), KEPT, [KEPT] * 3, 2)
    assert "the generator took 0.20" in said
    assert "667 clicks/s = 0.67 of the bare rate (≥ 0.4 ok; " in said
    assert "budgets at 70%, ms: p99 ≤ 15 ok, p99.9 ≤ 60 ok" in said
    assert "CPU µs a click: edge 60, worker 20" in said


@pytest.mark.parametrize(("after", "refused"), [(1_200.0, False), (700.0, True)])
def test_machine_that_drifts_is_refused(after: float, refused: bool) -> None:
    if refused:
        with pytest.raises(CannotMeasure, match="too noisy"):
            end_to_end.refuse_noise(1_000.0, after)
    else:
        end_to_end.refuse_noise(1_000.0, after)


def test_sizing_of_a_network_follows_from_the_cost_of_its_clicks() -> None:
    taken = sizing.Taken(edge=600, valkey=300, worker=200, postgres=50, stream=1_000, table=1_200, wal=2_000)
    _, line = sizing.table(taken, [100_000_000]).splitlines()
    assert line.split() == ["100,000,000", "3,472", "4", "2", "2", "0.2", "11.6", "3,353", "186.3"]
