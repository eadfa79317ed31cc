"""The page that makes tracking links, and explains what a link does for a visitor, rule by rule."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from starlette.responses import Response

from tracker.api.explain import PATH as EXPLAIN
from tracker.api.explain import Explained
from tracker.catalogue.resource import READ
from tracker.dashboard.asking import RefusedError, ask
from tracker.dashboard.catalogue.kinds import kind_of
from tracker.dashboard.catalogue.names import names_of, with_ids
from tracker.dashboard.catalogue.offer import LINKS
from tracker.dashboard.catalogue.rule_rows import known
from tracker.dashboard.form import Form
from tracker.dashboard.html import Fault, html
from tracker.dashboard.navigation import Access
from tracker.dashboard.page import Page
from tracker.dashboard.traffic.click_words import COLUMNS
from tracker.dashboard.visit import Visit
from tracker.domain.click_fields import AFF_SUBS
from tracker.people.qr_code import picture

_SAID: Final = ("offer_url_id", "source", "external_id", *AFF_SUBS, "url", "host")
OF_LINK: Final[Mapping[str, str]] = {"offer_id": "offer", "affiliate_id": "affiliate"}
"""The fields that a link needs, each with the table of what it names."""
_SUBS_AT_FIRST = AFF_SUBS[:5]
_MOST_NAMES = 200
_CHROME = "AppleWebKit/537.36 (KHTML, like Gecko) Chrome/141.0.0.0"
_SAFARI = "AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.6"
DEVICES: Final[Mapping[str, tuple[str, str]]] = {
    "windows": (
        "Windows computer, Chrome",
        f"Mozilla/5.0 (Windows NT 10.0; Win64; x64) {_CHROME} Safari/537.36",
    ),
    "mac": ("Mac, Safari", f"Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) {_SAFARI} Safari/605.1.15"),
    "android": (
        "Android telephone, Chrome",
        f"Mozilla/5.0 (Linux; Android 10; K) {_CHROME} Mobile Safari/537.36",
    ),
    "iphone": (
        "iPhone, Safari",
        f"Mozilla/5.0 (iPhone; CPU iPhone OS 18_6 like Mac OS X) {_SAFARI} Mobile/15E148 Safari/604.1",
    ),
    "ipad": (
        "iPad, Safari",
        f"Mozilla/5.0 (iPad; CPU OS 18_6 like Mac OS X) {_SAFARI} Mobile/15E148 Safari/604.1",
    ),
}
"""Visitors' devices to choose from: their names, and the User-Agents that they send."""


async def _show(visit: Visit, _form: Form, _fault: Fault | None) -> Response:
    sent = Form(visit.request.query_params.multi_items())
    link, sent, fault = await _link(visit, sent)
    values = {
        "action": LINKS,
        "sent": sent,
        "offers": await names_of(visit, kind_of("offer")),
        "affiliates": await names_of(visit, kind_of("affiliate")),
        "hosts": await _hosts(visit),
        "urls": [] if fault else await _urls(visit, sent),
        "subs": [(name, COLUMNS[name]) for name in AFF_SUBS if name in _SUBS_AT_FIRST or sent.get(name)],
        "devices": [(name, label) for name, (label, _) in DEVICES.items()],
        "countries": known("country"),
        "link": link,
        "picture": picture(link) if link else "",
        "told": None,
    }
    if link:
        values["told"], fault = await _explained(visit, link, sent)
    return html("links.html", visit, values, fault=fault)


async def _link(visit: Visit, sent: Form) -> tuple[str, Form, Fault | None]:
    """The link that was asked for, the fields with their ids, and why the link cannot be made.

    A page that leads here names the offer or the affiliate. The person then chooses the other one.
    """
    try:
        sent = await with_ids(visit, sent, OF_LINK)
    except RefusedError as error:
        return "", sent, error.fault
    if not all(sent.get(name) for name in OF_LINK):
        return "", sent, None
    at = {name: sent[name] for name in OF_LINK}
    said = {name: sent.get(name) for name in _SAID}
    path = "/offers/{offer_id}/affiliate/{affiliate_id}/link"
    try:
        link: str = (await ask(visit, path, said, at=at)).body["link"]
    except RefusedError as error:
        return "", sent, error.fault
    return link, sent, None


async def _explained(visit: Visit, link: str, sent: Form) -> tuple[Any, Fault | None]:
    """What the link does for the visitor, or why that cannot be said."""
    _, user_agent = DEVICES.get(sent.get("device", ""), DEVICES["windows"])
    question = {
        "url": link,
        "country": sent.get("country"),
        "user_agent": user_agent,
        "language": sent.get("language"),
        "ip": sent.get("ip"),
    }
    try:
        told = (await ask(visit, EXPLAIN, question)).body
    except RefusedError as error:
        return None, error.fault
    return dict.fromkeys(Explained.model_fields) | told, None


async def _hosts(visit: Visit) -> list[tuple[str, str]]:
    rows = (await ask(visit, "/tracking-hosts", {"status": "active", "per_page": _MOST_NAMES})).body["data"]
    return [(row["host"], row["host"]) for row in rows]


async def _urls(visit: Visit, sent: Form) -> list[tuple[int, str]]:
    """The URLs of the chosen offer."""
    if not sent.get("offer_id"):
        return []
    at = {"offer_id": sent["offer_id"]}
    rows = (await ask(visit, "/offers/{offer_id}/urls", {"per_page": _MOST_NAMES}, at=at)).body["data"]
    return [(row["id"], row["name"] or row["url"]) for row in rows]


pages = [Page(LINKS, "signed in", _show, access=Access((READ,), (None,)))]
