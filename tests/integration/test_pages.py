"""The pages: their headers, their ways, and what they say when something is wrong."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import AsyncIterator
from dataclasses import replace
from ipaddress import ip_network

import pyotp
import pytest
from cryptography.fernet import Fernet

from tests.integration.pages_client import Browser, Site, inputs_of, site_of
from tests.integration.people import PASSWORD
from tracker.people import one_time_links, second_factor
from tracker.secret_key import SecretKey
from tracker.settings import Settings
from tracker.store.people import guesses
from tracker.store.tokens import create_token

pytestmark = pytest.mark.anyio

CSP = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
FORBIDDEN = r'<script(?! type="module" src="/dashboard/static/)|style=|<style|\son\w+=|javascript:'
PAGES = ("", "/", "/sign-in", "/second-factor", "/account", "/sessions", "/link?s=x", "/sign-out", "/nothing")


@pytest.fixture
async def site(database: Settings) -> AsyncIterator[Site]:
    async with site_of(database) as site:
        yield site


async def with_factor(browser: Browser) -> tuple[str, list[str]]:
    """Set the second factor up: its secret and the recovery codes."""
    await browser.get("/dashboard/account")
    await browser.post("/dashboard/account", do="propose", before=PASSWORD)
    await browser.follow()
    secret = re.search(r'<code id="key">([^<]+)', browser.text)[1].replace(" ", "")  # type: ignore[index]
    await browser.post("/dashboard/account", do="confirm", code=pyotp.TOTP(secret).now())
    assert browser.page.status_code == 200
    return secret, re.findall(r"<li><code>([^<]+)</code></li>", browser.text)


@pytest.mark.parametrize("is_signed_in", [False, True])
async def test_every_page_has_the_protecting_headers(site: Site, is_signed_in: bool) -> None:
    browser = site.browser()
    if is_signed_in:
        await site.add_user()
        await browser.sign_in("anna@pages.test")
    for path in PAGES:
        await browser.get(f"/dashboard{path}")
        headers = browser.page.headers
        assert headers["content-security-policy"] == CSP
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["cache-control"] == "no-store"
        is_private = "/link" in path or browser.page.status_code in (404, 405)
        assert headers["referrer-policy"] == ("no-referrer" if is_private else "same-origin")
        assert not re.search(FORBIDDEN, browser.text)


async def test_pages_load_only_their_own_files(site: Site) -> None:
    browser = site.browser()
    await browser.get("/dashboard/sign-in")
    files = re.findall(r'<(?:link|img)[^>]* (?:href|src)="([^"]+)"', browser.text)
    assert len(files) == 3
    for file in files:
        answer = await browser.get(file)
        assert answer.status_code == 200
        assert answer.headers["cache-control"] == "public, max-age=31536000, immutable"
        assert answer.headers["content-security-policy"] == CSP
        assert (await browser.get(file.partition("?")[0])).headers["cache-control"] == "no-cache"


@pytest.mark.parametrize(
    ("method", "path", "allow"),
    [
        ("GET", "/sign-out", "POST"),
        ("DELETE", "/account", "GET, HEAD, POST"),
        ("POST", "/live", "GET, HEAD"),
        ("PUT", "/link", "GET, HEAD, POST"),
        ("POST", "/static/style.css", "GET, HEAD"),
    ],
)
async def test_other_methods_are_refused(site: Site, method: str, path: str, allow: str) -> None:
    answer = await site.browser().client.request(method, f"/dashboard{path}")
    assert answer.status_code == 405
    assert sorted(answer.headers["allow"].split(", ")) == allow.split(", ")
    assert "<h1>" in answer.text


async def test_unknown_page_is_404_with_a_page(site: Site) -> None:
    browser = site.browser()
    for path in ("/dashboard/nothing", "/dashboard/sign-in/", "/dashboard/static/", "/dashboard//"):
        assert (await browser.get(path)).status_code == 404
        assert "There is no such page" in browser.text


async def test_api_is_served_beside_the_pages(site: Site) -> None:
    browser = site.browser()
    assert (await browser.get("/health/ready")).status_code == 200
    assert (await browser.get("/backend/open-api/v1/users/clicks")).status_code == 401
    assert (await browser.get("/dashboards")).headers["content-type"] == "application/problem+json"


async def test_sign_in_leads_to_the_wanted_page(site: Site) -> None:
    await site.add_user()
    browser = site.browser()
    await browser.get("/dashboard/sessions")
    assert browser.location == "/dashboard/sign-in?next=/dashboard/sessions"
    await browser.follow()
    await browser.post(
        "/dashboard/sign-in", email="anna@pages.test", password=PASSWORD, next=browser.hidden("next")
    )
    assert browser.location == "/dashboard/sessions"
    await browser.get("/dashboard/sign-in")
    assert browser.location == "/dashboard/"


async def test_second_factor_is_asked_for_before_anything_else(site: Site) -> None:
    await site.add_user()
    browser = site.browser()
    await browser.sign_in("anna@pages.test")
    secret, codes = await with_factor(browser)
    assert len(set(codes)) == second_factor.RECOVERY_CODES
    await browser.get("/dashboard/account")
    assert codes[0] not in browser.text
    assert "10 of your recovery codes are left" in browser.text
    await site.sql("UPDATE user_account SET totp_last_step = 0")

    other = site.browser()
    await other.get("/dashboard/sessions")
    await other.follow()
    wanted = {"email": "anna@pages.test", "password": PASSWORD, "next": other.hidden("next")}
    await other.post("/dashboard/sign-in", **wanted)
    assert other.location == "/dashboard/second-factor?next=/dashboard/sessions"
    for path in ("/", "/account", "/sessions"):
        await other.get(f"/dashboard{path}")
        assert other.location.startswith("/dashboard/second-factor")
    await other.get("/dashboard/second-factor?next=/dashboard/sessions")
    await other.post("/dashboard/second-factor", code="12345", next=other.hidden("next"))
    assert (other.page.status_code, "The code is wrong." in other.text) == (403, True)
    code = pyotp.TOTP(secret).now()
    await other.post("/dashboard/second-factor", code=f"{code[:3]} {code[3:]}", next=other.hidden("next"))
    assert other.location == "/dashboard/sessions"
    await other.follow()
    assert other.text.count("Firefox on Linux") == 3  # two sessions, and the name in one button


async def test_invitation_makes_a_password_and_signs_in(site: Site) -> None:
    link = await site.invitation()
    browser = site.browser()
    for _ in range(3):
        await browser.client.head(link)
        await browser.get(link)
    assert "You are invited as analyst" in browser.text
    fields = {field["name"]: field for field in inputs_of(browser.text)}
    assert fields["username"]["value"] == "ben@pages.test"
    await browser.post("/dashboard/link", s=browser.hidden("s"), password=PASSWORD, again=PASSWORD)
    assert browser.location == "/dashboard/"
    await browser.follow()
    assert "Welcome, Ben" in browser.text
    await browser.get(link)
    assert browser.page.status_code == 410


FAULTS = (
    (PASSWORD[:5], PASSWORD[:5], "password", "needs at least 12 characters"),
    (PASSWORD, PASSWORD + "r", "again", "is not the same as the first"),
    (
        "ben@pages.test 1",
        "ben@pages.test 1",
        "password",
        "must not contain your name or e-mail address",
    ),
    ("a" * 20, "a" * 20, "password", "needs at least 5 different characters"),
)


async def test_wrong_field_is_named_beside_it(site: Site) -> None:
    link = await site.invitation()
    for password, again, field, why in FAULTS:
        await wrong_field(site.browser(), link, password, again, field, why)


async def wrong_field(browser: Browser, link: str, password: str, again: str, field: str, why: str) -> None:
    await browser.get(link)
    await browser.post("/dashboard/link", s=browser.hidden("s"), password=password, again=again)
    assert browser.page.status_code == 422
    assert browser.page.headers["referrer-policy"] == "no-referrer"
    (wrong,) = (one for one in inputs_of(browser.text) if one.get("aria-invalid"))
    assert wrong["name"] == field
    assert f"{field}-fault" in wrong["aria-describedby"].split()
    assert re.search(rf'id="{field}-fault"[^>]*>[^<]*{re.escape(why)}', browser.text)
    assert password not in browser.text.replace("ben@pages.test", "")
    assert "<title>Error: " in browser.text


async def test_every_field_has_a_label(site: Site) -> None:
    await site.add_user()
    browser = site.browser()
    await browser.sign_in("anna@pages.test")
    await with_factor(browser)
    stranger, link = site.browser(), await site.invitation()
    names = ("account", "sessions", "", "users", "users/new", "users/1", "tokens", "audit")
    pages = [await browser.get(f"/dashboard/{name}") for name in names]
    pages += [await stranger.get(path) for path in ("/dashboard/sign-in", link)]
    for text in (page.text for page in pages):
        ids = re.findall(r'id="([^"]+)"', text)
        assert len(ids) == len(set(ids))
        for field in inputs_of(text):
            if field.get("type") != "hidden" and field.get("aria-hidden") != "true":
                around = f'<label class="check"><input type="{field["type"]}" name="{field["name"]}"'
                assert f'<label for="{field.get("id")}"' in text or around in text, field
            assert set(field.get("aria-describedby", "").split()) <= set(ids)


async def test_password_is_changed_and_other_sessions_end(site: Site) -> None:
    await site.add_user()
    browser, other = site.browser(), site.browser()
    for one in (browser, other):
        await one.sign_in("anna@pages.test")
    await browser.get("/dashboard/account")
    new = {"password": "another long secret", "again": "another long secret"}
    await browser.post("/dashboard/account", do="password", before="wrong", **new)
    assert (browser.page.status_code, "The password is wrong." in browser.text) == (403, True)
    before = browser.client.cookies["__Host-tracker-session"]
    await browser.post("/dashboard/account", do="password", before=PASSWORD, **new)
    assert browser.client.cookies["__Host-tracker-session"] != before
    await browser.follow()
    assert "The password is changed." in browser.text
    await other.get("/dashboard/")
    assert other.location == "/dashboard/sign-in"
    await other.follow()
    assert "Your session has ended" in other.text


async def test_second_factor_is_turned_off_with_the_password(site: Site) -> None:
    await site.add_user()
    browser = site.browser()
    await browser.sign_in("anna@pages.test")
    await with_factor(browser)
    await browser.get("/dashboard/account")
    await browser.post("/dashboard/account", do="remove", before="wrong")
    assert browser.page.status_code == 403
    await browser.post("/dashboard/account", do="remove", before=PASSWORD)
    await browser.follow()
    assert "The second factor is off." in browser.text
    assert await site.sql("SELECT FROM recovery_code") == []


async def test_second_factor_is_turned_on_with_the_password(site: Site) -> None:
    await site.add_user()
    browser = site.browser()
    await browser.sign_in("anna@pages.test")
    await browser.get("/dashboard/account")
    for wrong in ("", "wrong"):
        await browser.post("/dashboard/account", do="propose", before=wrong)
        assert (browser.page.status_code, "<code" in browser.text) == (403, False)
    assert await site.sql("SELECT FROM user_account WHERE totp_secret IS NOT NULL") == []


async def test_recovery_codes_are_renewed_with_password_and_code(site: Site) -> None:
    await site.add_user()
    browser = site.browser()
    await browser.sign_in("anna@pages.test")
    _, codes = await with_factor(browser)
    await browser.get("/dashboard/account")
    for fields, status in (
        ({"before": "wrong", "code": codes[0]}, 403),
        ({"before": PASSWORD, "code": "123"}, 422),
    ):
        await browser.post("/dashboard/account", do="codes", **fields)
        assert browser.page.status_code == status
    await browser.post("/dashboard/account", do="codes", before=PASSWORD, code=codes[0])
    assert "New recovery codes" in browser.text
    new = re.findall(r"<li><code>([^<]+)</code></li>", browser.text)
    assert (len(new), set(new) & set(codes)) == (len(codes), set())
    other = site.browser()
    await other.sign_in("anna@pages.test")
    await other.follow()
    for code, status in ((codes[1], 403), (new[0], 303)):
        await other.post("/dashboard/second-factor", code=code)
        assert other.page.status_code == status


async def test_sign_in_after_many_wrong_codes_leads_to_a_warning(site: Site) -> None:
    await site.add_user()
    browser = site.browser()
    await browser.sign_in("anna@pages.test")
    _, codes = await with_factor(browser)
    for n in range(guesses.LEAST):
        thief = site.browser(address=f"198.51.100.{n % 9}")
        await thief.sign_in("anna@pages.test")
        await thief.follow()
        await thief.post("/dashboard/second-factor", code=f"{n:03}")
    owner = site.browser()
    await owner.get("/dashboard/sign-in?next=/dashboard/sessions")
    await owner.post(
        "/dashboard/sign-in", email="anna@pages.test", password=PASSWORD, next="/dashboard/sessions"
    )
    await owner.follow()
    await owner.post("/dashboard/second-factor", code=codes[0], next="/dashboard/sessions")
    assert owner.location == "/dashboard/account?next=/dashboard/sessions"
    await owner.follow()
    assert f"{guesses.LEAST} wrong codes were given from 9 addresses" in owner.text
    assert '<a href="/dashboard/sessions">Go on</a>' in owner.text
    new = "another calm and long phrase"
    await owner.post("/dashboard/account", do="password", before=PASSWORD, password=new, again=new)
    await owner.follow()
    assert "wrong codes" not in owner.text


async def test_sessions_are_listed_and_ended(site: Site) -> None:
    await site.add_user()
    browsers = [site.browser(agent=f"Mozilla Firefox/{n} Linux") for n in range(4)]
    for one in browsers:
        await one.sign_in("anna@pages.test")
    browser = browsers[0]
    await browser.get("/dashboard/sessions")
    ids = re.findall(r'name="end" value="(\d+)"', browser.text)
    assert len(ids) == 3
    await browser.post("/dashboard/sessions", end=ids[0])
    await browser.follow()
    assert len(re.findall(r'name="end" value="(\d+)"', browser.text)) == 2
    await browser.post("/dashboard/sessions", end="others")
    await browser.follow()
    assert browser.text.count("<li>\n<div") == 1
    assert [(await one.get("/dashboard/")).status_code for one in browsers] == [200, 303, 303, 303]


async def test_sign_out_ends_the_session_in_the_database(site: Site) -> None:
    await site.add_user()
    browser = site.browser()
    await browser.sign_in("anna@pages.test")
    cookie = browser.client.cookies["__Host-tracker-session"]
    await browser.follow()
    await browser.post("/dashboard/sign-out")
    assert browser.location == "/dashboard/sign-in"
    assert "__Host-tracker-session" not in browser.client.cookies
    browser.client.cookies.set("__Host-tracker-session", cookie)
    await browser.get("/dashboard/")
    assert browser.location == "/dashboard/sign-in"


CONNECTIONS = {
    "https": ("https://pages.test", "203.0.113.5", {}, "__Host-tracker-session", False),
    "loopback": ("http://localhost:8001", "127.0.0.1", {}, "tracker-session", False),
    "loopback address": ("http://127.0.0.1:8001", "127.0.0.1", {}, "tracker-session", False),
    "loopback IPv6": ("http://[::1]:8001", "::1", {}, "tracker-session", False),
    "plain": ("http://tracker.pages.test", "203.0.113.5", {}, "tracker-session", True),
    "proxy": (
        *("http://127.0.0.1:8001", "10.0.0.1", {"X-Forwarded-Proto": "https", "X-Forwarded-Host": "a.test"}),
        *("__Host-tracker-session", False),
    ),
    "liar": ("http://a.test", "203.0.113.5", {"X-Forwarded-Proto": "https"}, "tracker-session", True),
}


@pytest.mark.parametrize("kind", CONNECTIONS)
async def test_cookie_fits_the_connection(database: Settings, kind: str) -> None:
    base, address, headers, cookie, warns = CONNECTIONS[kind]
    proxied = replace(database, trusted_proxies=(ip_network("10.0.0.0/8"),))
    async with site_of(proxied) as site:
        await site.add_user()
        browser = site.browser(base, address)
        browser.client.headers.update(headers)
        await browser.get("/dashboard/sign-in")
        assert ("This connection is not encrypted" in browser.text) is warns
        origin = {"Origin": "https://a.test"} if kind == "proxy" else {}
        await browser.post("/dashboard/sign-in", origin, email="anna@pages.test", password=PASSWORD)
        (set_cookie,) = browser.page.headers.get_list("set-cookie")
        assert set_cookie.startswith(f"{cookie}=")
        attributes = {part.strip().lower() for part in set_cookie.split(";")[1:]}
        is_safe = cookie.startswith("__Host-")
        assert attributes == {"httponly", "path=/", "samesite=lax"} | ({"secure"} if is_safe else set())


async def test_silent_proxy_is_explained(site: Site) -> None:
    browser = site.browser("http://a.test")
    await browser.post("/dashboard/sign-in", {"Origin": "https://a.test"}, email="a@b.test", password="x")
    assert browser.page.status_code == 403
    assert "TRACKER_TRUSTED_PROXIES" in browser.text


async def test_too_many_failures_wait(site: Site) -> None:
    await site.add_user()
    browser = site.browser()
    for _ in range(5):
        assert (await browser.sign_in("anna@pages.test", "wrong")).status_code == 403
    await browser.sign_in("anna@pages.test")
    assert browser.page.status_code == 429
    assert 0 < int(browser.page.headers["retry-after"]) <= 900
    assert "Try again in 15 min" in browser.text
    other = site.browser(address="203.0.113.6")
    assert (await other.sign_in("anna@pages.test")).status_code == 303


async def test_busy_hashing_is_503(site: Site) -> None:
    await site.add_user()
    browsers = [site.browser(address=f"203.0.113.{n}") for n in range(45)]
    fields = {"email": "nobody@pages.test", "password": "wrong"}
    answers = await asyncio.gather(*(one.post("/dashboard/sign-in", **fields) for one in browsers))
    assert {answer.status_code for answer in answers} == {403, 503}
    refused = next(answer for answer in answers if answer.status_code == 503)
    assert refused.headers["retry-after"] == "1"
    assert "Try again in a few seconds" in refused.text


async def test_database_away_is_a_plain_page(database: Settings, caplog: pytest.LogCaptureFixture) -> None:
    away = replace(database, postgres_dsn="postgresql://nobody@127.0.0.1:1/none")
    async with site_of(away) as site:
        browser = site.browser()
        browser.client.cookies.set("__Host-tracker-session", "x" * 40)
        await browser.get("/dashboard/link?s=SECRET-OF-LINK")
        assert browser.page.status_code == 503
        assert browser.page.headers["retry-after"] == "1"
        assert browser.page.headers["content-security-policy"] == CSP
        assert browser.page.headers["referrer-policy"] == "no-referrer"
        assert "The database cannot answer now" in browser.text
    assert "SECRET-OF-LINK" not in caplog.text


async def test_other_key_file_is_explained(database: Settings, caplog: pytest.LogCaptureFixture) -> None:
    async with site_of(database) as site:
        await site.add_user()
        browser = site.browser()
        await browser.sign_in("anna@pages.test")
        _, codes = await with_factor(browser)
    async with site_of(database, SecretKey(Fernet.generate_key())) as site:
        browser = site.browser()
        await browser.sign_in("anna@pages.test")
        await browser.follow()
        with caplog.at_level(logging.ERROR):
            await browser.post("/dashboard/second-factor", code="123456")
        assert browser.page.status_code == 503
        assert "key file" in browser.text
        await browser.post("/dashboard/second-factor", code=codes[0])
        assert browser.location == "/dashboard/"
    (line,) = (record for record in caplog.records if record.levelno == logging.ERROR)
    assert "tracker users reset --second-factor" in line.getMessage()


async def test_first_admin_names_himself(site: Site) -> None:
    async with site.people.pool.acquire() as connection, connection.transaction():
        link = await one_time_links.make(connection, "first-admin")
    browser = site.browser()
    await browser.get(link)
    secret = browser.hidden("s")
    await browser.post("/dashboard/link", s=secret, password=PASSWORD, again=PASSWORD, email="")
    assert browser.page.status_code == 422
    assert "E-mail address: is not an e-mail address" in browser.text
    await browser.post(
        "/dashboard/link", s=secret, password=PASSWORD, again=PASSWORD, email="root@pages.test"
    )
    await browser.follow()
    assert "root@pages.test" in browser.text
    assert "runs the network" in browser.text


@pytest.mark.parametrize(
    ("end", "shown"), [("infinity", "never"), ("9999-12-31 23:59:59+00", "9999-12-31 23:59:59")]
)
async def test_last_times_of_the_calendar_are_shown(database: Settings, end: str, shown: str) -> None:
    await create_token(database.postgres_dsn or "", ["clicks:read"])
    async with site_of(replace(database, time_zone="Asia/Tokyo")) as site:
        await site.sql("INSERT INTO advertiser (id, name) VALUES (1, 'A')")
        await site.sql("INSERT INTO affiliate (id, name) VALUES (2, 'B')")
        await site.sql(f"INSERT INTO offer (id, name, advertiser_id, ends_at) VALUES (3, 'O', 1, '{end}')")
        await site.sql(f"UPDATE token SET expires_at = '{end}'")
        await site.add_user()
        await site.add_user("ben@pages.test", "affiliate", affiliate_ids=[2])
        anna, ben = site.browser(), site.browser()
        await anna.sign_in("anna@pages.test")
        await ben.sign_in("ben@pages.test")
        await anna.get("/dashboard/tokens")
        assert f'<td class="time">{shown}</td>' in anna.text
        await anna.get("/dashboard/tokens/1")
        assert f"<dt>Ends</dt><dd>{shown}</dd>" in anna.text
        await ben.get("/dashboard/own-offers")
        assert f"ends {shown}" in ben.text


# The links of an overview without clicks, and of the list of clicks.
LINKS: list[tuple[str, dict[str, list[int]], list[str]]] = [
    ("admin", {}, ["/dashboard/offers", "/dashboard/links"]),
    ("affiliate", {"affiliate_ids": [513]}, ["/dashboard/own-links"]),
    ("advertiser", {"advertiser_ids": [1]}, []),
]


@pytest.mark.parametrize(("role", "own", "links"), LINKS)
async def test_empty_pages_lead_to_what_a_session_does_next(
    site: Site, role: str, own: dict[str, list[int]], links: list[str]
) -> None:
    await site.sql("INSERT INTO advertiser (id, name) VALUES (1, 'A')")
    await site.sql("INSERT INTO affiliate (id, name) VALUES (513, 'B')")
    await site.add_user(role=role, **own)
    browser = site.browser()
    await browser.sign_in("anna@pages.test")
    for page in ("", "clicks?period=all"):
        text = (await browser.get(f"/dashboard/{page}")).text
        (empty,) = re.findall(r"<strong>No clicks yet</strong>.*?</div>", text, re.DOTALL)
        assert (page, re.findall(r'href="([^"]+)"', empty)) == (page, links[-1:] if page else links[:1])
    for place in links:
        assert (await browser.get(place)).status_code == 200
