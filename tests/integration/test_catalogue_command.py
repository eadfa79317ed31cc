"""`tracker offers|affiliates|…`, word by word, against a real Postgres."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple

import pytest

from tests.integration.api_client import api_of, run_sql
from tracker import cli
from tracker.settings import Settings
from tracker.store.catalogue.demo import load_demo

pytestmark = pytest.mark.anyio


class Done(NamedTuple):
    code: int
    out: str
    err: str

    def json(self) -> Any:
        return json.loads(self.out)


Tracker = Callable[..., Awaitable[Done]]


@pytest.fixture
async def tracker(
    database: Settings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Tracker:
    """The command line on the demo's catalogue, in this process."""
    assert database.postgres_dsn
    await load_demo(database.postgres_dsn)
    monkeypatch.setenv("TRACKER_POSTGRES_DSN", database.postgres_dsn)
    monkeypatch.setenv("TRACKER_DATA_DIR", str(database.data_dir))

    async def run(*words: str) -> Done:
        try:
            code = await asyncio.to_thread(cli.main, words)
        except SystemExit as exit_:
            code = int(exit_.code or 0)
        return Done(code, *capsys.readouterr())

    return run


ADD: list[tuple[str, dict[str, Any]]] = [
    ("advertisers add name=5", {"name": "5", "postback_check": "required"}),
    ('advertisers add name=A postback_addresses=["192.0.2.0/24"]', {"postback_addresses": ["192.0.2.0/24"]}),
    ("postback-secrets add 1 name=server", {"advertiser_id": 1, "name": "server"}),
    ("offers add name=Fresh advertiser_id=1 starts_at=2026-11-01T00:00:00+01:00", {"advertiser_id": 1}),
    ("offer-urls add 3 url=https://ad.example/{hash} weight=7", {"offer_id": 3, "weight": 7}),
    ("offer-affiliates add 3 affiliate_id=513 closed_until=infinity", {"closed_until": "infinity"}),
    ("free-values add 3 n=2 value=7", {"n": 2, "value": "7"}),
    ("caps add 3 affiliate_id=0 period=day amount=5", {"affiliate_id": 0, "amount": 5}),
    ("goals add 3 name=Deposit payout=12.5 multiple=true", {"payout": "12.50", "multiple": True}),
    ("goal-terms add 3 country_code=DE payout=3", {"goal_id": 3, "payout": "3.00"}),
    ("affiliates add name=true is_test=true", {"name": "true", "is_test": True}),
    ("affiliate-postbacks add 513 url=https://p.example/{hash}", {"statuses": ["approved"]}),
    ("blocks add field=source value=popunder offer_id=null", {"offer_id": None}),
    ("bot-rules add field=ip value=192.0.2.7", {"field": "ip"}),
    ("tracking-hosts add host=go.example", {"host": "go.example", "scheme": "https"}),
    ('link-forms add path=/aff_c host:=null parameters={"o":"offer_id"}', {"host": None}),
    ('postback-forms add name=T path=/lsr match={"a":"*"}', {"match": {"a": "*"}, "values": {}}),
    (
        "link-codes add kind=affiliate code=28 affiliate_id=513",
        {"code": "28", "host": None},
    ),
]


async def test_kinds_of_rows_are_added_shown_listed_and_removed(tracker: Tracker, database: Settings) -> None:
    added = []
    for line, fields in ADD:
        command, _, *words = line.split()
        done = await tracker(command, "add", *words, "--json")
        assert done.code == 0, done
        row = done.json()
        assert row.items() >= fields.items(), line
        if command == "postback-secrets":
            row.pop("secret")
        row.pop("warnings", None)
        parent = [word for word in words[:1] if "=" not in word]
        key = str(row.get("id", row["host"] if "host" in row else row.get("affiliate_id")))
        added.append((command, [*parent, key], parent, row))
    for command, place, parent, row in added:
        assert (await tracker(command, "show", *place, "--json")).json() == row
        listed = (await tracker(command, "list", *parent, "--json")).out.splitlines()
        assert row in map(json.loads, listed), command
        table = (await tracker(command, "list", *parent)).out.splitlines()
        assert len(table) == len(listed) + 1
    for command, place, _, _ in reversed(added):
        assert (await tracker(command, "rm", *place)).code == 0, command
    async with api_of(database, scopes=("offers:read",)) as client:
        trail = (await client.get("/backend/open-api/v1/users/audit")).json()
    assert trail["total"] == 2 * len(ADD)
    assert {entry["token_id"] for entry in trail["data"]} == {None}
    assert all(entry["token_name"].startswith("command line: ") for entry in trail["data"])


async def test_changed_fields_are_shown(tracker: Tracker) -> None:
    done = await tracker("offers", "set", "3", "status=paused", "unique_window=3600")
    assert (done.code, done.err) == (0, "")
    shown = dict(line.split(maxsplit=1) for line in done.out.splitlines() if len(line.split()) > 1)
    assert (shown["status"], shown["unique_window"], shown["ends_at"]) == ("paused", "3600", "-")
    assert (await tracker("offers", "show", "3")).out == done.out
    done = await tracker("network", "set", "fallback_url=https://network.example/", "--json")
    assert done.json()["fallback_url"] == "https://network.example/"
    assert (await tracker("network", "show", "--json")).json() == done.json()


async def test_lists_are_tables(tracker: Tracker) -> None:
    lines = (await tracker("offers", "list", "advertiser_id=2")).out.splitlines()
    columns = ["id", "name", "advertiser_id", "status", "closed", "visibility", "category", "tags"]
    assert lines[0].split() == columns
    assert len(lines) == 3
    assert (await tracker("blocks", "list", "--json")).out == ""


async def test_dry_run_checks_and_changes_nothing(tracker: Tracker, database: Settings) -> None:
    before = (await tracker("offers", "list", "--json")).out
    done = await tracker("offers", "rm", "3", "--dry-run")
    assert (done.code, done.out) == (0, "offers/3: would be archived\n")
    done = await tracker("offers", "set", "3", "name=Other", "--dry-run", "--json")
    assert (done.json()["name"], done.err) == ("Other", "tracker: a dry run: nothing was changed\n")
    done = await tracker("offers", "add", "name=Other", "advertiser_id=1", "--dry-run")
    assert done.code == 0
    assert (await tracker("advertisers", "rm", "1", "--dry-run")).code == 1
    assert (await tracker("offers", "list", "--json")).out == before


async def test_stale_change_is_refused(tracker: Tracker, database: Settings) -> None:
    version = str((await tracker("offers", "show", "3", "--json")).json()["version"])
    await run_sql(database, "UPDATE offer SET name = 'By hand' WHERE id = 3")
    for words in (["set", "3", "name=Mine"], ["rm", "3"]):
        done = await tracker("offers", *words, "--version", version)
        assert done.code == 1
        assert "The object was changed. Its current version is" in done.err
    version = str((await tracker("offers", "show", "3", "--json")).json()["version"])
    assert (await tracker("offers", "set", "3", "name=Mine", "--version", version)).code == 0


WRONG = [
    ("offers add name=X", 1, "advertiser_id is missing"),
    ("offers add name=X advertiser_id=77", 1, "advertiser_id matches no advertiser"),
    ("offers add name=X advertiser_id=one", 1, "advertiser_id "),
    ("offers add name=X name=Y", 1, "name is repeated"),
    ("offers add name=X advertiser_id=1 nonsense=1", 1, "nonsense is not a field of this object"),
    ("offers add targeting:={", 1, "targeting is not JSON"),
    ("offers add nonsense", 2, "'nonsense' is not FIELD=VALUE"),
    ("offers show 77", 1, "The offer does not exist."),
    ("offers show x", 1, "There is no object with the id 'x'."),
    ("offers set 3 id=4", 1, "id cannot be changed"),
    ("offers list nonsense=1", 1, "nonsense is not a field of this object"),
    ("offers list advertiser_id=x", 1, "advertiser_id is not a whole number"),
    ("offer-urls list 77", 1, "The offer does not exist."),
    ("offer-urls add 3 url=javascript:alert(1)", 1, "starts with http"),
    ("goals add 3 name=X payout=-1", 1, "payout must be an amount"),
    ("advertisers rm 1", 1, "still used by"),
    ("network rm", 2, "invalid choice"),
    ("offers", 2, "required"),
]


async def test_wrong_command_is_one_line(tracker: Tracker) -> None:
    for line, code, why in WRONG:
        done = await tracker(*line.split())
        assert (done.code, done.out) == (code, ""), line
        assert why in done.err, line
        assert code == 2 or done.err.count("\n") == 1


@pytest.mark.parametrize("command", cli.CATALOGUE)
async def test_help_names_the_fields(tracker: Tracker, command: str) -> None:
    done = await tracker(command, "set", "--help")
    assert done.code == 0
    assert "fields:\n" in done.out


SHOWN = [
    ("offer-urls list 3", "132  Default      active  1       https://ad.example/land?click_id={hash}"),
    ("goals list 3", "payout_type  payout  revenue_type  revenue  currency"),
    ("goals list 3", "fixed        12.50   fixed         0.00     USD"),
    ("caps list 3", "id  affiliate_id  counts       period  amount  currency  on_reached"),
    ("caps list 3", "-             revenue      month   900     EUR       mark"),
    ("postback-secrets list 1", "server  2026-"),
    ("postback-secrets list 1", "2027-01-01T00:00:00+00:00"),
    ("affiliate-postbacks list 513", "approved, hold  https://p.example/{hash}"),
    ("free-values list 3", "0             1  spring"),
    ("goal-terms list 3", "-             DE            3.00    -"),
]


async def test_lists_show_the_content_of_rows(tracker: Tracker) -> None:
    for line in (
        "goals set 3 3 payout=12.5",
        "caps add 3 period=day amount=5 counts=conversions",
        "caps add 3 period=month amount=900 counts=revenue currency=EUR on_reached=mark",
        "postback-secrets add 1 name=server expires_at=2027-01-01T00:00:00Z",
        "affiliate-postbacks add 513 url=https://p.example/{hash} statuses=approved,hold",
        "goal-terms add 3 country_code=DE payout=3",
    ):
        done = await tracker(*line.split())
        assert done.code == 0, done.err
    for line, cells in SHOWN:
        assert cells in (await tracker(*line.split())).out, line


async def test_searched_and_sorted_list(tracker: Tracker) -> None:
    async def listed(*words: str) -> list[str]:
        done = await tracker("offers", "list", *words, "--json")
        assert done.code == 0, done.err
        return [str(json.loads(line)["name"]) for line in done.out.splitlines()]

    assert await listed("--search", "SHOE") == ["Shoe Sale"]
    assert (await listed("--sort=-name"))[:2] == ["Test Offer", "Shoe Sale"]
    assert await listed("--search", "e", "--sort", "name", "advertiser_id=2") == ["Garden Deals", "Shoe Sale"]
    assert await listed("q=3") == ["Test Offer"]
    done = await tracker("offers", "list", "--sort", "weight")
    assert (done.code, done.err) == (1, "tracker: sort is not one of: id, -id, name, -name\n")
    assert (await tracker("caps", "list", "3", "--search", "x")).code == 2


CLOSED = [
    ("closed_until = NULL", "-"),
    ("closed_until = '2020-01-01'", "-"),
    ("closed_until = 'infinity'", "closed"),
    ("closed_until = '2999-01-01 12:34+01'", "closed until 2999-01-01 11:34"),
    ("closed_until = '2999-01-01', time_zone = 'UTC'", "capped until 2999-01-01 00:00"),
    ("closed_until = '2999-01-01', time_zone = 'Asia/Tokyo'", "closed until 2999-01-01 00:00"),
]


async def test_list_says_which_offers_are_closed_and_by_what(tracker: Tracker, database: Settings) -> None:
    assert (await tracker("caps", "add", "3", "period=day", "amount=5", "counts=conversions")).code == 0

    async def closed() -> str:
        heading, line = (await tracker("offers", "list", "q=Test Offer")).out.splitlines()
        return line[heading.index("closed") : heading.index("visibility")].strip()

    for change, shown in CLOSED:
        await run_sql(database, f"UPDATE offer SET {change} WHERE id = 3")
        assert (change, await closed()) == (change, shown)
    assert (await tracker("caps", "add", "3", "period=total", "amount=5", "counts=conversions")).code == 0
    await run_sql(database, "UPDATE offer SET closed_until = '9999-12-31' WHERE id = 3")
    assert await closed() == "capped for good"
