"""Pages ask the API's endpoints in the name of a session. The rule of access is that of tokens."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.requests import Request

from tests.integration.people import HOME, People, people_of
from tracker.api.app import create_api
from tracker.dashboard.app import create_pages
from tracker.dashboard.asking import MOST_AT_ONCE, MOST_OF_ALL, RefusedError, ask, download, query_string
from tracker.dashboard.visit import Visit, visit_of
from tracker.people import seeing, sessions
from tracker.people.sign_in import SignedIn
from tracker.secret_key import load
from tracker.settings import Settings
from tracker.store.db import POOL_SIZE

pytestmark = pytest.mark.anyio

VisitOf = Callable[[SignedIn], Awaitable[Visit]]


class Desk:
    """People, and the visits of their sessions."""

    def __init__(self, people: People, pages: Starlette) -> None:
        self.people = people
        self._pages = pages

    async def visit(self, role: str = "admin", **fields: Any) -> Visit:
        link = await self.people.invited(f"{role}@asking.test", role, **fields)
        return await self.of(await self.people.sign_in.with_link(link, "a calm and long pass phrase", HOME))

    async def of(self, signed_in: SignedIn) -> Visit:
        cookie = f"tracker-session={signed_in.secret}".encode()
        scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "scheme": "http",
            "method": "GET",
            "path": "/dashboard/",
            "query_string": b"",
            "headers": [(b"host", b"pages.test"), (b"cookie", cookie)],
            "client": ("192.0.2.9", 50_000),
            "server": ("127.0.0.1", 80),
            "app": self._pages,
        }
        return await visit_of(Request(scope))


@asynccontextmanager
async def opened(settings: Settings) -> AsyncIterator[Desk]:
    api = create_api(settings)
    pages = create_pages(settings, load(settings.key_file), api)
    async with people_of(settings) as people, api.router.lifespan_context(api):
        pages.state.pool = api.state.pool
        async with pages.router.lifespan_context(pages):
            yield Desk(people, pages)


@pytest.fixture
async def desk(database: Settings) -> AsyncIterator[Desk]:
    async with opened(database) as desk:
        yield desk


async def refusal(answer: Awaitable[object]) -> tuple[int, dict[str, str]]:
    with pytest.raises(RefusedError) as caught:
        await answer
    return caught.value.fault.status, dict(caught.value.fault.fields)


async def new_affiliate(visit: Visit, name: str) -> int:
    made = await ask(visit, "/affiliates", method="POST", body={"name": name})
    return int(made.body["id"])


async def test_a_change_is_the_users_and_comes_from_their_address(desk: Desk) -> None:
    visit = await desk.visit()
    made = await ask(visit, "/affiliates", method="POST", body={"name": "Ann"})
    assert made.etag == f'"{made.body["version"]}"'
    (entry,) = [row for row in await desk.people.audit() if row["resource"] == "affiliate"]
    session = visit.session
    assert session
    assert (entry["token_id"], entry["user_id"], entry["address"]) == (None, session.user_id, "192.0.2.9")
    patch = {"method": "PATCH", "body": {"name": "Bo"}, "at": {"id": made.body["id"]}}
    changed = await ask(visit, "/affiliates/{id}", headers={"If-Match": made.etag}, **patch)
    assert changed.body["name"] == "Bo"
    status, _ = await refusal(ask(visit, "/affiliates/{id}", headers={"If-Match": made.etag}, **patch))
    assert status == 412


async def test_wrong_fields_and_parameters_are_named(desk: Desk) -> None:
    visit = await desk.visit()
    status, fields = await refusal(ask(visit, "/affiliates", method="POST", body={"name": "", "x": 1}))
    assert (status, sorted(fields)) == (422, ["name", "x"])
    status, fields = await refusal(ask(visit, "/clicks", {"per_page": 0, "y": "1"}))
    assert (status, sorted(fields)) == (422, ["per_page", "y"])


@pytest.mark.parametrize("value", ["1/x", "../tokens", "", "/", "1/"])
async def test_a_value_leads_to_no_other_path(desk: Desk, value: str) -> None:
    visit = await desk.visit()
    assert await refusal(ask(visit, "/affiliates/{id}", at={"id": value})) == (404, {})


async def test_a_session_asks_what_its_role_may(desk: Desk) -> None:
    admin = await desk.visit()
    own, other = await new_affiliate(admin, "Own"), await new_affiliate(admin, "Other")
    partner = await desk.visit("affiliate", affiliate_ids=[own])
    assert (await ask(partner, "/clicks")).body["data"] == []
    assert (await ask(partner, "/offers")).body["total"] == 0
    for path in ("/tokens", "/affiliates", f"/affiliates/{other}"):
        assert (await refusal(ask(partner, path)))[0] in (403, 404)
    analyst = await desk.visit("analyst")
    assert (await refusal(ask(analyst, "/affiliates", method="POST", body={"name": "X"})))[0] == 403
    assert (await refusal(ask(analyst, "/statements", {"party": "affiliate", "from": "2026-01"})))[0] == 403


async def test_who_looks_as_a_partner_reads_only(desk: Desk) -> None:
    admin = await desk.visit()
    assert admin.session
    own = await new_affiliate(admin, "Own")
    await seeing.begin(desk.people.pool, admin.session, "affiliate", own, HOME)
    found = await sessions.find(desk.people.pool, admin.secret)
    seen = admin._replace(session=found)
    assert (await ask(seen, "/clicks")).body["data"] == []
    assert (await refusal(ask(seen, "/affiliates")))[0] == 404
    assert (await refusal(ask(seen, "/affiliates", method="POST", body={"name": "X"})))[0] == 403


async def test_without_a_whole_session_nothing_is_asked(desk: Desk) -> None:
    admin = await desk.visit()
    assert admin.session
    half = admin._replace(session=admin.session._replace(is_whole=False))
    for visit in (half, admin._replace(session=None)):
        assert (await refusal(ask(visit, "/clicks")))[0] == 403


async def test_one_user_leaves_connections_for_others(desk: Desk) -> None:
    one, other = await desk.visit(), await desk.visit("analyst")
    async with desk.people.pool.acquire() as connection, asyncio.TaskGroup() as asking:
        locking = connection.transaction()
        await locking.start()
        await connection.execute("LOCK TABLE affiliate IN ACCESS EXCLUSIVE MODE")
        waiting = [asking.create_task(ask(one, "/affiliates")) for _ in range(3 * MOST_AT_ONCE)]
        for _ in range(3):
            assert (await ask(other, "/advertisers")).body["data"] == []
        assert not any(task.done() for task in waiting)
        await locking.rollback()
    assert [task.result().body["data"] for task in waiting] == [[]] * len(waiting)


async def test_pages_leave_connections_for_programs(desk: Desk) -> None:
    users = [await desk.visit(), await desk.visit("analyst")]
    async with desk.people.pool.acquire() as connection, asyncio.TaskGroup() as asking:
        locking = connection.transaction()
        await locking.start()
        await connection.execute("LOCK TABLE affiliate IN ACCESS EXCLUSIVE MODE")
        waiting = [
            asking.create_task(ask(user, "/affiliates")) for user in users for _ in range(MOST_AT_ONCE + 1)
        ]
        while await connection.fetchval("SELECT count(*) FROM pg_locks WHERE NOT granted") < MOST_OF_ALL:
            await asyncio.sleep(0.01)
        async with AsyncExitStack() as held:
            for _ in range(POOL_SIZE - MOST_OF_ALL):
                program = await held.enter_async_context(users[0].pool.acquire())
                assert await program.fetchval("SELECT 1") == 1
        assert not any(task.done() for task in waiting)
        await locking.rollback()
    assert [task.result().body["data"] for task in waiting] == [[]] * len(waiting)


async def test_a_public_path_and_an_unknown_one_are_not_asked(desk: Desk) -> None:
    visit = await desk.visit()
    assert (await refusal(ask(visit, "/nothing")))[0] == 404
    assert (await refusal(ask(visit, "/clicks", method="DELETE")))[0] == 405


async def test_a_download_is_the_answer_of_the_api(desk: Desk) -> None:
    response = await download(await desk.visit(), "/clicks/export", {"format": "csv"})
    assert response.headers["content-disposition"] == 'attachment; filename="clicks.csv"'
    assert "frame-ancestors 'none'" in response.headers["content-security-policy"]


def test_query_string_leaves_out_what_has_no_value() -> None:
    assert query_string({"a": 1, "b": None, "c": "", "d": ["x", "y&"]}) == "a=1&d=x&d=y%26"
    assert query_string([("a", "1"), ("a", "2")]) == "a=1&a=2"
