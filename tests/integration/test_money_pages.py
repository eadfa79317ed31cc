"""Pages of money and of partners: who opens which, previews that are what is booked, and forms sent twice."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from html import unescape
from typing import Any

import pytest

from tests.factories.clicks import a_row
from tests.factories.conversions import a_conversion, store_conversions
from tests.integration.api_client import run_sql, store
from tests.integration.pages_client import Browser, Site, inputs_of, site_of
from tracker.settings import Settings
from tracker.store.catalogue.demo import load_demo

pytestmark = pytest.mark.anyio

ROOT = "/dashboard"
MONEY = ("money/balances", "money/statements")
BOOKS = ("money/entries", "money/corrections", "money/closes")
FORMS = (
    *("money/entries/new", "money/corrections/new", "money/pay"),
    *("money/entries/upload", "money/corrections/upload"),
)
OWN = ("own-offers", "own-links")
POSTBACKS, APPLICATIONS = "own-postbacks", "applications"
PAGES = (*MONEY, *BOOKS, *FORMS, *OWN, POSTBACKS, APPLICATIONS)

# Role, its owner and sight, and the pages that it opens.
ROLES: list[tuple[str, dict[str, Any], tuple[str, ...]]] = [
    ("admin", {}, (*MONEY, *BOOKS, *FORMS, APPLICATIONS)),
    ("finance", {}, (*MONEY, *BOOKS, *FORMS, APPLICATIONS)),
    ("manager", {}, (APPLICATIONS,)),
    ("manager", {"hides_money": True}, (APPLICATIONS,)),
    ("manager", {"affiliate_ids": [513]}, (*MONEY, *OWN, POSTBACKS)),
    ("analyst", {}, (APPLICATIONS,)),
    ("affiliate", {"affiliate_ids": [513]}, (*MONEY, *OWN, POSTBACKS)),
    ("affiliate", {"affiliate_ids": [513], "hides_money": True}, (*OWN, POSTBACKS)),
    ("advertiser", {"advertiser_ids": [1]}, MONEY),
]
CLICK = a_row()
CONVERSION = a_conversion(
    CLICK, goal_id=3, payout="7.77", payout_currency="CHF", revenue="8.88", revenue_currency="CHF"
)
_MORE = """
INSERT INTO affiliate (id, name) VALUES (614, 'Foreign');
UPDATE goal SET payout = 2.5, revenue = 4, currency = 'CHF', is_priced = true WHERE offer_id = 3;
INSERT INTO offer (id, name, advertiser_id, visibility, status)
VALUES (65, 'Needs approval', 1, 'approval', 'active');
INSERT INTO conversion_entry (conversion_id, booked_at, kind, is_adjustment, offer_id, advertiser_id,
    affiliate_id, payout, payout_currency, revenue, revenue_currency)
VALUES (1, '2024-10-10', 'approval', false, 3, 1, 513, 7.77, 'CHF', 8.88, 'CHF');
INSERT INTO manual_entry (affiliate_id, kind, amount, currency, change, booked_at, reason, author)
VALUES (513, 'payment', 6.66, 'CHF', -6.66, '2024-10-11', 'Part of October', 'x'),
    (614, 'payment', 9.99, 'CHF', -9.99, '2024-10-11', 'For somebody else', 'x');
"""
_BOOKED = "SELECT FROM manual_entry WHERE currency = $1 AND reason = 'October'"
_BONUS = """
INSERT INTO manual_entry (affiliate_id, kind, amount, currency, change, booked_at, reason, author)
VALUES (614, 'bonus', 20, 'CHF', 20, '2024-10-12', 'x', 'x')
"""
_PAID = "SELECT affiliate_id, change::text, reference FROM manual_entry WHERE reason = 'October' ORDER BY id"
OCTOBER = "from=2024-10-01&to=2024-10-31"


@pytest.fixture
async def site(database: Settings) -> AsyncIterator[Site]:
    await load_demo(database.postgres_dsn or "")
    await store(database, [CLICK])
    await store_conversions(database, [CONVERSION])
    await run_sql(database, _MORE)
    async with site_of(database) as site:
        yield site


async def signed_in(site: Site, role: str = "finance", **fields: Any) -> Browser:
    email = f"{role}{len(site._browsers)}@pages.test"
    await site.add_user(email, role, **fields)
    browser = site.browser()
    await browser.sign_in(email)
    return browser


def text_of(page: str) -> str:
    """What is read on a page, without its tags."""
    main = page.partition("<main")[2]
    return " ".join(unescape(re.sub(r"<[^>]+>", " ", main)).split())


async def test_pages_open_for_the_roles_that_may(site: Site) -> None:
    for role, fields, allowed in ROLES:
        browser = await signed_in(site, role, **fields)
        for path in PAGES:
            page = await browser.get(f"{ROOT}/{path}")
            assert page.status_code == (200 if path in allowed else 403), (role, fields, path)
            is_in_menu = f'href="{ROOT}/{path}"' in (await browser.get(f"{ROOT}/account")).text
            assert is_in_menu is (path in allowed and path not in FORMS), (role, fields, path)
            if fields.get("hides_money"):
                assert not re.search(r"7\.77|8\.88|6\.66|2\.50|CHF", page.text), (role, path)


async def test_partner_sees_its_own_money_only(site: Site) -> None:
    for role, fields, own, foreign in (
        (
            "affiliate",
            {"affiliate_ids": [513]},
            ("7.77 CHF", "-6.66 CHF", "Part of October"),
            ("8.88", "9.99"),
        ),
        ("advertiser", {"advertiser_ids": [1]}, ("8.88 CHF",), ("7.77", "6.66", "9.99", "John Doe")),
    ):
        browser = await signed_in(site, role, **fields)
        for path in (f"money/statements?{OCTOBER}", "money/balances"):
            text = text_of((await browser.get(f"{ROOT}/{path}")).text)
            assert own[0] in text, text
            assert not any(word in text for word in foreign), text
        text = text_of((await browser.get(f"{ROOT}/money/statements?{OCTOBER}")).text)
        assert all(word in text for word in own), text
        for path in ("lines", "file"):
            file = await browser.get(f"{ROOT}/money/statements/{path}?{OCTOBER}&group_by=offer&format=csv")
            assert file.status_code == 200
            assert not any(word in file.text for word in foreign), file.text
        for name, id_ in (("affiliate_id", 614), ("advertiser_id", 2), ("party", "affiliate")):
            page = await browser.get(f"{ROOT}/money/statements?{OCTOBER}&{name}={id_}")
            assert not any(word in page.text for word in foreign)


async def hidden(browser: Browser) -> dict[str, str]:
    """The fields of the preview's form."""
    return {
        field["name"]: field.get("value", "")
        for field in inputs_of(browser.text)
        if field.get("type") == "hidden" and field["name"] != "token"
    }


# Currency, amount, and the balance of the affiliate before and after it.
PAYMENTS = [
    ("CHF", "1.11", "1.11 CHF → 0.00 CHF"),
    ("JPY", "1250", "0 JPY → -1,250 JPY"),
    ("KWD", "1.505", "0.000 KWD → -1.505 KWD"),
]


async def test_entry_is_shown_and_then_booked_once(site: Site) -> None:
    browser = await signed_in(site)
    path = f"{ROOT}/money/entries/new"
    for currency, amount, change in PAYMENTS:
        await browser.get(f"{path}?affiliate_id=513&kind=payment&amount={amount}&currency={currency}")
        entry = {"affiliate_id": "513", "advertiser_id": "", "kind": "payment", "amount": amount}
        entry |= {"currency": currency, "booked_at": "", "reason": "October", "reference": f"SEPA {currency}"}
        before = await site.sql("SELECT id FROM manual_entry")
        await browser.post(path, **entry | {"affiliate_id": "john doe"}, do="preview")
        assert change in text_of(browser.text), text_of(browser.text)
        assert "affiliate 513, John Doe" in text_of(browser.text)
        assert await site.sql("SELECT id FROM manual_entry") == before, "a preview books nothing"
        fields = await hidden(browser)
        assert {name: fields[name] for name in entry} == entry
        await browser.post(path, **fields, do="change")
        assert 'name="amount"' in browser.text
        assert await site.sql("SELECT id FROM manual_entry") == before
        preview = dict(fields)
        for _ in range(2):  # a double click sends the same form twice
            token = {"token": browser.token}
            answer = await browser.client.post(
                path, data={**preview, **token, "do": "book"}, headers={"Origin": browser.base}
            )
            assert answer.status_code == 303, answer.text
        rows = await site.sql(_BOOKED, currency)
        assert len(rows) == 1
        await browser.get(answer.headers["location"])
        assert "is booked" in browser.text


async def test_filter_takes_a_name_and_the_address_has_its_id(site: Site) -> None:
    browser = await signed_in(site)
    for page in (*MONEY, "money/entries", "money/corrections"):
        path = f"{ROOT}/{page}?party=affiliate&affiliate_id="
        if page not in MONEY:
            path = f"{ROOT}/{page}?affiliate_id="
        await browser.get(f"{path}john+doe")
        assert (page, browser.location) == (page, f"{path}513")
        assert (await browser.get(f"{path}513")).status_code == 200
        await browser.get(f"{path}Nobody")
        assert (page, 'id="affiliate_id-fault"' in browser.text) == (page, True)


async def test_wrong_field_is_named_beside_it(site: Site) -> None:
    browser = await signed_in(site)
    path = f"{ROOT}/money/entries/new"
    right = {"affiliate_id": "513", "kind": "payment", "amount": "1", "currency": "EUR", "reason": "x"}
    for field, value in (
        ("affiliate_id", "999"),
        ("affiliate_id", "x"),
        ("amount", "1,5"),
        ("currency", "EURO"),
        ("reason", " "),
        ("booked_at", "2999-01-01"),
    ):
        await browser.get(path)
        await browser.post(path, **{**right, field: value}, do="preview")
        assert browser.page.status_code == 422
        assert f'id="{field}-fault"' in browser.text, (field, text_of(browser.text))
        assert "This will be booked" not in browser.text


async def test_entry_is_undone_by_another(site: Site) -> None:
    browser = await signed_in(site)
    (row,) = await site.sql("SELECT id FROM manual_entry WHERE affiliate_id = 513")
    path = f"{ROOT}/money/entries/{row['id']}/undo"
    await browser.get(path)
    await browser.post(path, reason="wrong account", booked_at="", do="preview")
    assert "1.11 CHF → 7.77 CHF" in text_of(browser.text)
    await browser.post(path, **await hidden(browser), do="book")
    await browser.follow()
    assert f"undoes {row['id']}" in text_of(browser.text)
    await browser.get(path)
    await browser.post(path, reason="again", booked_at="", do="preview")
    assert browser.page.status_code == 409
    assert "reversed already" in text_of(browser.text)


async def test_correction_books_what_its_preview_shows(site: Site) -> None:
    browser, partner = await signed_in(site), await signed_in(site, "affiliate", affiliate_ids=[513])
    path = f"{ROOT}/money/corrections/new"
    for one, sees in ((browser, True), (partner, False)):
        await one.get(f"{ROOT}/conversions/1")
        assert (f'href="{path}?conversion_id=1"' in one.text) is sees
    await browser.get(f"{path}?conversion_id=1")
    assert "7.77 CHF" in text_of(browser.text)
    fields = {"conversion_id": "1", "payout": "5", "revenue": "", "sale_amount": "", "reason": "agreed price"}
    await browser.post(path, **fields, do="preview")
    assert "Booked payout -2.77 CHF , revenue 0.00 CHF" in text_of(browser.text)
    preview = await hidden(browser)
    token = {"token": browser.token}
    for _ in range(2):
        answer = await browser.client.post(
            path, data={**preview, **token, "do": "book"}, headers={"Origin": browser.base}
        )
        assert answer.status_code == 303
    (entry,) = await site.sql("SELECT payout::text FROM conversion_entry WHERE kind = 'correction'")
    assert entry["payout"] == "-2.770000"
    await browser.get(answer.headers["location"])
    assert "7.77 → 5.00 CHF" in text_of(browser.text)
    await browser.post(path, **{**fields, "conversion_id": "999"}, do="preview")
    assert browser.page.status_code == 404


async def test_close_is_shown_and_then_done_by_admins_only(site: Site) -> None:
    await site.sql("UPDATE conversion SET status = 'pending', created_at = '2024-10-12'")
    finance, admin = await signed_in(site), await signed_in(site, "admin")
    path = f"{ROOT}/money/closes"
    await finance.get(path)
    assert 'name="until"' not in finance.text
    await finance.post(path, until="2024-11-01", do="preview", token=finance.hidden("token"))
    assert finance.page.status_code == 403
    await admin.get(path)
    await admin.post(path, until="2024-11-01", do="preview")
    text = text_of(admin.text)
    assert "1 pending" in text
    assert "affiliates in CHF" in text
    assert await site.sql("SELECT FROM period_close") == []
    await admin.post(path, **await hidden(admin), do="book")
    await admin.follow()
    assert "2024-11-01 00:00:00" in text_of(admin.text)
    for until in ("2024-11-01", "2999-01-01", "x"):
        await admin.post(path, until=until, do="preview")
        assert admin.page.status_code in (409, 422)
        assert 'id="until-fault"' in admin.text


async def test_affiliate_applies_and_the_network_decides(site: Site) -> None:
    partner, manager = (
        await signed_in(site, "affiliate", affiliate_ids=[513]),
        await signed_in(site, "manager"),
    )
    offers = f"{ROOT}/own-offers"
    await partner.get(offers)
    assert "2.50 CHF" in text_of(partner.text)
    assert "Needs approval 65" in text_of(partner.text)
    await partner.post(offers, offer_id="65", affiliate_id="513", note="By newsletter")
    await partner.follow()
    assert "waits for the network" in text_of(partner.text)
    await manager.get(f"{ROOT}/applications")
    assert "By newsletter" in text_of(manager.text)
    await manager.post(f"{ROOT}/applications", do="rejected", reason="no")
    assert manager.page.status_code == 422, "nothing is chosen"
    await manager.post(f"{ROOT}/applications", pairs="65-513", do="rejected", reason="No newsletters")
    await manager.follow()
    assert "1 decided" in text_of(manager.text)
    await partner.get(offers)
    assert "declined No newsletters" in text_of(partner.text)
    await manager.get(f"{ROOT}/applications?status=rejected")
    await manager.post(f"{ROOT}/applications?status=rejected", pairs="65-513", do="approved", reason="")
    await partner.get(f"{ROOT}/own-links?offer_id=65&aff_sub=a%20b")
    assert "/offer/65?affiliate_id=513&aff_sub=a+b" in unescape(partner.text)
    await partner.get(f"{ROOT}/own-links?offer_id=999")
    assert 'id="offer_id-fault"' in partner.text


async def test_affiliate_saves_tests_and_pauses_a_postback(site: Site) -> None:
    partner = await signed_in(site, "affiliate", affiliate_ids=[513])
    path = f"{ROOT}/own-postbacks"
    await partner.get(path)
    await partner.post(
        path, do="save", url="http://127.0.0.1/in", offer_id="", goal_id="", statuses="approved"
    )
    assert 'id="url-fault"' in partner.text
    await partner.post(
        path,
        do="save",
        url="https://partner.example/in?c={aff_sub}",
        offer_id="3",
        goal_id="",
        statuses="approved",
    )
    await partner.follow()
    (row,) = await site.sql("SELECT id FROM affiliate_postback")
    await partner.post(path, do="test", id=str(row["id"]))
    assert "no answer: its name has no address" in text_of(partner.text)
    await partner.post(path, do="pause", id=str(row["id"]))
    await partner.follow()
    assert "paused" in text_of(partner.text)
    assert 'value="activate"' in partner.text
    await site.sql("UPDATE affiliate_postback SET status = 'active'")
    await site.sql("UPDATE affiliate_postback SET status = 'paused'")
    await partner.get(path)
    assert "paused by the network" in text_of(partner.text)
    assert 'value="activate"' not in partner.text
    await partner.post(path, do="archive", id=str(row["id"]))
    await partner.follow()
    assert "No URL yet" in text_of(partner.text)
    manager = await signed_in(site, "manager", affiliate_ids=[513])
    await manager.get(path)
    assert 'name="url"' not in manager.text, "a manager of partners reads"


async def test_open_balances_are_paid_at_once_or_not_at_all(site: Site) -> None:
    browser = await signed_in(site)
    path = f"{ROOT}/money/pay"
    await site.sql(_BONUS)
    for query, owed in (("", ("1.11 CHF", "10.01 CHF")), ("?least=5", ("10.01 CHF",)), ("?currency=EUR", ())):
        await browser.get(path + query)
        assert tuple(re.findall(r"\d+\.\d+ CHF", text_of(browser.text))) == owed, query
    await browser.get(f"{path}?least=x")
    assert browser.page.status_code == 422
    assert 'id="least-fault"' in browser.text
    await browser.get(path)
    form = {"party": "affiliate", "least": "", "currency": "", "booked_at": "", "reason": "October"}
    form |= {"reference": "SEPA-1", "pay": ["513 1.11 CHF", "614 10.01 CHF"]}  # type: ignore[dict-item]
    await browser.post(path, **{**form, "pay": []}, do="preview")
    assert browser.page.status_code == 422, "nothing is chosen"
    await browser.post(path, **form, do="preview")
    assert "2 payments will be booked" in text_of(browser.text)
    key = browser.hidden("key")
    token = {"token": browser.token}
    for _ in range(2):
        answer = await browser.client.post(
            path, data={**form, **token, "key": key, "do": "book"}, headers={"Origin": browser.base}
        )
        assert answer.status_code == 303
    rows = await site.sql(
        "SELECT affiliate_id, change::text, reference FROM manual_entry WHERE reason = 'October'"
    )
    assert [tuple(row) for row in rows] == [
        (513, "-1.110000", "SEPA-1-513-CHF"),
        (614, "-10.010000", "SEPA-1-614-CHF"),
    ]
    await browser.get(answer.headers["location"])
    assert "2 payments are booked" in text_of(browser.text)
    await browser.get(path)
    assert "Nothing is open" in browser.text
    form["pay"] = ["513 1.11 CHF", "614 1 CHF"]  # type: ignore[assignment]
    form["reference"] = "SEPA-1"
    await browser.post(path, **form, do="preview")
    assert browser.page.status_code == 422
    assert "513: reference is of entry" in text_of(browser.text)
    assert 'name="do" value="book"' not in browser.text


@pytest.mark.parametrize("between", ["\n", "\r\n", "\n\n\n"])
async def test_fault_of_a_payment_names_its_party_whatever_the_lines(site: Site, between: str) -> None:
    browser = await signed_in(site)
    await browser.get(f"{ROOT}/money/pay")
    form = {"party": "affiliate", "reason": f"October{between}again", "reference": f"S{between}1"}
    await browser.post(f"{ROOT}/money/pay", **form, pay=["513 1 CHF", "614 x CHF"], do="preview")
    assert browser.page.status_code == 422
    assert "614: amount must be" in text_of(browser.text)


_MANY = """
INSERT INTO affiliate (id, name) SELECT n, 'An affiliate ' || n FROM generate_series(1001, 1400) AS n;
INSERT INTO manual_entry (affiliate_id, kind, amount, currency, change, booked_at, reason, author)
SELECT n, 'bonus', 1000, 'JPY', 1000, '2024-10-12', 'x', 'x' FROM generate_series(1001, 1400) AS n
"""


async def test_many_parties_are_shown_page_by_page(site: Site) -> None:
    await run_sql(site.settings, _MANY)
    browser = await signed_in(site)
    for path, where in ((f"money/statements?{OCTOBER}&group_by=offer", "&"), ("money/balances", "?")):
        seen: list[str] = []
        for page in range(1, 6):
            await browser.get(f"{ROOT}/{path}{where}page={page}")
            assert len(browser.text) < 100_000
            seen += re.findall(r"An affiliate (\d+)", browser.text)
            assert ("More →" in browser.text) is (page < 5)
        assert seen == [str(n) for n in range(1001, 1401)]
        assert "400,000" in text_of(browser.text), "the sum is of all"


_ENTRIES = (
    "affiliate_id,advertiser_id,kind,amount,currency,reason\r\n"
    "513,,payment,2.50,CHF,October\r\n513,,bonus,1,CHF,October\r\n,1,fee,3,EUR,October\r\n"
)
_JSON_ENTRIES = (
    '{"affiliate_id": 513, "kind": "payment", "amount": "2.50", "currency": "CHF", "reason": "October"}\n'
    '{"affiliate_id": "513", "kind": "bonus", "amount": 1, "currency": "CHF", "reason": "October"}\n\n'
    '{"advertiser_id": 1, "kind": "fee", "amount": 3.00, "currency": "EUR", "reason": "October"}\n'
)
_BALANCES = "Affiliate John Doe 513 2 -1.50 CHF"
# The list, the file, what the preview says, and the rows that it books.
FILES = [
    ("money/entries", _ENTRIES, (_BALANCES, "Advertiser PlayGames 1 1 3.00 EUR"), 3),
    ("money/entries", _JSON_ENTRIES, (_BALANCES, "Advertiser PlayGames 1 1 3.00 EUR"), 3),
    (
        "money/corrections",
        "conversion_id,payout,reason\r\n1,5.00,October\r\n",
        ("Affiliate John Doe 513 1 -2.77 CHF conversion_id,",),  # and nothing for the advertiser
        1,
    ),
]
# A file, and what is said of its lines.
WRONG_FILES = [
    ("affiliate_id,kind,amount,currency,reason\n513,gift,1,CHF,x\n99,fee,1,CHF,\n", ["2 kind", "3 reason"]),
    (
        '{"affiliate_id": 513, "kind": "fee"}\n{"colour": 1}\n[]\n',
        ["1 amount", "2 has the unknown", "3 is not"],
    ),
    (
        '{"affiliate_id": 513, "kind": "fee", "kind": "bonus"}\n{"amount": [1]}\n',
        ["1 has a field", "2 amount is"],
    ),
    ('{"affiliate_id": 513, "reason": "\\ud800"}\n', ["1 reason has half of a character"]),
    ("513,2.50\n", ["File: "]),
    (" ", ["Choose a file, or paste its lines."]),
]
_COUNT = """
SELECT (SELECT count(*) FROM manual_entry WHERE reason = 'October')
    + (SELECT count(*) FROM conversion_correction WHERE reason = 'October')
"""


async def test_file_books_what_its_preview_shows_once(site: Site) -> None:
    browser, expected = await signed_in(site), 0
    for page, text, said, rows in FILES:
        path = f"{ROOT}/{page}/upload"
        await browser.get(path)
        await browser.post(path, text=text)
        shown = text_of(browser.text)
        assert all(one in shown for one in said), shown
        assert await site.sql(_COUNT) == [(expected,)]
        expected += rows
        preview = await hidden(browser) | {"token": browser.token}
        for _ in range(2):
            await browser.post(path, text=text, **preview)
            assert browser.location == f"{ROOT}/{page}?booked={rows}", browser.text
        assert await site.sql(_COUNT) == [(expected,)]
        await browser.follow()
        assert 'role="status"' in browser.text


async def test_wrong_lines_of_a_file_are_named(site: Site) -> None:
    browser, path = await signed_in(site), f"{ROOT}/money/entries/upload"
    await browser.get(path)
    for text, said in WRONG_FILES:
        await browser.post(path, text=text)
        assert browser.page.status_code == 422, text
        shown = text_of(browser.text)
        assert all(one in shown for one in said), shown
    assert await site.sql(_COUNT) == [(0,)]


@pytest.mark.parametrize(("charset", "text"), [("unicode_escape", "\\ud800"), ("utf-8", "a\0b")])
async def test_form_with_a_text_that_is_none_is_refused(site: Site, charset: str, text: str) -> None:
    browser, path = await signed_in(site), f"{ROOT}/money/entries/upload"
    await browser.get(path)
    parts = [("token", browser.token), ("text", text), ("text", "the last one")]
    body = "".join(f'--x\r\nContent-Disposition: form-data; name="{n}"\r\n\r\n{v}\r\n' for n, v in parts)
    headers = {"Origin": browser.base, "Content-Type": f"multipart/form-data; boundary=x; charset={charset}"}
    answer = await browser.client.post(path, content=f"{body}--x--\r\n", headers=headers)
    assert answer.status_code == 400
    assert "The form cannot be read." in answer.text
