"""Pages of tokens: what programs may do, new tokens, new secrets, and the end of tokens."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

from starlette.exceptions import HTTPException
from starlette.responses import Response

from tracker.dashboard.asking import Answer, ask
from tracker.dashboard.catalogue.names import OF_PARTIES, address_with_ids, names_of_partners, with_ids
from tracker.dashboard.form import Form
from tracker.dashboard.html import ROOT, Fault, html, redirect
from tracker.dashboard.lists import ids_of, listed
from tracker.dashboard.navigation import Access
from tracker.dashboard.page import Page
from tracker.dashboard.visit import Visit
from tracker.domain.access import BOUND_SCOPES, MEANINGS
from tracker.domain.local_time import in_zone, last_second, read_local, zone_named
from tracker.people.sign_in import FieldError

PATH: Final = f"{ROOT}/tokens"
NEW: Final = f"{PATH}/new"

_ADMINS = Access(scopes=("admin",), owners=(None,))
_FILTERS = ("name", "affiliate_id", "advertiser_id", "is_revoked")
_CHANGED = ("name", "expires_on", "rate_limit")
_FIELDS = (*_CHANGED, "affiliate_ids", "advertiser_ids", "hides_money")
_NAMED = ("scopes", *_FIELDS)
_HOUR, _DAY = 3_600, 86_400
_OVERLAPS = [
    (_DAY, "one day"),
    (_HOUR, "one hour"),
    (7 * _DAY, "7 days"),
    (30 * _DAY, "30 days"),
    (0, "not at all: it ends now"),
]


async def _show_list(visit: Visit, _: Form, fault: Fault | None) -> Response:
    if fault is None and (address := await address_with_ids(visit)):
        return redirect(address)
    tokens = await listed(visit, "/tokens", _FILTERS, fault)
    values = {
        "tokens": tokens,
        "partners": await names_of_partners(visit, tokens.rows),
        "now": _now(),
        "was_revoked": visit.request.query_params.get("done") == "revoked",
        "zone": visit.settings.time_zone,
    }
    return html("tokens.html", visit, values, fault=fault)


async def _show_new(visit: Visit, form: Form, fault: Fault | None) -> Response:
    given = visit.request.query_params  # a page of a partner may name it
    values = {
        "typed": {name: form.get(name, given.get(name, "")) for name in _FIELDS},
        "chosen": form.all("scopes"),
        "scopes": [(scope, f"{scope}: {meaning}") for scope, meaning in MEANINGS.items()],
        "bound": BOUND_SCOPES,
        "names": _NAMED,
        "zone": visit.settings.time_zone,
    }
    return html("token_new.html", visit, values, fault=_beside(fault))


async def _create(visit: Visit, form: Form) -> Response:
    form = await with_ids(visit, form, OF_PARTIES)
    body = {
        **_changes(visit, form),
        "scopes": form.all("scopes"),
        **{name: ids_of(name, form.get(name, "")) for name in OF_PARTIES},
        "hides_money": form.get("hides_money") == "yes",
    }
    return _secret(visit, await ask(visit, "/tokens", method="POST", body=body))


async def _show_one(visit: Visit, form: Form, fault: Fault | None) -> Response:
    token = (await ask(visit, "/tokens/{id}", at=_place(visit))).body
    zone = visit.settings.time_zone
    typed = (
        {name: form.get(name, "") for name in _CHANGED} if form.get("do") == "save" else _typed(token, zone)
    )
    values = {
        "row": token,
        "partners": await names_of_partners(visit, [token]),
        "typed": typed,
        "names": _CHANGED,
        "meanings": MEANINGS,
        "overlaps": _OVERLAPS,
        "overlap": form.get("overlap", str(_DAY)),
        "now": _now(),
        "was_saved": visit.request.query_params.get("done") == "saved",
        "zone": zone,
    }
    return html("token.html", visit, values, fault=_beside(fault))


async def _act(visit: Visit, form: Form) -> Response:
    act = {"save": _save, "rotate": _rotate, "revoke": _revoke}.get(form.get("do", ""))
    if act is None:
        raise HTTPException(400, "The form cannot be read.")
    return await act(visit, form)


async def _save(visit: Visit, form: Form) -> Response:
    """Save what may change. An expiry that was not touched stays exact to the second."""
    headers = {"If-Match": f'"{form.get("version", "")}"'}
    token = (await ask(visit, "/tokens/{id}", at=_place(visit))).body
    changes = _changes(visit, form)
    if form.get("expires_on", "") == _typed(token, visit.settings.time_zone)["expires_on"]:
        del changes["expires_at"]
    await ask(visit, "/tokens/{id}", at=_place(visit), method="PATCH", body=changes, headers=headers)
    return redirect(f"{visit.path}?done=saved")


async def _rotate(visit: Visit, form: Form) -> Response:
    overlap = next((seconds for seconds, _ in _OVERLAPS if str(seconds) == form.get("overlap")), _DAY)
    path, body = "/tokens/{id}/rotate", {"overlap": overlap}
    return _secret(visit, await ask(visit, path, at=_place(visit), method="POST", body=body))


async def _revoke(visit: Visit, form: Form) -> Response:
    """Revoke the token once that was confirmed."""
    if form.get("confirmed") != "yes":
        token = (await ask(visit, "/tokens/{id}", at=_place(visit))).body
        return html("token_revoke.html", visit, {"row": token, "zone": visit.settings.time_zone})
    await ask(visit, "/tokens/{id}", at=_place(visit), method="DELETE")
    return redirect(f"{PATH}?done=revoked")


def _secret(visit: Visit, made: Answer) -> Response:
    """The page with a secret, which is shown only in this answer."""
    return html("token_secret.html", visit, {"row": made.body, "zone": visit.settings.time_zone})


def _changes(visit: Visit, form: Form) -> dict[str, Any]:
    """The fields of a token that may change, as the API takes them.

    Raises:
        FieldError: the day does not exist.
    """
    return {
        "name": form.get("name", ""),
        "rate_limit": form.get("rate_limit", "") or None,
        "expires_at": _end_of(form.get("expires_on", ""), visit.settings.time_zone),
    }


def _end_of(day: str, zone: str) -> str | None:
    """The last second of a day in a zone. None without a day.

    Raises:
        FieldError: there is no such day.
    """
    if not day:
        return None
    try:
        second = last_second(read_local(day, is_end=True), zone_named(zone))
        return datetime.fromtimestamp(second, UTC).isoformat()
    except (ValueError, OverflowError, OSError):
        raise FieldError("expires_on", "is no day as in 2027-01-31") from None


def _typed(token: Mapping[str, Any], zone: str) -> dict[str, str]:
    """The fields of a token as they are typed."""
    end = None if token["expires_at"] == "infinity" else token["expires_at"]
    return {
        "name": token["name"],
        "rate_limit": token["rate_limit"] or "",
        "expires_on": str(in_zone(datetime.fromisoformat(end), zone_named(zone)).date()) if end else "",
    }


def _beside(fault: Fault | None) -> Fault | None:
    """A fault with the names that the fields have on the page."""
    if fault is None or "expires_at" not in fault.fields:
        return fault
    fields = {("expires_on" if name == "expires_at" else name): why for name, why in fault.fields.items()}
    return fault._replace(fields=fields)


def _now() -> str:
    """To compare with the API's times, which are UTC."""
    return datetime.now(UTC).isoformat()


def _place(visit: Visit) -> dict[str, object]:
    return {"id": visit.request.path_params["id"]}


pages = [
    Page(PATH, "signed in", _show_list, access=_ADMINS),
    Page(NEW, "signed in", _show_new, _create, access=_ADMINS),
    Page(f"{PATH}/{{id}}", "signed in", _show_one, _act, access=_ADMINS),
]
