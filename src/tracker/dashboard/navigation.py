"""Which pages lead where: the menu of a session, and who may open a page."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final, NamedTuple

from tracker.dashboard.html import ROOT
from tracker.domain.access import OwnerKind
from tracker.people.seeing import token_of
from tracker.store.people.sessions import Session

Section = tuple[str, Sequence[tuple[str, str]]]
"""A section of the menu: its name, and the addresses and names of its pages."""

MENU: Final[Mapping[str, Mapping[str, str]]] = {
    "": {f"{ROOT}/": "Overview", f"{ROOT}/reports": "Reports"},
    "Traffic": {
        f"{ROOT}/clicks": "Clicks",
        f"{ROOT}/conversions": "Conversions",
        f"{ROOT}/postbacks": "Postbacks",
        f"{ROOT}/test": "Test it",
    },
    "Catalogue": {
        f"{ROOT}/offers": "Offers",
        f"{ROOT}/affiliates": "Affiliates",
        f"{ROOT}/advertisers": "Advertisers",
        f"{ROOT}/links": "Links",
        f"{ROOT}/own-offers": "Offers",
        f"{ROOT}/own-links": "Links",
        f"{ROOT}/own-postbacks": "Own postbacks",
        f"{ROOT}/applications": "Applications",
        f"{ROOT}/catalogue": "More",
    },
    "Money": {
        f"{ROOT}/money/balances": "Balances",
        f"{ROOT}/money/statements": "Statements",
        f"{ROOT}/money/corrections": "Corrections",
        f"{ROOT}/money/entries": "Entries and payments",
        f"{ROOT}/money/closes": "Period closes",
    },
    "Operations": {
        f"{ROOT}/operations": "State",
        f"{ROOT}/operations/dead-letters": "Dead letters",
        f"{ROOT}/operations/imports": "Imports",
        f"{ROOT}/users": "Users",
        f"{ROOT}/tokens": "Tokens",
        f"{ROOT}/audit": "Audit trail",
    },
    "You": {f"{ROOT}/account": "Account", f"{ROOT}/sessions": "Sessions"},
}
"""All that a menu may have, in its order. A page that the session may not open is left out."""


class Access(NamedTuple):
    """Who may open a page."""

    scopes: tuple[str, ...] = ()  # one of them is enough. (): everybody
    owners: tuple[OwnerKind | None, ...] = (None, "affiliate", "advertiser")  # None: the network
    shows_money: bool = False  # a session that hides money may not

    def allows(self, session: Session) -> bool:
        token = token_of(session)
        kind = token.owner.kind if token.owner else None
        return (
            kind in self.owners
            and not (self.shows_money and token.hides_money)
            and (not self.scopes or any(map(token.allows, self.scopes)))
        )


EVERYBODY: Final = Access()


class Navigation:
    """The pages that are there, and who may open them."""

    def __init__(self, pages: Iterable[tuple[str, Access]]) -> None:
        self._access = dict(pages)

    def of(self, session: Session | None) -> list[Section]:
        """The menu of a session."""
        if session is None or not session.is_whole:
            return []
        sections = ((name, self._open(session, entries)) for name, entries in MENU.items())
        return [(name, entries) for name, entries in sections if entries]

    def _open(self, session: Session, entries: Mapping[str, str]) -> list[tuple[str, str]]:
        return [
            (path, name)
            for path, name in entries.items()
            if path in self._access and self._access[path].allows(session)
        ]
