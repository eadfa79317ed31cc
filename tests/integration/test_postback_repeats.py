"""Postbacks in are applied once more, and postbacks out are sent once more: one, or those of a filter."""

from __future__ import annotations

from typing import Any

import pytest
from httpx import AsyncClient

from tests.factories.clicks import HASH, a_row
from tests.factories.conversions import a_conversion, store_conversions
from tests.integration.api_client import api_of, run_sql
from tests.integration.test_api_conversions import listed
from tests.integration.test_manual_conversions import OTHER_HASH, clicks, told
from tracker.api.conversions.affiliate_postbacks import PATH as SENT
from tracker.api.conversions.affiliate_postbacks import URLS
from tracker.api.conversions.postbacks import PATH as POSTBACKS
from tracker.settings import Settings
from tracker.store.conversions import refire, replay

__all__ = ["clicks"]

pytestmark = pytest.mark.anyio

REPLAY, REFIRE = f"{POSTBACKS}/replay", f"{SENT}/refire"
AUDIT = "/backend/open-api/v1/users/audit"


async def asked(
    client: AsyncClient, path: str, code: int = 200, *, dry_run: bool = False, **query: Any
) -> Any:
    answer = await client.post(path, json={"dry_run": dry_run}, params=query)
    assert answer.status_code == code, answer.text
    return answer.json()


async def test_rejected_and_held_postbacks_are_applied_once_their_cause_is_gone(
    clicks: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replay, "_BATCH", 2)
    await run_sql(clicks, "UPDATE goal SET (click_window, multiple) = (1, true) WHERE id = 30")
    async with api_of(clicks, scopes=("admin",)) as client:
        late = [
            await told(client, {"click_id": click, "order_id": order})
            for click, order in ((HASH, "1"), (HASH, "2"), (OTHER_HASH, "3"))
        ]
        held = await told(client, {"click_id": HASH, "order_id": "4", "goal": "depositt"})
        unknown = await told(client, {"click_id": "nonsense"})
        assert [one["result"] for one in (*late, held, unknown)] == ["rejected"] * 3 + ["held", "rejected"]
        none = await asked(client, REPLAY, click_id=HASH)
        assert none["results"] == {"rejected": 2, "held": 1}, "the cause is still there"
        await run_sql(clicks, "UPDATE goal SET click_window = NULL WHERE id = 30")
        shown = await asked(client, REPLAY, source="api", dry_run=True)
        assert (await listed(client, POSTBACKS, result="stored"))["total"] == 0, "a dry run changes nothing"
        one = await asked(client, REPLAY, hash=late[0]["hash"])
        done = await asked(client, REPLAY, source="api")
        again = await asked(client, REPLAY, source="api")
        stored = (await listed(client, POSTBACKS, result="stored"))["data"]
        audit = (await listed(client, AUDIT, resource="postback"))["data"]
    assert shown["results"] == {"stored": 3, "held": 1, "rejected": 1}
    assert [row["result"] for row in shown["data"]] == ["stored"] * 3 + ["held", "rejected"], "oldest first"
    assert one["data"] == [
        {
            "hash": late[0]["hash"],
            "result_before": "rejected",
            "result": "stored",
            "reason": "",
            "conversion_id": one["data"][0]["conversion_id"],
        }
    ]
    assert (done["matched"], done["results"]) == (4, {"stored": 2, "held": 1, "rejected": 1})
    assert again["results"] == {"held": 1, "rejected": 1}, "what was applied is not applied again"
    assert {row["hash"] for row in stored} == {row["hash"] for row in late}
    assert len({row["conversion_id"] for row in stored}) == 3
    trail = [(row["before"], row["after"]) for row in audit]
    assert ({"rejected": 1}, {"stored": 1}) in trail
    assert ({"rejected": 2}, {"stored": 2}) in trail


async def test_replay_is_refused_by_name(clicks: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replay, "MOST", 1)
    async with api_of(clicks, scopes=("conversions:write",)) as client:
        for _ in range(2):
            await told(client, {"click_id": "nonsense"})
        table = [({}, "hash"), ({"tz": "UTC"}, "hash"), ({"result": "refused"}, "result")]
        table += [({"result": "stored"}, "result"), ({"click_id": "nonsense"}, "created_from")]
        for query, field in table:
            assert list((await asked(client, REPLAY, 422, **query))["errors"]) == [field], query
    async with api_of(clicks, scopes=("conversions:read",)) as client:
        await asked(client, REPLAY, 403, source="api")


SENT_ROWS: list[tuple[str, int, str, str]] = [  # state, attempts, last error, and why it is not sent again
    ("failed", 8, "HTTP 500", ""),
    ("failed", 8, "HTTP 500", refire.LATER),
    ("sent", 1, "", ""),  # the later status
    ("failed", 0, "unknown macro {x}", "unknown macro {x}"),
    ("failed", 3, "no answer within 10 s", ""),
    ("waiting", 2, "HTTP 500", ""),
]


@pytest.fixture
async def sent(clicks: Settings) -> list[int]:
    """Postbacks to affiliate 513, the second and third of one conversion. The last is to affiliate 514."""
    ids = await store_conversions(clicks, [a_conversion(a_row()) for _ in range(5)])
    await run_sql(
        clicks,
        "INSERT INTO affiliate_postback (id, affiliate_id, url) VALUES"
        " (1, 513, 'https://p.example/?c={hash}'), (2, 514, 'https://q.example/'), (3, 513, 'https://r.example/')",
    )
    conversions = [ids[0], ids[1], ids[1], ids[2], ids[3], ids[4]]
    for n, (row, conversion) in enumerate(zip(SENT_ROWS, conversions, strict=True), 1):
        url, affiliate = (2, 514) if n == len(SENT_ROWS) else (1, 513)
        await run_sql(
            clicks,
            "INSERT INTO conversion_change (conversion_id, status_after, source, author, is_announced)"
            " VALUES ($1, 'approved', 'api', '', true)",
            conversion,
        )
        await run_sql(
            clicks,
            "INSERT INTO sent_postback (change_id, conversion_id, affiliate_postback_id, affiliate_id, url,"
            " host, state, attempts, last_error, last_attempt_at) VALUES ($1, $2, $3, $4,"
            " 'https://p.example/', 'p.example', $5, $6, $7, now() - interval '1 hour')",
            *(n, conversion, url, affiliate, *row[:3]),
        )
    return ids


async def test_failed_postbacks_of_a_filter_are_sent_again(clicks: Settings, sent: list[int]) -> None:
    async with api_of(clicks, scopes=("admin",)) as client:
        shown = await asked(client, REFIRE, affiliate_id=513, dry_run=True)
        assert (await listed(client, SENT, state="failed"))["total"] == 4, "a dry run changes nothing"
        done = await asked(client, REFIRE, affiliate_id=513)
        again = await asked(client, REFIRE, affiliate_id=513)
        rows = {row["id"]: row for row in (await listed(client, SENT))["data"]}
        await run_sql(clicks, "UPDATE affiliate SET status = 'blocked' WHERE id = 514")
        blocked = await asked(client, REFIRE, affiliate_id=514, state="waiting")
        (entry,) = (await listed(client, AUDIT, resource="sent_postback"))["data"]
        for query, code in (({}, 422), ({"tz": "UTC"}, 422), ({"state": "odd"}, 422)):
            await asked(client, REFIRE, code, **query)
    assert done == {**shown, "dry_run": False}
    failed = [(n, why) for n, (state, _, _, why) in enumerate(SENT_ROWS, 1) if state == "failed"]
    assert done["problems"] == [{"id": n, "reason": why} for n, why in failed if why]
    assert (done["matched"], done["fired"], done["skipped"]) == (4, 2, 2)
    assert (again["matched"], again["fired"]) == (2, 0)
    assert [(row["state"], row["attempts"]) for n, row in sorted(rows.items())] == [
        ("waiting" if (n, "") in failed else state, 0 if (n, "") in failed else attempts)
        for n, (state, attempts, *_) in enumerate(SENT_ROWS, 1)
    ]
    assert blocked["problems"] == [{"id": 6, "reason": "its affiliate is blocked or archived"}]
    assert (entry["path"], entry["before"]) == (
        "sent-postbacks",
        {"affiliate_id": 513, "state": "failed", "postbacks": 2},
    )


async def test_urls_tell_how_they_do(clicks: Settings, sent: list[int]) -> None:
    async with api_of(clicks, scopes=("conversions:read",)) as client:
        rows = (await listed(client, URLS))["data"]
        assert [(row["id"], row["is_failing"]) for row in rows] == [(1, False), (2, False), (3, False)]
        one = rows[0]
        counts = [one[state] for state in ("sent", "failed", "waiting", "held")]
        assert (counts, one["affiliate_name"]) == ([1, 4, 0, 0], "John Doe")
        await run_sql(
            clicks,
            "UPDATE sent_postback SET affiliate_postback_id = 2, state = 'failed', attempts = 8,"
            " last_error = 'HTTP 500'",
        )
        failing = (await listed(client, URLS, is_failing="true"))["data"]
        assert [(row["id"], row["failed"], row["last_error"]) for row in failing] == [(2, 6, "HTTP 500")]
        assert (await listed(client, URLS))["data"][0]["id"] == 2, "failing ones come first"
        assert (await listed(client, URLS, affiliate_id=513, is_failing="false"))["total"] == 2
        assert (await listed(client, URLS, per_page=1, page=2))["total"] == 3
