"""Imported clicks have the words of live clicks, so that reports have one row a word."""

from __future__ import annotations

import csv
import io
import json

import pytest

from tests.integration.api_client import CLICKS, api_of, store
from tests.integration.edge_client import edge_of, recorded
from tests.integration.importing import Importer, importer

__all__ = ["importer"]
pytestmark = pytest.mark.anyio

_ROW = {"offer_id": "3", "affiliate_id": "513", "created_at": "2024-07-08 13:40:00"}

RIGHT: list[tuple[str, str, object, str]] = [  # field, value in the file, stored value, reason
    ("country_code", "Germany", "DE", "an English name"),
    ("country_code", "de", "DE", "case"),
    ("country_code", " DE\u00a0", "DE", "white space around"),
    ("country_code", "UK", "GB", "a reserved code"),
    ("country_code", "USA", "US", "alpha-3"),
    ("country_code", "Czech Republic", "CZ", "an older name"),
    ("country_code", "XK", "XK", "Kosovo"),
    ("country_code", "XX", None, "what CDNs say of an unknown one"),
    ("country_code", "T1", None, "Tor"),
    ("country_code", "A1", None, "a proxy, in old databases"),
    ("country_code", "unknown", None, "a word for nothing"),
    ("country_code", "-", None, "a dash for nothing"),
    ("country_code", "{country}", None, "an unfilled macro"),
    ("region_code", "ca", "CA", "case"),
    ("region_code", "US-CA", "CA", "ISO 3166-2 as a whole"),
    ("region_code", "N/A", None, "a word for nothing"),
    ("device_type", "mobile", "phone", "as most trackers say"),
    ("device_type", "Smartphone", "phone", "as analytics say"),
    ("device_type", "PC", "desktop", "as user-agents says"),
    ("device_type", "Desktop", "desktop", "case"),
    ("device_type", "Smart TV", "tv", "two words"),
    ("device_type", "game_console", "console", "an underscore"),
    ("device_type", "Unknown", "", "a word for nothing"),
    ("platform", "x86_64", "x64", "as uname says"),
    ("platform", "amd64", "x64", "as Debian says"),
    ("platform", "arm64", "ARM", "as Apple says"),
    ("platform", "i686", "x86", "as uname says"),
    ("device_os", "macOS", "Mac OS X", "its name today"),
    ("device_os", "android", "Android", "case"),
    ("device_os", "WINDOWS", "Windows", "case"),
    ("device_os", "Unknown", "UNK", "a word for nothing"),
    ("device_os", "Plan 9", "Plan 9", "what is not known stays"),
    ("browser", "Google Chrome", "Chrome", "with its maker"),
    ("browser", "chrome", "Chrome", "case"),
    ("browser", "(not set)", "", "as analytics say"),
    ("ip", "::ffff:192.0.2.7", "192.0.2.7", "IPv4 in IPv6"),
    ("ip", "2001:DB8:0:0::1", "2001:db8::1", "one form of an address"),
    ("ip", " 192.0.2.7 ", "192.0.2.7", "white space around"),
    ("ip", "null", "", "a word for nothing"),
    ("status", "Accepted", "accepted", "case"),
    ("status", " rejected", "rejected", "white space around"),
    ("is_bot", "TRUE ", True, "a spreadsheet's truth"),
    ("is_test", "No", False, "a word"),
    ("affiliate_id", "513.0", 513, "a program with one kind of number"),
    ("affiliate_id", " 514 ", 514, "white space around"),
    ("city", "  München ", "München", "white space around"),
    ("mobile_carrier", "unknown", "UNK", "a word for nothing"),
    ("aff_sub", " as it came ", " as it came ", "what is opaque stays"),
    ("aff_sub2", "{aff_sub2}", "{aff_sub2}", "also a macro in it"),
    ("user_agent", "null", "null", "a header is opaque"),
]
WRONG: list[tuple[str, str, str]] = [  # field, value in the file, error
    ("country_code", "Georgia", "may be GE"),
    ("country_code", "Congo", "may be CD"),
    ("country_code", "Atlantis", "is not a country"),
    ("country_code", "QQ", "is not a country"),
    ("country_code", "276", "is not a country"),
    ("region_code", "California", "is not a region's code (ISO 3166-2)"),
    ("device_type", "toaster", "is not a type of device, which are desktop, phone, tablet, tv, console, bot"),
    ("device_type", "iPhone", "is not a type of device"),
    ("platform", "Android", "is not an architecture, which are x64, x86, ARM"),
    ("ip", "not-an-ip", "is not an IP address"),
    ("ip", "192.0.2.", "is not an IP address"),
    ("ip", "192.0.2.x", "is not an IP address"),
    ("ip", "256.1.1.1", "is not an IP address"),
    ("status", "paid", "is not one of accepted, forwarded, rejected"),
    ("is_unique", "perhaps", "is not true or false"),
    ("affiliate_id", "513.5", "is not a whole number"),
    ("created_at", "08.07.2024", "is neither YYYY-MM-DD"),
]
TIMES = [
    "2024-07-08 13:40",
    " 2024-07-08 13:40:00 ",
    "2024-07-08T13:40Z",
    "2024-07-08 15:40+02:00",
    "1720446000",
]


def _csv(rows: list[dict[str, str]]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, list(dict.fromkeys(name for row in rows for name in row)))
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


@pytest.mark.parametrize("form", ["csv", "ndjson"])
async def test_values_are_changed_to_the_words_of_clicks(importer: Importer, form: str) -> None:
    await importer.catalogue()
    rows = [{"legacy_id": f"c{n:03}", **_ROW, field: said} for n, (field, said, *_) in enumerate(RIGHT)]
    content = _csv(rows) if form == "csv" else "\n".join(map(json.dumps, rows))
    done = await importer.run("clicks", importer.file("clicks", content))
    assert (done.code, done.err) == (0, "")
    for number, (field, said, stored, why) in enumerate(RIGHT):
        found = await importer.fetch(
            f"SELECT {field} FROM click JOIN legacy_click USING (hash) WHERE legacy_id = $1",
            f"c{number:03}",
        )
        assert found == [(stored,)], (field, said, why)


async def test_absent_values_are_named(importer: Importer) -> None:
    await importer.catalogue()
    rows = [{"legacy_id": f"c{n}", **_ROW, field: said} for n, (field, said, _) in enumerate(WRONG)]
    for words in ([], ["--dry-run"]):
        done = await importer.run("clicks", importer.file("clicks.csv", _csv(rows)), *words)
        *named, last = done.err.splitlines()
        assert (done.code, last) == (
            1,
            f"tracker: clicks.csv: {len(WRONG)} rows are wrong. Nothing is stored",
        )
        for number, (line, (field, said, why)) in enumerate(zip(named, WRONG, strict=True), 2):
            assert line.startswith(f"clicks.csv:{number}: {field}"), line
            assert why in line, (field, said, line)


async def test_times_are_read_alike(importer: Importer) -> None:
    await importer.catalogue()
    rows = [{**_ROW, "legacy_id": f"c{n}", "created_at": time} for n, time in enumerate(TIMES)]
    done = await importer.run("clicks", importer.file("clicks.csv", _csv(rows)))
    assert (done.code, done.err) == (0, "")
    millis = "('x' || left(replace(hash::text, '-', ''), 12))::bit(48)::bigint"
    assert await importer.fetch(f"SELECT DISTINCT {millis} FROM click") == [(1_720_446_000_000,)]


async def test_report_has_one_row_for_live_and_imported_clicks(importer: Importer) -> None:
    await importer.catalogue()
    rows = [
        {"legacy_id": f"c{n}", **_ROW, "country_code": country, "device_type": device, "device_os": os}
        for n, (country, device, os) in enumerate(
            [("Germany", "mobile", "android"), ("DE", "phone", "Android"), ("DEU", "smartphone", "ANDROID")]
        )
    ]
    assert (await importer.run("clicks", importer.file("clicks.csv", _csv(rows)))).code == 0
    async with api_of(importer.settings, scopes=("reports:read", "clicks:read")) as client:
        for dimension, key in (("country", "DE"), ("device_type", "phone"), ("os", "Android")):
            answer = await client.get(
                "/backend/open-api/v1/users/reports", params={"group_by": dimension, "tz": "UTC"}
            )
            assert answer.status_code == 200, answer.text
            (row,) = answer.json()["data"]
            assert key in row.values()
            assert row["clicks"] == 3
        listed = (await client.get(CLICKS, params={"country_code": "DE"})).json()
        assert listed["total"] == 3


async def test_export_of_live_clicks_is_proven_to_be_there(importer: Importer) -> None:
    await importer.catalogue()
    agents = (
        "Mozilla/5.0 (Linux; Android 14; Pixel 8) AppleWebKit/537.36 Chrome/126.0.0.0 Mobile Safari/537.36",
        "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 Version/17.5 Safari/605.1.15",
        "curl/8.0",
        "",
    )
    async with edge_of(importer.settings, demo=False) as edge:
        for agent in agents:
            link = "/offer/3?affiliate_id=513&aff_sub=%EE%20x&adv_sub=%20a&source=%3Dcmd"
            assert (await edge.get(link, headers={"User-Agent": agent})).status_code == 302
    rows = await recorded(importer.settings)
    assert len(rows) == len(agents)
    await store(importer.settings, rows)
    for form in ("ndjson", "csv", "excel"):
        async with api_of(importer.settings) as client:
            answer = await client.get(f"{CLICKS}/export", params={"format": form})
            assert answer.status_code == 200, answer.text
        done = await importer.run("clicks", importer.file(f"export.{form}", answer.content))
        assert (done.code, done.err) == (0, ""), form
        assert f"0 stored, {len(agents)} there already" in done.out
