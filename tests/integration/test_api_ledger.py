"""GET …/ledger, `tracker ledger` and the doctor: the same balance, for programs and for people."""

from __future__ import annotations

import asyncio
import json
import os
import time
from dataclasses import replace

import pytest

from tests.integration.api_client import api_of, count_sub_ids_now
from tests.integration.ledger_entries import set_stored, streams_of
from tests.integration.test_ledger import MILLIS, MINUTE, Case, failed_over, in_flight, lost, stored
from tracker import cli
from tracker.ops import ledger
from tracker.ops.doctor import report
from tracker.settings import Settings

pytestmark = pytest.mark.anyio

LEDGER = "/backend/open-api/v1/ledger"
THAT_DAY = {"from": "2026-09-21", "to": "2026-09-21"}
SHOWN = "2026-09-21T14:13:00+00:00"


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledger, "_PAUSE", 0.0)


async def test_balance_shows_its_sums_and_edges(database: Settings) -> None:
    async with streams_of(database) as streams:
        await lost(database, streams)
        await streams.say("3", MILLIS + 7, spooled={MINUTE - 1: 4}, said=MILLIS + 9)
    async with api_of(database, scopes=("reports:read",)) as client:
        answer = await client.get(LEDGER, params=THAT_DAY | {"tz": "Europe/Berlin"})
        assert (await client.get(LEDGER)).json()["data"] == []
    told = answer.json()
    assert answer.headers["Complete-Until"] == told["complete_until"] == "2026-09-21T14:13:00.007Z"
    counts = {"recorded": 2, "answered": 2, "not_known_answered": 0, "late": 0, "stored": 1, "in_flight": 0}
    counts |= {"spooled": 0, "dead": 0, "given_up": 0, "duplicates": 0, "difference": 1, "lost_answered": 0}
    spooled = dict.fromkeys(counts, 0) | {"recorded": 4, "not_known_answered": 4, "spooled": 4}
    assert told["data"] == [
        {"minute": "2026-09-21T16:12:00+02:00"} | spooled | {"state": "balanced"},
        {"minute": "2026-09-21T16:13:00+02:00"} | counts | {"state": "unbalanced"},
    ]
    assert told["totals"] == {name: counts[name] + spooled[name] for name in counts}
    assert told["unbalanced"] == ["2026-09-21T16:13:00+02:00"]
    assert told["edges"] == [
        {
            "slot": "3",
            "run": "",
            "partition": 0,
            "until": "2026-09-21T14:13:00.007Z",
            "heard": "2026-09-21T14:13:00.009Z",
            "spooled": 4,
        }
    ]
    assert told["is_cross_checked"] is True


async def test_ledger_without_a_time_is_the_last_hour(database: Settings) -> None:
    now = int(time.time()) // 60
    async with streams_of(database) as streams:
        for minute in (now, now - 30, now - 70):
            await streams.count(minute * 60_000, "r")
            await streams.count(minute * 60_000, "g")
    async with api_of(database, scopes=("admin",)) as client:
        told = (await client.get(LEDGER)).json()
    assert [row["recorded"] for row in told["data"]] == [1, 1]
    assert told["complete_until"] is None


@pytest.mark.parametrize(
    ("scopes", "query", "status", "named"),
    [
        ((), {}, 401, []),
        (("clicks:read",), {}, 403, []),
        (("reports:read",), {"from": "2026-09-21", "to": "2026-09-20"}, 422, ["from"]),
        (("reports:read",), {"from": "2026-07-21", "to": "2026-09-21"}, 422, ["from"]),
        (("reports:read",), {"from": "yesterday", "tz": "Mars"}, 422, ["from", "tz"]),
        (("reports:read",), {"from_": "2026-09-21"}, 422, ["from_"]),
    ],
)
async def test_refusal_names_its_reason(
    database: Settings, scopes: tuple[str, ...], query: dict[str, str], status: int, named: list[str]
) -> None:
    async with api_of(database, scopes=scopes) as client:
        answer = await client.get(LEDGER, params=query)
    assert (answer.status_code, sorted(answer.json()["errors"])) == (status, named)


async def test_balance_needs_a_stream_server(database: Settings) -> None:
    nowhere = replace(database, redis_url="unix:///nowhere.sock")
    async with api_of(nowhere, scopes=("reports:read",)) as client:
        answer = await client.get(LEDGER)
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")


async def run(settings: Settings, monkeypatch: pytest.MonkeyPatch, *words: str) -> int:
    for name in [name for name in os.environ if name.startswith("TRACKER_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("TRACKER_REDIS_URL", str(settings.redis_url))
    monkeypatch.setenv("TRACKER_POSTGRES_DSN", str(settings.postgres_dsn))
    monkeypatch.setenv("TRACKER_TIME_ZONE", settings.time_zone)
    return await asyncio.to_thread(cli.main, ["ledger", *words])


@pytest.mark.parametrize(
    ("case", "words", "code", "said"),
    [
        (stored, ("--from", "2026-09-21", "--to", "2026-09-21"), 0, ["every minute balances"]),
        (in_flight, ("--to", "2026-09-21 14:30:00"), 0, ["every minute balances"]),
        (lost, ("--to", "2026-09-21"), 0, ["every minute balances"]),
        (
            lost,
            ("--from", "2026-09-21", "--to", "2026-09-21"),
            1,
            [f"does not balance: {SHOWN}: 1 missing"],
        ),
        (
            failed_over,
            ("--from", "2026-09-21", "--to", "2026-09-21"),
            1,
            [f"does not balance: {SHOWN}: 2 answered and lost by the stream server"],
        ),
        (
            lost,
            ("--from", "2026-09-21 16:13:00", "--to", "2026-09-21 16:13:59", "--tz", "Europe/Berlin"),
            1,
            [],
        ),
        (stored, ("--verify", "2026-09-21", "2026-09-21"), 1, [f"{SHOWN}: 0 rows are in the table, 2 were"]),
        (stored, (), 0, ["complete until unknown"]),
        (stored, ("--from", "2026-09-21", "--to", "2026-09-20"), 1, []),
        (stored, ("--from", "2026-09-21", "--verify", "2026-09-20", "2026-09-21"), 2, []),
        (stored, ("--forget-edge", "1"), 1, []),
    ],
)
async def test_ledger_command_fails_on_an_unbalanced_minute(
    database: Settings,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    case: Case,
    words: tuple[str, ...],
    code: int,
    said: list[str],
) -> None:
    async with streams_of(database) as streams:
        await case(database, streams)
    assert await run(database, monkeypatch, *words) == code
    printed = capsys.readouterr().out
    assert all(text in printed for text in said)


@pytest.mark.parametrize(
    ("case", "verdict", "said"),
    [
        (stored, "balanced", []),
        (in_flight, "settling", []),
        (lost, "unbalanced", ["14:13 UTC does not balance"]),
    ],
)
async def test_ledger_says_in_a_word_what_is_wrong(
    database: Settings, case: Case, verdict: str, said: list[str]
) -> None:
    async with streams_of(database) as streams:
        await case(database, streams)
    async with api_of(database, scopes=("reports:read",)) as client:
        told = (await client.get(LEDGER, params=THAT_DAY)).json()
    assert told["verdict"] == verdict
    assert len(told["findings"]) == len(said)
    for finding, text in zip(told["findings"], said, strict=True):
        assert finding["level"] == "fail"
        assert text in finding["text"]
        assert "tracker ledger --verify" in finding["advice"]


async def test_ledger_command_prints_the_answer_of_the_api(
    database: Settings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    async with streams_of(database) as streams:
        await lost(database, streams)
        await streams.say("3", MILLIS, spooled={MINUTE: 2})
    async with api_of(database, scopes=("reports:read",)) as client:
        answered = (await client.get(LEDGER, params=THAT_DAY)).json()
    day = ("--from", THAT_DAY["from"], "--to", THAT_DAY["to"])
    await run(database, monkeypatch, *day, "--json")
    assert json.loads(capsys.readouterr().out) == answered
    await run(database, monkeypatch, *day)
    at = "2026-09-21T14:13:00.000Z"
    assert f"edge 3, partition 0, as of {at}: all before {at} is on the stream" in capsys.readouterr().out
    assert await run(database, monkeypatch, "--forget-edge", "3") == 1
    asked = capsys.readouterr()
    assert f"edge 3 was last heard of at {at}, with 2 clicks in its spool. It may have" in asked.out
    assert asked.err == "tracker: nothing was changed: --yes agrees to it\n"
    assert await run(database, monkeypatch, "--forget-edge", "3", "--yes") == 0
    assert "edge 3 is forgotten. 2 clicks in its spool are lost" in capsys.readouterr().out


@pytest.mark.parametrize("zone", ["UTC", "Asia/Kolkata"])
async def test_times_are_in_the_networks_zone(
    database: Settings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], zone: str
) -> None:
    async with streams_of(database) as streams:
        await stored(database, streams)
    await run(replace(database, time_zone=zone), monkeypatch, "--from", "2026-09-21", "--to", "2026-09-21")
    assert ("2026-09-21T19:43:00+05:30" in capsys.readouterr().out) == (zone != "UTC")


async def test_doctor_names_faults_and_remedies(database: Settings) -> None:
    await count_sub_ids_now(database)
    assert [finding.level for finding in await report.examine(database, "ledger")] == ["ok"]
    now = int(time.time() * 1000)
    async with streams_of(database) as streams:
        for ago in (600_000, 7_200_000):  # of the second hour there are no counts
            await set_stored(database, (now - ago) // 60_000, 1)
        await streams.count(now - 600_000, "l")
        await streams.dead_letter(b"1[")
        await streams.say("1", now)
        await streams.say("2", now - 90_000, said=now)
        await streams.say("3", now - 90_000, spooled={1: 8})
    findings = await report.examine(database, "ledger")
    said = [
        ("fail", "does not balance: 1 too many", "tracker ledger --verify"),
        ("warn", "cannot be stored): 1", "tracker dead-letters list"),
        ("warn", "without counts on the stream server: 1", "was the server emptied"),
        ("warn", "edge 2 holds Complete-Until back", "check the stream server"),
        ("warn", "with 8 clicks in its spool as of", "tracker edge --slot 3"),
    ]
    for finding, (level, text, advice) in zip(findings, said, strict=True):
        assert finding.level == level
        assert text in finding.text
        assert advice in finding.advice


async def test_doctor_reports_a_missing_ledger(database: Settings) -> None:
    (finding,) = await report.examine(replace(database, redis_url="unix:///nowhere.sock"), "ledger")
    assert (finding.level, finding.advice) == ("fail", "see the topic engines")
