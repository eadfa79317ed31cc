"""Browsers without JavaScript, for the pages of an application in this process."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from html import unescape
from html.parser import HTMLParser
from typing import Any

from httpx import ASGITransport, AsyncClient, Response
from starlette.routing import Router

from tests.integration.people import PASSWORD, People, people_of
from tracker.people.passwords import Passwords
from tracker.processes.api import create_site
from tracker.secret_key import SecretKey, load
from tracker.settings import Settings

_HASHES: dict[str, str] = {}


class Browser:
    """One browser: it keeps cookies, and fills the forms of the page that it shows."""

    def __init__(self, site: Router, base: str, address: str, agent: str) -> None:
        self.base = base
        self.client = AsyncClient(
            transport=ASGITransport(site, raise_app_exceptions=False, client=(address, 50_000)),
            base_url=base,
            headers={"User-Agent": agent},
        )
        self.page = Response(204)

    @property
    def text(self) -> str:
        return self.page.text

    @property
    def location(self) -> str:
        return self.page.headers.get("location", "")

    @property
    def token(self) -> str:
        """The token of the forms on the page."""
        found = re.search(r'name="token" value="([^"]+)"', self.text)
        return found[1] if found else ""

    async def get(self, path: str, **headers: str) -> Response:
        self.page = await self.client.get(path, headers=headers)
        return self.page

    async def post(
        self, path: str, /, headers: dict[str, str] | None = None, **fields: str | list[str]
    ) -> Response:
        """Send a form as the browser does. A field "token" replaces that of the page."""
        sent: dict[str, Any] = ({"token": self.token} if self.token else {}) | fields
        self.page = await self.client.post(path, data=sent, headers={"Origin": self.base} | (headers or {}))
        return self.page

    async def follow(self) -> Response:
        """Go where the answer leads."""
        assert self.page.status_code == 303, self.page
        return await self.get(self.location)

    async def sign_in(self, email: str, password: str = PASSWORD) -> Response:
        await self.get("/dashboard/sign-in")
        return await self.post("/dashboard/sign-in", email=email, password=password)

    def hidden(self, name: str) -> str:
        return unescape(re.search(rf'name="{name}" value="([^"]*)"', self.text)[1])  # type: ignore[index]


class Site:
    """The pages on a database, and browsers that look at them."""

    def __init__(self, site: Router, people: People, settings: Settings) -> None:
        self._site = site
        self.people = people
        self.settings = settings
        self._browsers: list[Browser] = []

    def browser(
        self, base: str = "https://pages.test", address: str = "203.0.113.5", agent: str = "Firefox/1 Linux"
    ) -> Browser:
        self._browsers.append(Browser(self._site, base, address, agent))
        return self._browsers[-1]

    async def close(self) -> None:
        for browser in self._browsers:
            await browser.client.aclose()

    async def sql(self, statement: str, *values: object) -> Any:
        return await self.people.pool.fetch(statement, *values)

    async def add_user(self, email: str = "anna@pages.test", role: str = "admin", **fields: Any) -> None:
        """A user with PASSWORD."""
        await self.people.invited(email, role, **fields)
        set_password = "UPDATE user_account SET password_hash = $1 WHERE email = $2"
        await self.sql(set_password, await _hash(), email)

    async def invitation(self, role: str = "analyst") -> str:
        """The address of a link that invites Ben."""
        return f"/dashboard/link?s={await self.people.invited('ben@pages.test', role, name='Ben')}"


async def _hash() -> str:
    """The hash of PASSWORD, made once."""
    if PASSWORD not in _HASHES:
        passwords = Passwords()
        _HASHES[PASSWORD] = await passwords.hash(PASSWORD)
        passwords.close()
    return _HASHES[PASSWORD]


@asynccontextmanager
async def site_of(settings: Settings, key: SecretKey | None = None) -> AsyncIterator[Site]:
    """The application of the API's process."""
    router = create_site(settings, key or load(settings.key_file))
    async with people_of(settings) as people, router.lifespan_context(router):
        site = Site(router, people, settings)
        yield site
        await site.close()


def inputs_of(text: str) -> Iterator[dict[str, str]]:
    """The attributes of each input of a page."""
    for tag in re.findall(r"<input ([^>]*)>", text):
        yield {name: unescape(value) for name, value in re.findall(r'([\w-]+)="([^"]*)"', tag)}


class _Fields(HTMLParser):
    """Collects what a browser would send of the forms of a page, if nobody touched them."""

    def __init__(self) -> None:
        super().__init__()
        self.forms: list[dict[str, list[str]]] = []
        self._select: str | None = None
        self._options: list[tuple[str, bool]] = []
        self._area: str | None = None
        self._text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        is_off = "disabled" in given
        if tag == "form":
            self.forms.append({})
        elif tag == "input" and given.get("name") and not is_off:
            if given.get("type") not in ("checkbox", "radio") or "checked" in given:
                self._put(given["name"], given.get("value", ""))
        elif tag == "select" and not is_off:
            self._select, self._options = given["name"], []
        elif tag == "option" and self._select is not None:
            self._options.append((given.get("value", ""), "selected" in given))
        elif tag == "textarea" and not is_off:
            self._area, self._text = given["name"], ""

    def handle_data(self, data: str) -> None:
        if self._area is not None:
            self._text += data

    def handle_endtag(self, tag: str) -> None:
        if tag == "select" and self._select is not None:
            chosen = [value for value, is_chosen in self._options if is_chosen]
            self._put(self._select, (chosen or [value for value, _ in self._options])[0])
            self._select = None
        elif tag == "textarea" and self._area is not None:
            # The first line break is the page's, and browsers send CR LF (HTML, 4.10.22.4).
            self._put(self._area, self._text.removeprefix("\n").replace("\n", "\r\n"))
            self._area = None

    def _put(self, name: str, value: str) -> None:
        self.forms[-1].setdefault(name, []).append(value)


def forms_of(text: str) -> list[dict[str, list[str]]]:
    """The fields of each form of a page, as a browser sends them."""
    found = _Fields()
    found.feed(text.replace("\r\n", "\n"))  # as a browser reads it (HTML, 13.2.3.5)
    return found.forms
