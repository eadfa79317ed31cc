"""Bytes that are not UTF-8, as affiliates with Windows-1251, Latin-1, Shift-JIS and GBK send them.

They stay percent-encoded text at every door. Only the affiliate gets the bytes back.
"""

from __future__ import annotations

import csv
import io
import json
import os
from datetime import UTC
from urllib.parse import quote

import pytest

from tests.factories.clicks import HASH, a_click, a_row, store
from tests.integration.api_client import CLICKS, api_of, run_sql
from tests.integration.edge_client import edge_of, raw, recorded
from tests.integration.fake_affiliate import FakeAffiliate
from tests.integration.importing import Importer, importer
from tests.integration.test_edge_postbacks import received
from tests.integration.test_postback_sender import asks, client, converts, partner, send
from tracker.api.clicks.create_schema import NewClick
from tracker.domain.normalise import unquoted
from tracker.settings import Settings
from tracker.store.catalogue.demo import load_demo
from tracker.store.clicks import insert as clicks
from tracker.store.db import connect
from workers import click_writer

__all__ = ["client", "importer", "partner"]
pytestmark = pytest.mark.anyio

VALUES = [  # as a link sends it, the text, why
    ("%EE%EA%F0%E1", "%EE%EA%F0%E1", "Windows-1251"),
    ("caf%E9", "caf%E9", "Latin-1"),
    ("%83e%83X%83g", "%83e%83X%83g", "Shift-JIS, whose second bytes are letters"),
    ("%C4%E3%BA%C3", "%C4%E3%BA%C3", "GBK"),
    ("%C3%A4%E4", "ä%E4", "UTF-8 and then another"),
    ("%E4%C3%A4", "%E4ä", "the other way round"),
    ("%F0%9F%98", "%F0%9F%98", "an emoji that was cut by bytes"),
    ("%ED%A0%BD%ED%B8%80", "%ED%A0%BD%ED%B8%80", "surrogates (CESU-8)"),
    ("%C0%AF", "%C0%AF", "overlong"),
    ("a%FFb+c", "a%FFb c", "what no encoding of text has"),
    ("%e4%Ff", "%E4%FF", "hexadecimal digits of either case are one text"),
    ("%25C3%25A4", "%C3%A4", "an escape of UTF-8 that was escaped itself: never bytes"),
    ("%2541", "%41", "an escape of ASCII that was escaped itself: never bytes"),
    ("100%25", "100%", "a percent sign"),
    ("%EF%BF%BD", "\ufffd", "the replacement character, sent as itself"),
    ("%E4" * 200, "%E4" * 166, "cut after escaping, and no escape is split"),
    ("x" * 499 + "%E4", "x" * 499, "cut before an escape"),
    ("x" * 499 + "%C3%A4y", "x" * 499 + "ä", "a character is one character"),
]


@pytest.mark.parametrize("door", ["query", "path"])
async def test_link_keeps_bytes_as_escapes(database: Settings, door: str) -> None:
    assert database.postgres_dsn
    await load_demo(database.postgres_dsn)
    await run_sql(database, "INSERT INTO link_form (path) VALUES ('/go/{offer_id}/{affiliate_id}/{aff_sub}')")
    prefix = "/offer/3?affiliate_id=513&aff_sub=" if door == "query" else "/go/3/513/"
    async with edge_of(database) as client:
        for sent, text, reason in VALUES:
            if door == "path":
                sent = sent.replace("+", "%20")
            answer = await raw(
                client, f"GET {prefix}{sent} HTTP/1.1\r\nHost: t\r\nConnection: close\r\n\r\n".encode()
            )
            (row,) = await recorded(database)
            assert row.aff_sub == text, reason
            assert f"&sub={quote(text, safe='')}\r\n".encode() in answer, reason
            assert row.requested_link == f"http://t{prefix}{sent}", "as it was asked"


async def test_exported_rows_can_be_imported_and_found(database: Settings, importer: Importer) -> None:
    found = {text: reason for _, text, reason in VALUES}
    async with edge_of(database) as client:
        for sent, _, _ in VALUES:
            await client.get(f"/offer/3?affiliate_id=513&aff_sub={sent}&source={sent}")
    await click_writer.run(database, burst=True)
    async with api_of(database) as client:
        export = await client.get(f"{CLICKS}/export", params={"format": "csv"})
        rows = list(csv.DictReader(io.StringIO(export.text, newline="")))
        assert [row["aff_sub"] for row in reversed(rows)] == list(found)
        again = io.StringIO(newline="")
        writer = csv.writer(again)
        writer.writerow(
            ["legacy_id", "offer_id", "affiliate_id", "created_at", "aff_sub", "affiliate_source"]
        )
        writer.writerows(
            [row["id"], 3, 514, row["created_at"], row["aff_sub"], row["affiliate_source"]] for row in rows
        )
        done = await importer.run("clicks", importer.file("again.csv", again.getvalue()))
        assert (done.code, done.err) == (0, "")
        for sent, text, reason in VALUES:
            for asked in {quote(text, safe=""), sent if unquoted(sent) == text else quote(text)}:
                for name in ("aff_sub", "affiliate_source"):
                    listed = (await client.get(f"{CLICKS}?{name}={asked}")).json()["data"]
                    told = {(row["affiliate_id"], row[name]) for row in listed}
                    assert told == {(513, text), (514, text)}, (name, asked, reason)


async def test_file_in_another_code_page_is_read_as_a_link_is(importer: Importer) -> None:
    await importer.catalogue()
    head = b"legacy_id,offer_id,affiliate_id,created_at,aff_sub,external_id\n"
    rows = [
        b"c1,3,513,2024-07-08 13:40:00,%s,%s\n" % ("икра".encode("cp1251"), "café".encode("latin-1")),
        "c2,3,513,2024-07-08 13:40:00,икра,%E8\n".encode(),
    ]
    done = await importer.run("clicks", importer.file("clicks.csv", head + b"".join(rows)))
    assert (done.code, done.err) == (0, "")
    assert await importer.fetch("SELECT aff_sub, external_id FROM click ORDER BY aff_sub") == [
        ("%E8%EA%F0%E0", "caf%E9"),
        ("икра", "%E8"),
    ]


POSTBACKS = [
    ("GET", "adv_sub=%EE%EA", b"", "%EE%EA"),
    ("GET", "adv_sub=%25EE", b"", "%EE"),
    ("GET", "adv_sub=" + "%E4" * 200, b"", "%E4" * 166),
    ("POST", "", b"adv_sub=%EE%EA", "%EE%EA"),
    ("POST", "", b"adv_sub=\xee\xea+x", "%EE%EA x"),  # bytes as they are, which only a body may hold
]


async def test_postback_keeps_bytes_as_escapes(database: Settings) -> None:
    async with edge_of(database) as client:
        for method, query, body, text in POSTBACKS:
            headers = {"content-type": "application/x-www-form-urlencoded"} if body else {}
            path = f"/postback?click_id={HASH}&order_id=%E9&{query}"
            answer = await client.request(method, path, content=body, headers=headers)
            assert answer.status_code == 200
            (postback,) = await received(database)
            assert (postback.adv_subs[0], postback.order_id) == (text, "%E9"), (query, body)


async def test_affiliates_own_postback_gets_the_bytes(
    client: object, database: Settings, partner: FakeAffiliate
) -> None:
    wanted = {  # the text that is stored, to what is sent
        "%EE%EA%F0%E1": "%EE%EA%F0%E1",
        "ä%E4 x": "%C3%A4%E4%20x",
        "%C3%A4": "%25C3%25A4",
        "%41%": "%2541%25",
        "%ee": "%25ee",
        "%83e": "%83e",
    }
    subs = tuple(wanted)
    await run_sql(database, "DELETE FROM click")
    assert database.postgres_dsn
    connection = await connect(database.postgres_dsn)
    await clicks.prepare(connection)
    await store(connection, [a_row(a_click(aff_subs=subs))])
    await connection.close()
    query = "&".join(f"s{n}={{sub{n}}}" for n in range(1, len(subs) + 1))
    await asks(client, partner, query=query)  # type: ignore[arg-type]
    await converts(database)
    await send(database)
    (asked,) = partner.asked
    assert asked.target == "/in?" + "&".join(f"s{n}={sent}" for n, sent in enumerate(wanted.values(), 1))


def test_created_click_keeps_its_text() -> None:
    for text in ("%EE%EA", "ä%E4", "%41", "a+b&c"):
        click = NewClick(offer_id=3, affiliate_id=513, aff_sub=text)
        assert click.described(UTC).link.aff_subs[0] == text


async def test_explain_reads_bytes_of_a_terminal_as_a_link(importer: Importer) -> None:
    await importer.command("demo")
    link = os.fsdecode(b"http://t.test/offer/3?affiliate_id=513&aff_sub=\xee\xea&aff_sub2=%E1")
    told = json.loads((await importer.command("explain", link, "--json")).out)
    assert (told["link"]["aff_sub"], told["link"]["aff_sub2"]) == ("%EE%EA", "%E1")
    assert told["answer"]["location"].endswith("&sub=%25EE%25EA")
