"""A walk through all pages that a session may open. New pages are on the way by themselves."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import NamedTuple
from urllib.parse import urljoin, urlsplit

from playwright.async_api import Page as Window
from starlette.routing import compile_path

from tracker.dashboard.app import PAGES
from tracker.dashboard.navigation import Access
from tracker.dashboard.page import Page
from tracker.domain.access import Rights

_TRIES = 3  # addresses of one page: one may need what another has
_LINKS = "links => links.map(link => link.href)"


class Stop(NamedTuple):
    """A page on the walk."""

    path: str  # as it is declared
    address: str  # one of its addresses


def declared(rights: Rights) -> set[str]:
    """The paths of the pages that a session with these rights opens."""
    return {page.path for page in PAGES if _is_to_see(page) and _may_open(page.access, rights)}


def _may_open(access: Access, rights: Rights) -> bool:
    needed, given = {*access.scopes}, {*rights.scopes}
    return (
        rights.owner in access.owners
        and not (access.shows_money and rights.hides_money)
        and (not needed or "admin" in given or not needed.isdisjoint(given))
    )


async def walk(window: Window, base: str) -> AsyncIterator[Stop]:
    """Open pages one after the other: those of the menu, and those that they lead to.

    Each is open in the window while it is given out.
    """
    todo = [urljoin(base, path) for path in sorted(_ON_THE_WALK) if "{" not in path]
    tries: dict[str, int] = dict.fromkeys(_ON_THE_WALK, 0)
    done: set[str] = set()
    while todo:
        address = todo.pop(0)
        path = _path_of(address)
        if not path or path in done or tries[path] >= _TRIES:
            continue
        tries[path] += 1
        answer = await window.goto(address)
        if answer is None or answer.status != 200 or _path_of(window.url) != path:
            continue
        done.add(path)
        links = await window.eval_on_selector_all("a[href]", _LINKS)
        yield Stop(path, urlsplit(address)._replace(scheme="", netloc="").geturl())
        todo += [link for link in links if link.startswith(f"{base}/") and _path_of(link) not in done]


def _is_to_see(page: Page) -> bool:
    return page.show is not None and page.who == "signed in" and not page.is_file


_PATTERNS = {page.path: compile_path(page.path)[0] for page in PAGES if page.show}
_ON_THE_WALK = {page.path for page in PAGES if _is_to_see(page)}


def _path_of(address: str) -> str:
    """The declared path of an address. "" if it is no page on the walk."""
    path = urlsplit(address).path
    # A path without a parameter is meant before one that takes any word.
    matches = sorted(
        (name for name, pattern in _PATTERNS.items() if pattern.match(path)), key=lambda name: "{" in name
    )
    return matches[0] if matches and matches[0] in _ON_THE_WALK else ""
