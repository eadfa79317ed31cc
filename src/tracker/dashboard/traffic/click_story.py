"""The page of one click: why it went where it went, and what came of it, on one line of time."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final
from urllib.parse import urlencode

from starlette.responses import Response

from tracker.dashboard.asking import ask
from tracker.dashboard.form import Form
from tracker.dashboard.html import ROOT, Fault, html
from tracker.dashboard.page import Page
from tracker.dashboard.traffic.click_words import COLUMNS
from tracker.dashboard.traffic.clicks import ACCESS, open_pages, page_of
from tracker.dashboard.traffic.clicks import PATH as CLICKS
from tracker.dashboard.visit import Visit

PATH: Final = f"{CLICKS}/{{id}}"

_PARTS: Final[Mapping[str, tuple[str, ...]]] = {
    "Request": ("requested_link", "host", "referrer", "user_agent", "client_hints", "language", "fetch_dest"),
    "Visitor": (
        *("ip", "country_code", "region_code", "city", "isp", "mobile_carrier", "device_type"),
        *("device_brand", "device_model", "device_os", "device_os_version", "browser", "browser_version"),
        *("visitor_key", "group_hash"),
    ),
    "Link": (
        *("offer_name", "affiliate_name", "advertiser_name", "affiliate_source", "external_id"),
        *(name for name in COLUMNS if name.startswith(("aff_sub", "adv_sub"))),
        *("gaid", "idfa", "legacy_id", "legacy_source"),
    ),
}
_MINUTE, _HOUR, _DAY = 60, 3_600, 86_400
_LISTS: Final = {"postbacks": ("postbacks", "hash"), "sent-postbacks": ("postbacks/out", "id")}


async def _show(visit: Visit, _: Form, fault: Fault | None) -> Response:
    query = [pair for pair in visit.request.query_params.multi_items() if pair[0] in ("tz", "source")]
    answer = await ask(visit, "/clicks/{id}/story", query, at={"id": visit.request.path_params["id"]})
    story = answer.body
    click, pages = story["click"], open_pages(visit)
    values = {
        "story": story,
        "click": click,
        "complete_until": answer.complete_until,
        "zone": dict(query).get("tz", visit.settings.time_zone),
        "events": [
            event
            | {"since": _since(event["second"] - story["events"][0]["second"])}
            | {"href": _page_of_event(event["path"], pages)}
            for event in story["events"]
        ],
        "parts": {title: _known(click, names, pages) for title, names in _PARTS.items()},
        "raw": [(name, COLUMNS.get(name, name), value) for name, value in click.items()],
        "others": _others(click),
        "pages": pages,
    }
    return html("click.html", visit, values, fault=fault)


def _known(
    click: Mapping[str, Any], names: Iterable[str], pages: frozenset[str]
) -> list[tuple[str, Any, str]]:
    """The labels, values and pages of what is known."""
    known = (name for name in names if click.get(name) not in (None, "", "UNK"))
    return [(COLUMNS[name], click[name], page_of(click, name, pages)) for name in known]


def _since(seconds: int) -> str:
    """A length of time in its largest unit, after the click."""
    for unit, name in ((_DAY, "d"), (_HOUR, "h"), (_MINUTE, "min")):
        if abs(seconds) >= unit:
            return f"{seconds / unit:+.1f} {name}".replace(".0 ", " ")
    return f"{seconds:+} s" if seconds else ""


def _page_of_event(path: str, pages: frozenset[str]) -> str:
    """The page of what an event is about. "" if that is this page, or has no page."""
    noun, _, id_ = path.partition("/")
    if noun in _LISTS:
        place, parameter = _LISTS[noun]
        return f"{ROOT}/{place}?{urlencode({parameter: id_})}" if f"{ROOT}/postbacks" in pages else ""
    address = f"{ROOT}/{noun}"
    return f"{address}/{id_}" if address in pages and address != CLICKS else ""


def _others(click: Mapping[str, Any]) -> str:
    """The list of the same visitor's clicks."""
    key = click.get("visitor_key")
    return f"{CLICKS}?{urlencode({'period': 'all', 'visitor_key': key})}" if key else ""


pages = [Page(PATH, "signed in", _show, access=ACCESS)]
