"""Silent and slow servers of affiliates delay only their own postbacks."""

from __future__ import annotations

import asyncio

import pytest
from httpx import AsyncClient

from tests.integration.api_client import run_sql
from tests.integration.edge_client import PATIENCE
from tests.integration.fake_affiliate import SILENCE, FakeAffiliate
from tests.integration.test_postback_sender import HERE, asks, client, converts
from tracker.outbound_http import Caller
from tracker.settings import Settings
from tracker.store.db import connect
from workers import postback_sender, sender

__all__ = ["client"]
pytestmark = pytest.mark.anyio

SILENT = 300
EACH = 4
_LONG = 600.0  # seconds that a request may take here: longer than the test

_MANY_HOSTS = """
INSERT INTO affiliate_postback (affiliate_id, url)
SELECT 513, format('http://silent%s.example:%s/in?h={{hash}}', n, {port})
FROM generate_series(1, {hosts}) AS n
"""


class _NeverAnswers(list[None]):
    def popleft(self) -> None:
        return SILENCE

    def __bool__(self) -> bool:
        return True


async def _until(condition: object) -> None:
    assert callable(condition)
    async with asyncio.timeout(PATIENCE):
        while not condition():
            await asyncio.sleep(0.01)


async def test_hosts_without_an_answer_delay_only_their_own(client: AsyncClient, database: Settings) -> None:
    silent, prompt = FakeAffiliate(), FakeAffiliate()
    silent.answers = _NeverAnswers()  # type: ignore[assignment]
    async with silent.listening(), prompt.listening():
        await run_sql(database, _MANY_HOSTS.format(port=silent.port, hosts=SILENT))
        await run_sql(database, "UPDATE goal SET multiple = true")
        for number in range(EACH):
            await converts(database, n=number, order_id=f"o{number}")
        caller = Caller(HERE, look_up=_here, answer_seconds=_LONG)
        sending = asyncio.create_task(postback_sender.run(database, caller=caller))
        try:
            await _until(lambda: len(silent.asked) >= SILENT)
            await asks(client, prompt, host="prompt.example")
            for number in range(EACH, 3 * EACH):
                await converts(database, n=number, order_id=f"o{number}")
            await _until(lambda: len(prompt.asked) == 2 * EACH)
            assert len(silent.asked) <= SILENT + sender.AT_ONCE
            assert await _attempted(database) == len(silent.asked)
        finally:
            sending.cancel()
            await asyncio.gather(sending, return_exceptions=True)


async def _here(_host: str, _port: int) -> list[str]:
    return ["127.0.0.1"]


async def _attempted(database: Settings) -> int:
    """The number of postbacks claimed for the silent hosts."""
    assert database.postgres_dsn
    connection = await connect(database.postgres_dsn)
    try:
        taken: int = await connection.fetchval(
            "SELECT count(*) FROM sent_postback WHERE host LIKE 'silent%' AND attempts > 0"
        )
        return taken
    finally:
        await connection.close()
