"""Postbacks in the forms of other trackers: from the edge's port to the conversion, and the log of them."""

from __future__ import annotations

import asyncio
from io import StringIO
from typing import Any, NamedTuple

import orjson
import pytest

from tests.factories.clicks import a_click, a_row
from tests.field.advertiser import SECRET, Advertiser, advertiser_of
from tests.integration.api_client import api_of, run_sql, store
from tests.integration.edge_client import raw
from tests.integration.importing import Importer, importer
from tracker.api.conversions.postbacks import PATH as POSTBACKS
from tracker.domain.click_id import Mint
from tracker.ops.doctor import report
from tracker.settings import Settings
from tracker.stream.refused_postbacks import RefusedStream
from workers import conversion_writer, refused_log

__all__ = ["importer"]
pytestmark = pytest.mark.anyio

OF_SHOPFAST = "trs_of_shopfast"
FORMS = f"""
INSERT INTO advertiser_secret (advertiser_id, secret_hash) VALUES (2, sha256('{OF_SHOPFAST}'));
INSERT INTO status_word (advertiser_id, word, status) VALUES (1, 'lead', 'rejected'), (1, 'new sale', 'hold');
INSERT INTO postback_form (name, path, match, parameters, constants, "values", secret, advertiser_id) VALUES
    ('lsr', '/aff_lsr', '{{}}', '{{"amount": "sale_amount"}}', '{{}}', '{{}}', 'security_token', NULL),
    ('goal', '/aff_goal', '{{"a": "lsr"}}', '{{"goal_id": "goal"}}', '{{}}',
        '{{"goal": {{"17": "Deposit"}}}}', 'security_token', NULL),
    ('root', '/', '{{"nid": "*", "transaction_id": "*"}}', '{{"event_id": "event"}}',
        '{{}}', '{{"goal": {{"9": "lvl"}}, "currency": {{"2": "EUR"}}}}', 'verification_token', NULL),
    ('key', '/{{secret}}/postback', '{{}}', '{{"subid": "click_id", "tid": "order_id", "payout": "revenue"}}',
        '{{}}', '{{"status": {{"lead": "pending", "sale": "approved"}}}}', NULL, 1),
    ('final', '/final/{{click_id}}', '{{}}', '{{}}', '{{"status": "hold", "external_id": "moved"}}', '{{}}',
        NULL, NULL);
INSERT INTO link_form (path, constants) VALUES
    ('/{{source}}/{{aff_sub}}', '{{"offer_id": 3, "affiliate_id": 513}}'),
    ('/promo/postback', '{{"offer_id": 3, "affiliate_id": 513}}'),
    ('/', '{{"offer_id": 3, "affiliate_id": 513}}');
"""


class Told(NamedTuple):
    """The log's row of a postback."""

    result: str
    reason: str
    form: str | None
    parameters: dict[str, str]


async def prepared(advertiser: Advertiser) -> None:
    """The edge has the forms."""
    await advertiser.connection.execute(FORMS)
    while (await advertiser.edge.head("/final/x")).status_code != 200:
        await asyncio.sleep(0.01)


async def told(advertiser: Advertiser) -> Told:
    """The last postback in the log, once the writer has taken all."""
    await conversion_writer.run(advertiser.settings, burst=True)
    async with api_of(advertiser.settings, scopes=("conversions:read",)) as client:
        row = (await client.get(POSTBACKS, params={"per_page": "1"})).json()["data"][0]
    return Told(row["result"], row["reason"], row["form"], row["parameters"])


LIVE: list[tuple[str, str, tuple[int, str, str | None, str], dict[str, str]]] = [
    (
        f"/aff_lsr?transaction_id={{}}&security_token={SECRET}&amount=50",
        "lsr",
        (30, "approved", None, "2.00"),
        {"security_token": "(secret)", "amount": "50"},
    ),
    (
        f"/aff_goal?a=lsr&goal_id=17&transaction_id={{}}&security_token={SECRET}",
        "goal",
        (32, "approved", None, "10.00"),
        {"a": "lsr", "goal_id": "17"},
    ),
    (
        f"/?nid=77&transaction_id={{}}&event_id=9&order_id=A-1&token={SECRET}&currency=2",
        "root",
        (31, "approved", "A-1", "1.00"),
        {"nid": "77", "event_id": "9", "token": "(secret)"},
    ),
    (
        f"/{SECRET}/postback?subid={{}}&status=lead&tid=7&payout=4.50",
        "key",
        (30, "pending", "7", "2.00"),
        {"status": "lead", "tid": "7", "payout": "4.50"},
    ),
    (f"/{SECRET}/postback/?amp;subid={{}}&status=SALE", "key", (30, "approved", None, "2.00"), {}),
    (f"/{SECRET}/postback?subid={{}}&status=new%20sale", "key", (30, "hold", None, "2.00"), {}),
    (f"/{SECRET}/postback?subid={{}}&status=trash", "key", (30, "rejected", None, "2.00"), {}),
    (
        f"/final/{{}}?status=approved&hash=x&token={SECRET}",
        "final",
        (30, "hold", None, "2.00"),
        {"hash": "x"},
    ),
]


async def test_live_postbacks_of_other_trackers_make_conversions(database: Settings) -> None:
    async with advertiser_of(database) as advertiser:
        await prepared(advertiser)
        for target, form, made, came in LIVE:
            click = await advertiser.click()
            answer = await advertiser.edge.get(target.format(click))
            assert (answer.status_code, answer.json()) == (200, {"status": "success"}), target
            logged = await told(advertiser)
            assert (logged.result, logged.form) == ("stored", form), (target, logged)
            assert logged.parameters.items() >= came.items(), target
            columns = "goal_id, status, order_id, trim_scale(payout)::numeric(9, 2)::text"
            assert await advertiser.conversions(columns, click) == [made], target
        rows = await advertiser.fetch("SELECT form::text, parameters::text, request FROM postback")
        assert SECRET not in str(rows)


async def test_postback_in_a_form_may_be_a_post_in_any_body(database: Settings) -> None:
    async with advertiser_of(database) as advertiser:
        await prepared(advertiser)
        for n, body in enumerate(({"data": {}}, {"json": {}}, {"files": {}})):
            click, order = await advertiser.click(), f"B-{n}"
            (kind,) = body
            sent: dict[str, Any] = {"subid": click, "status": "lead", "tid": order}
            fields = {name: (None, text) for name, text in sent.items()} if kind == "files" else sent
            answer = await advertiser.edge.post(f"/{SECRET}/postback", **{kind: fields})  # type: ignore[arg-type]
            assert answer.status_code == 200, kind
            assert (await told(advertiser)).parameters == sent, kind
            assert await advertiser.conversions("status, order_id", click) == [("pending", order)], kind


GUESS = "guess-the-key-000"
UNKNOWN = "403: token is not an advertiser's"
REFUSED: list[tuple[str, str, int, str, str, dict[str, str]]] = [
    ("GET", f"/aff_lsr?amount=5&token={SECRET}", 422, "lsr", "422: click_id is missing", {"amount": "5"}),
    ("GET", f"/aff_lsr?hash=5&security_token={GUESS}", 403, "lsr", UNKNOWN, {"security_token": "(secret)"}),
    ("GET", f"/{GUESS}/postback?subid=5", 403, "key", UNKNOWN, {"subid": "5"}),
    ("GET", f"/{OF_SHOPFAST}/postback?subid=5", 403, "key", "403: token is of another", {"subid": "5"}),
    ("PUT", f"/{SECRET}/postback?subid=5", 405, "key", "405: Method not allowed", {"subid": "5"}),
    ("GET", "/final/5?status=approved&status=x&adv_sub=trs_x", 200, "", "", {}),
    ("GET", f"/{SECRET}/postback?subid=5&status=huh", 422, "key", "422: status must be", {"status": "huh"}),
    ("GET", "/?nid=1&transaction_id={TRANSACTION_ID}", 422, "root", "422: click_id is missing", {"nid": "1"}),
]


async def test_refused_postback_in_a_form_is_logged_as_it_came_without_secrets(database: Settings) -> None:
    async with advertiser_of(database) as advertiser:
        await prepared(advertiser)
        assert advertiser.settings.redis_url
        kept: list[tuple[Any, ...]] = []
        async with RefusedStream(advertiser.settings.redis_url) as stream:
            for method, target, status, form, reason, came in REFUSED:
                answer = await advertiser.edge.request(method, target)
                assert answer.status_code == status, target
                if status == 405:
                    assert answer.headers["allow"] == "GET, HEAD, POST"
                if not form:
                    continue
                query = (
                    "SELECT form ->> 'name', reason, parameters::text, request FROM postback"
                    " WHERE result = 'refused' ORDER BY hash"
                )
                while len(rows := await advertiser.fetch(query)) <= len(kept):
                    await refused_log.once(advertiser.settings, stream)
                    await asyncio.sleep(0.05)
                kept = rows
                assert rows[-1][0] == form, target
                assert rows[-1][1].startswith(reason), target
                assert orjson.loads(rows[-1][2]).items() >= came.items(), target
        findings = [one.text for one in await report.examine(database, "postbacks")]
        assert any(
            "403: token is not an advertiser's, or has expired (form key)" in text for text in findings
        )
        assert not any(hidden in str(kept) for hidden in (SECRET, OF_SHOPFAST, GUESS))


async def test_form_names_the_tracker_whose_click_ids_come(database: Settings) -> None:
    async with advertiser_of(database) as advertiser:
        await prepared(advertiser)
        await advertiser.connection.execute("UPDATE postback_form SET source = 'tune' WHERE name = 'goal'")
        clicks = [await advertiser.click() for _ in range(2)]
        for click, source in zip(clicks, ("tune", "other"), strict=True):
            row = "INSERT INTO legacy_click (legacy_id, hash, source) VALUES ('77', $1, $2)"
            await advertiser.connection.execute(row, click, source)
        await advertiser.edge.get(f"/aff_lsr?transaction_id=77&token={SECRET}")
        assert (await told(advertiser)).result == "rejected"  # of both, and any guess could be wrong
        while not await advertiser.conversions("id", clicks[0]):  # until the edge knows the source
            await advertiser.edge.get(f"/aff_goal?a=lsr&transaction_id=77&token={SECRET}")
            await told(advertiser)
        assert await advertiser.conversions("id", clicks[1]) == []


async def test_form_of_a_held_postback_is_kept_with_it(database: Settings) -> None:
    async with advertiser_of(database) as advertiser:
        await prepared(advertiser)
        click = await advertiser.click()
        await advertiser.edge.get(f"/{SECRET}/postback?subid={click}&status=lead&goal=later")
        assert (await told(advertiser))[:3] == ("held", "unknown goal", "key")
        await advertiser.connection.execute("DELETE FROM postback_form")
        await advertiser.connection.execute("UPDATE goal SET code = 'later' WHERE id = 32")
        logged = await told(advertiser)
        assert (logged.result, logged.form, logged.parameters["subid"]) == ("stored", "key", click)
        assert await advertiser.conversions("goal_id, status", click) == [(32, "pending")]  # as the form said


async def test_links_and_other_paths_stay_what_they_are(database: Settings) -> None:
    async with advertiser_of(database) as advertiser:
        await prepared(advertiser)
        for target, status in (
            ("/aff_goal?a=other&transaction_id=5", 404),
            ("/promo/postback", 302),  # a link form with more fixed segments
            ("/promo/other", 302),
            ("/?nid=5", 302),
            ("/offer/3?affiliate_id=513", 302),
        ):
            assert (await advertiser.edge.get(target)).status_code == status, target
        answer = await raw(
            advertiser.edge, b"GET /aff_lsr?hash=x HTTP/1.1\r\nHost: go.test\r\nConnection: close\r\n\r\n"
        )
        assert answer.startswith(b"HTTP/1.1 200")


CLICK = Mint().hash()
TRIED: list[tuple[str, dict[str, Any]]] = [
    (
        f"https://go.test/{SECRET}/postback?subid={CLICK}&status=lead&tid=7",
        {
            "form": "key",
            "secret_of": "advertiser 1",
            "read_as": {"click_id": CLICK, "status": "pending", "order_id": "7"},
            "result": "stored",
            "reason": "",
        },
    ),
    (f"https://go.test/aff_lsr?hash={CLICK}", {"result": "rejected", "secret_of": None, "form": "lsr"}),
    (f"https://go.test/postback?hash={CLICK}&token={SECRET}", {"result": "stored", "form": None}),
    (f"https://go.test/{GUESS}/postback?subid=5", {"result": "refused", "http_status": 403}),
    ("http://go.test?nid=1&transaction_id=", {"form": "root", "http_status": 422}),
]


async def test_command_shows_what_a_postback_would_do(
    importer: Importer, monkeypatch: pytest.MonkeyPatch
) -> None:
    await importer.command("demo")
    await importer.fetch("UPDATE goal SET payout = 2 WHERE offer_id = 3")
    await store(importer.settings, [a_row(a_click(hash=CLICK))])
    await run_sql(importer.settings, FORMS)
    key = f"INSERT INTO advertiser_secret (advertiser_id, secret_hash) VALUES (1, sha256('{SECRET}'))"
    await run_sql(importer.settings, key)
    for url, expected in TRIED:
        tried = await importer.command("postbacks", "--try", url, "--json")
        assert tried.code == 0, tried
        assert tried.json.items() >= expected.items(), (url, tried.out)
    monkeypatch.setattr("sys.stdin", StringIO(f"{TRIED[0][0]}\n"))
    in_words = (await importer.command("postbacks", "--try", "-")).out
    assert "form: key" in in_words
    assert "  status: pending" in in_words
    assert SECRET not in in_words
    for url in (
        *("https://go.test/aff_goal?hash=5", "/postback?hash=5", "https://go.test/promo/postback"),
        "https://[go.test/postback?hash=5",
    ):
        wrong = await importer.command("postbacks", "--try", url)
        assert (wrong.code, wrong.out) == (1, ""), url
    kept = "SELECT (SELECT count(*) FROM conversion), (SELECT count(*) FROM postback)"
    assert await importer.fetch(kept) == [(0, 0)]


async def test_form_proves_nothing_and_its_advertiser_only_narrows(database: Settings) -> None:
    async with advertiser_of(database) as advertiser:
        await prepared(advertiser)
        click = await advertiser.click()
        for target, reason in (
            (f"/aff_lsr?transaction_id={click}", "neither a secret nor an address of the advertiser"),
            (f"/aff_lsr?transaction_id={click}&token={OF_SHOPFAST}", "the secret is of another advertiser"),
        ):
            assert (await advertiser.edge.get(target)).status_code == 200
            assert (await told(advertiser))[:2] == ("rejected", reason)
        await advertiser.connection.execute("UPDATE postback_form SET advertiser_id = 2 WHERE name = 'lsr'")
        await advertiser.connection.execute("UPDATE advertiser SET postback_check = 'none'")
        while (await advertiser.edge.get(f"/aff_lsr?hash={click}&token={SECRET}")).status_code == 200:
            await asyncio.sleep(0.01)
        await conversion_writer.run(advertiser.settings, burst=True)
        await advertiser.connection.execute("DELETE FROM conversion_change")
        await advertiser.edge.get(f"/aff_lsr?transaction_id={click}")
        assert (await told(advertiser))[:2] == ("rejected", "the form is of another advertiser")


# Link forms that are there, and paths with the same meaning: encoded, or with another placeholder.
TAKEN = [
    ("/aff_c", ["/aff%5Fc", "/aff_c/", "/%61ff_c"]),
    ("/b%2Dc", ["/b-c", "/b%2dc"]),
    ("/go/{aff_sub}", ["/go/{hash}", "/go/%7Bhash%7D", "/g%6F/{hash}"]),
    ("/to/%7Baff_sub%7D", ["/to/{hash}", "/to/%7Bhash%7D"]),
]


async def test_path_of_links_is_not_claimed_by_another_spelling(database: Settings) -> None:
    constants = {"offer_id": 3, "affiliate_id": 513}
    users = "/backend/open-api/v1/users"
    async with api_of(database, scopes=("offers:read", "offers:write", "money:write")) as client:
        for path, others in TAKEN:
            made = await client.post(f"{users}/link-forms", json={"path": path, "constants": constants})
            assert made.status_code == 201, made.text
            for other in others:
                form = await client.post(f"{users}/postback-forms", json={"name": other, "path": other})
                assert (form.status_code, list(form.json()["errors"])) == (422, ["path"]), (path, other)
                of_links = other.replace("hash", "source")
                again = await client.post(
                    f"{users}/link-forms", json={"path": of_links, "constants": constants}
                )
                assert again.status_code in (409, 422), (path, of_links)
            of_host = {"path": path, "constants": constants, "host": "go.test"}
            assert (await client.post(f"{users}/link-forms", json=of_host)).status_code == 201
            same = await client.patch(f"{users}/link-forms/{made.json()['id']}", json={"name": "Kept"})
            assert same.status_code == 200, same.text
