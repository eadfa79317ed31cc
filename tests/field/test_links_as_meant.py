"""Links changed by mail programs, chats and pages."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.integration.api_client import api_of, run_sql
from tests.integration.edge_client import edge_of, raw, recorded
from tests.integration.importing import Importer, importer
from tests.integration.metrics_client import metrics_of
from tracker.settings import Settings
from tracker.store.catalogue.demo import load_demo

__all__ = ["importer"]
pytestmark = pytest.mark.anyio

EXPLAIN = "/backend/open-api/v1/explain"

AMP = [
    ("affiliate_id=513&amp;aff_sub=x", "x", "the page's own &amp; was not read"),
    ("aff_sub=x&amp;affiliate_id=513", "x", "also for what decides"),
    ("affiliate_id=513&amp;amp;aff_sub=x", "x", "written into a page twice"),
    ("affiliate_id=513&amp;amp;amp;sub1=x", "x", "three times, and by an alias"),
    ("affiliate_id=513&amp;aff_sub=y&aff_sub=x", "x", "a plain name wins, also behind its twin"),
    ("affiliate_id=513&aff_sub=&amp;aff_sub=y", "", "also an empty one"),
    ("amp;affiliate_id=599&affiliate_id=513&aff_sub=x", "x", "also for what decides"),
    ("affiliate_id=513&amp;aff_sub=x&amp;aff_sub=y", "x", "of twins the first"),
    ("affiliate_id=513&amp%3Baff_sub=x", "x", "a mail gateway has encoded the name"),
    ("affiliate_id=513&AMP;aff_sub=x", "x", "in capitals, as HTML knows it, too"),
    ("affiliate_id=513&%23038;aff_sub=x", "x", "as a number, as WordPress writes it"),
    ("affiliate_id=513&%2338;amp;aff_sub=x", "x", "both"),
    ("affiliate_id=513&%23x26;aff_sub=x", "x", "as a hexadecimal number"),
    ("affiliate_id=513&amp;fbclid=1&amp;aff_sub=x", "x", "unknown names stay unknown"),
    ("affiliate_id=513&aff_sub=a&amp;b", "a", "what is in a value's place stays out of it"),
    ("affiliate_id=513&amp=1&aff_sub=x", "x", "a parameter of that name is no mark"),
]


async def test_names_with_the_mark_of_a_page_are_read_strictly(database: Settings) -> None:
    async with edge_of(database) as client:
        for query, sub, reason in AMP:
            answer = await client.get(f"/offer/3?{query}")
            rows = await recorded(database)
            assert (answer.status_code, [row.aff_sub for row in rows]) == (302, [sub]), (query, reason)
            assert [row.affiliate_id for row in rows] == [513], query
            assert rows[0].requested_link == f"{client.base_url}/offer/3?{query}"
        assert await leniently(database) == 0, "it is the first reading"


LENIENT = [
    ("/offer/3?affiliate_id=513.", "", "the full stop of a sentence"),
    ("/offer/3?affiliate_id=513)", "", "a link in brackets"),
    ("/offer/3?affiliate_id=513%29.", "", "both, percent-encoded"),
    ("/offer/3?affiliate_id=513%20", "", "a blank copied along"),
    ("/offer/3?affiliate_id=513+", "", "the same as a form writes it"),
    ("/offer/3?affiliate_id=+513", "", "before it"),
    ("/offer/3?affiliate_id=513%C2%A0", "", "a no-break space"),
    ("/offer/3?affiliate_id=513%A0", "", "the same in a Windows code page"),
    ("/offer/3?affiliate_id=513%E2%80%8B", "", "a zero-width space"),
    ("/offer/3?affiliate_id=%EF%BB%BF513", "", "a byte order mark"),
    ("/offer/3?affiliate_id=%22513%22", "", "quotes"),
    ("/offer/3?affiliate_id=513%E2%80%9D", "", "a typographic one"),
    ("/offer/3?affiliate_id='513'", "", "single ones"),
    ("/offer/3?affiliate_id=513%3E", "", "<link>"),
    ("/offer/3?affiliate_id=513]", "", "[link]"),
    ("/offer/3?affiliate_id=513,", "", "a comma"),
    ("/offer/3?affiliate_id=513;&aff_sub=x", "x", "a semicolon"),
    ("/offer/3?affiliate_id=513/", "", "a slash that a client has added"),
    ("/offer/3?affiliate_id=513%E3%80%82", "", "a Chinese full stop"),
    ("/offer/3?affiliate_id=3D513&aff_sub=x", "x", "quoted-printable that was not decoded"),
    ("/offer/3).?affiliate_id=513", "", "around the offer, too"),
    ("/offer/3%20?affiliate_id=513", "", "around the offer, too"),
    ("/offer/3//?affiliate_id=513", "", "around the offer, too"),
    ("//offer/3?affiliate_id=513", "", "a base address that ended in a slash"),
    ("/offer//3?affiliate_id=513", "", "the same further in"),
    ("//backend//api/v3/offer/3/?aff_id=513&sub1=x", "x", "the other path"),
    ("/offer/3?affiliate_id=513?aff_sub=x", "x", "a second question mark"),
    ("/offer/3??affiliate_id=513&aff_sub=x", "x", "right behind the first"),
    ("/offer/3?affiliate_id=513?fbclid=IwAR0&aff_sub=x", "x", "as some sites add their own parameters"),
    ("/offer/3?affiliate_id=513?utm_source=a?aff_sub=x", "x", "more than one"),
    ("/offer/3?aff_sub=x?affiliate_id=513", "x", "the id behind it"),
    ("/offer/3?affiliate_id=513?", "", "nothing behind it"),
    ("/offer/3?AFFILIATE_ID=513&aff_sub=x", "x", "case of names"),
    ("/offer/3?Affiliate_Id=513&Aff_Sub=X", "X", "case of names, not of values"),
    ("/offer/3?AFF_ID=513&AMP;AFF_SUB=x", "x", "both"),
    ("/offer/3?affiliate_id=&affiliate_id=513", "", "the first of repeated values that is not empty"),
    ("/offer/3?aff_id=&affiliate_id=513.&aff_sub=&aff_sub=x", "x", "the same with an alias, and for a sub"),
    ("/offer/3?affiliate_id=%20&affiliate_id=513", "", "a blank is as good as empty"),
    ("/offer/3?affiliate_id=513&affiliate_id=513.", None, "the strict reading comes first"),
    ("/offer/3?affiliate_id=513.&affiliate_id=513", "", "the same id twice is one"),
    ("/offer/3?affiliate_id=513.&aff_sub=a%EE?b", "a%EE?b", "a value keeps its question mark"),
    ("/offer/3?affiliate_id=513%E2%80%A6", "", "an ellipsis"),
    ("/offer/3?affiliate_id=513%85", "", "the same in a Windows code page"),
    ("/offer/3?affiliate_id=%93513%94", "", "its quotes"),
    ("/offer/3?affiliate_id=513%BB", "", "the quote of Latin-1"),
    ("/offer/3?affiliate_id=513!", "", "an exclamation mark"),
    ("/offer/3?affiliate_id=513%D8%9F", "", "an Arabic question mark"),
    ("/offer/3?affiliate_id=513%E0%A5%A4", "", "a Hindi full stop"),
    ("/offer/3?affiliate_id=513%EF%BC%81", "", "a mark in full width"),
    ("/offer/3?affiliate_id=%E2%81%A6513%E2%81%A9", "", "marks of direction, as chats put around a link"),
    ("/offer/3?affiliate_id=513%E2%80%8E", "", "another one"),
    ("/offer/3?affiliate_id=513%C2%AD", "", "a soft hyphen"),
    ("/offer/3?affiliate_id=513%EF%B8%8F", "", "what is left of an emoji"),
    ("/offer/3?affiliate_id=513%F0%9F%91%88", "", "an emoji"),
    ("/offer/3?affiliate_id=513%EF%BF%BD", "", "what somebody could not read"),
    ("/offer/3?affiliate_id=513**", "", "bold type in a chat"),
    ("/offer/3?affiliate_id=513_", "", "italics in a chat"),
    ("/offer/3?affiliate_id=513|&aff_sub=x", "x", "a table's border"),
    ("/offer/3?affiliate_id=513%5C", "", "a backslash of a string"),
    ("/offer/3?affiliate_id=513%3C/a%3E", "", "the end of an element of HTML"),
    ("/offer/3?affiliate_id=513%22%3E%3C/a%3E", "", "with that of an attribute"),
    ("/offer/3?affiliate_id=513%3Cbr%20/%3E", "", "the end of a line"),
    ("/offer/3?affiliate_id=3D513=&aff_sub=x", "x", "quoted-printable, broken at a line's end"),
    ("/offer/3?affiliate_id=3d3D513", "", "quoted-printable twice"),
    ("/offer/3?affiliate_id=%3D513", "", "the mark itself"),
    ("/offer/3?affiliate_id=%253D513%2520", "", "percent-encoded twice, as what is around an id"),
    ("/offer/3?affiliate_id=513%23top", "", "a fragment that was percent-encoded"),
    ("/offer/3?affiliate_id=513%3Faff_sub=x", "x", "a second question mark, percent-encoded"),
    ("/offer/3?affiliate_id=513%26aff_sub=a%2526b", "a&b", "an ampersand, percent-encoded"),
    ("/offer/3?affiliate_id%3D513%26aff_sub%3Da%2526b", "a&b", "the whole query once more"),
    ("/offer/3?affiliate_id%253D513%2526aff_sub%253Dx", "x", "twice more"),
    ("/offer/3?aff_sub=x&affiliate_id%3D513", "x", "one part of it"),
    ("/offer/3%3Faffiliate_id=513&aff_sub=a%2Bb", "a+b", "the question mark alone"),
    ("/offer/3%3faffiliate_id%3d513%26aff_sub%3da%252Bb", "a+b", "all that follows the offer"),
    ("/offer/3/%3Faffiliate_id=513?fbclid=1", "", "and a second query behind it"),
    ("/offer/3&affiliate_id=513&aff_sub=x", "x", "added as if there were a query"),
    ("/offer/3;jsessionid=A1.n2?affiliate_id=513", "", "a server's session in the path"),
    ("/offer/3?affiliate_id=513;jsessionid=A1.n2&aff_sub=x", "x", "and in the query"),
    ("/offer/3?affiliate_id=513;aff_sub=x", "x", "a semicolon for an ampersand"),
    ("/offer/3?+affiliate_id=513&%20aff_sub=x", "x", "a blank before a name"),
    ("/offer/3?%E2%80%8Baffiliate_id%20=513", "", "a zero-width space before it, a blank behind it"),
]


async def test_links_are_read_as_they_were_meant_where_they_lead_nowhere_else(database: Settings) -> None:
    counted = 0
    async with edge_of(database) as client:
        for target, sub, reason in LENIENT:
            counted += sub is not None
            head = await raw(client, request_of("HEAD", target))
            assert head.startswith(b"HTTP/1.1 302 "), (target, reason)
            assert await recorded(database) == [], "HEAD records nothing"
            answer = await raw(client, request_of("GET", target))
            rows = await recorded(database)
            assert answer.startswith(b"HTTP/1.1 302 "), (target, reason)
            told = [(row.offer_id, row.affiliate_id, row.aff_sub, row.status) for row in rows]
            assert told == [(3, 513, sub or "", "accepted")], (target, reason)
            assert urlsplit(rows[0].requested_link).netloc == "t"
            assert rows[0].requested_link == f"http://t{target}", "as it was asked"
        assert await leniently(database) == counted
        assert 'orphans_total{edge="0"} ' not in await metrics_of(database)


STAY_UNKNOWN = [
    ("/offer/3?affiliate_id=777.", "no affiliate has it"),
    ("/offer/99?affiliate_id=513.", "no offer has it"),
    ("/offer/3?affiliate_id=5.13", "inside an id nothing is removed"),
    ("/offer/3?affiliate_id=5 13".replace(" ", "%20"), "inside an id nothing is removed"),
    ("/offer/3?affiliate_id=513a", "a letter is no mark"),
    ("/offer/3?affiliate_id=-513", "a minus is no mark"),
    ("/offer/3?affiliate_id=(513)", "an opening bracket is no part of a sentence's end"),
    ("/offer/3?affiliate_id=0513", "a leading zero is another text"),
    ("/offer/3?affiliate_id=513.&affiliate_id=598", "two different ids"),
    ("/offer/3)?affiliate_id=513&aff_id=598", "two different ids by two names of one thing"),
    ("/offer/3)?affiliate_id=513&url_id=132&url_id=133", "two different ids"),
    ("/offer/3?affiliate_id=abc&affiliate_id=513", "the first that is not empty is the one"),
    ("/offer/3.4?affiliate_id=513", "inside an id nothing is removed"),
    ("/offer/3/4?affiliate_id=513", "inside an id nothing is removed"),
    ("/OFFER/3?affiliate_id=513", "a path is not a name"),
    ("/nowhere//offer/3?affiliate_id=513", "not a link's path"),
    ("/offer/3?affiliate_id=", "nothing is given"),
    ("/offer/3?offer_id=3?affiliate=513", "not one of the names"),
    ("/offer/?offer_id=3.&affiliate_id=513", "the offer stands in the path"),
    ("/offer/3?affiliate_id=513-", "a minus is no mark"),
    ("/offer/3?affiliate_id=<513>", "an opening bracket is no part of a sentence's end"),
    ("/offer/3?affiliate_id=5%E2%80%8B13", "inside an id nothing is removed"),
    ("/offer/3?affiliate_id=513,598", "two ids"),
    ("/offer/3?affiliate_id=513%20or%20so", "words behind it are no mark"),
    ("/offer/3?affiliate_id=513%D0%BE", "nor is a letter of another script"),
    ("/offer/3?affiliate_id=513%EE", "nor one of another code page"),
    ("/offer/3?affiliate_id=%EF%BC%95%EF%BC%91%EF%BC%93", "other digits are other texts"),
    ("/offer/3?affiliate_id=513%26affiliate_id%3D598", "two different ids"),
    ("/offer/3%3Faffiliate_id=513?affiliate_id=598", "two different ids"),
    ("/offer/3?aff_sub=a%26affiliate_id%3D513", "a value is not opened"),
    ("/offer/3?url=https%3A%2F%2Fs.test%2F%3Faffiliate_id%3D513", "least of all an address"),
    ("/offer/3?next=https%3A%2F%2Fs.test%2F%3Fa%26affiliate_id%3D513", "also of an unknown name"),
    ("/offer/3?affiliate_id%252525253D513", "percent-encoded time and again"),
]


async def test_links_that_name_nothing_known_stay_unknown(database: Settings) -> None:
    async with edge_of(database) as client:
        for target, reason in STAY_UNKNOWN:
            for method in ("GET", "HEAD"):
                answer = await raw(client, request_of(method, target))
                assert answer.startswith(b"HTTP/1.1 404 "), (method, target, reason)
        assert await recorded(database) == []
        assert await leniently(database) == 0


async def test_links_of_a_form_and_test_links_are_read_strictly(database: Settings) -> None:
    await change_demo(
        database,
        """INSERT INTO link_form (path, parameters) VALUES ('/click', '{"pid": "affiliate_id"}');"""
        """INSERT INTO link_form (path) VALUES ('/go/{offer_id}/{affiliate_id}')""",
    )
    async with edge_of(database) as client:
        for target, status in [
            ("/click?pid=513&offer_id=3", 302),
            ("/click?pid=513&amp;offer_id=3", 302),
            ("/click?pid=513.&offer_id=3", 404),
            ("/click?PID=513&offer_id=3", 404),
            ("/go/3/513", 302),
            ("/go/3/513.", 404),
            ("/offer/3?affiliate_id=513.&test=1800000000.00000000000000000000", 404),
            ("/offer/3%3Faffiliate_id=513&test=1800000000.00000000000000000000", 404),
            ("/offer/3?affiliate_id=513%26test%3D1800000000.00000000000000000000", 404),
            ("/offer/3?affiliate_id=513.&TEST=1800000000.00000000000000000000", 404),
        ]:
            answer = await raw(client, request_of("GET", target))
            assert answer.startswith(b"HTTP/1.1 %d " % status), target
        assert await leniently(database) == 0


async def test_network_fallback_gets_only_unknown_links(database: Settings) -> None:
    await change_demo(database, "UPDATE deployment SET fallback_url = 'https://fallback.test/'")
    async with edge_of(database) as client:
        assert "ad.example" in (await client.get("/offer/3?affiliate_id=513.")).headers["location"]
        assert (await client.get("/offer/3?affiliate_id=5.13")).headers[
            "location"
        ] == "https://fallback.test/"
        assert len(await recorded(database)) == 1


EXPLAINED: list[tuple[str, dict[str, Any]]] = [
    ("http://t.test/offer/3?affiliate_id=513", {"affiliate_id": 513, "read_leniently": None, "status": 302}),
    ("http://t.test/offer/3?a=1&amp;affiliate_id=513", {"read_leniently": None, "status": 302}),
    ("http://t.test/offer/%33?affiliate_id=513", {"read_leniently": None, "status": 302}),
    ("http://t.test//offer/3%20?AFF_ID=513.", {"affiliate_id": 513, "read_leniently": True, "status": 302}),
    ("http://t.test/offer/3%3Faff_id%3D513", {"affiliate_id": 513, "read_leniently": True, "status": 302}),
    ("http://t.test/offer/3)?affiliate_id=513&affiliate_id=598", {"read_leniently": None, "status": 404}),
    ("http://t.test/offer/3?affiliate_id=5.13", {"read_leniently": None, "status": 404}),
]


async def test_explain_reads_links_as_the_edge_does(database: Settings, importer: Importer) -> None:
    async with edge_of(database) as edge, api_of(database, scopes=("offers:read",)) as client:
        for url, wanted in EXPLAINED:
            target = url.removeprefix("http://t.test")
            live = await raw(edge, request_of("HEAD", target))
            assert live.startswith(b"HTTP/1.1 %d " % wanted["status"]), url
            by_api = (await client.get(EXPLAIN, params={"url": url})).json()
            by_command = json.loads((await importer.command("explain", url, "--json")).out)
            for told in (by_api, by_command):
                found = {"read_leniently": told.get("read_leniently"), **told["link"]}
                found["status"] = told["answer"]["http_status"]
                assert {name: found.get(name) for name in wanted} == wanted, url


async def change_demo(database: Settings, statement: str) -> None:
    assert database.postgres_dsn
    await load_demo(database.postgres_dsn)
    await run_sql(database, statement)


def request_of(method: str, target: str) -> bytes:
    return f"{method} {target} HTTP/1.1\r\nHost: t\r\nConnection: close\r\n\r\n".encode()


async def leniently(settings: Settings) -> int:
    lines = (await metrics_of(settings)).splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith("tracker_lenient_links_total{"))
