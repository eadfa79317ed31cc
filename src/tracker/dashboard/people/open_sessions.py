"""The page of one's own sessions: where one is signed in, and how to end that."""

from __future__ import annotations

from typing import Final

from starlette.responses import Response

from tracker.dashboard.form import Form
from tracker.dashboard.html import ROOT, Fault, html, redirect
from tracker.dashboard.page import Page
from tracker.dashboard.visit import Visit
from tracker.people import users as acts
from tracker.people.sessions import IDLE
from tracker.store.db import Connection
from tracker.store.people import sessions, users
from tracker.store.people.sessions import Session

PATH: Final = f"{ROOT}/sessions"

_MOST_DIGITS = 18  # of an id
_BROWSERS = (  # the first that a User-Agent names. Most browsers also name the ones below them
    ("Edg", "Edge"),
    ("OPR/", "Opera"),
    ("SamsungBrowser/", "Samsung Internet"),
    ("Firefox/", "Firefox"),
    ("FxiOS/", "Firefox"),
    ("Chrome/", "Chrome"),
    ("CriOS/", "Chrome"),
    ("Safari/", "Safari"),
)
_SYSTEMS = (
    ("iPhone", "iPhone"),
    ("iPad", "iPad"),
    ("Android", "Android"),
    ("Windows", "Windows"),
    ("Mac OS X", "Mac"),
    ("CrOS", "ChromeOS"),
    ("Linux", "Linux"),
)


async def _show(visit: Visit, _: Form, fault: Fault | None) -> Response:
    assert visit.session
    found = await sessions.of_user(visit.pool, visit.session.user_id, IDLE)
    rows = [row | {"browser": browser_of(row["user_agent"])} for row in found]
    values = {"rows": rows, "zone": visit.settings.time_zone}
    return html("sessions.html", visit, values, fault=fault)


async def _end(visit: Visit, form: Form) -> Response:
    """End one session, or all except this one."""
    assert visit.session
    user_id = visit.session.user_id
    async with visit.pool.acquire() as connection, connection.transaction():
        user = await users.shown(connection, user_id)
        if user is not None:
            for id_ in await _wanted(connection, visit.session, form.get("end", "")):
                await acts.end_session(connection, visit.author, user, id_)
    return redirect(PATH)


async def _wanted(connection: Connection, session: Session, wanted: str) -> list[int]:
    """The ids of the sessions to end. `wanted` is an id, or "others"."""
    if wanted == "others":
        found = await sessions.of_user(connection, session.user_id, IDLE)
        return [row["id"] for row in found if row["id"] != session.id]
    is_id = wanted.isascii() and wanted.isdigit() and len(wanted) <= _MOST_DIGITS
    return [int(wanted)] if is_id else []


def browser_of(user_agent: str) -> str:
    """A browser in a few words: "Firefox on Linux"."""
    browser = next((name for word, name in _BROWSERS if word in user_agent), "A browser")
    system = next((name for word, name in _SYSTEMS if word in user_agent), "")
    return f"{browser} on {system}" if system else browser


pages = [Page(PATH, "signed in", _show, _end)]
