"""The last clicks as they come: ten of them on the page, and later ones for its script."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any, Final, NamedTuple

from starlette.responses import JSONResponse, Response

from tracker.dashboard.asking import ask
from tracker.dashboard.form import Form
from tracker.dashboard.html import HEADERS, ROOT, Fault
from tracker.dashboard.navigation import Access
from tracker.dashboard.overview.state import Zone, zone_of
from tracker.dashboard.page import Page
from tracker.dashboard.visit import Visit
from tracker.domain.model import Reason, Status
from tracker.people.seeing import token_of

PATH: Final = f"{ROOT}/live"
CLICKS: Final = f"{ROOT}/clicks"

_ROWS: Final = 10  # 5 a second, as the script asks every 2 seconds
_ACCESS = Access(scopes=("clicks:read",))
_SPAN_OF_PARTNERS = timedelta(days=1)  # to count all of a partner's clicks may take long


_REASONS: Final[Mapping[int, str]] = {
    Reason.OFFER_PAUSED: "offer paused",
    Reason.OFFER_HAS_NO_URL: "offer has no URL",
    Reason.LOCATION_UNSENDABLE: "URL cannot be sent",
    Reason.OFFER_MISCONFIGURED: "offer is misconfigured",
    Reason.OFFER_EXPIRED: "offer expired",
    Reason.OFFER_NOT_STARTED: "offer not started",
    Reason.OFFER_CLOSED: "offer closed",
    Reason.CAPPED: "cap reached",
    Reason.OFFER_DRAFT: "offer is a draft",
    Reason.AFFILIATE_BLOCKED: "affiliate blocked",
    Reason.AFFILIATE_PENDING: "affiliate pending",
    Reason.AFFILIATE_NOT_APPROVED: "affiliate not approved",
    Reason.OFF_TARGET: "off target",
    Reason.DUPLICATE: "duplicate",
    Reason.VISITOR_UNKNOWN: "visitor unknown",
    Reason.SOURCE_BLOCKED: "source blocked",
    Reason.SUB_BLOCKED: "sub id blocked",
    Reason.IP_BLOCKED: "address blocked",
}


def _offer(click: Mapping[str, Any]) -> str:
    return click["offer_name"] or f"offer {click['offer_id']}"


def _affiliate(click: Mapping[str, Any]) -> str:
    return click.get("affiliate_name") or str(click.get("affiliate_id", ""))


def _device(click: Mapping[str, Any]) -> str:
    known = (click.get(name) for name in ("device_type", "browser"))
    return ", ".join(word for word in known if word)


def _result(click: Mapping[str, Any]) -> str:
    """What became of it, in a word or two."""
    if click["is_test"]:
        return "test"
    if click["is_bot"]:
        return "bot"
    if click["status"] != Status.ACCEPTED:
        reason = _REASONS[click["reason"]] if click.get("reason") else ""
        return f"{click['status']}: {reason}" if reason else str(click["status"])
    return "unique" if click["is_unique"] else "repeated"


_COLUMNS: Final[Mapping[str, Callable[[Mapping[str, Any]], str]]] = {
    "Time": lambda click: str(click["created_at"]),
    "Offer": _offer,
    "Affiliate": _affiliate,
    "Country": lambda click: click.get("country_code") or "",
    "Device": _device,
    "Result": _result,
}
HEADS: Final = tuple(_COLUMNS)
"""The columns of the strip."""


class Click(NamedTuple):
    """A click of the strip."""

    id: int
    href: str
    cells: list[str]


async def latest(visit: Visit, zone: Zone) -> list[Click] | None:
    """The last clicks, the latest first. None if the session may not see clicks."""
    assert visit.session
    if not _ACCESS.allows(visit.session):
        return None
    asked: dict[str, Any] = {"per_page": _ROWS, "tz": zone.name}
    if token_of(visit.session).owner is not None:
        asked["created_from"] = f"{zone.now() - _SPAN_OF_PARTNERS:%Y-%m-%d %H:%M:%S}"
    return _clicks((await ask(visit, "/clicks", asked)).body["data"])


async def _after(visit: Visit, zone: Zone, after_id: str) -> list[Click]:
    """The clicks after an id, the latest first. At most _ROWS of them."""
    asked = {"after_id": after_id, "per_page": _ROWS, "tz": zone.name}
    return _clicks((await ask(visit, "/clicks", asked)).body["data"][::-1])


def _clicks(rows: list[dict[str, Any]]) -> list[Click]:
    return [
        Click(row["id"], f"{CLICKS}/{row['id']}", [cell(row) for cell in _COLUMNS.values()]) for row in rows
    ]


async def _answer(visit: Visit, _form: Form, _fault: Fault | None) -> Response:
    """The clicks after an id as JSON. Without an id, or if there are too many to show, the last ones."""
    zone, after_id = zone_of(visit), visit.request.query_params.get("after_id", "")
    found = await _after(visit, zone, after_id) if after_id else None
    is_behind = found is not None and len(found) == _ROWS
    clicks = await latest(visit, zone) if found is None or is_behind else found
    body = {"clicks": [click._asdict() for click in clicks or ()], "skipped": is_behind}
    return JSONResponse(body, headers=dict(HEADERS))


pages = [Page(PATH, "signed in", _answer, is_file=True, access=_ACCESS)]
