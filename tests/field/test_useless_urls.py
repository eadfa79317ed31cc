"""URLs that could be saved but never worked as meant."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator

import pytest
from httpx import AsyncClient

from tests.integration.api_client import api_of, run_sql
from tests.integration.edge_client import edge_of
from tests.integration.importing import Importer, importer
from tests.integration.test_catalogue_command import Tracker, tracker
from tracker.ops.doctor import report
from tracker.settings import Settings
from tracker.store.catalogue.demo import load_demo

__all__ = ["importer", "tracker"]
pytestmark = pytest.mark.anyio

USERS = "/backend/open-api/v1/users"
POSTBACKS, URLS = "affiliates/513/postbacks", "offers/3/urls"
P = "https://p.example/in"

REFUSED = [
    (P + "?a=1&amp;c={hash}", "write & itself", "an ampersand in HTML's form"),
    (P + "?a=1&AMP;c={hash}", "write & itself", "in capitals"),
    (P + "?a=1&#38;c={hash}", "write & itself", "as a number"),
    (P + "?a=1&#x26;c={hash}", "write & itself", "as a hexadecimal one"),
    (P + "?a=1&amp;amp;c={hash}", "write & itself", "twice over"),
    (P + "?c=[click_id]", "write {click_id}", "brackets of another system"),
    (P + "/[CLICK_ID]/x", "write {click_id}", "in the path, in capitals"),
    (P + "?c=${aff_sub}", "write {aff_sub}", "as shells and JavaScript write it"),
    (P + "?c=%%SOURCE%%", "write {source}", "as Google's ad server writes it"),
    (P + "?c=#sub1#", "write {sub1}", "as Cake writes it"),
    (P + "?c=<hash>", "write {hash}", "as a manual writes it"),
    (P + "?c=__hash__", "write {hash}", "as TikTok writes it"),
    (P + "?c=!!!sub1!!!", "write {sub1}", "as Awin writes it"),
    (P + "?c={{hash}}", "unknown macro", "two braces"),
    (P + "?c={hash}\u200b", "(U+200B)", "a zero-width space, copied along"),
    ("https://p.example/\u2066in", "(U+2066)", "a mark of direction"),
    ("https://p..example/in", "two points", "a host with an empty part"),
    ("https://p.example:0/in", "port 0", "a port that nothing has"),
]
WARNED = [
    (P + "?c=#s1#", "#s1# is sent as it stands", "a macro of Cake that has no name here"),
    (P + "?c=[order]", "[order] is sent", "another system's, unknown here"),
    (P + "?c=%%ORDER%%", "%%ORDER%% is sent", "another's"),
    (P + "?c=__CLICKID__", "__CLICKID__ is sent", "TikTok's"),
    (P + "?c=%SUBID%", "%SUBID% is sent", "as Windows writes it"),
    (P + "?c=%7Baff_sub%7D", "write {aff_sub}", "its braces are percent-encoded"),
    (P + "?c=%257Bhash%257D", "write {hash}", "twice"),
    (P + "/%7Bclick_id%7D/x", "write {click_id}", "in the path"),
    (P + "?c=x-%7Bhash%7D", "write {hash}", "with something before it"),
    (P + "?c=%5Border%5D", "%5Border%5D is sent", "brackets, encoded"),
    ("http://10.0.0.1/in", "10.0.0.1", "a private address"),
    ("http://192.168.1.5/in", "192.168.1.5", "another"),
    ("http://127.0.0.1/in", "127.0.0.1", "loopback"),
    ("http://[fd00::1]/in", "fd00::1", "a private address of IPv6"),
    ("http://localhost/in", "localhost", "loopback by name"),
    ("http://tracker/in", "tracker", "a name without a dot"),
    ("http://tracker.internal/in", "tracker.internal", "a name for private use"),
    ("http://printer.local/in", "printer.local", "multicast DNS"),
    ("http://nas.lan/in", "nas.lan", "a name of home networks"),
    ("http://hidden.onion/in", "hidden.onion", "a name for one browser"),
    (P + "?c=(hash)", "write {hash}", "round brackets"),
    (P + "?c=@click_id@", "write {click_id}", "other marks"),
    (P + "?c=||AFF_SUB||", "write {aff_sub}", "two of them, in capitals"),
    (P + "?c=:source", "write {source}", "as SQL writes it"),
    (P + "?c=$hash", "write {hash}", "as PHP writes it"),
    (P + "?a=1&quot;", "&quot; is how HTML", "what is left of an attribute"),
    (P + "?c=\u201c{hash}\u201d", "an editor", "typographic quotes"),
    (P + "?a=1?c={hash}", "write & before it", "a second question mark"),
    (P + "&c={hash}", "write ? before it", "none at all"),
]  # fmt: skip
WARNED_OF_POSTBACKS = [
    (P + "?c={hash}#x", "what follows # is never sent", "a fragment stays with who asks"),
    ("https://p.example:8443/in", "port 8443", "a port that is never called"),
]
REFUSED_OF_POSTBACKS = [
    ("http://169.254.169.254/latest", "never called", "a cloud's credentials"),
    ("http://[fd00:ec2::254]/latest", "never called", "the same by IPv6"),
    ("http://100.100.100.200/latest", "never called", "another cloud's"),
]
FINE = [
    (P + "?c={hash}&s={aff_sub}", "macros of ours"),
    (P + "?filter[source]=1&ids[]=2", "fields that are lists, as PHP has them"),
    (P + "?u=https%3A%2F%2Fm.example%2F%3Fc%3D%7Bhash%7D", "a macro for the next tracker, in a URL within"),
    (P + "?price=%24{source}", "a sign before an amount"),
    (P + "?t=100%25&n=a%20b", "escapes"),
    (P + "?u=https://m.example/?c={hash}", "a URL within, as it stands"),
    (P + "?sort=date&by=(name)&at=:9", "words that are no macros in marks"),
    (P + "/caf\u00e9/\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645", "a word that needs its joiner"),
    (P + ";v=1/x&y", "an ampersand in a path"),
    ("https://8.8.8.8/in?c={hash}", "a public address"),
    ("https://sub.p.example:443/in", "the usual port"),
]


@pytest.fixture
async def client(database: Settings) -> AsyncIterator[AsyncClient]:
    assert database.postgres_dsn
    await load_demo(database.postgres_dsn)
    async with api_of(database, scopes=("offers:read", "offers:write")) as client:
        yield client


async def test_url_that_can_only_be_a_mistake_is_refused(client: AsyncClient) -> None:
    tries = [(path, *case) for case in REFUSED for path in (POSTBACKS, URLS)]
    for path, url, hint, reason in [*tries, *((POSTBACKS, *case) for case in REFUSED_OF_POSTBACKS)]:
        answer = await client.post(f"{USERS}/{path}", json={"url": url})
        assert answer.status_code == 422, (reason, answer.text)
        assert hint in answer.json()["errors"]["url"][0], reason
    for path in ("network", "offers/3", "offers/3/urls/1"):
        answer = await client.patch(f"{USERS}/{path}", json={"fallback_url": REFUSED[0][0]})
        assert (answer.status_code, list(answer.json()["errors"])) in ((422, ["fallback_url"]), (404, [])), (
            path
        )


async def test_url_that_will_not_work_is_warned_of(client: AsyncClient) -> None:
    tries = [(path, *case) for case in WARNED for path in (POSTBACKS, URLS)]
    for path, url, hint, reason in [*tries, *((POSTBACKS, *case) for case in WARNED_OF_POSTBACKS)]:
        answer = await client.post(f"{USERS}/{path}", json={"url": url})
        assert answer.status_code == 201, (reason, answer.text)
        warnings = answer.json()["warnings"]
        assert [hint in warning for warning in warnings] == [True], (reason, warnings)
        assert warnings[0].startswith("url: ")
        kept = (await client.get(answer.headers["location"])).json()
        assert (kept["url"], "warnings" in kept) == (url, False)


async def test_url_that_works_is_saved_in_silence(client: AsyncClient) -> None:
    for url, reason in FINE:
        for path in (POSTBACKS, URLS):
            answer = await client.post(f"{USERS}/{path}", json={"url": url})
            assert (answer.status_code, answer.json().get("warnings")) == (201, None), (
                path,
                reason,
                answer.text,
            )


async def test_free_value_with_a_macro_is_warned_of(client: AsyncClient) -> None:
    for n, value in enumerate(("x{hash}", "[click_id]", "${sub1}"), 6):
        answer = await client.post(f"{USERS}/offers/3/free-values", json={"n": n, "value": value})
        assert ["a free value has no macros" in warning for warning in answer.json()["warnings"]] == [True], (
            value
        )
    plain = await client.post(f"{USERS}/offers/3/free-values", json={"n": 5, "value": "winter"})
    assert "warnings" not in plain.json()


async def test_command_line_files_and_doctor_agree(
    tracker: Tracker, importer: Importer, database: Settings
) -> None:
    done = await tracker("affiliate-postbacks", "add", "513", "url=http://10.0.0.1/in?c=%7Baff_sub%7D")
    assert done.code == 0
    assert done.err.count("tracker: warning: url: ") == 2
    assert "TRACKER_POSTBACK_NETWORKS" in done.err
    done = await tracker("offer-urls", "add", "3", "url=https://ad.example/?a=1&amp;b={hash}")
    assert (done.code, "write & itself" in done.err) == (1, True)
    wanted = {"affiliates": [{"id": 513, "postbacks": [{"url": "https://p.example/?c=#s1#"}]}]}
    path = importer.file("more.json", json.dumps(wanted))
    imported = await importer.run("catalogue", path)
    assert (imported.code, "#s1# is sent as it stands" in imported.err) == (0, True)
    found = [finding for finding in await report.examine(database, "catalogue") if finding.level == "warn"]
    assert any("#s1# is sent as it stands" in finding.text for finding in found)
    assert any("10.0.0.1 is not a public address" in finding.text for finding in found)
    assert found[-1].advice == "see tracker doctor --upgrade"


async def test_saved_url_goes_on_to_be_served(client: AsyncClient, database: Settings) -> None:
    """Saved URLs stay, work as before, and do not prevent changes of other fields."""
    await run_sql(
        database,
        "UPDATE offer_url SET url = 'https://ad.example/?a=1&amp;c={hash}', weight = 1 WHERE offer_id = 3",
    )
    (url, *_) = (await client.get(f"{USERS}/offers/3/urls")).json()["data"]
    answer = await client.patch(f"{USERS}/offers/3/urls/{url['id']}", json={"weight": 2})
    assert (answer.status_code, answer.json().get("warnings")) == (200, None)
    async with edge_of(database, demo=False) as edge:
        answer = await edge.get("/offer/3?affiliate_id=513")
        assert answer.headers["location"].startswith("https://ad.example/?a=1&amp;c=0")
