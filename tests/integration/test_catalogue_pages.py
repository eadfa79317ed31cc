"""Pages of the catalogue: each kind of object is listed, made, changed, archived, as the API has it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from httpx import AsyncClient

from tests.integration.api_client import api_of, run_sql
from tests.integration.importing import Importer, importer
from tests.integration.pages_client import Browser, Site, forms_of, site_of
from tests.integration.test_api_management import CHANGE, CREATE
from tracker.api.http.routing import ROOT
from tracker.catalogue.resources import RESOURCES
from tracker.dashboard.catalogue.fields import controls_of
from tracker.dashboard.catalogue.kinds import KINDS, Kind
from tracker.settings import Settings
from tracker.store.catalogue.demo import load_demo

__all__ = ["importer"]
pytestmark = pytest.mark.anyio

EVERY_KIND = Path(__file__).parent / "every_kind.yaml"
Fields = dict[str, list[str]]


class Desk:
    """An admin's browser, and a client of the API beside it."""

    def __init__(self, site: Site, browser: Browser, api: AsyncClient) -> None:
        self.site = site
        self.browser = browser
        self.api = api

    async def row(self, path: str) -> dict[str, Any]:
        body: dict[str, Any] = (await self.api.get(f"{ROOT}/{path}")).json()
        return body

    async def form(self, path: str) -> Fields:
        """The last form of a page, as it comes."""
        answer = await self.browser.get(f"/dashboard/{path}")
        assert answer.status_code == 200, (path, answer.text)
        return forms_of(answer.text)[-1]

    async def send(self, path: str, fields: Fields, /, **more: str | list[str]) -> Any:
        return await self.browser.post(f"/dashboard/{path}", **(fields | more))


@pytest.fixture
async def desk(database: Settings) -> AsyncIterator[Desk]:
    assert database.postgres_dsn
    async with site_of(database) as site, api_of(database, scopes=("admin",)) as api:
        await site.add_user()
        browser = site.browser()
        await browser.sign_in("anna@pages.test")
        yield Desk(site, browser, api)


@pytest.fixture
async def demo(desk: Desk) -> Desk:
    assert desk.site.settings.postgres_dsn
    await load_demo(desk.site.settings.postgres_dsn)
    await run_sql(desk.site.settings, "UPDATE goal SET id = offer_id")
    return desk


def kind_at(path: str) -> Kind:
    """The kind of a list's path with ids."""
    shape = [part for part in path.split("/") if not part.isdecimal()]
    return next(
        kind for kind in KINDS if [part for part in kind.resource.path.split("/") if part[0] != "{"] == shape
    )


def texts_of(kind: Kind, values: dict[str, Any], *, is_new: bool) -> Fields:
    """Values as a person writes them into the form."""
    model = (kind.resource.new or kind.resource.fields) if is_new else kind.resource.fields
    found: Fields = {}
    for control in controls_of(model):
        if control.name in values:
            for name, text in control.texts(values[control.name]):
                found.setdefault(name, []).append(text)
    return found


async def test_every_kind_is_made_changed_and_archived(demo: Desk) -> None:
    for path, values in CREATE.items():
        kind = kind_at(path)
        form = await demo.form(f"{path}/new")
        answer = await demo.send(f"{path}/new", form | texts_of(kind, values, is_new=True))
        assert answer.status_code in (200, 303), (path, answer.text)
        rows = (await demo.api.get(f"{ROOT}/{path}?per_page=1000")).json()["data"]
        row = max(rows, key=lambda row: row["version"])
        assert (path, {name: row.get(name) for name in values}) == (path, values)
        one = f"{path}/{row[kind.resource.table.key]}"
        assert (await demo.browser.get(f"/dashboard/{one}")).status_code == 200
        before = await demo.row(one)
        changed = CHANGE[path]
        form = await demo.form(f"{one}/edit")
        answer = await demo.send(f"{one}/edit", form | texts_of(kind, changed, is_new=False))
        assert answer.status_code in (200, 303), (path, answer.text)
        after = await demo.row(one)
        again = (await demo.api.patch(f"{ROOT}/{one}", json=changed)).json()
        assert (one, again["version"]) == (one, after["version"])  # there is nothing left to change
        assert after["version"] > before["version"]
        await demo.form(f"{one}/archive")
        answer = await demo.send(f"{one}/archive", {})
        assert (answer.status_code, answer.headers["Location"]) == (303, f"/dashboard/{path}")
        is_archived = (await demo.row(one)).get("is_archived", "gone")
        assert is_archived is True or not kind.resource.table.can_archive


async def test_object_is_named_by_its_name_where_one_has_it(demo: Desk) -> None:
    form = await demo.form("offers/new")
    await demo.send("offers/new", form, name="Coffee", advertiser_id=" playgames ")
    (coffee,) = (await demo.api.get(f"{ROOT}/offers?q=Coffee")).json()["data"]
    assert coffee["advertiser_id"] == 1
    ids = [(await demo.api.post(f"{ROOT}/advertisers", json={"name": "Twin"})).json()["id"] for _ in "12"]
    answer = await demo.send("offers/new", form, name="Tea", advertiser_id="Twin")
    assert (answer.status_code, f"write the id, {ids[0]} or {ids[1]}" in answer.text) == (422, True)


async def test_form_that_nobody_touched_changes_nothing(desk: Desk, importer: Importer) -> None:
    """Each value of each sample comes back from its page as it went in."""
    done = await importer.run("catalogue", importer.file("all.yaml", EVERY_KIND.read_text()))
    assert done.code == 0, done.err
    seen = 0
    for kind in KINDS:
        for row in await every_row(desk, kind):
            one = kind.address(kind.place(row)).removeprefix("/dashboard/")
            answer = await desk.send(f"{one}/edit", await desk.form(f"{one}/edit"))
            assert (one, answer.status_code, await desk.row(one)) == (one, 303, row)
            seen += 1
    assert seen > len(RESOURCES)


async def every_row(desk: Desk, kind: Kind) -> list[dict[str, Any]]:
    """All objects of a kind, archived or not."""
    path, parent = kind.resource.path, kind.resource.table.parent
    if not kind.resource.table.key:
        return [await desk.row(path)]
    ids: list[int] = [0]
    if parent:
        ids = [id_ for (id_,) in await desk.site.sql(f"SELECT id FROM {kind.resource.table.parent_table}")]
    rows: list[dict[str, Any]] = []
    for id_ in ids:
        for archived in ("?is_archived=true", "") if kind.resource.table.can_archive else ("",):
            rows += (await desk.row(path.replace(f"{{{parent}}}", str(id_)) + archived))["data"]
    return rows


async def test_stale_form_shows_both_values_and_saves_the_chosen_ones(demo: Desk) -> None:
    form = await demo.form("offers/3/edit")
    theirs = {"name": "Theirs", "category": "Games"}
    await demo.api.patch(f"{ROOT}/offers/3", json=theirs)
    mine = {"name": ["Mine"], "note": ["mine"]}
    answer = await demo.send("offers/3/edit", form | mine)
    assert answer.status_code == 409
    assert (await demo.row("offers/3"))["name"] == "Theirs"
    asked = forms_of(answer.text)[-1]
    chosen = {name: values for name, values in asked.items() if name.startswith("keep_")}
    assert chosen == {"keep_name": ["mine"], "keep_category": ["now"], "keep_note": ["mine"]}
    assert [text for text in ("Theirs", "Mine", "Games") if text not in answer.text] == []
    answer = await demo.send("offers/3/edit", asked | {"keep_name": ["now"]})
    assert answer.status_code == 303
    row = await demo.row("offers/3")
    assert (row["name"], row["category"], row["note"]) == ("Theirs", "Games", "mine")


WRONG: list[tuple[str, Fields, str, str]] = [
    ("offers/new", {"name": ["X"]}, "advertiser_id", "is missing"),
    ("offers/new", {"name": ["X"], "advertiser_id": ["99"]}, "advertiser_id", "matches no advertiser"),
    (
        "offers/new",
        {"name": ["X"], "advertiser_id": ["Play"]},
        "advertiser_id",
        "no advertiser has this name",
    ),
    (
        "offers/new",
        {"name": ["X"], "advertiser_id": ["1"], "targeting_0_more": ["DE"]},
        "targeting",
        "needs a rule",
    ),
    ("offers/3/urls/new", {"url": ["ftp://x"]}, "url", ""),
    ("advertisers/new", {"name": ["X"], "postback_addresses": ["192.0.2.1\r\nx"]}, "postback_addresses", ""),
    ("link-forms/new", {"path": ["/c"], "parameters": ["o offer_id"]}, "parameters", "not name = value"),
    ("offers/3/edit", {"ends_at": ["tomorrow"]}, "ends_at", "a time with an offset"),
]


async def test_error_stands_beside_its_field_and_the_form_keeps_its_texts(demo: Desk) -> None:
    for path, fields, name, why in WRONG:
        answer = await demo.send(path, await demo.form(path) | fields)
        assert (path, answer.status_code) == (path, 422)
        assert (path, f'id="{name}-fault"' in answer.text, why in answer.text) == (path, True, True)
        kept = forms_of(answer.text)[-1]
        assert (path, {each: kept.get(each) for each in fields}) == (path, fields)


async def test_rows_of_rules_are_added_and_taken_away(demo: Desk) -> None:
    form = await demo.form("offers/3/edit")
    country = {"targeting_0": ["country"], "targeting_0_more": ["de, Austria"]}
    answer = await demo.send("offers/3/edit", form | country, do="rule")
    assert (answer.status_code, (await demo.row("offers/3"))["targeting"]) == (200, {})
    form = forms_of(answer.text)[-1]
    assert form["targeting_1"] == [""]  # a row to fill
    system = {"targeting_1": ["os"], "targeting_1_how": ["not"], "targeting_1_more": ["iOS"]}
    hours = {"targeting_2": ["schedule"], "targeting_2_more": ["sat,sun 10:00-12:00; mon-fri 09:00-18:00"]}
    await demo.send("offers/3/edit", form | system | hours)
    assert (await demo.row("offers/3"))["targeting"] == {
        "country": ["DE", "AT"],
        "os": {"not": ["iOS"]},
        "schedule": ["sat,sun 10:00-12:00", "mon-fri 09:00-18:00"],
    }
    form = await demo.form("offers/3/edit")
    place = next(name for name, texts in form.items() if texts == ["country"])
    assert form.pop(f"{place}_value") == ["DE", "AT"]
    await demo.send("offers/3/edit", form)
    assert (await demo.row("offers/3"))["targeting"].keys() == {"os", "schedule"}


async def test_change_that_cannot_be_undone_is_confirmed_on_the_form(demo: Desk) -> None:
    await demo.api.patch(f"{ROOT}/offers/3", json={"unique_scope": "offer_affiliate"})
    form = await demo.form("offers/3/edit") | {"unique_scope": ["offer"]}
    answer = await demo.send("offers/3/edit", form)
    assert (answer.status_code, "unique once more" in answer.text) == (409, True)
    assert (await demo.row("offers/3"))["unique_scope"] == "offer_affiliate"
    answer = await demo.send("offers/3/edit", forms_of(answer.text)[-1], confirm="unique_scope")
    assert answer.status_code == 303
    assert (await demo.row("offers/3"))["unique_scope"] == "offer"


async def test_buttons_give_a_status_and_bring_back_what_is_archived(demo: Desk) -> None:
    await demo.browser.get("/dashboard/offers?sort=name")
    button = next(form for form in forms_of(demo.browser.text) if "then" in form)
    answer = await demo.send("offers/3/status", button, status="paused")
    assert answer.headers["Location"] == "/dashboard/offers?sort=name"
    assert (await demo.row("offers/3"))["status"] == "paused"
    await demo.form("offers/3/archive")
    assert "2 urls" in demo.browser.text
    await demo.send("offers/3/archive", {})
    assert (await demo.row("offers/3"))["is_archived"]
    await demo.browser.get("/dashboard/offers/3")
    await demo.send("offers/3/restore", {})
    assert not (await demo.row("offers/3"))["is_archived"]
    await demo.form("advertisers/1/archive")
    answer = await demo.send("advertisers/1/archive", {})
    assert (answer.status_code, "used by offer 1" in answer.text) == (409, True)


async def test_new_secret_is_shown_once(demo: Desk) -> None:
    path = "advertisers/1/postback-secrets"
    answer = await demo.send(f"{path}/new", await demo.form(f"{path}/new"), name="server")
    assert (answer.status_code, 'value="trs_' in answer.text) == (200, True)
    assert "trs_" not in (await demo.browser.get(f"/dashboard/{path}")).text


async def test_lists_are_searched_filtered_and_sorted(demo: Desk) -> None:
    for query, first in (
        ("", 1),
        ("?q=shoe", 4),
        ("?sort=-name", 3),
        ("?advertiser_id=2", 4),
        ("?page=1", 1),
    ):
        text = (await demo.browser.get(f"/dashboard/offers{query}")).text
        assert (query, f'href="/dashboard/offers/{first}"' in text.partition("<tbody>")[2][:200]) == (
            query,
            True,
        )
    assert (
        'href="/dashboard/advertisers/1">PlayGames</a>' in (await demo.browser.get("/dashboard/offers")).text
    )
    assert "Nothing matches" in (await demo.browser.get("/dashboard/offers?is_archived=true")).text
    answer = await demo.browser.get("/dashboard/offers?advertiser_id=x")
    assert (answer.status_code, 'id="advertiser_id-fault"' in answer.text) == (422, True)


async def test_copy_begins_with_the_fields_of_another_object(demo: Desk) -> None:
    form = await demo.form("affiliates/new?from=598")
    assert (form["name"], form["status"]) == (["Blocked affiliate"], ["blocked"])
    assert (await demo.form("offers/3/caps/new?affiliate_id=513"))["affiliate_id"] == ["513"]


ROLES: list[tuple[str, dict[str, Any], list[tuple[str, int]]]] = [
    (
        "manager",
        {},
        [("offers/3", 200), ("offers/3/edit", 200), ("status-words/new", 403), ("goals/1/terms", 200)],
    ),
    (
        "finance",
        {},
        [("offers/3", 200), ("offers/3/edit", 200), ("offers/new", 403), ("status-words/new", 200)],
    ),
    ("analyst", {}, [("offers/3", 200), ("offers/3/edit", 403), ("offers/new", 403)]),
    ("analyst", {"hides_money": True}, [("offers/3", 200), ("goals/1/terms", 403), ("offers/3/caps", 200)]),
    ("manager", {"affiliate_ids": [513]}, [("offers", 403), ("offers/3", 403), ("catalogue", 403)]),
    ("affiliate", {"affiliate_ids": [513]}, [("offers", 403), ("blocks", 403), ("links-forms", 404)]),
    ("advertiser", {"advertiser_ids": [1]}, [("offers", 403), ("offers/3/edit", 403)]),
]


async def test_pages_open_to_those_whom_the_api_answers(demo: Desk) -> None:
    for n, (role, rights, opened) in enumerate(ROLES):
        email = f"u{n}@pages.test"
        await demo.site.add_user(email, role, **rights)
        browser = demo.site.browser()
        await browser.sign_in(email)
        for path, status in opened:
            assert (role, path, (await browser.get(f"/dashboard/{path}")).status_code) == (role, path, status)


async def test_fields_of_money_are_locked_without_its_scope(demo: Desk) -> None:
    await demo.site.add_user("may@pages.test", "manager")
    manager = Desk(demo.site, demo.site.browser(), demo.api)
    await manager.browser.sign_in("may@pages.test")
    form = await manager.form("offers/3/goals/3/edit")
    assert {"name", "multiple", "payout", "currency"} & form.keys() == {"name"}
    answer = await manager.send("offers/3/goals/3/edit", form, name="Renamed")
    assert (answer.status_code, (await demo.row("offers/3/goals/3"))["name"]) == (303, "Renamed")
    answer = await manager.send(
        "offers/3/goals/3/edit", await manager.form("offers/3/goals/3/edit"), payout="9"
    )
    assert (answer.status_code, (await demo.row("offers/3/goals/3"))["payout"]) == (303, "0.00")
    await manager.send("offers/3/goals/new", await manager.form("offers/3/goals/new"), name="Plain")
    assert len((await demo.row("offers/3/goals"))["data"]) == 2


async def test_offer_shows_what_it_lacks_and_how_full_its_caps_are(demo: Desk) -> None:
    await demo.api.patch(f"{ROOT}/offers/3/goals/3", json={"is_priced": False})
    await demo.api.post(f"{ROOT}/offers/3/caps", json={"period": "day", "amount": 5, "counts": "conversions"})
    text = (await demo.browser.get("/dashboard/offers/3")).text
    for part in (
        "Goal 3",
        "has no price",
        "conversions a day",
        'class="meter"',
        "Second page",
        "links?offer_id=3",
    ):
        assert (part, part in text) == (part, True)
    assert "no active URL" not in text


ABOUT_PARTIES = ("reports?{0}", "clicks?{0}", "conversions?{0}", "money/statements?party={1}&amp;{0}")


async def test_page_of_a_partner_leads_to_what_is_known_of_it(demo: Desk) -> None:
    """Each link opens a page that has taken its filter. A role that may not see money gets no link to it."""
    for role, seen in (("admin", ABOUT_PARTIES), ("analyst", ABOUT_PARTIES[:3])):
        await demo.site.add_user(f"{role}@pages.test", role)
        browser = demo.site.browser()
        await browser.sign_in(f"{role}@pages.test")
        for party, id_ in (("affiliate", 513), ("advertiser", 1)):
            text = (await browser.get(f"/dashboard/{party}s/{id_}")).text
            for form in ABOUT_PARTIES:
                path = form.format(f"{party}_id={id_}", party)
                assert (role, path, path in text) == (role, path, form in seen)
            for form in seen:
                path = form.format(f"{party}_id={id_}", party).replace("&amp;", "&")
                assert (path, (await browser.get(f"/dashboard/{path}")).status_code) == (path, 200)


async def test_offer_is_copied_on_its_page(demo: Desk) -> None:
    form = await demo.form("offers/3/copy")
    assert form["name"] == ["Test Offer (copy)"]
    answer = await demo.send("offers/3/copy", form, name="Autumn")
    copy = answer.headers["Location"].removeprefix("/dashboard/")
    assert ((await demo.row(copy))["name"], (await demo.row(copy))["status"]) == ("Autumn", "draft")
    answer = await demo.send("offers/3/copy", await demo.form("offers/3/copy"), name=" ")
    assert (answer.status_code, 'id="name-fault"' in answer.text) == (422, True)


LINKS: list[tuple[str, int, list[str]]] = [
    ("", 200, ["The link appears here"]),
    (
        "?offer_id=3&affiliate_id=513&aff_sub=a",
        200,
        ["affiliate_id=513&amp;aff_sub=a", "data:image/svg", "accepted"],
    ),
    (
        "?offer_id=3&affiliate_id=513&country=AT&device=iphone",
        200,
        ["does not fit", "country in DE", "off target"],
    ),
    ("?offer_id=3&affiliate_id=513&country=DE&language=de", 200, ["accepted", "ad.example/land"]),
    ("?offer_id=3&affiliate_id=513&offer_url_id=133", 200, ["url_id=133"]),
    ("?offer_id=3&affiliate_id=513&url=https://x.example/", 422, ['id="url-fault"']),
    ("?offer_id=3&affiliate_id=513&country=Nowhere", 422, ['id="country-fault"', "affiliate_id=513"]),
    ("?offer_id=3&affiliate_id=99", 404, ["no affiliate 99"]),
    ("?offer_id=3", 200, ['value="3"', "The link appears here"]),
    ("?offer_id=test+offer&affiliate_id=john+doe", 200, ["/offer/3?affiliate_id=513"]),
    ("?offer_id=Test&affiliate_id=513", 422, ['id="offer_id-fault"', "no offer has this name or id"]),
]


async def test_links_are_made_and_explained(demo: Desk) -> None:
    for query, status, parts in LINKS:
        if "country" in query:
            await demo.api.patch(f"{ROOT}/offers/3", json={"targeting": {"country": ["DE"]}})
        answer = await demo.browser.get(f"/dashboard/links{query}")
        assert (query, answer.status_code, [part for part in parts if part not in answer.text]) == (
            query,
            status,
            [],
        )


async def test_problems_of_the_catalogue_are_told_to_admins(demo: Desk) -> None:
    await run_sql(demo.site.settings, "UPDATE offer SET time_zone = 'Mars/Base' WHERE id = 3")
    assert "/dashboard/catalogue/problems" in (await demo.browser.get("/dashboard/catalogue")).text
    assert "Mars/Base" in (await demo.browser.get("/dashboard/catalogue/problems")).text
