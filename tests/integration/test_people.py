"""People sign in: passwords, second factors, one-time links, sessions and the throttle."""

from __future__ import annotations

import asyncio
import logging
import random
import signal
import sys
import threading
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cryptography.fernet import Fernet

from tests.integration.api_client import run_sql
from tests.integration.engines import PATIENCE
from tests.integration.people import AWAY, HOME, PASSWORD, People, people_of, secret_of
from tracker.ops.doctor import users as doctor
from tracker.people import first_admin, one_time_links, passwords, seeing, throttle
from tracker.people import users as acts
from tracker.people.passwords import BusyError
from tracker.people.sign_in import FieldError, LinkIsOverError, SignedIn, Visitor, WrongError
from tracker.people.throttle import MOST_OF_ACCOUNT, MOST_OF_ADDRESS, WaitError
from tracker.people.users import LastAdminError
from tracker.secret_key import OtherKeyError, load
from tracker.settings import Settings
from tracker.store.catalogue import edit
from tracker.store.catalogue.edit import TakenError
from tracker.store.people import failures, guesses
from tracker.store.people import sessions as stored_sessions
from tracker.store.people import users as stored
from workers import housekeeping

pytestmark = pytest.mark.anyio

EMAIL = "jane@net.example"


@pytest.fixture
async def people(database: Settings) -> AsyncIterator[People]:
    async with people_of(database) as people:
        yield people


# Passwords


async def test_password_signs_in_with_any_case_of_the_address(people: People) -> None:
    await people.joined("Änne@Net.example")
    for email in ("änne@net.example", " ÄNNE@NET.EXAMPLE ", "A\u0308nne@net.example"):
        session = await people.session(await people.sign_in.with_password(email, PASSWORD, HOME))
        assert (session.email, session.role, session.is_whole) == ("Änne@Net.example", "admin", True)
    with pytest.raises(TakenError):
        await people.invited("ÄNNE@net.example")


async def test_user_is_shut_out_with_all_of_his_partners(people: People, database: Settings) -> None:
    await run_sql(database, "INSERT INTO affiliate (id, name) VALUES (513, 'One'), (514, 'Two')")
    joined = await people.joined(EMAIL, "affiliate", affiliate_ids=[513, 514])
    signed_in = await people.sign_in.with_password(EMAIL, PASSWORD, HOME)
    assert (await people.session(signed_in)).affiliate_ids == [513, 514]
    await run_sql(database, "UPDATE affiliate SET status = 'blocked' WHERE id = 513")
    session = await people.session(signed_in)
    assert (session.user_id, session.affiliate_ids) == (joined.user_id, [514])
    await run_sql(database, "UPDATE affiliate SET is_archived = true WHERE id = 514")
    assert await people.is_over(signed_in)
    with pytest.raises(WrongError):
        await people.sign_in.with_password(EMAIL, PASSWORD, HOME)


@pytest.mark.parametrize(
    ("email", "password"),
    [
        (EMAIL, PASSWORD + " "),
        (EMAIL, ""),
        (EMAIL, PASSWORD * 20),
        (EMAIL, "\0" + PASSWORD),
        (EMAIL, "\ud800" * 12),
        ("nobody@net.example", PASSWORD),
        ("new@net.example", ""),
        ("off@net.example", PASSWORD),
        ("", PASSWORD),
        ("a\0b@net.example", PASSWORD),
        ("\ud800@net.example", PASSWORD),
        ("x" * 70_000, PASSWORD),
    ],
)
async def test_wrong_sign_in_is_refused_after_the_same_work(
    people: People, monkeypatch: pytest.MonkeyPatch, email: str, password: str
) -> None:
    await people.joined()
    await people.invited("new@net.example", "analyst")
    off = await people.joined("off@net.example", "analyst")
    await people.changed(off.user_id, is_disabled=True)
    checked = list[str]()
    verify = passwords._verify

    def noted(hash_: str, plain: bytes) -> bool:
        checked.append(hash_)
        return verify(hash_, plain)

    monkeypatch.setattr(passwords, "_verify", noted)
    with pytest.raises(WrongError):
        await people.sign_in.with_password(email, password, HOME)
    (hash_,) = checked
    assert not passwords.is_outdated(hash_)  # of unknown accounts, too


async def test_password_of_former_parameters_is_hashed_again(people: People) -> None:
    joined = await people.joined()
    signed_in = await people.sign_in.with_password(EMAIL, PASSWORD, HOME)
    old = passwords.PasswordHasher(time_cost=1, memory_cost=64, parallelism=1).hash(PASSWORD)
    await people.pool.execute("UPDATE user_account SET password_hash = $1, rehashes = rehashes + 1", old)
    await people.session(await people.sign_in.with_password(EMAIL, PASSWORD, HOME))
    assert not await people.is_over(signed_in)  # it is the same password
    user = await stored.by_id(people.pool, joined.user_id)
    assert user
    assert user.password_hash
    assert not passwords.is_outdated(user.password_hash)


async def test_password_change_needs_the_former_one_and_ends_other_sessions(people: People) -> None:
    await people.joined()
    other, mine = [await people.sign_in.with_password(EMAIL, PASSWORD, where) for where in (AWAY, HOME)]
    session = await people.session(mine)
    new = "another calm and long phrase"
    with pytest.raises(WrongError):
        await people.sign_in.change_password(session, "wrong", new, HOME)
    for wrong in ("short", "aaaaaaaaaaaaaaa", "i am jane@net.example ok", "b" * 201):
        with pytest.raises(FieldError) as refused:
            await people.sign_in.change_password(session, PASSWORD, wrong, HOME)
        assert refused.value.field == "password"
    renewed = await people.sign_in.change_password(session, PASSWORD, new, HOME)
    assert (await people.is_over(other), await people.is_over(mine)) == (True, True)
    assert (await people.session(renewed)).is_whole
    with pytest.raises(WrongError):
        await people.sign_in.change_password(session, new, PASSWORD, HOME)  # of a session that is over
    with pytest.raises(WrongError):
        await people.sign_in.with_password(EMAIL, PASSWORD, HOME)


async def test_hashing_is_bounded(people: People, monkeypatch: pytest.MonkeyPatch) -> None:
    await people.joined()
    may_go_on, verify = threading.Event(), passwords._verify

    def held(hash_: str, plain: bytes) -> bool:
        may_go_on.wait()
        return verify(hash_, plain)

    monkeypatch.setattr(passwords, "_MOST_WAITING", 2)
    monkeypatch.setattr(passwords, "_verify", held)
    visitors = [Visitor(f"192.0.2.{n}", "") for n in range(8)]
    tasks = [
        asyncio.create_task(people.sign_in.with_password(EMAIL, PASSWORD, visitor)) for visitor in visitors
    ]
    try:
        async with asyncio.timeout(PATIENCE):
            while sum(task.done() for task in tasks) < len(tasks) - 2:
                await asyncio.sleep(0.01)
    finally:
        may_go_on.set()
    done = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(one) for one in done].count(BusyError) == len(tasks) - 2
    assert await people.sign_in.with_password(EMAIL, PASSWORD, HOME)


# Second factors


async def test_second_factor_takes_each_code_once(people: People) -> None:
    session = await people.joined()
    with pytest.raises(FieldError):
        await people.sign_in.confirm_factor(session, "000000", HOME)  # no factor waits for a code
    _, signed_in, codes = await people.with_factor(session)
    assert (await people.session(signed_in)).has_totp
    with pytest.raises(FieldError, match="already"):
        await people.sign_in.propose_factor(await people.session(signed_in), PASSWORD, HOME)

    half = await people.session(await people.sign_in.with_password(EMAIL, PASSWORD, HOME))
    assert not half.is_whole
    for wrong in (people.used_code, "123", "", "not a code", "\ud800", "٠٠٠٠٠٠"):  # noqa: RUF001
        with pytest.raises(WrongError):
            await people.sign_in.with_code(half, wrong, Visitor(f"192.0.2.{len(wrong)}", ""))
    written = codes[0].upper().replace("-", " ")
    whole = await people.session(await people.sign_in.with_code(half, written, HOME))
    assert whole.is_whole
    with pytest.raises(WrongError):
        await people.sign_in.with_code(half, codes[1], HOME)  # the half session was used up
    again = await people.session(await people.sign_in.with_password(EMAIL, PASSWORD, HOME))
    with pytest.raises(WrongError):
        await people.sign_in.with_code(again, codes[0], HOME)
    assert await stored.count_codes(people.pool, whole.user_id) == len(codes) - 1


async def test_code_given_twice_at_once_makes_one_session(people: People) -> None:
    _, _, codes = await people.with_factor(await people.joined())
    halves = [
        await people.session(await people.sign_in.with_password(EMAIL, PASSWORD, HOME)) for _ in range(2)
    ]
    done = await asyncio.gather(
        *(people.sign_in.with_code(half, codes[0], HOME) for half in halves), return_exceptions=True
    )
    assert sum(isinstance(one, WrongError) for one in done) == 1


async def test_half_session_ends_with_the_rights_it_was_made_with(people: People) -> None:
    session = await people.joined()
    await people.joined("other@net.example")
    _, _, codes = await people.with_factor(session)
    half = await people.session(await people.sign_in.with_password(EMAIL, PASSWORD, HOME))
    await people.changed(session.user_id, role="analyst")
    with pytest.raises(WrongError):
        await people.sign_in.with_code(half, codes[0], HOME)


async def test_other_key_file_is_told_and_a_reset_helps(database: Settings, people: People) -> None:
    session = await people.joined()
    await people.with_factor(session)
    async with people_of(database, Fernet.generate_key()) as moved:
        half = await moved.session(await moved.sign_in.with_password(EMAIL, PASSWORD, HOME))
        with pytest.raises(OtherKeyError):
            await moved.sign_in.with_code(half, "123456", HOME)
        link = await moved.reset(session.user_id, drops_factor=True)
        whole = await moved.session(await moved.sign_in.with_link(link, "quite another phrase", HOME))
        assert (whole.is_whole, whole.has_totp) == (True, False)


async def test_second_factor_is_removed_with_the_password(people: People) -> None:
    _, signed_in, _ = await people.with_factor(await people.joined())
    session = await people.session(signed_in)
    with pytest.raises(WrongError):
        await people.sign_in.remove_factor(session, "wrong", HOME)
    renewed = await people.session(await people.sign_in.remove_factor(session, PASSWORD, HOME))
    assert (renewed.has_totp, await stored.count_codes(people.pool, session.user_id)) == (False, 0)


async def test_recovery_codes_work_without_the_key_file(database: Settings, people: People) -> None:
    _, _, codes = await people.with_factor(await people.joined())
    async with people_of(database, Fernet.generate_key()) as moved:
        half = await moved.session(await moved.sign_in.with_password(EMAIL, PASSWORD, HOME))
        session = await moved.session(await moved.sign_in.with_code(half, codes[0], HOME))
        session = await moved.session(await moved.sign_in.remove_factor(session, PASSWORD, HOME))
        _, signed_in, _ = await moved.with_factor(session)
        assert (await moved.session(signed_in)).has_totp


async def test_wrong_codes_of_many_addresses_are_told_until_the_password_changes(people: People) -> None:
    async def told() -> list[tuple[str, int, int]]:
        async with people.pool.acquire() as connection:
            return [(one.email, one.codes, one.addresses) for one in await guesses.find(connection, 9)]

    _, signed_in, codes = await people.with_factor(await people.joined())
    session = await people.session(signed_in)
    half = await people.session(await people.sign_in.with_password(EMAIL, PASSWORD, AWAY))
    for n in range(guesses.LEAST):
        assert await told() == []
        with pytest.raises(WrongError):
            await people.sign_in.with_code(half, "wrong", Visitor(f"198.51.100.{n % 4}", ""))
    assert await told() == [(EMAIL, guesses.LEAST, 4)]
    with pytest.raises(FieldError, match="code is wrong"):
        await people.sign_in.renew_recovery_codes(session, PASSWORD, "wrong", HOME)
    assert await told() == [(EMAIL, guesses.LEAST + 1, 5)]
    mine = await people.sign_in.with_code(half, codes[0], HOME)  # never refused
    assert mine.was_guessed
    await people.sign_in.change_password(await people.session(mine), PASSWORD, PASSWORD + " 2", HOME)
    assert await told() == []
    await people.pool.execute("UPDATE user_account SET password_since = NULL")
    assert await told() == [(EMAIL, guesses.LEAST + 1, 5)]
    await people.pool.execute("UPDATE audit SET at = at - interval '1 day'")
    assert await told() == []


# One-time links


async def test_link_works_once(people: People) -> None:
    secret = await people.invited()
    for _ in range(3):  # a preview bot
        link = await one_time_links.find(people.pool, secret)
        assert (link and link.purpose, link and link.email) == ("invitation", EMAIL)
    with pytest.raises(FieldError):
        await people.sign_in.with_link(secret, "short", HOME)
    done = await asyncio.gather(
        *(people.sign_in.with_link(secret, PASSWORD, HOME) for _ in range(3)), return_exceptions=True
    )
    assert sum(isinstance(one, LinkIsOverError) for one in done) == 2
    for over in (secret, "", "x" * 101, "\ud800", "\0"):
        with pytest.raises(LinkIsOverError):
            await people.sign_in.with_link(over, PASSWORD, HOME)


@pytest.mark.parametrize("end", ["later link", "time", "disabled", "deleted"])
async def test_link_ends(people: People, end: str) -> None:
    await people.joined("boss@net.example")
    session = await people.joined()
    secret = await people.reset(session.user_id)
    assert await one_time_links.find(people.pool, secret)
    match end:
        case "later link":
            await people.reset(session.user_id)
        case "time":
            await people.pool.execute("UPDATE one_time_link SET ends_at = now()")
        case "disabled":
            await people.changed(session.user_id, is_disabled=True)
        case "deleted":
            await people.deleted(session.user_id)
    assert await one_time_links.find(people.pool, secret) is None
    with pytest.raises(LinkIsOverError):
        await people.sign_in.with_link(secret, "quite another phrase", HOME)


async def test_reset_keeps_the_second_factor_unless_it_says_otherwise(people: People) -> None:
    session = await people.joined()
    await people.with_factor(session)
    for drops, is_whole in ((False, False), (True, True)):
        link = await people.reset(session.user_id, drops_factor=drops)
        made = await people.sign_in.with_link(link, "quite another phrase", HOME)
        assert (await people.session(made)).is_whole is is_whole


# Sessions


@pytest.mark.parametrize(
    "change",
    [
        {"role": "analyst"},
        {"role": "analyst", "hides_money": True},
        {"role": "affiliate", "affiliate_ids": [513]},
        {"is_disabled": True},
    ],
)
async def test_session_ends_at_a_change_of_rights(people: People, change: dict[str, Any]) -> None:
    await people.joined("boss@net.example")
    session = await people.joined()
    signed_in = await people.sign_in.with_password(EMAIL, PASSWORD, HOME)
    await people.changed(session.user_id, name="Jane")
    assert not await people.is_over(signed_in)
    await people.changed(session.user_id, **change)
    assert await people.is_over(signed_in)


@pytest.mark.parametrize("column", ["ends_at = now()", "seen_at = now() - interval '12 hours 1 second'"])
async def test_session_ends_by_time(people: People, column: str) -> None:
    await people.joined()
    signed_in = await people.sign_in.with_password(EMAIL, PASSWORD, HOME)
    await people.pool.execute(f"UPDATE user_session SET {column}")
    assert await people.is_over(signed_in)


CHANGES_MEANWHILE = {
    "deleted": "DELETE FROM user_account",
    "disabled": "UPDATE user_account SET is_disabled = true",
    "role": "UPDATE user_account SET role = 'analyst'",
}


@pytest.mark.parametrize("change", CHANGES_MEANWHILE)
async def test_user_who_is_changed_during_the_sign_in_is_not_signed_in(people: People, change: str) -> None:
    await people.joined()
    before = await people.pool.fetchval("SELECT max(id) FROM user_session")
    async with people.pool.acquire() as connection, connection.transaction():
        await connection.execute(CHANGES_MEANWHILE[change])
        signing_in = asyncio.create_task(people.sign_in.with_password(EMAIL, PASSWORD, HOME))
        waits = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
        while not await people.pool.fetchval(waits) and not signing_in.done():
            await asyncio.sleep(0.01)
    with pytest.raises(WrongError):
        await signing_in
    assert await people.pool.fetchval("SELECT count(*) FROM user_session WHERE id > $1", before) == 0


async def test_new_password_drops_a_factor_that_is_not_on_yet(people: People) -> None:
    session = await people.joined()
    await people.sign_in.propose_factor(session, PASSWORD, HOME)
    signed_in = await people.sign_in.change_password(session, PASSWORD, PASSWORD + " 2", HOME)
    session = await people.session(signed_in)
    assert await people.sign_in.proposed_factor(session) is None
    await people.sign_in.propose_factor(session, PASSWORD + " 2", HOME)
    signed_in = await people.sign_in.with_link(await people.reset(session.user_id), PASSWORD, HOME)
    assert await people.sign_in.proposed_factor(await people.session(signed_in)) is None


async def test_new_address_ends_links(people: People) -> None:
    session = await people.joined()
    link = await people.reset(session.user_id)
    await people.changed(session.user_id, name="Jane")
    assert await one_time_links.find(people.pool, link)
    await people.changed(session.user_id, email="jane@other.example")
    assert await one_time_links.find(people.pool, link) is None


async def test_sessions_of_a_user_are_bounded(people: People, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stored_sessions, "MOST_OF_USER", 2)
    session = await people.joined()
    _, signed_in, codes = await people.with_factor(session)
    wholes = [signed_in]
    for code in codes[:2]:
        half = await people.sign_in.with_password(EMAIL, PASSWORD, HOME)
        wholes.append(await people.sign_in.with_code(await people.session(half), code, HOME))
    halves = [await people.sign_in.with_password(EMAIL, PASSWORD, AWAY) for _ in range(3)]
    assert [await people.is_over(one) for one in wholes] == [True, False, False]
    assert [await people.is_over(one) for one in halves] == [False] * 3


# The throttle


async def test_address_that_fails_waits_and_others_do_not(people: People) -> None:
    await people.joined()
    for _ in range(MOST_OF_ACCOUNT):
        with pytest.raises(WrongError):
            await people.sign_in.with_password(EMAIL.upper(), "wrong", AWAY)
    with pytest.raises(WaitError) as waits:
        await people.sign_in.with_password(EMAIL, PASSWORD, AWAY)
    assert 0 < waits.value.seconds <= throttle.WINDOW.total_seconds()
    await people.sign_in.with_password(EMAIL, PASSWORD, HOME)
    await people.pool.execute("UPDATE failed_sign_in SET since = since - interval '15 minutes 1 second'")
    await people.sign_in.with_password(EMAIL, PASSWORD, AWAY)


async def test_attempts_at_once_all_count(people: People) -> None:
    await people.joined()
    done = await asyncio.gather(
        *(people.sign_in.with_password(EMAIL, "wrong", AWAY) for _ in range(MOST_OF_ACCOUNT + 4)),
        return_exceptions=True,
    )
    assert sum(isinstance(one, WrongError) for one in done) == MOST_OF_ACCOUNT
    assert sum(isinstance(one, WaitError) for one in done) == 4


async def test_address_with_many_attempts_at_once_leaves_room_for_others(people: People) -> None:
    await people.joined()
    tried = [
        asyncio.create_task(people.sign_in.with_password(f"{n}@net.example", "wrong", AWAY))
        for n in range(2 * MOST_OF_ADDRESS)
    ]
    await people.sign_in.with_password(EMAIL, PASSWORD, HOME)
    done = await asyncio.gather(*tried, return_exceptions=True)
    assert sum(isinstance(one, WrongError) for one in done) == MOST_OF_ADDRESS
    assert sum(isinstance(one, WaitError) for one in done) == MOST_OF_ADDRESS


async def test_addresses_of_one_ipv6_site_count_together(people: People) -> None:
    await people.joined()
    for n in range(MOST_OF_ADDRESS):
        with pytest.raises(WrongError):
            await people.sign_in.with_password(f"{n}@net.example", "wrong", Visitor(f"2001:db8::{n}", ""))
    with pytest.raises(WaitError):
        await people.sign_in.with_password(EMAIL, PASSWORD, Visitor("2001:db8::ffff", ""))
    await people.sign_in.with_password(EMAIL, PASSWORD, Visitor("2001:db8:0:1::1", ""))


@pytest.mark.parametrize("seed", range(8))
async def test_address_without_failures_is_never_refused(people: People, seed: int) -> None:
    chance = random.Random(seed)
    others = [f"198.51.100.{n}" for n in range(4)]
    accounts = [EMAIL, "boss@net.example"]
    guard = throttle.Throttle(people.pool)

    async def fail() -> None:
        with suppress(WaitError):
            async with guard.attempt(chance.choice(others), chance.choice(accounts)) as attempt:
                await asyncio.sleep(chance.random() / 1000)
                await attempt.failed()

    async def succeed() -> None:
        async with (
            guard.attempt(HOME.address, chance.choice(accounts)) as attempt,
            people.pool.acquire() as one,
        ):
            await failures.forget(one, attempt.address, attempt.account)

    acts = [fail] * 120 + [succeed] * 30
    chance.shuffle(acts)
    await asyncio.gather(*(act() for act in acts))
    assert await people.pool.fetchval("SELECT max(failures) FROM failed_sign_in") >= MOST_OF_ACCOUNT
    await succeed()


# The last admin


async def test_last_admin_stays(people: People) -> None:
    session = await people.joined()
    await people.invited("invited@net.example")  # who cannot sign in yet
    for change in ({"is_disabled": True}, {"role": "analyst"}):
        with pytest.raises(LastAdminError):
            await people.changed(session.user_id, **change)
    with pytest.raises(LastAdminError):
        await people.deleted(session.user_id)
    await people.sign_in.with_password(EMAIL, PASSWORD, HOME)


async def test_two_admins_cannot_disable_each_other_at_once(people: People) -> None:
    both = [await people.joined(email) for email in (EMAIL, "boss@net.example")]

    async def disable(id_: int) -> None:
        # Without the lock of edit.changing, which would hide a race.
        async with people.pool.acquire() as connection, connection.transaction():
            row = await stored.shown(connection, id_)
            assert row
            await asyncio.sleep(0.05)
            await acts.change(connection, edit.Author(None, ""), row, {"is_disabled": True})

    done = await asyncio.gather(*(disable(one.user_id) for one in both), return_exceptions=True)
    assert sorted(map(type, done), key=str) == sorted([LastAdminError, type(None)], key=str)


# The audit trail


async def test_audit_trail_says_who_did_what_from_where(people: People) -> None:
    session = await people.joined()
    _, signed_in, codes = await people.with_factor(session)
    half = await people.session(await people.sign_in.with_password(EMAIL, PASSWORD, AWAY))
    with pytest.raises(WrongError):
        await people.sign_in.with_code(half, "000000", AWAY)
    await people.sign_in.with_code(half, codes[0], AWAY)
    trail = await people.audit()
    told = [(row["token_name"], row["user_id"], row["address"], row["path"], row["after"]) for row in trail]
    id_, place = session.user_id, f"users/{session.user_id}"
    agents = [{"user_agent": one.user_agent} for one in (HOME, AWAY)]
    assert told[1:] == [
        (EMAIL, id_, HOME.address, place, {"link": "invitation"}),
        (EMAIL, id_, HOME.address, f"{place}/sessions", agents[0]),
        (EMAIL, id_, HOME.address, place, {"second_factor": "on"}),
        (EMAIL, id_, HOME.address, f"{place}/sessions", agents[0]),
        (EMAIL, id_, AWAY.address, place, {"second_factor": "wrong code"}),
        (EMAIL, id_, AWAY.address, place, {"recovery_code": "used"}),
        (EMAIL, id_, AWAY.address, f"{place}/sessions", agents[1]),
    ]
    assert told[0][:4] == ("command line: test", None, "", place)
    assert (told[0][4]["role"], told[0][4]["email"]) == ("admin", EMAIL)
    for secret in (PASSWORD, signed_in.secret, codes[0], "argon2"):
        assert secret not in str(trail)


# The first admin


async def test_first_admin_signs_up_by_the_last_link_only(database: Settings, people: People) -> None:
    dsn = database.postgres_dsn or ""
    links = [secret_of(await first_admin.link(dsn) or "") for _ in range(2)]
    with pytest.raises(LinkIsOverError):
        await people.sign_in.with_link(links[0], PASSWORD, HOME, email=EMAIL)
    for email, name, field in (
        *(("", "", "email"), ("jane", "", "email"), (EMAIL, "\u200b", "name")),
        *((EMAIL, "Jane\x1b[2J Roe", "name"), (EMAIL, "J" * 201, "name")),
    ):
        with pytest.raises(FieldError) as refused:
            await people.sign_in.with_link(links[1], PASSWORD, HOME, email=email, name=name)
        assert refused.value.field == field
    done = await asyncio.gather(
        *(people.sign_in.with_link(links[1], PASSWORD, HOME, email=f"{n}@net.example") for n in range(3)),
        return_exceptions=True,
    )
    (signed_in,) = [one for one in done if isinstance(one, SignedIn)]
    assert (await people.session(signed_in)).role == "admin"
    assert await people.pool.fetchval("SELECT count(*) FROM user_account") == 1
    assert await first_admin.link(dsn) is None
    await people.pool.execute("DELETE FROM user_account")
    assert await first_admin.link(dsn) is None


async def test_invitation_ends_the_first_admins_link(database: Settings, people: People) -> None:
    secret = secret_of(await first_admin.link(database.postgres_dsn or "") or "")
    await people.joined()
    with pytest.raises(LinkIsOverError):
        await people.sign_in.with_link(secret, PASSWORD, HOME, email="other@net.example")


_KILLED_AT_THE_SESSION = """
import asyncio, os, signal, sys
from tests.integration.people import HOME, PASSWORD, people_of
from tracker.settings import Settings
from tracker.store.people import sessions

async def make(*_, **__):
    os.kill(os.getpid(), signal.SIGKILL)

async def main(dsn, secret):
    async with people_of(Settings(postgres_dsn=dsn)) as people:
        sessions.make = make
        await people.sign_in.with_link(secret, PASSWORD, HOME, email="jane@net.example")

asyncio.run(main(*sys.argv[1:]))
"""


async def test_killed_process_leaves_no_half_made_user(database: Settings, people: People) -> None:
    dsn = database.postgres_dsn or ""
    secret = secret_of(await first_admin.link(dsn) or "")
    words = (sys.executable, "-c", _KILLED_AT_THE_SESSION, dsn, secret)
    process = await asyncio.create_subprocess_exec(*words, cwd=Path(__file__).parents[2])
    assert await process.wait() == -signal.SIGKILL
    assert await people.pool.fetchval("SELECT count(*) FROM user_account") == 0
    assert await people.sign_in.with_link(secret, PASSWORD, HOME, email=EMAIL)


# Regular work, and the doctor


async def test_what_has_ended_is_forgotten(database: Settings, people: People) -> None:
    session = await people.joined()
    await people.reset(session.user_id)
    with pytest.raises(WrongError):
        await people.sign_in.with_password(EMAIL, "wrong", AWAY)
    tables = {"user_session": "ends_at", "one_time_link": "ends_at", "failed_sign_in": "since"}
    for is_over in (False, True):
        if is_over:
            for table, column in tables.items():
                await people.pool.execute(f"UPDATE {table} SET {column} = now() - interval '16 minutes'")
        await housekeeping.once(database)
        left = [table for table in tables if await people.pool.fetchval(f"SELECT count(*) FROM {table}")]
        assert left == ([] if is_over else list(tables))


async def test_doctor_tells_about_admins_and_keys(database: Settings, people: People, tmp_path: Path) -> None:
    settings = replace(database, secret_key_file=tmp_path / "secret.key")

    async def told() -> list[tuple[str, str]]:
        return [(one.level, one.text) for one in await doctor.check(settings, ConnectionError())]

    assert "nobody can sign in yet" in (await told())[0][1]
    session = await people.joined()
    assert await told() == [("warn", f"admins without a second factor: {EMAIL}")]
    await people.with_factor(session)
    assert [level for level, _ in await told()] == ["ok", "fail"]  # the file is missing
    load(settings.key_file)
    assert "encrypted with another key" in (await told())[1][1]
    settings.key_file.write_bytes(people.key)
    assert await told() == [("ok", "admins who can sign in, all with a second factor: 1")]
    await people.pool.execute("UPDATE user_account SET is_disabled = true")
    assert await told() == [("warn", "no admin can sign in")]


# An admin looks as a partner


async def test_admin_sees_as_a_partner_and_changes_nothing(people: People) -> None:
    await people.pool.execute("INSERT INTO affiliate (id, name) VALUES (513, 'A')")
    await people.joined()
    signed_in = await people.sign_in.with_password(EMAIL, PASSWORD, HOME)
    session = await people.session(signed_in)
    assert seeing.rights(session).scopes == ("admin",)
    with pytest.raises(seeing.UnknownPartnerError):
        await seeing.begin(people.pool, session, "affiliate", 7, HOME)
    await seeing.begin(people.pool, session, "affiliate", 513, HOME)
    seen = await people.session(signed_in)
    rights = seeing.rights(seen)
    assert (seen.seen_as, seen.seen_as_id, rights.role, rights.owner) == (
        "affiliate",
        513,
        "affiliate",
        "affiliate",
    )
    assert rights.scopes
    assert all(scope.endswith(":read") for scope in rights.scopes)
    await seeing.end(people.pool, seen, HOME)
    assert (await people.session(signed_in)).seen_as is None
    trail = [row for row in await people.audit() if row["path"].endswith(f"/sessions/{session.id}")]
    assert [(row["token_name"], row["address"], row["after"]["seen_as_id"]) for row in trail] == [
        (EMAIL, HOME.address, 513),
        (EMAIL, HOME.address, None),
    ]


@pytest.mark.parametrize(
    ("role", "owners"),
    [("manager", {}), ("finance", {}), ("analyst", {}), ("affiliate", {"affiliate_ids": [513]})],
)
async def test_only_admins_see_as_a_partner(people: People, role: str, owners: dict[str, list[int]]) -> None:
    await people.pool.execute("INSERT INTO affiliate (id, name) VALUES (513, 'A'), (514, 'B')")
    session = await people.joined(EMAIL, role, **owners)
    with pytest.raises(seeing.NotAdminError):
        await seeing.begin(people.pool, session, "affiliate", 514, HOME)
    assert seeing.rights(session).role == role


async def test_session_without_its_second_factor_may_do_nothing(people: People) -> None:
    _, signed_in, _ = await people.with_factor(await people.joined())
    assert seeing.rights(await people.session(signed_in)).scopes == ("admin",)
    half = await people.session(await people.sign_in.with_password(EMAIL, PASSWORD, HOME))
    assert seeing.rights(half).scopes == ()


# Secrets


async def test_no_secret_is_kept_or_logged(people: People, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    invitation = await people.invited()
    signed_in = [await people.sign_in.with_link(invitation, PASSWORD, HOME)]
    session = await people.session(signed_in[0])
    factor, again, codes = await people.with_factor(session)
    half = await people.sign_in.with_password(EMAIL, PASSWORD, HOME)
    signed_in += [again, half]
    signed_in.append(await people.sign_in.with_code(await people.session(half), codes[0], HOME))
    misplaced, wrong = "my misplaced password", "my wrong password"
    with pytest.raises(WrongError) as refused:
        await people.sign_in.with_password(misplaced, wrong, HOME)
    reset = await people.reset(session.user_id)

    tables = ("user_account", "user_session", "one_time_link", "recovery_code", "failed_sign_in", "audit")
    rows = [str(row) for table in tables for row in await people.pool.fetch(f"SELECT t::text FROM {table} t")]
    kept = "\n".join([*rows, *caplog.messages, repr(refused.value)]).casefold()
    secrets = [PASSWORD, invitation, reset, factor, misplaced, wrong, *(one.secret for one in signed_in)]
    secrets += [form for code in codes for form in (code, code.replace("-", ""))]
    for secret in secrets:
        assert secret.casefold() not in kept
        assert secret.encode().hex() not in kept
