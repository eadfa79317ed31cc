"""`tracker users`, on a real database."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator

import pytest

from tests.integration.api_client import run_sql
from tests.integration.people import AWAY, HOME, PASSWORD, People, people_of, secret_of
from tests.integration.test_token_command import Shell
from tracker.people.sign_in import LinkIsOverError, WrongError
from tracker.settings import Settings

pytestmark = pytest.mark.anyio

_PARTNERS = """
INSERT INTO affiliate (id, name, is_archived) VALUES (513, 'A', false), (514, 'B', false), (515, 'Old', true);
INSERT INTO advertiser (id, name) VALUES (1, 'One')
"""


@pytest.fixture
async def people(database: Settings) -> AsyncIterator[People]:
    await run_sql(database, _PARTNERS)
    async with people_of(database) as people:
        yield people


@pytest.fixture
def shell(database: Settings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Shell:
    monkeypatch.setenv("TRACKER_API_PORT", "9001")
    return Shell(database, monkeypatch, capsys, "users")


async def test_invitation_is_printed_alone_and_works_once(people: People, shell: Shell) -> None:
    link = await shell("invite", " Ann@Partner.example ", "--role", "affiliate", "--affiliate", "514")
    assert re.fullmatch(r"http://127\.0\.0\.1:9001/dashboard/link\?s=[\w-]{43}", link)
    assert "works once, within 7 days" in shell.stderr
    (row,) = await shell.json("list")
    told = (row["email"], row["role"], row["affiliate_ids"], row["has_password"])
    assert told == ("Ann@Partner.example", "affiliate", [514], False)
    assert "affiliates 514  invited" in re.sub(" {3,}", "  ", await shell("list"))
    await people.sign_in.with_link(secret_of(link), PASSWORD, HOME)
    assert (await shell.json("show", "ann@partner.EXAMPLE"))["has_password"]
    with pytest.raises(LinkIsOverError):
        await people.sign_in.with_link(secret_of(link), PASSWORD, HOME)


async def test_links_begin_with_the_address_of_the_pages(
    people: People, shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRACKER_DASHBOARD_URL", "https://tracker.example/")
    link = await shell("invite", "jane@net.example", "--role", "admin")
    assert link.startswith("https://tracker.example/dashboard/link?s=")


@pytest.mark.parametrize(
    ("words", "code", "complaint"),
    [
        ("invite jane --role admin", 1, "EMAIL is not an e-mail address"),
        ("invite a@b@net.example --role admin", 1, "EMAIL is not an e-mail address"),
        ("invite jane@net.example --role boss", 2, "--role: invalid choice: 'boss'"),
        ("invite jane@net.example --role affiliate", 1, "--affiliate is missing: the role affiliate needs"),
        ("invite jane@net.example --role advertiser --affiliate 513", 1, "--affiliate must be empty"),
        ("invite jane@net.example --role admin --affiliate 513", 1, "--affiliate must be empty for the role"),
        ("invite jane@net.example --role finance --hides-money", 1, "--hides-money must be false"),
        ("invite jane@net.example --role manager --affiliate 7", 1, "--affiliate 7 matches no affiliate"),
        ("invite jane@net.example --role manager --affiliate 515", 1, "--affiliate 515 matches no affiliate"),
        ("invite jane@net.example --role manager --affiliate 513 --advertiser 1", 2, "not allowed with"),
        ("invite BOSS@net.example --role analyst", 1, "EMAIL is the address of another user"),
        ("set boss@net.example", 1, "nothing to set"),
        ("set boss@net.example --role analyst", 1, "--role must stay: this is the last admin"),
        ("set boss@net.example --email x", 1, "EMAIL is not an e-mail address"),
        ("disable boss@net.example", 1, "--disable must stay: this is the last admin"),
        ("remove boss@net.example", 1, "--role must stay: this is the last admin"),
        ("show nobody@net.example", 1, "there is no user nobody@net.example: see tracker users list"),
        ("reset 99", 1, "there is no user 99"),
        ("sessions boss@net.example --end 99", 1, "The user has no session 99."),
        ("sessions boss@net.example --end some", 2, "'some' is neither the id of a session nor `all`"),
    ],
)
async def test_what_is_wrong_is_named(
    people: People, shell: Shell, words: str, code: int, complaint: str
) -> None:
    await people.joined("boss@net.example")
    assert complaint in await shell(*words.split(), code=code)


async def test_user_is_changed_disabled_reset_and_removed(people: People, shell: Shell) -> None:
    await people.joined("boss@net.example")
    await people.joined("tom@net.example", "manager", affiliate_ids=[513])

    await shell("set", "tom@net.example", "--affiliate", "514", "--affiliate", "513", "--hides-money")
    row = await shell.json("show", "tom@net.example")
    assert (row["affiliate_ids"], row["hides_money"]) == ([513, 514], True)
    await people.pool.execute("UPDATE affiliate SET is_archived = true WHERE id = 513")
    await shell("set", "tom@net.example", "--name", "Tom", "--no-hides-money")  # of an archived one, too
    await shell("set", "tom@net.example", "--role", "analyst", "--no-owner", "--email", "T@net.example")
    row = await shell.json("show", "t@net.example")
    told = (row["name"], row["role"], row["affiliate_ids"], row["hides_money"])
    assert told == ("Tom", "analyst", [], False)

    link = await shell("reset", "t@net.example")
    assert "within 60 minutes" in shell.stderr
    await shell("disable", "t@net.example")
    assert "--disable is true: enable the user first" in await shell("reset", "t@net.example", code=1)
    with pytest.raises(WrongError):
        await people.sign_in.with_password("t@net.example", PASSWORD, HOME)
    await shell("enable", "t@net.example")
    with pytest.raises(LinkIsOverError):  # of before
        await people.sign_in.with_link(secret_of(link), PASSWORD, HOME)
    await people.sign_in.with_password("t@net.example", PASSWORD, HOME)
    await shell("remove", "t@net.example")
    assert [row["email"] for row in await shell.json("list")] == ["boss@net.example"]
    trail = [(row["token_name"].partition(":")[0], row["action"]) for row in await people.audit()]
    assert trail[-1] == ("command line", "delete")


async def test_sessions_are_listed_and_ended(people: People, shell: Shell) -> None:
    await people.joined()
    agent = "Fire\x1b[31mfox\x9b" + "x" * 400
    signed_in = [
        await people.sign_in.with_password("jane@net.example", PASSWORD, where)
        for where in (HOME, AWAY, AWAY._replace(user_agent=agent))
    ]
    rows = await shell.json("sessions", "jane@net.example")
    assert {row["address"] for row in rows} == {HOME.address, AWAY.address}
    assert len(rows) == 4
    table = await shell("sessions", "jane@net.example")
    assert "Fire[31mfox" in table
    assert not {"\x1b", "\x9b"} & set(table)
    ended = await people.session(signed_in[0])
    await shell("sessions", "jane@net.example", "--end", str(ended.id))
    assert [await people.is_over(one) for one in signed_in] == [True, False, False]
    await shell("sessions", "jane@net.example", "--end", "all")
    assert await shell.json("sessions", "jane@net.example") == []
