"""The doors of the product: each sends a value and returns the stored or answered one."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from decimal import Decimal
from itertools import count
from typing import Any, NamedTuple
from urllib.parse import quote, urlencode

from httpx import AsyncClient, Response

from tests.factories.clicks import a_click, a_row
from tests.field.advertiser import Advertiser
from tests.integration.api_client import hash_at, store
from tests.integration.importing import Importer
from tests.integration.test_create_clicks import writing
from tracker.api.conversions.endpoints import PATH as CONVERSIONS
from tracker.api.conversions.status_upload import UPLOADS
from workers import click_writer

USERS = "/backend/open-api/v1/users"
ID, AMOUNT, CURRENCY, STATUS, NAME, COUNTRY, TIME, DEVICE, EMAIL = KINDS = (
    *("id", "amount", "currency", "status", "name", "country", "time", "device id", "e-mail address"),
)
AT = "2026-01-02 03:04:05"
MILLIS = 1_767_323_045_000
UUID = "38400000-8cf0-11bd-b23e-10b96e40000d"

SPELLINGS: Mapping[str, list[tuple[str, str]]] = {
    ID: [("X1", "X1")],
    AMOUNT: [("12.50", "12.5"), (".5", "0.5"), ("59.970000000000006", "59.97"), ("+1E1", "10")],
    CURRENCY: [("eur", "EUR"), ("KWD", "KWD")],
    STATUS: [("Approved", "approved"), ("PAID", "approved"), ("trash", "rejected")],
    NAME: [("Cafe\u0301", "Caf\u00e9")],
    COUNTRY: [("uk", "GB"), ("Germany", "DE"), ("NLD", "NL")],
    TIME: [(AT, AT)],
    EMAIL: [("Ju\u0308rgen@Net.example", "J\u00fcrgen@Net.example")],
    DEVICE: [(UUID.upper(), UUID), (UUID.replace("-", ""), UUID)],
}
"""Values sent and the values stored. X1 stands for the id of a door."""
OWN_STATUS = [("Approved", "approved"), ("REJECTED", "rejected")]
"""Doors that take the four status words of the product."""
A_WORD = [("LEAD", "lead")]
"""Doors that save an advertiser's word for a status."""

Send = Callable[["World", str], Awaitable[str]]


class Pair(NamedTuple):
    """The way a door takes a kind of value."""

    send: Send
    spellings: list[tuple[str, str]] | None = None  # None: the pairs of its kind


class World:
    """A running edge, API and command line on one database."""

    def __init__(self, advertiser: Advertiser, api: AsyncClient, tool: Importer) -> None:
        self.advertiser = advertiser
        self.api = api
        self.tool = tool
        self.numbers = count(1)

    async def prepare(self) -> None:
        await self.advertiser.connection.execute(
            "INSERT INTO goal (id, offer_id, name, multiple, pixel) VALUES (35, 3, 'Caf\u00e9', true, true);"
            "INSERT INTO affiliate (id, name) VALUES (590, 'Caf\u00e9')"
        )

    async def one(self, sql: str, *values: object) -> str:
        ((found,),) = await self.advertiser.fetch(sql, *values)
        return plain(found)

    async def command(self, *words: str) -> Any:
        done = await self.tool.command(*words, "--json")
        assert done.code == 0, (words, done.err)
        return done.json

    async def imports(self, kind: str, row: Mapping[str, Any]) -> None:
        name = f"{next(self.numbers)}.ndjson"
        done = await self.tool.run(kind, self.tool.file(name, json.dumps(row)))
        assert done.code == 0, (row, done.err)


def plain(value: object) -> str:
    """A stored value as text. Amounts have no trailing zeros."""
    if isinstance(value, Decimal):
        return f"{value.normalize():f}"
    return value.strftime("%Y-%m-%d %H:%M:%S") if isinstance(value, datetime) else str(value)


# Conversions: postbacks in all forms, pixels, the API and imports


Teller = Callable[[World, dict[str, str]], Awaitable[None]]


def _calls(**how: Callable[[dict[str, str]], Any]) -> Teller:
    async def tell(world: World, said: dict[str, str]) -> None:
        bodies = {name: make(said) for name, make in how.items()}
        told = await world.advertiser.calls("" if bodies else urlencode(said), **bodies)
        assert (told.status, told.result) == (200, "stored"), (said, told)

    return tell


async def _pixel(world: World, said: dict[str, str]) -> None:
    told = await world.advertiser.calls(f"/pixel?{urlencode(said)}")
    assert (told.status, told.result) == (200, "stored"), (said, told)


async def _goal_path(world: World, said: dict[str, str]) -> None:
    goal = said.pop("goal_id", "") or said.pop("goal", "31")
    told = await world.advertiser.calls(f"/api/v3/goal/{quote(goal)}?{urlencode(said)}")
    assert (told.status, told.result) == (200, "stored"), (said, told)


async def _api(world: World, said: dict[str, str]) -> None:
    body: dict[str, Any] = dict(said)
    if "goal_id" in body:
        body["goal_id"] = int(body["goal_id"].strip("\ufeff\u00a0\u200b\u2060\u3000 "))  # a number of JSON
    answer = await world.api.post(CONVERSIONS, json=body)
    assert answer.status_code == 200, answer.text
    assert answer.json()["result"] == "stored", answer.text


async def _import(world: World, said: dict[str, str]) -> None:
    names = {"click_id": "click_hash", "currency": "sale_currency"}
    row = {names.get(name, name): value for name, value in said.items()}
    await world.imports("conversions", {"status": "approved", "created_at": AT} | row)


def _conversion_pairs(tell: Teller) -> dict[str, Pair]:
    def sender(column: str, said: Callable[[str], dict[str, str]]) -> Pair:
        async def send(world: World, text: str) -> str:
            click = await world.advertiser.click()
            await tell(world, {"click_id": click, **said(text.replace("CLICK", click))})
            return await world.one(
                f"SELECT {column} FROM conversion JOIN goal ON goal.id = goal_id WHERE click_hash = $1",
                click,
            )

        return Pair(send)

    async def send_ids(world: World, text: str) -> str:
        click, order = await world.advertiser.click(), f"A{next(world.numbers)}"
        said = {"click_id": click.upper(), "order_id": order, "goal_id": "31"}
        await tell(world, {name: text.replace("X1", id_) for name, id_ in said.items()})
        found = await world.one(
            "SELECT order_id FROM conversion WHERE (click_hash, goal_id) = ($1, 31)", click
        )
        return found.replace(order, "X1")

    return {
        ID: Pair(send_ids),
        AMOUNT: sender("sale_amount", lambda text: {"sale_amount": text}),
        CURRENCY: sender("sale_currency", lambda text: {"sale_amount": "5", "currency": text}),
        STATUS: sender("conversion.status", lambda text: {"status": text}),
        NAME: sender("name", lambda text: {"goal": text}),
    }


async def _imported_time(world: World, text: str) -> str:
    click = await world.advertiser.click()
    row = {"click_hash": click, "status": "paid", "created_at": text}
    await world.imports("conversions", row)
    return await world.one("SELECT created_at FROM conversion WHERE click_hash = $1", click)


async def _pending(world: World) -> tuple[str, str]:
    """The id and order id of a pending conversion."""
    order = f"P{next(world.numbers)}"
    click = await world.advertiser.click()
    await world.advertiser.calls(f"click_id={click}&order_id={order}&goal_id=35&status=pending")
    return await world.one("SELECT id FROM conversion WHERE order_id = $1", order), order


def _patch(column: str, body: Callable[[str], dict[str, str]]) -> Send:
    async def send(world: World, text: str) -> str:
        id_, _ = await _pending(world)
        path_id = text.replace("X1", id_) if "X1" in text else id_
        answer = await world.api.patch(f"{CONVERSIONS}/{quote(path_id)}", json=body(text))
        assert answer.status_code == 200, answer.text
        found = await world.one(f"SELECT {column} FROM conversion WHERE id = {id_}")
        return "X1" if column == "id" else found

    return send


def _upload(column: str, line: Callable[[str], dict[str, str]]) -> Send:
    async def send(world: World, text: str) -> str:
        id_, order = await _pending(world)
        said = {"order_id": order, "status": "approved"} | line(text.replace("X1", order))
        content = f"{','.join(said)}\n{','.join(said.values())}\n"
        answer = await world.api.post(UPLOADS, content=content.encode(), headers={"content-type": "text/csv"})
        assert answer.json()["changed"] == 1, answer.text
        found = await world.one(
            f"SELECT {column} FROM conversion JOIN goal ON goal.id = goal_id WHERE conversion.id = {id_}"
        )
        return found.replace(order, "X1")

    return send


# Clicks


async def _link_id(world: World, text: str) -> str:
    sub = f"link{next(world.numbers)}"
    offer, affiliate = quote(text.replace("X1", "3")), quote(text.replace("X1", "513"))
    answer = await world.advertiser.edge.get(f"/offer/{offer}?affiliate_id={affiliate}&aff_sub={sub}")
    assert answer.status_code == 302, text
    await click_writer.run(world.advertiser.settings, burst=True)
    found = await world.one("SELECT affiliate_id FROM click WHERE aff_sub = $1", sub)
    return found.replace("513", "X1")


async def _visitor_of(world: World, said: Callable[[str], Awaitable[str]], text: str) -> str:
    """The id, if it identifies the same visitor as its plain form."""
    return UUID if await said(text) == await said(UUID) else text


async def _link_device(world: World, text: str) -> str:
    async def visitor(gaid: str) -> str:
        sub = f"link{next(world.numbers)}"
        await world.advertiser.edge.get(f"/offer/3?affiliate_id=513&gaid={quote(gaid)}&aff_sub={sub}")
        await click_writer.run(world.advertiser.settings, burst=True)
        return await world.one("SELECT visitor_key FROM click WHERE aff_sub = $1", sub)

    return await _visitor_of(world, visitor, text)


async def _created(world: World, said: dict[str, Any]) -> Response:
    async with writing(world.advertiser.settings):
        return await world.api.post(f"{USERS}/clicks", json={"offer_id": 3, "affiliate_id": 513, **said})


async def _created_id(world: World, text: str) -> str:
    id_ = f"old{next(world.numbers)}"
    answer = await _created(world, {"legacy_id": text.replace("X1", id_)})
    assert answer.status_code == 201, answer.text
    found = await world.one(
        "SELECT legacy_id FROM legacy_click WHERE hash = $1::text::uuid", answer.json()["hash"]
    )
    return found.replace(id_, "X1")


async def _created_time(world: World, text: str) -> str:
    answer = await _created(world, {"created_at": text})
    assert answer.status_code == 201, answer.text
    return str(answer.json()["created_at"])


def _imported_click(column: str, field: str) -> Send:
    async def send(world: World, text: str) -> str:
        id_ = f"imp{next(world.numbers)}"
        row = {"legacy_id": id_, "offer_id": 3, "affiliate_id": 513, "created_at": AT}
        if field == "legacy_id":
            row |= {"offer_id": text.replace("X1", "3"), "affiliate_id": text.replace("X1", "513")}
        await world.imports("clicks", row | {field: text.replace("X1", id_)})
        found = await world.one(
            f"SELECT {column} FROM click JOIN legacy_click USING (hash) WHERE legacy_id = $1", id_
        )
        return found.replace(id_, "X1")

    return send


# The catalogue: API, command line and files


_GOAL, _TERMS = f"{USERS}/offers/3/goals/31", f"{USERS}/goals/31/terms"
LATER, LATER_UTC = "2027-01-02T03:04:05+01:00", "2027-01-02T02:04:05+00:00"


def _managed(method: str, path: str, field: str, **more: Any) -> Send:
    async def send(world: World, text: str) -> str:
        answer = await world.api.request(method, path, json={**more, field: text})
        assert answer.status_code in (200, 201), answer.text
        row = answer.json()
        if method == "POST":  # another spelling would be accepted
            await world.api.delete(f"{path}/{row['id']}")
        return plain(Decimal(row[field])) if field == "payout" else str(row[field])

    return send


async def _managed_path(world: World, text: str) -> str:
    path = f"{USERS}/offers/{quote(text.replace('X1', '3'))}/goals/{quote(text.replace('X1', '31'))}"
    answers = [await world.api.get(path), await world.api.patch(path, json={"name": "Level up"})]
    assert [answer.status_code for answer in answers] == [200, 200], path
    return "X1" if answers[0].json()["id"] == 31 else answers[0].text


def _typed(command: str, words: list[str], field: str, *, remove: bool = False) -> Send:
    async def send(world: World, text: str) -> str:
        action = "add" if remove or command == "affiliates" else "set"
        row = await world.command(command, action, *words, f"{field}={text}")
        if remove:
            parent = words[:1] if command == "goal-terms" else []
            await world.command(command, "rm", *parent, str(row["id"]))
        return plain(Decimal(row[field])) if field == "payout" else str(row[field])

    return send


async def _typed_ids(world: World, text: str) -> str:
    row = await world.command("goals", "show", text.replace("X1", "3"), text.replace("X1", "31"))
    return "X1" if row["id"] == 31 else str(row)


def _filed(where: Callable[[str], dict[str, Any]], column: str, table: str) -> Send:
    async def send(world: World, text: str) -> str:
        name = f"{next(world.numbers)}.json"
        done = await world.tool.run("catalogue", world.tool.file(name, json.dumps(where(text))))
        assert done.code == 0, done.err
        return await world.one(f"SELECT {column} FROM {table} ORDER BY version DESC LIMIT 1")

    return send


# Lists, reports, explain and the other commands


def _listed(path: str, parameter: str, column: str, row: Mapping[str, str] | None = None) -> Send:
    """The column of a listed row. X1 is the order id Q1. The list has a click of each country."""

    async def send(world: World, text: str) -> str:
        asked = dict(row or {}) | {parameter: text.replace("X1", "Q1")}
        answer = await world.api.get(f"{USERS}/{path}", params=asked)
        assert answer.status_code == 200, answer.text
        found = {str(each[column]) for each in answer.json()["data"]}
        assert len(found) == 1, (asked, answer.text)
        return found.pop().replace("Q1", "X1")

    return send


async def fill_lists(world: World) -> None:
    """The value that filters look for."""
    clicks = [
        a_row(a_click(hash=hash_at(MILLIS, n)), country_code=code)
        for n, code in enumerate(("GB", "DE", "NL"))
    ]
    await store(world.advertiser.settings, clicks)
    click = await world.advertiser.click()
    for order, status in (("Q1", "approved"), ("Q2", "rejected")):
        for said in ("pending", status):
            await world.advertiser.calls(f"click_id={click}&order_id={order}&goal_id=31&status={said}")


async def _listed_time(world: World, text: str) -> str:
    asked = {"created_from": text, "created_at_to": text, "country_code": "GB"}
    answer = await world.api.get(f"{USERS}/clicks", params=asked)
    (row,) = answer.json()["data"]
    return str(row["created_at"])


def _report(parameter: str, group: str) -> Send:
    async def send(world: World, text: str) -> str:
        asked = {"group_by": group, "created_from": AT, "created_to": AT}
        asked |= {parameter: text.replace("X1", "3")}
        answer = await world.api.get(f"{USERS}/reports", params=asked)
        assert answer.status_code == 200, answer.text
        (row,) = answer.json()["data"]
        assert row["gross"] >= 1
        return {"offer_id": "X1", "created_from": AT}.get(parameter) or str(row["country_code"])

    return send


def _explained(url: Callable[[str], str], shown: Callable[[Any], str], *, by_command: bool) -> Send:
    async def send(world: World, text: str) -> str:
        link = f"http://t.test/offer/3?{url(text)}"
        if by_command:
            return shown(await world.command("explain", link))
        answer = await world.api.get("/backend/open-api/v1/explain", params={"url": link})
        assert answer.status_code == 200, answer.text
        return shown(answer.json())

    return send


def _explain_pairs(*, by_command: bool) -> dict[str, Pair]:
    by_id = _explained(
        lambda text: f"affiliate_id={quote(text.replace('X1', '513'))}",
        lambda told: "X1" if told["affiliate"]["id"] == 513 else str(told),
        by_command=by_command,
    )
    by_device = _explained(
        lambda text: f"affiliate_id=513&gaid={quote(text)}",
        lambda told: str(told["visitor"]["key"]),
        by_command=by_command,
    )

    async def device(world: World, text: str) -> str:
        return await _visitor_of(world, lambda gaid: by_device(world, gaid), text)

    async def at(world: World, text: str) -> str:
        link = "http://t.test/offer/3?affiliate_id=513"
        if by_command:
            told = await world.command("explain", link, "--at", text)
        else:
            told = (
                await world.api.get("/backend/open-api/v1/explain", params={"url": link, "at": text})
            ).json()
        return datetime.fromisoformat(told["at"]).astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S")

    return {ID: Pair(by_id), DEVICE: Pair(device), TIME: Pair(at)}


async def _link_command(world: World, text: str) -> str:
    told = await world.command("link", text.replace("X1", "3"), text.replace("X1", "513"))
    return "X1" if told["link"].endswith("/offer/3?affiliate_id=513") else str(told)


async def _since(world: World, text: str) -> str:
    for words in (("postbacks", "--since", text), ("ledger", "--from", text, "--to", text)):
        done = await world.tool.command(*words)
        assert done.code == 0, (words, done.err)
    return AT


def _multipart(said: dict[str, str]) -> dict[str, tuple[None, str]]:
    return {name: (None, value) for name, value in said.items()}


def _approved(_text: str) -> dict[str, str]:
    return {"status": "approved"}


async def _invited(world: World, text: str) -> str:
    assert (await world.tool.command("users", "invite", text, "--role", "analyst")).code == 0
    email = await world.one("SELECT email FROM user_account")
    assert (await world.tool.command("users", "remove", text)).code == 0
    return email


DOORS: Mapping[str, Mapping[str, Pair]] = {
    "link": {ID: Pair(_link_id), DEVICE: Pair(_link_device)},
    "postback, GET": _conversion_pairs(_calls()),
    "postback, form": _conversion_pairs(_calls(data=dict)),
    "postback, JSON": _conversion_pairs(_calls(json=dict)),
    "postback, multipart": _conversion_pairs(_calls(files=_multipart)),
    "postback, goal in its path": _conversion_pairs(_goal_path),
    "pixel": {kind: pair for kind, pair in _conversion_pairs(_pixel).items() if kind != STATUS},
    "create conversions": _conversion_pairs(_api),
    "import conversions": _conversion_pairs(_import) | {TIME: Pair(_imported_time)},
    "change a conversion": {
        ID: Pair(_patch("id", _approved)),
        AMOUNT: Pair(_patch("sale_amount", lambda text: {"sale_amount": text})),
        CURRENCY: Pair(_patch("sale_currency", lambda text: {"sale_amount": "5", "currency": text})),
        STATUS: Pair(_patch("status", lambda text: {"status": text}), OWN_STATUS),
    },
    "status upload": {
        ID: Pair(_upload("order_id", lambda text: {"order_id": text})),
        STATUS: Pair(_upload("conversion.status", lambda text: {"status": text})),
        NAME: Pair(_upload("name", lambda text: {"goal": text})),
    },
    "create clicks": {ID: Pair(_created_id), TIME: Pair(_created_time)},
    "import clicks": {
        ID: Pair(_imported_click("legacy_id", "legacy_id")),
        COUNTRY: Pair(_imported_click("country_code", "country_code")),
        TIME: Pair(_imported_click("to_timestamp(click_millis(hash) / 1000)", "created_at")),
    },
    "management": {
        ID: Pair(_managed_path),
        AMOUNT: Pair(_managed("PATCH", _GOAL, "payout")),
        CURRENCY: Pair(_managed("PATCH", _GOAL, "currency")),
        STATUS: Pair(_managed("POST", f"{USERS}/status-words", "word", status="hold"), A_WORD),
        NAME: Pair(_managed("POST", f"{USERS}/affiliates", "name")),
        EMAIL: Pair(_managed("POST", f"{USERS}/users", "email", role="analyst")),
        COUNTRY: Pair(_managed("POST", _TERMS, "country_code", payout="1")),
        TIME: Pair(_managed("PATCH", f"{USERS}/offers/4", "starts_at"), [(LATER, LATER_UTC)]),
    },
    "catalogue commands": {
        ID: Pair(_typed_ids),
        AMOUNT: Pair(_typed("goals", ["3", "31"], "payout")),
        CURRENCY: Pair(_typed("goals", ["3", "31"], "currency")),
        STATUS: Pair(_typed("status-words", ["status=hold"], "word", remove=True), A_WORD),
        NAME: Pair(_typed("affiliates", [], "name")),
        EMAIL: Pair(_typed("affiliates", ["name=x"], "email")),
        COUNTRY: Pair(_typed("goal-terms", ["31", "payout=1"], "country_code", remove=True)),
        TIME: Pair(_typed("offers", ["4"], "starts_at"), [(LATER, LATER_UTC)]),
    },
    "import catalogue": {
        AMOUNT: Pair(
            _filed(lambda text: {"offer_goals": {"offer_id": 3, "id": 31, "payout": text}}, "payout", "goal")
        ),
        CURRENCY: Pair(
            _filed(
                lambda text: {"offer_goals": {"offer_id": 3, "id": 31, "currency": text}}, "currency", "goal"
            )
        ),
        STATUS: Pair(
            _filed(lambda text: {"status_words": {"word": text, "status": "hold"}}, "word", "status_word"),
            A_WORD,
        ),
        NAME: Pair(_filed(lambda text: {"affiliates": {"id": 591, "name": text}}, "name", "affiliate")),
        EMAIL: Pair(
            _filed(lambda text: {"affiliates": {"id": 591, "name": "x", "email": text}}, "email", "affiliate")
        ),
        COUNTRY: Pair(
            _filed(
                lambda text: {"goal_terms": {"goal_id": 31, "id": 700, "country_code": text, "payout": "2"}},
                "country_code",
                "goal_terms",
            )
        ),
        TIME: Pair(
            _filed(
                lambda text: {"offers": {"id": 4, "starts_at": text}},
                "to_char(starts_at AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS+00:00')",
                "offer",
            ),
            [(LATER, LATER_UTC)],
        ),
    },
    "lists": {
        ID: Pair(_listed("conversions", "order_id", "order_id")),
        STATUS: Pair(_listed("conversions", "status", "status", {"goal_id": " 31"}), OWN_STATUS),
        NAME: Pair(_listed("affiliates", "name", "name")),
        COUNTRY: Pair(_listed("clicks", "country_code", "country_code")),
        TIME: Pair(_listed_time),
    },
    "reports": {
        ID: Pair(_report("offer_id", "offer")),
        COUNTRY: Pair(_report("country_code", "country")),
        TIME: Pair(_report("created_from", "offer")),
    },
    "explain": _explain_pairs(by_command=False),
    "explain command": _explain_pairs(by_command=True),
    "other commands": {ID: Pair(_link_command), TIME: Pair(_since), EMAIL: Pair(_invited)},
}
