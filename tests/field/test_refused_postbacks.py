"""Refused postbacks are logged with parameters and reason, without secrets."""

from __future__ import annotations

import asyncio
import json
import logging
from hashlib import sha256
from typing import Any
from urllib.parse import quote

import pytest

from tests.field.advertiser import SECRET, Advertiser, advertiser_of
from tests.integration.api_client import api_of
from tracker import cli
from tracker.api.conversions.postbacks import PATH as POSTBACKS
from tracker.domain.postback import PARAMETERS
from tracker.edge.catalogue.advertiser_secrets import AdvertiserSecrets
from tracker.ops.doctor import report
from tracker.settings import Settings
from tracker.store.conversions import refused
from tracker.stream.client import open_client
from tracker.stream.refused_postbacks import RefusedStream
from workers import refused_log

pytestmark = pytest.mark.anyio

FORM = "application/x-www-form-urlencoded"


async def logged(advertiser: Advertiser, number: int) -> list[tuple[Any, ...]]:
    """The refused postbacks in the log, oldest first, once there are `number`."""
    assert advertiser.settings.redis_url
    async with RefusedStream(advertiser.settings.redis_url) as stream:
        while True:
            await refused_log.once(advertiser.settings, stream)
            rows = await advertiser.fetch(
                "SELECT reason, request, parameters, advertiser_id, source FROM postback"
                " WHERE result = 'refused' ORDER BY hash"
            )
            if len(rows) >= number:
                return [(*row[:2], json.loads(row[2]), *row[3:]) for row in rows]
            await asyncio.sleep(0.05)


def calls(click: str) -> list[tuple[str, str, dict[str, Any], str, dict[str, str], int | None]]:
    """Method, target and body, then the logged reason, parameters and advertiser."""
    json_ = {"content-type": "application/json"}
    xml = {"content-type": "application/xml"}
    return [
        ("GET", "/postback?order_id=5", {}, "422: click_id is missing", {"order_id": "5"}, None),
        (
            *("GET", f"/postback?click_id={click}&status=lead&token=", {}, "422: status must be one of"),
            *({"click_id": click, "status": "lead", "token": ""}, 1),
        ),
        (
            *("GET", f"/postback?click_id={click}&token=wrong&x=y", {}, "403: token is not an advertiser's"),
            *({"click_id": click, "token": "(secret)", "x": "y"}, 1),
        ),
        ("GET", f"/postback?order_id={'A' * 501}&token={SECRET}", {}, "422: order_id is longer", {}, 1),
        ("PUT", f"/postback?click_id={click}", {}, "405: Method not allowed", {"click_id": click}, 1),
        ("POST", f"/pixel?click_id={click}", {}, "405: Method not allowed", {"click_id": click}, 1),
        (
            *("POST", f"/postback?click_id={click}", {"content": "<status>paid</status>", "headers": xml}),
            *("415: Send a body of", {"click_id": click, "body": "<status>paid</status>"}, 1),
        ),
        (
            *("POST", "/postback", {"content": '{"click_id": "x"', "headers": json_}),
            *("422: body is not JSON", {"body": '{"click_id": "x"'}, None),
        ),
        ("POST", "/postback", {"content": "a=" + "b c" * 30_000}, "413: The body is longer", {}, None),
        ("GET", f"/postback?click_id={click}&y={'z ' * 3000}", {}, "414: The address is too long", {}, 1),
        ("GET", f"/api/v3/goal/?hash={click}", {}, "422: goal_id is missing", {"hash": click}, 1),
        ("GET", "/pixel?amp;tid=5", {}, "422: click_id is missing", {"tid": "5"}, None),
    ]


async def test_refused_postback_is_logged_with_its_parameters(database: Settings) -> None:
    async with advertiser_of(database) as advertiser:
        before = len(await logged(advertiser, 1))  # the calls that checked the secret
        click = await advertiser.click()
        table = calls(click)
        for method, target, body, *_ in table:
            await advertiser.edge.request(method, target, **body)
        await advertiser.edge.head("/postback")  # says nothing, so it is not logged
        rows = (await logged(advertiser, before + len(table)))[before:]
        assert len(rows) == len(table)
        for (method, target, _, why, said, owner), row in zip(table, rows, strict=True):
            reason, request, parameters, advertiser_id, source = row
            assert reason.startswith(why), (target, reason)
            assert request == f"{method} {target.partition('?')[0]}"
            assert parameters.items() >= said.items(), (target, parameters)
            assert advertiser_id == owner, target
            assert source == ("pixel" if "pixel" in target else "postback")


async def test_refused_postback_is_shown_everywhere(
    database: Settings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TRACKER_POSTGRES_DSN", str(database.postgres_dsn))
    monkeypatch.setenv("TRACKER_REDIS_URL", str(database.redis_url))
    async with advertiser_of(database) as advertiser:
        before = len(await logged(advertiser, 1))
        click = await advertiser.click()
        await advertiser.edge.put(f"/postback?click_id={click}&adv_sub=x")
        await logged(advertiser, before + 1)
        async with api_of(database, scopes=("conversions:read",)) as api:
            for query in ({"result": "refused"}, {"advertiser_id": "1"}):
                (row,) = (await api.get(POSTBACKS, params={**query, "click_id": click})).json()["data"]
                assert (row["request"], row["reason"]) == ("PUT /postback", "405: Method not allowed.")
                assert row["parameters"] == {"click_id": click, "adv_sub": "x"}
        for words in ([], ["--result", "refused"], ["--json"]):
            assert await asyncio.to_thread(cli.main, ["postbacks", "--count", "1", *words]) == 0
            out = capsys.readouterr().out
            assert all(text in out for text in ("405: Method not allowed", "PUT /postback", click)), out
        findings = await report.examine(database, "postbacks")
        assert any("refused by edges within a day" in finding.text for finding in findings)


PLAIN = "qzxj7"
"""A secret set by SQL. Only its value shows that it is one."""
PAST = "trs_past_secret"
NOBODYS = "9f86d081884c7d659a2feaa0c55ad015"
"""Possible secrets of other parties."""


def hiding_places(secret: str, click: str) -> list[tuple[str, str, dict[str, Any]]]:
    """Calls with a secret in them, right and wrong ones."""
    text = {"content-type": "text/plain"}
    json_ = {"content-type": "application/json"}
    xml = {"content-type": "application/xml"}
    twice, whole = quote(quote(secret)), "".join(f"%{byte:02x}" for byte in secret.encode())
    wrong = f"click_id={click}&status=nonsense"
    return [
        ("GET", f"/postback?{wrong}&token={secret}", {}),
        ("GET", f"/postback?{wrong}&amp;token={secret}", {}),
        ("GET", f"/postback?{wrong}&token={secret}&token={secret}x", {}),
        ("GET", f"/postback?{wrong}&secret={secret}&password={secret}", {}),
        ("GET", f"/postback?{wrong}&x={secret}&adv_sub={secret}&sale_status=Bearer+{secret}", {}),
        ("GET", f"/postback?{wrong}&x={whole}&adv_sub={twice}&y={quote(twice)}", {}),
        ("GET", f"/postback?{wrong}&{secret}=1&{secret}", {}),
        ("GET", f"/postback?click_id={secret}&status=nonsense&order_id={secret}", {}),
        ("GET", f"/postback?{wrong}&x=Authorization:+Bearer+{secret};+y={secret},{secret}", {}),
        ("GET", f"/postback?{wrong}&x={{'token':'{secret}'}}", {}),
        ("GET", f"/postback?{secret}", {}),
        ("GET", f"/postback?{wrong}&x={'y' * 1990}%20{secret}", {}),
        ("GET", f"/api/v3/goal/{secret}?status=nonsense&hash={click}", {}),
        ("GET", f"/api/v3/goal/{whole}/{twice}?status=nonsense&hash={click}", {}),
        ("GET", f"/pixel?token={secret}", {}),
        ("PUT", f"/postback/?x={secret}", {"content": secret}),
        (
            "POST",
            "/postback",
            {"content": f"{wrong}&token={secret}&z={secret}", "headers": {"content-type": FORM}},
        ),
        ("POST", "/postback", {"json": {"token": secret, "x": secret, secret: 1, "status": "nonsense"}}),
        ("POST", "/postback", {"content": f'{{"token": "{secret}", "x": ', "headers": json_}),
        ("POST", "/postback", {"content": f"<token>{secret}</token>", "headers": xml}),
        ("POST", "/postback", {"content": f"{secret}", "headers": text}),
        ("POST", "/postback", {"content": f"{secret} " + "x" * 70_000, "headers": text}),
        ("POST", "/postback", {"files": {"token": (None, secret), "a": (None, secret), secret: (None, "b")}}),
        ("POST", "/postback", {"files": {"token": (secret, secret)}}),
        # Accepted postbacks with a secret in another parameter.
        ("GET", f"/postback?click_id={click}&adv_sub={secret}&external_id={whole}", {}),
        ("GET", f"/postback?click_id={click}&goal={secret}&sale_status={twice}", {}),
        ("GET", f"/postback?click_id={click}&order_id={secret}&token={SECRET}", {}),
        ("POST", "/postback", {"json": {"click_id": click, "adv_sub": f"my secret is {secret}"}}),
        ("GET", f"/pixel?click_id={click}&adv_sub2={secret}&token={secret}", {}),
    ]


async def dump(advertiser: Advertiser) -> str:
    """The content of the database and the stream server."""
    found = []
    for (table,) in await advertiser.fetch(
        "SELECT relname FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace"
    ):
        found += [row[0] for row in await advertiser.fetch(f'SELECT t::text FROM "{table}" AS t')]
    assert advertiser.settings.redis_url
    async with open_client(advertiser.settings.redis_url) as server:
        async for key in server.scan_iter():
            kind = await server.type(key)
            content = {b"stream": server.xrange, b"hash": server.hgetall, b"string": server.get}.get(kind)
            found += [repr(key), repr(await content(key)) if content else repr(await server.dump(key))]
    return "\n".join(found)


async def test_secret_appears_nowhere(
    database: Settings,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("TRACKER_POSTGRES_DSN", str(database.postgres_dsn))
    monkeypatch.setenv("TRACKER_REDIS_URL", str(database.redis_url))
    caplog.set_level(logging.DEBUG)
    async with advertiser_of(database) as advertiser:
        await advertiser.connection.execute(
            "INSERT INTO advertiser_secret (advertiser_id, secret_hash, expires_at) VALUES"
            f" (1, sha256('{PLAIN}'), NULL), (2, sha256('{PAST}'), now() - interval '1 day')"
        )
        while (await advertiser.edge.get(f"/postback?token={PLAIN}")).status_code == 403:
            pass
        click = await advertiser.click()
        number = len(await logged(advertiser, 1))
        secrets = (SECRET, PLAIN, PAST, "trs_removed-and_forgotten", NOBODYS)
        for secret in secrets:
            for method, target, body in hiding_places(secret, click):
                said = f"{target}{body}"
                if secret == NOBODYS and any(name in said for name in (*PARAMETERS, "/goal/")):
                    continue  # known values that are not secrets stay
                answer = await advertiser.edge.request(method, target, **body)
                number += answer.status_code >= 400
                assert secret not in answer.text
        during = await dump(advertiser)
        await logged(advertiser, number)
        await advertiser.calls(f"click_id={click}")
        async with api_of(database, scopes=("conversions:read",)) as api:
            shown = (await api.get(POSTBACKS, params={"per_page": "1000"})).text
        for words in ([], ["--json"]):
            await asyncio.to_thread(cli.main, ["postbacks", "--count", "1000", *words])
        ours = "\n".join(one.getMessage() for one in caplog.records if not one.name.startswith("http"))
        everywhere = "\n".join([during, await dump(advertiser), shown, capsys.readouterr().out, ours]).lower()
        for secret in secrets:
            at = everywhere.find(secret.lower())
            assert at < 0, (secret, everywhere[max(at - 200, 0) : at + 100])
        assert "(secret)" in everywhere


HIDDEN: list[tuple[str, str]] = [
    ("one", "(secret)"),
    (" one ", "(secret)"),
    ("token=one", "token=(secret)"),
    ("one,two;three", "(secret),(secret);three"),
    ("%6fne", "(secret)"),
    ("%256fne", "(secret)"),
    ("a one b", "a (secret) b"),
    ("someone", "someone"),
    ("trs_x", "(secret)"),
    ("TRS_x", "(secret)"),
    ("xtrs_abc-_9/8 z", "x(secret) z"),
    ("old", "(secret)"),
    ("gone", "(secret)"),
    ("A-1001", "A-1001"),
    ("50% off", "50% off"),
    ("", ""),
]


@pytest.mark.parametrize(("text", "shown"), HIDDEN)
async def test_text_is_shown_without_secrets(text: str, shown: str) -> None:
    secrets = AdvertiserSecrets()
    for n, (secret, expires) in enumerate((("one", None), ("two", None), ("old", 1), ("gone", None))):
        digest = sha256(secret.encode()).hexdigest()
        secrets.put(n, {"advertiser_id": 7, "digest": digest, "expires": expires})
    secrets.put(3, None)
    assert secrets.hide(text) == shown


async def test_log_of_refused_postbacks_is_bounded(
    database: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(refused, "_FORGET", refused._FORGET.replace(str(refused.KEPT), "10"))
    async with advertiser_of(database) as advertiser:
        long = "&".join(f"p{n}={'x ' * 60}" for n in range(60))
        for n in range(15):
            await advertiser.edge.get(f"/postback?order_id={n}&{long}")
        await advertiser.edge.post("/postback", content="é" * 32_000, headers={"content-type": "text/xml"})
        while True:
            rows = await logged(advertiser, 10)
            if rows[-1][0].startswith("415"):
                break
        assert len(rows) == 10
        assert max(len(json.dumps(row[2])) for row in rows) < 3_000
        assert rows[0][2]["order_id"] != "0"
