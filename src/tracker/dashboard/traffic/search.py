"""The page of the search: what an id or a name means. One exact result is opened at once."""

from __future__ import annotations

from typing import Any, Final
from urllib.parse import quote, urlencode

from starlette.responses import Response

from tracker.dashboard.asking import ask
from tracker.dashboard.form import Form
from tracker.dashboard.html import ROOT, Fault, html, redirect
from tracker.dashboard.navigation import Access
from tracker.dashboard.page import Page
from tracker.dashboard.traffic.clicks import PATH as CLICKS
from tracker.dashboard.traffic.clicks import open_pages
from tracker.dashboard.visit import Visit
from tracker.domain.normalise import trim

PATH: Final = f"{ROOT}/search"
ACCESS: Final = Access(scopes=("clicks:read", "conversions:read", "offers:read"))

_NOUNS: Final = {"click": "clicks", "conversion": "conversions", "postbacks": "postbacks"}
_NOUNS_OF_CATALOGUE: Final = {"offer": "offers", "affiliate": "affiliates", "advertiser": "advertisers"}
_SUB_IDS: Final = {"aff_sub": "sub id 1", "affiliate_source": "source", "external_id": "external id"}


async def _show(visit: Visit, _: Form, fault: Fault | None) -> Response:
    text = trim(visit.request.query_params.get("q", ""))
    found: list[dict[str, Any]] = []
    if text and fault is None:
        found = (await ask(visit, "/search", {"q": text})).body["data"]
    pages = open_pages(visit)
    results = [(one, _page_of(one, pages, text)) for one in found]
    exact = [address for one, address in results if one["is_exact"]]
    if len(exact) == 1 and exact[0]:
        return redirect(exact[0])
    offers_filters = CLICKS in pages and text and not any(one["kind"] == "sub_id" for one in found)
    filters = [
        (f"{CLICKS}?{urlencode([('period', 'last_7_days'), (name, text)])}", label)
        for name, label in _SUB_IDS.items()
    ]
    values = {"q": text, "results": results, "filters": filters if offers_filters else []}
    return html("search.html", visit, values, fault=fault)


def _page_of(one: dict[str, Any], pages: frozenset[str], text: str) -> str:
    """The page of a result. "" if the session may not open it."""
    if one["kind"] == "sub_id":
        query = urlencode([("period", "last_30_days"), (one["id"], text)])
        return f"{CLICKS}?{query}" if CLICKS in pages else ""
    noun = {**_NOUNS, **_NOUNS_OF_CATALOGUE}[one["kind"]]
    path = f"{ROOT}/{noun}"
    if path not in pages:
        return ""
    if one["kind"] == "postbacks":
        return f"{path}?{urlencode({'click_id': one['id']})}"
    return f"{path}/{quote(one['id'], safe='')}"


pages = [Page(PATH, "signed in", _show, access=ACCESS)]
