"""The pages of users, tokens and the audit trail."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from dataclasses import replace
from html import unescape
from typing import Any

import pytest

from tests.integration.pages_client import Browser, Site, site_of
from tests.integration.people import PASSWORD
from tracker.settings import Settings
from tracker.store.catalogue.demo import load_demo
from tracker.store.tokens import create_token

pytestmark = pytest.mark.anyio

ANNA = "anna@pages.test"
EVIL = "<img src=x onerror=alert(1)>\"'"
USERS, TOKENS, AUDIT = "/dashboard/users", "/dashboard/tokens", "/dashboard/audit"
BEN = {"email": "ben@pages.test", "name": "Ben", "role": "affiliate", "affiliate_ids": "513"}


@pytest.fixture
async def site(database: Settings) -> AsyncIterator[Site]:
    assert database.postgres_dsn
    await load_demo(database.postgres_dsn)
    async with site_of(database) as site:
        yield site


@pytest.fixture
async def anna(site: Site) -> Browser:
    await site.add_user()
    return await signed_in(site, ANNA)


async def signed_in(site: Site, email: str) -> Browser:
    browser = site.browser()
    await browser.sign_in(email)
    assert browser.page.status_code == 303, browser.text
    await browser.follow()
    return browser


def value_of(field: str, text: str) -> str:
    """The value of an input by its id."""
    found = re.search(rf'<input id="{field}"[^>]* value="([^"]*)"', text)
    return unescape(found[1]) if found else ""


async def ask(browser: Browser, place: str, **fields: str) -> None:
    """Send a form of a page, with the version that the page has."""
    await browser.get(place)
    hidden = {name: browser.hidden(name) for name in ("version", "etag") if f'name="{name}"' in browser.text}
    await browser.post(place, **(hidden | fields))


# Who may open them


@pytest.mark.parametrize(
    ("role", "fields", "opens"),
    [
        ("admin", {}, {USERS, TOKENS, AUDIT}),
        ("manager", {}, {AUDIT}),
        ("manager", {"affiliate_ids": [513]}, set()),
        ("finance", {}, {AUDIT}),
        ("analyst", {}, {AUDIT}),
        ("analyst", {"hides_money": True}, set()),
        ("affiliate", {"affiliate_ids": [513]}, set()),
        ("advertiser", {"advertiser_ids": [1]}, set()),
    ],
)
async def test_pages_open_for_those_who_may(
    site: Site, role: str, fields: dict[str, Any], opens: set[str]
) -> None:
    await site.add_user(ANNA, role, **fields)
    browser = await signed_in(site, ANNA)
    menu = browser.text
    for path in (USERS, TOKENS, AUDIT):
        assert (await browser.get(path)).status_code == (200 if path in opens else 403)
        assert (f'href="{path}"' in menu) == (path in opens)
    for path in (f"{USERS}/new", f"{USERS}/1", f"{TOKENS}/new"):
        assert (await browser.get(path)).status_code == (200 if USERS in opens else 403)


# Users


async def test_user_is_invited_and_signs_in(site: Site, anna: Browser) -> None:
    assert (await anna.get(f"{USERS}/new")).status_code == 200
    await anna.post(f"{USERS}/new", **(BEN | {"affiliate_ids": "none"}))
    assert anna.page.status_code == 422
    assert "no affiliate has this name or id" in anna.text
    assert value_of("email", anna.text) == BEN["email"]
    await anna.post(f"{USERS}/new", **(BEN | {"affiliate_ids": ""}))
    assert "the role affiliate needs at least one" in anna.text
    await anna.post(f"{USERS}/new", **BEN)
    assert anna.page.status_code == 200
    link = value_of("link", anna.text)
    assert link.startswith("https://pages.test/dashboard/link?s=")  # where Anna reaches the pages
    assert "within 7 days" in anna.text
    ben = site.browser()
    await ben.get(link[link.index("/dashboard") :])
    await ben.post("/dashboard/link", s=ben.hidden("s"), password=PASSWORD, again=PASSWORD)
    assert ben.location == "/dashboard/"
    await anna.get(f"{USERS}?q=ben")
    assert "1 user<" in anna.text
    assert BEN["email"] in anna.text
    assert ANNA not in re.sub(r'class="who".*?</p>', "", anna.text, flags=re.DOTALL)
    await anna.get(f"{USERS}?affiliate_id=x")
    assert anna.page.status_code == 422
    assert 'id="affiliate_id-fault"' in anna.text


@pytest.mark.parametrize(("party", "id_"), [("affiliate", "513"), ("advertiser", "1")])
async def test_partner_leads_to_its_users_and_tokens(anna: Browser, party: str, id_: str) -> None:
    await anna.get(f"/dashboard/{party}s/{id_}")
    links = [unescape(link) for link in re.findall(r'href="([^"]+)"', anna.text)]
    for path in (f"{USERS}?{party}_id={id_}", f"{TOKENS}?{party}_id={id_}"):
        assert path in links
    (new,) = (link for link in links if link.startswith(f"{USERS}/new"))
    await anna.get(new)
    assert value_of(f"{party}_ids", anna.text) == id_
    assert f'<option value="{party}" selected>' in anna.text
    (see,) = (link for link in links if link.startswith("/dashboard/see-as"))
    await anna.get(see)
    assert value_of("id", anna.text) == id_
    assert f'<option value="{party}" selected>' in anna.text


async def test_user_is_changed_as_the_page_showed(site: Site, anna: Browser) -> None:
    await site.add_user("ben@pages.test", "analyst")
    ((id_,),) = await site.sql("SELECT id FROM user_account WHERE email = 'ben@pages.test'")
    place = f"{USERS}/{id_}"
    ben = await signed_in(site, "ben@pages.test")
    save = {"do": "save", "email": "ben@pages.test", "name": "Ben", "role": "finance"}
    await ask(anna, place, **save)
    assert anna.location == f"{place}?done=saved"
    await anna.follow()
    assert "Saved." in anna.text
    await ben.get("/dashboard/")
    assert ben.location.startswith("/dashboard/sign-in")
    await anna.post(place, **save, version="1")
    assert (anna.page.status_code, "Stored now" in anna.text) == (412, False)
    await anna.post(place, **(save | {"name": "Benjamin"}), version="1")
    assert (value_of("name", anna.text), "Stored now: Ben<" in anna.text) == ("Benjamin", True)
    await ask(anna, place, **(save | {"hides_money": "yes"}))
    assert "cannot be chosen for the role finance" in anna.text
    for do, state in (("disable", "disabled"), ("enable", "invited")):
        await ask(anna, place, do=do)
        await anna.follow()
        assert (f">{state}</span>" in anna.text) == (state == "disabled")
    await ask(anna, place, do="nothing")
    assert anna.page.status_code == 400


async def test_user_gets_a_link_for_a_new_password(site: Site, anna: Browser) -> None:
    await site.add_user("ben@pages.test", "analyst")
    ((id_,),) = await site.sql("SELECT id FROM user_account WHERE email = 'ben@pages.test'")
    await ask(anna, f"{USERS}/{id_}", do="reset", second_factor="yes")
    assert "within 60 minutes" in anna.text
    ((drops_factor,),) = await site.sql("SELECT drops_factor FROM one_time_link WHERE user_id = $1", id_)
    assert drops_factor


async def test_link_begins_as_the_network_set_it(database: Settings) -> None:
    settings = replace(database, dashboard_url="https://tracker.example")
    async with site_of(settings) as site:
        await site.add_user()
        anna = await signed_in(site, ANNA)
        await anna.get(f"{USERS}/new")
        await anna.post(f"{USERS}/new", email="ben@pages.test", role="analyst")
        assert value_of("link", anna.text).startswith("https://tracker.example/dashboard/link?s=")


async def test_sessions_of_a_user_are_ended(site: Site, anna: Browser) -> None:
    await site.add_user("ben@pages.test", "analyst")
    ((id_,),) = await site.sql("SELECT id FROM user_account WHERE email = 'ben@pages.test'")
    for _ in range(3):
        await signed_in(site, "ben@pages.test")
    await anna.get(f"{USERS}/{id_}")
    assert anna.text.count("the session of Firefox on Linux") == 3
    ((session,),) = await site.sql("SELECT min(id) FROM user_session WHERE user_id = $1", id_)
    for which, left in ((str(session), 2), ("all", 0)):
        await ask(anna, f"{USERS}/{id_}", do="end", session=which)
        assert anna.location == f"{USERS}/{id_}?done=ended"
        ((number,),) = await site.sql("SELECT count(*) FROM user_session WHERE user_id = $1", id_)
        assert number == left


async def test_user_is_deleted_once_that_is_confirmed(site: Site, anna: Browser) -> None:
    await site.add_user("ben@pages.test", "analyst")
    ((id_,),) = await site.sql("SELECT id FROM user_account WHERE email = 'ben@pages.test'")
    await ask(anna, f"{USERS}/{id_}", do="delete")
    assert "Delete ben@pages.test?" in anna.text
    assert await site.sql("SELECT FROM user_account WHERE id = $1", id_)
    await anna.post(f"{USERS}/{id_}", do="delete", confirmed="yes")
    await anna.follow()
    assert "The user is deleted." in anna.text
    assert (await anna.get(f"{USERS}/{id_}")).status_code == 404
    ((me,),) = await site.sql("SELECT id FROM user_account")
    await ask(anna, f"{USERS}/{me}", do="delete", confirmed="yes")
    assert (anna.page.status_code, "this is the last admin" in anna.text) == (409, True)


# Tokens


async def test_token_is_made_and_its_secret_shown_once(site: Site, anna: Browser) -> None:
    await anna.get(f"{TOKENS}/new")
    assert "conversions:read: read conversions and postbacks" in anna.text
    await anna.post(f"{TOKENS}/new", name="CRM", expires_on="2999-02-30")
    assert 'id="expires_on-fault"' in anna.text
    await anna.post(
        f"{TOKENS}/new", name="CRM", expires_on="2001-01-31", affiliate_ids="513", rate_limit="5/x"
    )
    assert {"scopes-fault", "rate_limit-fault"} <= set(re.findall(r'id="([a-z_]+-fault)"', anna.text))
    new = {"name": "CRM", "expires_on": "2999-01-31", "affiliate_ids": "513", "scopes": "offers:write"}
    await anna.post(f"{TOKENS}/new", **new)
    assert "offers:write (possible: clicks:read" in unescape(anna.text)
    assert 'value="offers:write" checked' in anna.text
    await anna.post(f"{TOKENS}/new", **(new | {"scopes": "clicks:read"}))
    secret = value_of("secret", anna.text)
    assert secret.startswith("trk_")
    ((end,),) = await site.sql("SELECT to_char(expires_at, 'YYYY-MM-DD HH24:MI:SS') FROM token")
    assert end == "2999-01-31 23:59:59"
    await anna.get(TOKENS)
    assert (secret in anna.text, secret[:8] in anna.text) == (False, True)


async def test_token_is_changed_rotated_and_revoked(site: Site, anna: Browser) -> None:
    assert site.settings.postgres_dsn
    first = await create_token(site.settings.postgres_dsn, ["clicks:read"], "CRM")
    await site.sql("UPDATE token SET expires_at = '2999-01-31T12:00:00Z'")
    place = f"{TOKENS}/1"
    await ask(anna, place, do="save", name="CRM 2", expires_on="2999-01-31", rate_limit="600/minute")
    assert anna.location == f"{place}?done=saved"
    ((name, hour),) = await site.sql("SELECT name, extract(hour FROM expires_at)::int FROM token")
    assert (name, hour) == ("CRM 2", 12)  # the day was not touched
    await ask(anna, place, do="save", name="CRM 3", expires_on="", version="1")
    assert anna.page.status_code == 412
    await ask(anna, place, do="rotate", overlap="86400")
    second = value_of("secret", anna.text)
    assert second.startswith("trk_")
    assert second != first
    await ask(anna, place, do="rotate", overlap="86400")
    assert (anna.page.status_code, 'id="overlap-fault"' in anna.text) == (409, True)
    await ask(anna, place, do="revoke")
    assert "Revoke CRM 2?" in anna.text
    await anna.post(place, do="revoke", confirmed="yes")
    await anna.follow()
    assert "The token is revoked." in anna.text
    assert "CRM 2" in (await anna.get(f"{TOKENS}?is_revoked=true")).text
    assert 'name="do"' not in (await anna.get(place)).text


# The audit trail


async def changed_offer(site: Site, anna: Browser) -> tuple[str, str]:
    """The address of the entry of a change of offer 3, and the header of a token that may change it."""
    assert site.settings.postgres_dsn
    secret = await create_token(site.settings.postgres_dsn, ["admin"], EVIL)
    header = f"Bearer {secret}"
    await api(anna, header, "/offers/3", name=EVIL, tags=["a", "b"])
    ((id_,),) = await site.sql("SELECT max(id) FROM audit")
    return f"{AUDIT}/{id_}", header


async def api(browser: Browser, header: str, path: str, **fields: object) -> None:
    answer = await browser.client.patch(
        f"/backend/open-api/v1/users{path}", json=fields, headers={"Authorization": header}
    )
    assert answer.status_code == 200, answer.text


async def test_audit_trail_is_filtered_and_shows_the_difference(site: Site, anna: Browser) -> None:
    entry, _ = await changed_offer(site, anna)
    await anna.get(f"{AUDIT}?under=offers/3&at_from=2020-01-01")
    assert "1 change<" in anna.text
    assert f'href="{TOKENS}/1"' in anna.text
    assert EVIL in unescape(anna.text)
    assert EVIL not in anna.text
    await anna.get(f"{AUDIT}?path=offers")
    assert (value_of("path", anna.text), "No change is like that" in anna.text) == ("offers", True)
    await anna.get(entry)
    assert EVIL not in anna.text
    assert "<ins><bdi>a, b</bdi></ins>" in anna.text
    assert re.findall(r'<th scope="row"><code>(\w+)</code>', anna.text) == ["name", "tags"]
    for query, named in (("user_id=x", "user_id"), ("at_to=2026-02-30", "at_to")):
        assert (await anna.get(f"{AUDIT}?{query}")).status_code == 422
        assert f'id="{named}-fault"' in anna.text
    assert (await anna.get(f"{AUDIT}/999999")).status_code == 404
    await anna.get(f"{AUDIT}?resource=user_session")
    ((id_,),) = await site.sql("SELECT id FROM user_account")
    assert f'<a href="{USERS}/{id_}"><bdi>Session' in anna.text  # the nearest page
    assert f'<a href="{USERS}/{id_}"><bdi>{ANNA}</bdi></a>' in anna.text


async def test_change_is_set_back_as_it_was_shown(site: Site, anna: Browser) -> None:
    entry, header = await changed_offer(site, anna)
    ((before,),) = await site.sql("SELECT before ->> 'name' FROM audit ORDER BY id DESC LIMIT 1")
    await api(anna, header, "/offers/3", tags=["c"])
    await anna.get(f"{entry}/back")
    assert "Changed once more after that change: Tags." in anna.text
    shown = anna.hidden("etag")
    await api(anna, header, "/offers/3", tags=["d"])
    await anna.post(f"{entry}/back", etag=shown)
    assert (anna.page.status_code, "nothing was done" in anna.text) == (412, True)
    await anna.post(f"{entry}/back", etag=anna.hidden("etag"))
    assert anna.location == f"{entry}?done=back"
    ((name, tags, author),) = await site.sql(
        "SELECT name, tags, (SELECT token_name FROM audit ORDER BY id DESC LIMIT 1) FROM offer WHERE id = 3"
    )
    assert (name, tags, author) == (before, [], ANNA)
    await anna.get(f"{entry}/back")
    assert "there is nothing to set back" in anna.text


async def test_change_is_set_back_by_those_who_may(site: Site, anna: Browser) -> None:
    entry, _ = await changed_offer(site, anna)
    for role, may in (("manager", True), ("analyst", False), ("finance", False)):
        await site.add_user(f"{role}@pages.test", role)
        browser = await signed_in(site, f"{role}@pages.test")
        assert ("Set it back" in (await browser.get(entry)).text) == may
        assert (await browser.get(f"{entry}/back")).status_code == (200 if may else 404)
        await browser.post(f"{entry}/back", token=browser.token, etag='"1"')
        assert browser.page.status_code in ((412,) if may else (403, 404))
    ((sign_in,),) = await site.sql("SELECT max(id) FROM audit WHERE resource = 'user_session'")
    assert (await anna.get(f"{AUDIT}/{sign_in}/back")).status_code == 404


async def test_setting_back_asks_before_visitors_become_unique_once_more(site: Site, anna: Browser) -> None:
    _, header = await changed_offer(site, anna)
    await api(anna, header, "/offers/3", unique_scope="offer_affiliate")
    ((id_,),) = await site.sql("SELECT max(id) FROM audit")
    await ask(anna, f"{AUDIT}/{id_}/back")
    assert anna.page.status_code == 409
    assert 'name="confirm" value="unique_scope"' in anna.text
    assert "makes visitors unique once more" in anna.text
    await anna.post(f"{AUDIT}/{id_}/back", etag=anna.hidden("etag"), confirm="unique_scope")
    assert anna.location == f"{AUDIT}/{id_}?done=back"


async def test_change_of_a_user_is_set_back(site: Site, anna: Browser) -> None:
    await site.add_user("ben@pages.test", "affiliate", affiliate_ids=[513])
    ((ben,),) = await site.sql("SELECT id FROM user_account WHERE email = 'ben@pages.test'")
    save = {"do": "save", "email": "ben@pages.test", "name": "", "role": "analyst"}
    await ask(anna, f"{USERS}/{ben}", **save)
    ((id_,),) = await site.sql("SELECT max(id) FROM audit")
    await ask(anna, f"{AUDIT}/{id_}/back")
    assert anna.location == f"{AUDIT}/{id_}?done=back"
    ((role, owners),) = await site.sql("SELECT role, affiliate_ids FROM user_account WHERE id = $1", ben)
    assert (role, owners) == ("affiliate", [513])
