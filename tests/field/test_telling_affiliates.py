"""Affiliate postbacks: statuses in their order, none while the affiliate is blocked."""

from __future__ import annotations

import asyncio
import random
import re
import sys
from typing import Any

import pytest
from httpx import AsyncClient

from tests.integration.api_client import run_sql
from tests.integration.fake_affiliate import RESET, SILENCE, FakeAffiliate, status
from tests.integration.test_postback_sender import (
    LOG,
    asks,
    becomes,
    client,
    converts,
    later,
    log,
    partner,
    send,
    targets,
)
from tracker import cli
from tracker.domain.postback import ConversionStatus
from tracker.ops.doctor import report
from tracker.settings import Settings
from tracker.store.conversions import affiliate_postbacks
from tracker.store.db import connect, open_pool

__all__ = ["client", "partner"]
pytestmark = pytest.mark.anyio

PENDING, HOLD, APPROVED, REJECTED = ConversionStatus
EVERY = [str(one) for one in ConversionStatus]
HEARD = "s={status}&n={change_number}&at={changed_at}"


def heard(partner: FakeAffiliate) -> list[str]:
    """The statuses, in the order in which they came."""
    return [re.findall(r"s=(\w+)", asked.target)[0] for asked in partner.asked]


@pytest.mark.parametrize(
    ("answers", "rounds"),
    [
        ([], 1),
        ([status(500)], 2),
        ([RESET, RESET], 2),
        ([SILENCE], 2),
        ([status(404), status(429)], 3),
        ([status(200), status(500)], 2),
    ],
)
async def test_status_is_never_sent_before_an_earlier_one(
    client: AsyncClient, database: Settings, partner: FakeAffiliate, answers: list[bytes], rounds: int
) -> None:
    await asks(client, partner, query=HEARD, statuses=EVERY)
    conversion = await converts(database, status="pending")
    await becomes(database, conversion, APPROVED)
    await becomes(database, conversion, REJECTED)
    partner.answers.extend(answers)
    for _ in range(rounds):
        await send(database, seconds=0.3)
        await later(database)
    told = heard(partner)
    assert list(dict.fromkeys(told)) == ["pending", "approved", "rejected"]
    assert told == sorted(told, key=["pending", "approved", "rejected"].index)
    numbers = [re.findall(r"n=(\d+)", asked.target)[0] for asked in partner.asked]
    assert numbers == sorted(numbers)
    times = [re.findall(r"at=([^&]+)", asked.target)[0] for asked in partner.asked]
    assert times == sorted(times)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d%3A\d\d%3A\d\d\.\d{3}Z", times[0])


async def test_abandoned_postback_delays_no_later_status(
    client: AsyncClient, database: Settings, partner: FakeAffiliate
) -> None:
    await asks(client, partner, query=HEARD, statuses=EVERY)
    conversion = await converts(database, status="pending")
    partner.answers.extend([status(404)])
    await send(database)
    await becomes(database, conversion, APPROVED)
    await send(database)
    assert heard(partner) == ["pending"]
    await run_sql(
        database, "UPDATE sent_postback SET attempts = 99, next_attempt_at = now() WHERE attempts = 1"
    )
    partner.answers.extend([status(404)])
    await send(database)
    await send(database)
    assert heard(partner) == ["pending", "pending", "approved"]
    assert {row["state"] for row in await log(client)} == {"failed", "sent"}


async def test_postbacks_wait_only_for_the_same_conversion_and_url(
    client: AsyncClient, database: Settings, partner: FakeAffiliate
) -> None:
    await run_sql(database, "UPDATE goal SET multiple = true")
    await asks(client, partner, query=f"u=1&{HEARD}", statuses=EVERY)
    await asks(client, partner, query=f"u=2&{HEARD}", statuses=EVERY, host="q.example")
    partner.answers.extend([status(500)] * 2)
    one = await converts(database, order_id="a", status="pending")
    await send(database)
    await becomes(database, one, APPROVED)
    await converts(database, 1, order_id="b", status="hold")
    await send(database)
    assert sorted(heard(partner)) == ["hold", "hold", "pending", "pending"]


async def test_unannounced_change_is_waited_for(
    client: AsyncClient, database: Settings, partner: FakeAffiliate
) -> None:
    """Another worker may be about to make the postback of an earlier change."""
    await asks(client, partner, query=HEARD, statuses=EVERY)
    conversion = await converts(database, status="pending")
    await becomes(database, conversion, APPROVED)
    assert database.postgres_dsn
    slow, quick = [await connect(database.postgres_dsn) for _ in range(2)]
    pool = await open_pool(database.postgres_dsn)
    async with slow.transaction():
        assert await affiliate_postbacks.POSTBACKS.announce(slow, 1) == 1
        assert await affiliate_postbacks.POSTBACKS.announce(quick, 10) == 1
        assert await affiliate_postbacks.POSTBACKS.due_hosts(pool) == set()
        assert await affiliate_postbacks.POSTBACKS.take(pool, "p.example", 8) == []
    await send(database)
    assert heard(partner) == ["pending", "approved"]
    await slow.close()
    await quick.close()
    pool.terminate()


async def test_senders_keep_the_order_among_several(
    client: AsyncClient, database: Settings, partner: FakeAffiliate
) -> None:
    await run_sql(database, "UPDATE goal SET multiple = true")
    await asks(client, partner, query="c={conversion_id}&s={status}", statuses=EVERY)
    lot = random.Random(7)
    partner.answers.extend(lot.choices([status(200), status(500)], k=30))
    for n in range(10):
        conversion = await converts(database, n, order_id=str(n), status="pending")
        for name in (HOLD, APPROVED, REJECTED)[: lot.randint(0, 3)]:
            await becomes(database, conversion, name)
    for _ in range(12):
        await asyncio.gather(*(send(database) for _ in range(3)))
        await later(database)
    last = {re.findall(r"c=(\d+)", one.target)[0]: heard_of(one.target) for one in partner.asked}
    rows = await log(client, per_page=200)
    newest = {str(row["conversion_id"]): heard_of(row["url"]) for row in reversed(rows)}
    assert {row["state"] for row in rows} == {"sent"}
    assert last == newest


def heard_of(target: str) -> str:
    return target.rpartition("s=")[2]


async def test_postback_behind_another_is_not_overdue(
    client: AsyncClient, database: Settings, partner: FakeAffiliate
) -> None:
    await asks(client, partner, query=HEARD, statuses=EVERY)
    conversion = await converts(database, status="pending")
    partner.answers.extend([status(500)])
    await send(database)
    await becomes(database, conversion, APPROVED)
    await send(database)
    await run_sql(
        database, "UPDATE sent_postback SET next_attempt_at = now() - interval '1 hour' WHERE attempts = 0"
    )
    (finding,) = await report.examine(database, "affiliates")
    assert finding.level == "ok"
    await run_sql(
        database, "UPDATE sent_postback SET give_up_at = now() - interval '1 hour' WHERE attempts = 0"
    )
    partner.answers.extend([status(200), status(500)])
    await later(database)
    await send(database)
    await later(database)
    await send(database)
    assert heard(partner) == ["pending", "pending", "approved", "approved"], (
        "it has its 24 hours from then on"
    )


BLOCKED = [{"status": "blocked"}, {"is_archived": True}]
ACTIVE = {"status": "active", "is_archived": False}
AFFILIATE = "/backend/open-api/v1/users/affiliates/513"


@pytest.mark.parametrize("change", BLOCKED, ids=["blocked", "archived"])
async def test_blocked_affiliate_gets_no_postbacks(
    client: AsyncClient, database: Settings, partner: FakeAffiliate, change: dict[str, Any]
) -> None:
    await asks(client, partner, query=HEARD, statuses=EVERY)
    conversion = await converts(database, status="pending")
    partner.answers.extend([status(500)])
    await send(database)
    assert (await client.patch(AFFILIATE, json=change)).status_code == 200
    await becomes(database, conversion, APPROVED)
    await later(database)
    await send(database)
    assert heard(partner) == ["pending"]
    rows = await log(client, state="held")
    assert [row["state"] for row in rows] == ["held", "held"]
    for row in rows:
        assert (await client.post(f"{LOG}/{row['id']}/refire")).status_code == 409
    assert (await client.patch(AFFILIATE, json=ACTIVE)).status_code == 200
    await send(database)
    assert heard(partner) == ["pending"], "only when it is asked for"
    assert (await resume(database, "--affiliate", "513", "--dry-run")) == [
        "2 postbacks to affiliate 513 are held",
        "nothing was changed",
    ]
    await send(database)
    assert heard(partner) == ["pending"]
    assert await resume(database, "--affiliate", "513") == [
        "2 postbacks to affiliate 513 are held",
        "2 are sent now",
    ]
    await send(database)
    assert heard(partner) == ["pending", "pending", "approved"]
    assert await resume(database, "--affiliate", "513") == [
        "0 postbacks to affiliate 513 are held",
        "0 are sent now",
    ]


async def test_old_status_is_not_sent_after_a_newer_one(
    client: AsyncClient, database: Settings, partner: FakeAffiliate
) -> None:
    await asks(client, partner, query=HEARD, statuses=EVERY)
    await client.patch(AFFILIATE, json=BLOCKED[0])
    conversion = await converts(database, status="pending")
    await send(database)
    await client.patch(AFFILIATE, json=ACTIVE)
    await becomes(database, conversion, APPROVED)
    await send(database)
    assert await resume(database, "--affiliate", "513") == [
        "1 postbacks to affiliate 513 are held",
        "1 of them stay held: a later status has been sent since",
        "0 are sent now",
    ]
    await send(database)
    assert heard(partner) == ["approved"]
    (row,) = await log(client, state="held")
    assert (await client.post(f"{LOG}/{row['id']}/refire")).status_code == 200
    await send(database)
    assert targets(partner)[-1].startswith("/in?s=pending")


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (
            ["--affiliate", "598"],
            "affiliate 598 is blocked or archived. First run: tracker affiliates set 598",
        ),
        (["--affiliate", "7"], "there is no affiliate 7"),
    ],
)
async def test_held_postbacks_without_an_advertiser(
    client: AsyncClient,
    database: Settings,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    words: list[str],
    line: str,
) -> None:
    monkeypatch.setenv("TRACKER_POSTGRES_DSN", database.postgres_dsn or "")
    monkeypatch.setenv("TRACKER_DATA_DIR", str(database.data_dir))
    assert await asyncio.to_thread(cli.main, ["resume-sending", *words]) == 1
    assert line in capsys.readouterr().err


async def resume(database: Settings, *words: str) -> list[str]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tracker", "resume-sending", *words),
        env={
            "TRACKER_POSTGRES_DSN": database.postgres_dsn or "",
            "TRACKER_DATA_DIR": str(database.data_dir),
        },
        stdout=asyncio.subprocess.PIPE,
    )
    output, _ = await process.communicate()
    assert process.returncode == 0
    return output.decode().splitlines()
