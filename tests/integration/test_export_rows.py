"""`tracker export clicks` and `conversions`: what is imported again is the same."""

from __future__ import annotations

import asyncio
import json
import os
import stat
import subprocess
import sys
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.environ import clean_environ
from tests.factories.clicks import a_click, a_row
from tests.factories.conversions import a_conversion, store_conversions
from tests.integration.api_client import api_of, hash_at, store
from tests.integration.exporting import Two, importer, two
from tests.integration.importing import Importer
from tracker.domain.model import ClickRow

__all__ = ["importer", "two"]
pytestmark = pytest.mark.anyio

_CATALOGUE = Path(__file__).with_name("every_kind.yaml").read_text()
_MILLIS = 1_720_446_000_123  # 2024-07-08 13:40:00.123 UTC
_GIVEN_HERE = ("id", "click_id")
"""Numbers that a tracker gives to what it stores."""
_HISTORY = """
INSERT INTO conversion_change (conversion_id, status_after, source, at)
SELECT id, status, 'postback', created_at FROM conversion WHERE legacy_id IS NULL
"""
_EARLIER = """\
legacy_id,offer_id,affiliate_id,created_at
5,3,513,2024-07-01 10:00:00
='00a-7',4,514,2024-07-01 10:00:01
18446744073709551616,5,515,2024-07-01 10:00:02
"""
_EARLIER_CONVERSIONS = """\
click_hash,status,created_at,legacy_id,payout,currency
5,approved,2024-07-02 10:00:00,9001,1.25,JPY
='00a-7',hold,2024-07-02 10:00:01,,3,EUR
18446744073709551616,rejected,2024-07-02 10:00:02,"=1+1",3,EUR
"""
_SAME_IDS = "legacy_id,offer_id,affiliate_id,created_at\n5,4,514,2024-07-01 10:00:03\n"
_SAME_IDS_CONVERSIONS = (
    "click_hash,status,created_at,legacy_id,payout,currency\n5,hold,2024-07-02 10:00:03,9001,3,EUR\n"
)
_HOSTILE = (
    *(
        "",
        "a,b;c|d",
        '"',
        "'",
        "''x",
        '=HYPERLINK("http://x.test/","y")',
        "+1",
        "-1.50",
        "@x",
        '="012"',
        "%EE%00",
    ),
    *(
        "\\",
        "\\n",
        "é\u2028ü",
        "e\u0301",
        "😀",
        "\u200b=1",
        "null",
        "NULL",
        "none",
        "unknown",
        "0123",
        "1E+5",
        " x ",
    ),
    *("{hash}", "true", "\u202e", "x" * 500),
)


def _clicks() -> list[ClickRow]:
    """Clicks of all kinds. Each has other texts."""
    rows = []
    for n, text in enumerate(_HOSTILE):
        hash_ = hash_at(_MILLIS + n * 7_000_001, n)
        click = a_click(hash=hash_, aff_subs=tuple(_HOSTILE[(n + k) % len(_HOSTILE)] for k in range(20)))
        is_unique = n % 3 != 1
        changes = {
            "affiliate_id": (513, 514, 515)[n % 3],
            "offer_id": (3, 4, 5)[n % 3],
            "advertiser_id": (1, 3, 2)[n % 3],
            "aff_group_id": (7, None)[n % 2],
            "brand_id": (None, 9)[n % 2],
            "requested_offer_id": (3, 6)[n % 2],
            "requested_url_id": (None, 133)[n % 2],
            "offer_url_id": (132, None)[n % 2],
            "status": ("accepted", "forwarded", "rejected")[n % 3],
            "reason": (0, 17, 40, 52)[n % 4],
            "is_unique": is_unique,
            "group_hash": hash_ if is_unique else (None, hash_at(_MILLIS, 0))[n % 2],
            "is_bot": n % 5 == 4,
            "bot_reason": (None, "user agent")[n % 5 == 4],
            "is_test": n % 7 == 6,
            "verdict_late": n % 6 == 5,
            "visitor_key": (-(1 << 63), (1 << 63) - 1, -1, 0, n)[n % 5],
            "adv_sub": text,
            "adv_sub5": text,
            "external_id": text,
            "affiliate_source": text,
            "user_agent": text,
            "referrer": text,
            "redirected_link": f"https://ad.test/?x={text}",
            "requested_link": f"https://t.test/offer/3?x={text}",
            "gaid": ("", "38400000-8cf0-11bd-b23e-10b96e40000d")[n % 2],
            "country_code": ("NO", None, "DE")[n % 3],
            "region_code": (None, "CA")[n % 2],
            "city": (None, 'Nä, "x"')[n % 2],
            "isp": (None, "A;B")[n % 2],
            "ip": ("", "192.0.2.7", "2001:db8::7")[n % 3],
            "device_type": ("phone", "desktop", "")[n % 3],
            "browser": ("Chrome", "")[n % 2],
        }
        rows.append(a_row(click, **changes))
    return rows


def _conversions(clicks: list[ClickRow]) -> list[dict[str, object]]:
    """Conversions of all statuses and currencies, with refunds, changed later than made."""
    goals = {3: 77, 4: 70, 5: 69}
    rows = []
    for n, click in enumerate(clicks):
        made = _MILLIS + n * 7_000_001 + 3_600_000
        rows.append(
            a_conversion(
                click,
                millis=made,
                goal_id=goals[click.offer_id],
                is_repeatable=False,
                order_id=(None, _HOSTILE[n].strip() or None, f"o-{n}")[n % 3],
                status=("pending", "hold", "approved", "rejected")[n % 4],
                is_over_cap=n % 5 == 0,
                sale_status=_HOSTILE[-n - 1],
                sale_amount=(None, "19.999999", "0")[n % 3],
                sale_currency=(None, "JPY", "EUR")[n % 3],
                refunded=Decimal((0, "7.25", 0)[n % 3]),
                payout=("0.000001", "12345678901234", "1.5")[n % 3],
                payout_currency=("USD", "KWD", "JPY")[n % 3],
                revenue=("0", "2.345678")[n % 2],
                revenue_currency=("USD", "EUR")[n % 2],
                advertiser_external_id=_HOSTILE[n],
                adv_sub=_HOSTILE[n],
                adv_sub3=_HOSTILE[-n - 1],
                updated_at=datetime.fromtimestamp((made + n * 1_000_000) / 1000, UTC),
            )
        )
    return rows


@pytest.fixture
async def filled(two: Two) -> Two:
    await two.at(two.first, "import", "catalogue", two.first.file("whole.yaml", _CATALOGUE))
    await two.at(two.first, "import", "clicks", two.first.file("clicks.csv", _EARLIER))
    await two.at(two.first, "import", "conversions", two.first.file("conversions.csv", _EARLIER_CONVERSIONS))
    await two.at(two.first, "import", "clicks", two.first.file("b.csv", _SAME_IDS), "--source", "b")
    sold = two.first.file("b.csv", _SAME_IDS_CONVERSIONS)
    await two.at(two.first, "import", "conversions", sold, "--source", "b")
    clicks = _clicks()
    await store(two.first.settings, clicks)
    await store_conversions(two.first.settings, _conversions(clicks[: len(clicks) // 2]))
    await two.first.fetch(_HISTORY)
    exported = await two.at(two.first, "export", "catalogue", "--with-archived")
    await two.at(two.second, "import", "catalogue", two.second.file("network.yaml", exported.out))
    return two


@pytest.mark.parametrize("format_", ["ndjson", "csv", "excel"])
async def test_rows_come_back_the_same(filled: Two, tmp_path: Path, format_: str) -> None:
    two = filled
    for kind in ("clicks", "conversions"):
        words = ("export", kind, "--format", format_, "--tz", "Europe/Berlin")
        first = tmp_path / f"first-{kind}"
        await two.at(two.first, *words, first)
        done = await two.at(two.second, "import", kind, first, "--tz", "Europe/Berlin")
        assert (done.err, "all are there" in done.out) == ("", True)
        again = await two.at(two.first, "import", kind, first, "--tz", "Europe/Berlin")
        assert (again.err, ": 0 stored" in again.out, "all are there" in again.out) == ("", True, True)
    for kind in ("clicks", "conversions"):
        shown = await two.at(two.first, "export", kind)
        columns = [name for name in json.loads(shown.out.partition("\n")[0]) if name not in _GIVEN_HERE]
        words = ("export", kind, "--format", format_, "--fields", ",".join(columns))
        one, other = [(await two.at(tracker, *words)).out.split("\n") for tracker in (two.first, two.second)]
        assert len(one) >= len(_HOSTILE) // 2
        assert other == one
    shown = await two.at(two.second, "export", "conversions", "--fields", "click_legacy_source,legacy_source")
    assert [tuple(json.loads(line).values()) for line in shown.out.split("\n")[:4]] == [
        *(("earlier", "earlier"), ("earlier", None), ("earlier", "earlier"), ("b", "b"))
    ]


@pytest.mark.parametrize("kind", ["clicks", "conversions"])
async def test_rows_are_those_of_the_api(filled: Two, tmp_path: Path, kind: str) -> None:
    path = f"/backend/open-api/v1/users/{kind}/export"
    async with api_of(filled.first.settings, scopes=("clicks:read", "conversions:read")) as api:
        for words, query in _SAME:
            answer = await api.get(f"{path}?{query}")
            file = tmp_path / "rows.csv"
            await filled.at(filled.first, "export", kind, *words, file, "--force")
            assert file.read_bytes() == answer.content
            assert stat.S_IMODE(file.stat().st_mode) == 0o600
            done = await filled.at(filled.first, "export", kind, *words, "--format", _format(query))
            assert done.out.encode() == answer.content


_SAME = (
    (["--format", "ndjson"], "sort=created_at"),
    ([], "sort=created_at&format=csv"),
    (
        ["hash='00a-7'", "hash=9001", "source=earlier"],
        "sort=created_at&format=csv&hash='00a-7'&hash=9001&source=earlier",
    ),
    (["sort=-created_at", "is_test=false"], "is_test=false&format=csv"),
    (
        ["--format", "excel", "separator=;", "offer_id=3"],
        "sort=created_at&format=excel&separator=;&offer_id=3",
    ),
    (
        ["--from", "2024-07-08 16:00:00", "--to", "2024-07-09", "--tz", "Asia/Tokyo"],
        "sort=created_at&format=csv&created_from=2024-07-08 16:00:00&created_to=2024-07-09&tz=Asia/Tokyo",
    ),
)


def _format(query: str) -> str:
    return query.partition("format=")[2].partition("&")[0] or "ndjson"


async def test_columns_are_chosen(filled: Two, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tracker.commands.export._SAY_SECONDS", {False: 0.0})
    whole = [
        json.loads(line) for line in (await filled.at(filled.first, "export", "clicks")).out.split("\n")[:-1]
    ]
    chosen = await filled.at(filled.first, "export", "clicks", "--fields", "affiliate_id, legacy_source,hash")
    assert f"{len(whole)} clicks written, " in chosen.err
    assert [list(json.loads(line).items()) for line in chosen.out.split("\n")[:-1]] == [
        [(name, row[name]) for name in ("affiliate_id", "legacy_source", "hash")] for row in whole
    ]
    money = await filled.at(filled.first, "export", "conversions", "--fields", "payout", "--format", "csv")
    assert money.out.split("\r\n")[:2] == ["payout", '"1.25"']


_WRONG = [
    (["--fields", "hash,nonsense"], "--fields: nonsense is not one of id, hash, "),
    (["--fields", ","], "--fields: nothing is not one of id, hash, "),
    (["nonsense=1"], "nonsense is not a field of this command"),
    (["offer_id=x"], "offer_id is not a whole number"),
    (["--from", "2024-02-01", "--to", "2024-01-01"], "--to is before --from"),
    (["separator=;"], "separator needs format=excel"),
    (["one", "two"], "two is neither FIELD=VALUE nor the only FILE"),
    (["there.csv"], "there.csv is there already: --force replaces it"),
    (["."], ". is a directory: name a file"),
    (["there.csv/clicks.csv"], "there.csv takes no file: Not a directory"),
    (["nowhere/clicks.csv"], "nowhere takes no file: No such file or directory"),
]


async def test_wrong_words_are_named(
    importer: Importer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "there.csv").write_text("mine")
    for words, why in _WRONG:
        done = await importer.command("export", "clicks", *words)
        assert (words, done.code, done.out) == (words, 1, "")
        assert why in done.err
    assert [entry.name for entry in os.scandir(tmp_path) if entry.is_file()] == ["there.csv"]
    assert (tmp_path / "there.csv").read_text() == "mine"


async def test_export_that_is_cut_off_says_so(two: Two) -> None:
    """The server goes away while the reader of stdout is slow."""
    await two.at(two.first, "import", "catalogue", two.first.file("whole.yaml", _CATALOGUE))
    clicks = [a_row(a_click(hash=hash_at(_MILLIS + n))) for n in range(10_100)]
    await store(two.first.settings, clicks)
    command = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tracker", "export", "clicks"),
        env=clean_environ() | {"TRACKER_POSTGRES_DSN": str(two.first.settings.postgres_dsn)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert command.stdout
    begun = await command.stdout.readexactly(1000)
    name = urlsplit(str(two.first.settings.postgres_dsn)).path[1:]
    await two.second.fetch(f"ALTER DATABASE {name} ALLOW_CONNECTIONS false")
    await two.second.fetch("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1", name)
    out, err = await command.communicate()
    assert 1 < (begun + out).count(b"\n") < len(clicks)
    assert command.returncode == 1
    assert err.startswith(b"tracker: PostgreSQL ")
