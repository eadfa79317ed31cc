"""A conversion from link to postback to table, and what the operator sees of it."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import asyncpg

from tests.conftest import Furnish
from tests.e2e.running import Up, command, up, wait_until
from tracker.processes.engines.engine import resolve
from tracker.settings import Settings

_BROWSER = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"
_GOAL = """
INSERT INTO advertiser_secret (advertiser_id, secret_hash) VALUES (1, sha256('trs_e2e'));
UPDATE goal SET payout = 2.5, currency = 'EUR' WHERE offer_id = 3
"""


def in_database(tracker: Up, sql: str) -> list[Any]:
    async def run() -> list[Any]:
        connection = await asyncpg.connect(resolve(Settings(data_dir=tracker.data_dir)).postgres_dsn)
        try:
            return [tuple(row) for row in await connection.fetch(sql)]
        finally:
            await connection.close()

    return asyncio.run(run())


def test_click_becomes_a_conversion(furnish: Furnish, tmp_path: Path) -> None:
    with up(furnish(tmp_path / "var")) as tracker:
        for statement in _GOAL.split(";"):
            in_database(tracker, statement)
        response, _ = tracker.get("/offer/3?affiliate_id=513&aff_sub=e2e", **{"User-Agent": _BROWSER})
        hash_ = response.headers["location"].partition("click_id=")[2][:32]
        called = f"/postback?click_id={hash_}&order_id=o-1&token=trs_e2e"
        wait_until(lambda: tracker.get(called)[0].status == 200)  # until the edge knows the secret
        tracker.get(f"/postback?click_id={hash_}&token=trs_e2e&status=rejected")
        tracker.get(f"/postback?click_id={'0' * 32}&token=trs_e2e")
        wait_until(lambda: len(in_database(tracker, "SELECT FROM postback WHERE result <> 'parked'")) >= 3)
        assert in_database(tracker, "SELECT order_id, status, payout::text FROM conversion") == [
            ("o-1", "rejected", "2.500000")
        ]
        told = [json.loads(line) for line in command(tracker, "postbacks", "--json").splitlines()]
        assert [(one["result"], one["reason"]) for one in told] == [
            ("rejected", "unknown click"),
            ("updated", ""),
            ("stored", ""),
        ]
        assert "trs_e2e" not in json.dumps(told)
        shown = command(tracker, "postbacks", "--result", "rejected", "--since", "2026-01-01")
        assert "rejected: unknown click  no conversion  postback  127.0.0.1" in shown
        assert command(tracker, "postbacks", "--unreadable") == ""
        assert "0 on the stream, 0 waiting for their clicks" in command(
            tracker, "doctor", "--only", "postbacks"
        )
        metrics = tracker.get("/metrics", tracker.metrics_port)[1].decode()
        assert 'tracker_waiting_postbacks{place="stream"} 0' in metrics
