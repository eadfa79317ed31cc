"""Attacks on the pages: fixation, forged forms, enumeration, races, replays, and text that is not text."""

from __future__ import annotations

import asyncio
import logging
import re
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pyotp
import pytest

from tests.integration.metrics_client import metrics_of
from tests.integration.pages_client import Browser, Site, site_of
from tests.integration.people import PASSWORD
from tests.integration.test_pages import with_factor
from tracker.settings import Settings

pytestmark = pytest.mark.anyio

COOKIE = "__Host-tracker-session"
EMAIL = "anna@pages.test"
FORMS = {
    "/dashboard/account": {"do": "propose"},
    "/dashboard/sessions": {"end": "others"},
    "/dashboard/sign-out": {},
}


@pytest.fixture
async def site(database: Settings) -> AsyncIterator[Site]:
    async with site_of(database) as site:
        yield site


@pytest.fixture
async def anna(site: Site) -> Browser:
    """A browser that is signed in, at the first page."""
    await site.add_user(EMAIL)
    browser = site.browser()
    await browser.sign_in(EMAIL)
    await browser.follow()
    return browser


async def is_in(browser: Browser) -> bool:
    return (await browser.get("/dashboard/")).status_code == 200


# Fixation


async def test_session_from_before_is_not_kept_at_sign_in(site: Site) -> None:
    await site.add_user(EMAIL)
    browser = site.browser()
    browser.client.cookies.set(COOKIE, "chosen-by-somebody-else", domain="pages.test")
    await browser.sign_in(EMAIL)
    assert "chosen-by-somebody-else" not in browser.page.headers["set-cookie"]
    attacker = site.browser()
    attacker.client.cookies.set(COOKIE, "chosen-by-somebody-else")
    assert not await is_in(attacker)


async def test_each_change_of_rights_makes_a_new_session(site: Site, anna: Browser) -> None:
    secret, _ = await with_factor(anna)
    await site.sql("UPDATE user_account SET totp_last_step = 0")
    anna.client.cookies.clear()
    await anna.sign_in(EMAIL)
    half = anna.client.cookies[COOKIE]
    await anna.follow()
    await anna.post("/dashboard/second-factor", code=pyotp.TOTP(secret).now())
    whole = anna.client.cookies[COOKIE]
    assert half != whole
    attacker = site.browser()
    attacker.client.cookies.set(COOKIE, half)
    assert not await is_in(attacker)
    assert await is_in(anna)


async def test_sign_in_over_a_session_ends_that_session(site: Site, anna: Browser) -> None:
    before = anna.client.cookies[COOKIE]
    await anna.post("/dashboard/sign-in", email=EMAIL, password=PASSWORD)
    anna.client.cookies.clear()
    anna.client.cookies.set(COOKIE, before)
    assert not await is_in(anna)


@pytest.mark.parametrize("before", [b"\xa0", b"\x85", b"\xc2\xa0", b"x", b"\x20\xa0"])
async def test_cookie_with_another_name_is_not_the_session(anna: Browser, before: bytes) -> None:
    cookie = before + f"{COOKIE}={anna.client.cookies[COOKIE]}".encode()
    anna.client.cookies.clear()
    answer = await anna.client.get("/dashboard/", headers=[(b"Cookie", b"a=b; " + cookie)])
    assert answer.status_code == 303
    answer = await anna.client.get("/dashboard/", headers=[(b"Cookie", b"a=b; " + cookie[len(before) :])])
    assert answer.status_code == 200


# Forged forms

ORIGINS: dict[str, dict[str, str]] = {
    "foreign": {"Origin": "https://evil.test"},
    "another scheme": {"Origin": "http://pages.test"},
    "another port": {"Origin": "https://pages.test:8443"},
    "a subdomain": {"Origin": "https://evil.pages.test"},
    "a prefix": {"Origin": "https://pages.test.evil.test"},
    "null": {"Origin": "null"},
    "null, cross-site": {"Origin": "null", "Sec-Fetch-Site": "cross-site"},
    "same-site": {"Origin": "", "Sec-Fetch-Site": "same-site"},
    "none": {"Origin": "", "Sec-Fetch-Site": "none"},
    "absent": {"Origin": ""},
    "foreign, and same-origin": {"Origin": "https://evil.test", "Sec-Fetch-Site": "same-origin"},
}


async def test_form_of_another_site_is_refused(site: Site, anna: Browser) -> None:
    token = anna.token
    for kind, origin in ORIGINS.items():
        for path, fields in FORMS.items():
            await anna.post(path, origin, token=token, **fields)
            assert anna.page.status_code == 403, (kind, path)
            assert "another site" in anna.text
        stranger = site.browser()
        await stranger.post("/dashboard/sign-in", origin, email=EMAIL, password=PASSWORD)
        assert stranger.page.status_code == 403, kind
        assert "set-cookie" not in stranger.page.headers
    assert await is_in(anna)
    assert await site.sql("SELECT FROM user_account WHERE totp_secret IS NOT NULL") == []


@pytest.mark.parametrize(
    "headers", [{"Origin": "null", "Sec-Fetch-Site": "same-origin"}, {"Origin": "HTTPS://PAGES.TEST"}]
)
async def test_form_of_the_pages_is_taken(anna: Browser, headers: dict[str, str]) -> None:
    await anna.post("/dashboard/sign-out", headers)
    assert anna.page.status_code == 303


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Origin": "null"}, 303),  # without encryption browsers send no Sec-Fetch-Site
        ({"Origin": "null", "Sec-Fetch-Site": "same-origin"}, 303),
        ({"Origin": "null", "Sec-Fetch-Site": "cross-site"}, 403),
        ({"Origin": ""}, 403),
        ({"Origin": "https://evil.test"}, 403),
    ],
)
async def test_form_of_a_link_has_no_referrer_and_is_still_its_own(
    site: Site, headers: dict[str, str], status: int
) -> None:
    browser = site.browser()
    await browser.get(await site.invitation())
    secret = browser.hidden("s")
    await browser.post("/dashboard/link", headers, s=secret, password=PASSWORD, again=PASSWORD)
    assert browser.page.status_code == status


async def test_form_without_the_token_of_its_session_is_refused(site: Site, anna: Browser) -> None:
    other = site.browser()
    await other.sign_in(EMAIL)
    await other.follow()
    tokens = ("", "x", "é" * 64, other.token, anna.token[:-1], anna.token.upper())
    for token in tokens:
        for path, fields in FORMS.items():
            await anna.post(path, token=token, **fields)
            assert anna.page.status_code == 403
    assert await is_in(anna)
    assert await is_in(other)


# Bodies


BODIES = (
    (b"x=" + b"a" * 65_536, "application/x-www-form-urlencoded", 413),
    (b"email=a&password=%ff", "application/x-www-form-urlencoded", 400),
    (b"\xff=a", "application/x-www-form-urlencoded", 400),
    (b"email=a%00b&password=c", "application/x-www-form-urlencoded", 400),
    (b"&".join(b"a%d=" % n for n in range(1_001)), "application/x-www-form-urlencoded", 400),
    (b'{"email": "a"}', "application/json", 415),
    (b"--x--", "multipart/form-data; boundary=x", 415),
    (b"email=a", "text/plain", 415),
    (b"email=a", "", 415),
    (b"", "application/x-www-form-urlencoded", 403),
    (b"email=anna%40pages.test", "application/x-www-form-urlencoded; charset=utf-8", 403),
)


async def test_body_is_bounded_and_a_form(site: Site) -> None:
    for body, media_type, status in BODIES:
        headers = {"Origin": "https://pages.test", "Content-Type": media_type}
        answer = await site.browser().client.post("/dashboard/sign-in", content=body, headers=headers)
        assert answer.status_code == status, (body[:20], media_type)


NAMES = (
    "a\ud800",
    "\x01@b.test",
    "'; DROP TABLE user_account; --",
    "a" * 60_000,
    "{{ 7 * 7 }}@x.test",
    "%s%n",
)


async def test_odd_address_is_a_wrong_one(site: Site) -> None:
    for email in NAMES:
        browser = site.browser()
        typed = email.encode("utf-8", "replace").decode()
        await browser.post("/dashboard/sign-in", email=typed, password=typed[:50])
        assert browser.page.status_code == 403, email[:20]
        assert "49@x.test" not in browser.text


WANTED = ("//evil.test", "https://evil.test/", "/\\evil.test", "/dashboard/\r\nX: y", "/dashboard//evil")


async def test_sign_in_leads_to_no_other_site(site: Site) -> None:
    await site.add_user(EMAIL)
    for wanted in WANTED:
        browser = site.browser()
        page = await browser.client.get("/dashboard/sign-in", params={"next": wanted})
        assert 'name="next"' not in page.text
        await browser.post("/dashboard/sign-in", email=EMAIL, password=PASSWORD, next=wanted)
        assert browser.location == "/dashboard/"


# Enumeration


async def test_known_and_unknown_accounts_get_the_same_answer(site: Site) -> None:
    await site.add_user(EMAIL)
    await site.add_user("off@pages.test", "analyst")
    await site.sql("UPDATE user_account SET is_disabled = true WHERE email = 'off@pages.test'")
    await site.people.invited("new@pages.test", "analyst")
    answers = []
    for number, email in enumerate((EMAIL, "off@pages.test", "new@pages.test", "nobody@pages.test")):
        browser = site.browser(address=f"198.51.100.{number}")
        password = "wrong" if email == EMAIL else PASSWORD
        await browser.post("/dashboard/sign-in", email=email, password=password)
        headers = sorted(
            (name, value)
            for name, value in browser.page.headers.items()
            if name not in ("content-length", "x-request-id")
        )
        answers.append((browser.page.status_code, browser.text.replace(email, "EMAIL"), headers))
    assert answers[0][0] == 403
    assert all(answer == answers[0] for answer in answers)


# One-time links


async def test_link_used_twice_at_once_makes_one_session(site: Site) -> None:
    link = await site.invitation()
    browsers = [site.browser(address=f"198.51.100.{n}") for n in range(4)]
    secret = link.partition("s=")[2]
    fields = {"s": secret, "password": PASSWORD, "again": PASSWORD}
    answers = await asyncio.gather(*(one.post("/dashboard/link", **fields) for one in browsers))
    assert sorted(answer.status_code for answer in answers) == [303, 410, 410, 410]
    assert len(await site.sql("SELECT FROM user_session")) == 1


async def test_looking_at_a_link_uses_nothing_up(site: Site) -> None:
    link = await site.invitation()
    bot = site.browser(agent="Slackbot-LinkExpanding 1.0")
    for method in ("GET", "HEAD", "GET", "OPTIONS", "PUT"):
        answer = await bot.client.request(method, link)
        assert "set-cookie" not in answer.headers
    assert len(await site.sql("SELECT FROM one_time_link")) == 1
    assert await site.sql("SELECT FROM user_session") == []


async def test_secret_of_a_link_shows_nowhere(
    database: Settings, site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    link = await site.invitation()
    secret = link.partition("s=")[2]
    browser = site.browser()
    with caplog.at_level(logging.DEBUG, "tracker"):
        await browser.get(link)
        assert browser.text.count(secret) == 1  # in the form
        assert not re.search(rf'(?:href|src|action)="[^"]*{secret}', browser.text)
        await browser.client.put(link)
        await browser.post(link, {"Origin": "https://evil.test"}, s=secret)
        assert secret not in browser.text
        await browser.post(link, s=secret, password=PASSWORD, again=PASSWORD)
        assert secret not in f"{browser.page.headers}"
        await browser.get(link)
        assert secret not in browser.text
    assert secret not in caplog.text
    assert secret not in await metrics_of(database)
    for table in ("audit", "one_time_link", "user_session", "failed_sign_in"):
        assert secret not in str([tuple(row) for row in await site.sql(f"SELECT * FROM {table}")])


@pytest.mark.parametrize("drops_factor", [False, True])
async def test_reset_leaves_the_second_factor_unless_it_says_so(
    site: Site, anna: Browser, drops_factor: bool
) -> None:
    await with_factor(anna)
    ((id_,),) = await site.sql("SELECT id FROM user_account")
    secret = await site.people.reset(id_, drops_factor=drops_factor)
    thief = site.browser()
    await thief.get(f"/dashboard/link?s={secret}")
    assert ("removes your second factor" in thief.text) is drops_factor
    new = "another calm and long phrase"
    await thief.post("/dashboard/link", s=secret, password=new, again=new)
    assert thief.location == ("/dashboard/" if drops_factor else "/dashboard/second-factor")
    assert await is_in(thief) is drops_factor
    assert not await is_in(anna)


# Rights change under a session

CHANGES = {
    "role": "UPDATE user_account SET role = 'analyst'",
    "owners": "UPDATE user_account SET affiliate_ids = '{513}', role = 'affiliate'",
    "money": "UPDATE user_account SET role = 'analyst', hides_money = true",
    "disabled": "UPDATE user_account SET is_disabled = true",
    "password": "UPDATE user_account SET password_hash = 'x'",
    "deleted": "DELETE FROM user_account",
    "idle": "UPDATE user_session SET seen_at = now() - interval '12 hours 1 second'",
    "fourteen days": "UPDATE user_session SET ends_at = now() - interval '1 second'",
}


@pytest.mark.parametrize("change", CHANGES)
async def test_session_does_not_outlive_its_rights(site: Site, anna: Browser, change: str) -> None:
    token = anna.token
    await site.sql(CHANGES[change])
    assert not await is_in(anna)
    await anna.post("/dashboard/account", token=token, do="propose")
    assert anna.location.startswith("/dashboard/sign-in")


async def test_session_lasts_until_its_time_is_over(site: Site, anna: Browser) -> None:
    ((seconds,),) = await site.sql("SELECT extract(epoch FROM ends_at - now())::float8 FROM user_session")
    assert 14 * 86_400 - 60 < seconds <= 14 * 86_400
    await site.sql("UPDATE user_session SET seen_at = now() - interval '11 hours 59 minutes'")
    assert await is_in(anna)
    await site.sql("UPDATE user_session SET seen_at = seen_at - interval '11 hours'")
    assert await is_in(anna)  # the first of the two visits counted


async def test_nobody_ends_the_session_of_another_user(site: Site, anna: Browser) -> None:
    await site.add_user("eve@pages.test", "analyst")
    eve = site.browser()
    await eve.sign_in("eve@pages.test")
    await eve.follow()
    for ((id_),) in await site.sql("SELECT id FROM user_session"):
        if id_ != max(row[0] for row in await site.sql("SELECT id FROM user_session")):
            await eve.post("/dashboard/sessions", end=str(id_))
            await eve.get("/dashboard/sessions")
    for odd in ("", "-1", "9" * 40, "1 OR true", "½", "all"):
        await eve.post("/dashboard/sessions", end=odd)
        assert eve.page.status_code == 303
        await eve.follow()
    assert await is_in(anna)


async def test_ended_sessions_are_in_the_audit_trail(site: Site, anna: Browser) -> None:
    other = site.browser(address="198.51.100.1")
    await other.sign_in(EMAIL)
    await anna.post("/dashboard/sessions", end="others")
    last = (await site.people.audit())[-1]
    assert "sessions" in str(last["after"])
    assert (last["token_name"], last["address"]) == (EMAIL, "203.0.113.5")


async def test_admin_who_looks_as_a_partner_changes_nothing(site: Site, anna: Browser) -> None:
    await site.sql("UPDATE user_session SET seen_as = 'affiliate', seen_as_id = 513")
    for path in ("", "account", "sessions"):
        await anna.get(f"/dashboard/{path}")
        assert "You see what affiliate 513 sees." in anna.text
    for path, fields in (*FORMS.items(), ("/dashboard/sign-in", {"email": EMAIL, "password": PASSWORD})):
        if path != "/dashboard/sign-out":
            await anna.post(path, token=anna.token or "", **fields)
            assert (anna.page.status_code, "Nothing can be changed" in anna.text) == (403, True)
            await anna.get("/dashboard/")
    await anna.post("/dashboard/sign-out")
    assert anna.location == "/dashboard/sign-in"


async def test_admin_sees_what_a_partner_sees_and_goes_back(site: Site, anna: Browser) -> None:
    await site.sql("INSERT INTO affiliate (id, name) VALUES (513, 'Partner')")
    for fields, field in (
        ({"kind": "affiliate", "id": "x"}, "id"),
        ({"kind": "affiliate", "id": "9"}, "id"),
        ({"kind": "advertiser", "id": "513"}, "id"),
        ({"kind": "admin", "id": "513"}, "kind"),
    ):
        await anna.get("/dashboard/see-as")
        await anna.post("/dashboard/see-as", **fields)
        assert anna.page.status_code == 422
        assert f'id="{field}-fault"' in anna.text
    await anna.post("/dashboard/see-as", kind="affiliate", id="513")
    await anna.follow()
    assert "You see what affiliate Partner 513 sees." in anna.text
    await anna.post("/dashboard/see-as/end")
    await anna.follow()
    assert "You see what" not in anna.text
    seen = [
        (row["before"], row["after"]) for row in await site.people.audit() if "seen_as" in str(row["after"])
    ]
    partner, nobody = {"seen_as": "affiliate", "seen_as_id": 513}, {"seen_as": None, "seen_as_id": None}
    assert seen == [(nobody, partner), (partner, nobody)]


async def test_only_admins_look_as_a_partner(site: Site) -> None:
    await site.sql("INSERT INTO affiliate (id, name) VALUES (513, 'Partner')")
    await site.add_user("eve@pages.test", "manager")
    eve = site.browser()
    await eve.sign_in("eve@pages.test")
    await eve.follow()
    token = eve.token
    assert (await eve.get("/dashboard/see-as")).status_code == 403
    await eve.post("/dashboard/see-as", token=token, kind="affiliate", id="513")
    assert eve.page.status_code == 403
    assert await site.sql("SELECT FROM user_session WHERE seen_as IS NOT NULL") == []


# Second factors


async def test_code_counts_once(site: Site, anna: Browser) -> None:
    secret, recovery_codes = await with_factor(anna)
    await site.sql("UPDATE user_account SET totp_last_step = 0")
    code = pyotp.TOTP(secret).now()
    browsers = [site.browser(address=f"198.51.100.{n}") for n in range(6)]
    for one in browsers:
        await one.sign_in(EMAIL)
        await one.follow()
    answers = await asyncio.gather(*(one.post("/dashboard/second-factor", code=code) for one in browsers[:3]))
    assert sorted(answer.status_code for answer in answers) == [303, 403, 403]
    written = recovery_codes[0].upper().replace("-", " ")
    answers = await asyncio.gather(
        *(one.post("/dashboard/second-factor", code=written) for one in browsers[3:])
    )
    assert sorted(answer.status_code for answer in answers) == [303, 403, 403]


async def test_earlier_code_does_not_count_after_a_later_one(site: Site, anna: Browser) -> None:
    secret, _ = await with_factor(anna)  # uses the present code up
    other = site.browser()
    await other.sign_in(EMAIL)
    await other.follow()
    await other.post("/dashboard/second-factor", code=pyotp.TOTP(secret).at(time.time() - 30))
    assert other.page.status_code == 403


async def test_guessed_codes_are_limited(site: Site, anna: Browser) -> None:
    await with_factor(anna)
    other = site.browser()
    statuses = []
    for number in range(7):
        await other.sign_in(EMAIL)
        await other.follow()
        await other.post("/dashboard/second-factor", code=f"{number:06}")
        statuses.append(other.page.status_code)
    assert statuses == [403] * 5 + [429] * 2


async def test_half_session_does_nothing_but_sign_out(site: Site, anna: Browser) -> None:
    await with_factor(anna)
    thief = site.browser()
    wanted = {"email": EMAIL, "password": PASSWORD, "next": "/dashboard/clicks?status=new&page=2"}
    await thief.post("/dashboard/sign-in", **wanted)
    await thief.follow()
    assert thief.hidden("next") == wanted["next"]
    token, before = thief.token, len(await site.people.audit())
    for path in ("account", "sessions", "see-as", "see-as/end"):
        await thief.post(
            f"/dashboard/{path}", token=token, do="propose", end="others", kind="affiliate", id="1"
        )
        assert thief.location.startswith("/dashboard/second-factor")
    assert len(await site.people.audit()) == before
    await thief.post("/dashboard/sign-out", token=token)
    assert thief.location == "/dashboard/sign-in"
    assert "Max-Age=0" in thief.page.headers["set-cookie"]


async def test_factor_is_not_proposed_again_while_it_is_on(anna: Browser) -> None:
    await with_factor(anna)
    await anna.post("/dashboard/account", do="propose", before=PASSWORD)
    assert anna.page.status_code == 422
    assert "data:image" not in anna.text


async def test_role_that_needs_a_factor_is_led_to_it(database: Settings) -> None:
    async with site_of(replace(database, totp_roles=("admin",))) as site:
        await site.add_user(EMAIL)
        browser = site.browser()
        await browser.sign_in(EMAIL)
        for path in ("/", "/sessions"):
            await browser.get(f"/dashboard{path}")
            assert browser.location == "/dashboard/account"
        await browser.follow()
        assert "Your role needs a second factor" in browser.text
        await browser.post("/dashboard/sessions", end="others")
        assert browser.location == "/dashboard/account"
        await with_factor(browser)
        assert await is_in(browser)


# Text


async def test_text_of_users_and_browsers_is_no_html(site: Site) -> None:
    evil = "<img src=x onerror=alert(1)>\"'><script>alert(2)</script>"
    await site.add_user('"<b>x</b>"@pages.test', "analyst", name=evil)
    browser = site.browser(agent=evil)
    fields: dict[str, Any] = {"email": '"<b>x</b>"@pages.test', "password": "wrong"}
    await browser.post("/dashboard/sign-in", **fields)
    failed = browser.page
    await browser.post("/dashboard/sign-in", **fields | {"password": PASSWORD})
    assert browser.page.status_code == 303
    pages = [await browser.get(f"/dashboard/{path}") for path in ("", "account", "sessions", evil)]
    texts = [page.text for page in (failed, *pages)]
    for text in texts:
        assert "<b>x" not in text
        assert "<script>" not in text
        assert "<img src=x" not in text
    assert "&lt;script&gt;" in texts[1]
