"""Pages that book money: entries by hand, corrections and period closes. Each is shown before it is done.

A form is sent twice: first as a dry run, whose answer the page shows, then to book the same fields. The
second one has an Idempotency-Key, so that a form that is sent twice books once.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime
from secrets import token_hex
from typing import Any, Final
from zoneinfo import ZoneInfo

from starlette.responses import Response

from tracker.dashboard.asking import RefusedError, ask, query_string
from tracker.dashboard.catalogue.names import address_with_ids, name_at, names_in, with_ids
from tracker.dashboard.form import Form
from tracker.dashboard.html import ROOT, Fault, html, redirect
from tracker.dashboard.lists import Listed, listed
from tracker.dashboard.money.statements import BOOKS, STATEMENTS, months
from tracker.dashboard.navigation import Access
from tracker.dashboard.page import Page
from tracker.dashboard.visit import Visit
from tracker.domain.local_time import first_second, read_local, zone_named
from tracker.domain.normalise import id_, trim

ENTRIES: Final = f"{ROOT}/money/entries"
CORRECTIONS: Final = f"{ROOT}/money/corrections"
CLOSES: Final = f"{ROOT}/money/closes"

_READS = Access(scopes=("money:read",), owners=(None,), shows_money=True)
_CLOSES = Access(scopes=("admin",), owners=(None,), shows_money=True)

_NAMED = ("offer", "affiliate", "advertiser")
_IDS = ("affiliate_id", "advertiser_id")
_OF_ENTRY = (*_IDS, "kind", "amount", "currency", "booked_at", "reason", "reference")
_OF_REVERSAL = ("reason", "booked_at")
_OF_CORRECTION = ("payout", "revenue", "sale_amount", "reason")
_YEARS_BEFORE = 19  # a statement has at most 20


def _body(form: Form, names: Collection[str]) -> dict[str, object]:
    """The fields of a form as the API takes them. Empty ones are left out, and ids are numbers."""
    texts = {name: trim(form.get(name, "")) for name in names}
    return {name: (name in _IDS and id_(text)) or text for name, text in texts.items() if text}


async def _book(visit: Visit, form: Form, path: str, body: object, **at: object) -> tuple[Any, bool]:
    """The answer to what a form books, and whether it is booked. Else it is a dry run.

    Raises:
        RefusedError: it cannot be booked.
    """
    is_booked = form.get("do") == "book"
    query, headers = {"dry_run": "" if is_booked else "true"}, {}
    if is_booked:
        headers["Idempotency-Key"] = form.get("key", "") or token_hex(16)
    answer = await ask(visit, path, query, at=at, method="POST", body=body, headers=headers)
    return answer.body, is_booked


def _filled(visit: Visit, form: Form, names: Collection[str]) -> dict[str, str]:
    """What the fields of a form have: what was sent, or what the page's address says."""
    given = form or visit.request.query_params
    return {name: given.get(name, "") for name in names}


async def _show_list(
    visit: Visit, fault: Fault | None, source: str, template: str, names: Sequence[str]
) -> Response:
    """A list of what was booked. `source`: the path of the API. `names`: the filters."""
    if fault is None and (address := await address_with_ids(visit)):
        return redirect(address)
    assert visit.session
    found = await listed(visit, source, names, fault)
    values = {
        "found": found,
        "names": await names_in(visit, found.rows, *_NAMED),
        "may_book": BOOKS.allows(visit.session),
        "done": id_(visit.request.query_params.get("done", "")),
        "booked": id_(visit.request.query_params.get("booked", "")),
        "zone": visit.settings.time_zone,
    }
    return html(template, visit, values, fault=fault)


async def _show_entries(visit: Visit, _: Form, fault: Fault | None) -> Response:
    names = (*_IDS, "kind", "reference")
    return await _show_list(visit, fault, "/manual-entries", "money_entries.html", names)


async def _show_corrections(visit: Visit, _: Form, fault: Fault | None) -> Response:
    names = ("conversion_id", *_IDS)
    return await _show_list(visit, fault, "/corrections", "money_corrections.html", names)


async def _form_of(
    visit: Visit,
    template: str,
    fields: dict[str, str],
    fault: Fault | None,
    preview: Any = None,
    **more: Any,
) -> Response:
    """The page of a form, or of its preview. Each preview has a key of its own."""
    values = {
        "fields": fields,
        "preview": preview,
        "key": token_hex(16),
        "zone": visit.settings.time_zone,
        **more,
    }
    return html(template, visit, values, fault=fault)


async def _show_new_entry(visit: Visit, form: Form, fault: Fault | None, preview: Any = None) -> Response:
    fields = _filled(visit, form, _OF_ENTRY)
    parties = [name.removesuffix("_id") for name in _IDS if preview and preview[name]]
    called = [await name_at(visit, party, preview[f"{party}_id"]) for party in parties]
    return await _form_of(visit, "money_entry_new.html", fields, fault, preview, called=called)


async def _send_new_entry(visit: Visit, form: Form) -> Response:
    if form.get("do") == "change":
        return await _show_new_entry(visit, form, None)
    form = await with_ids(visit, form, {"affiliate_id": "affiliate", "advertiser_id": "advertiser"})
    answer, is_booked = await _book(visit, form, "/manual-entries", _body(form, _OF_ENTRY))
    if is_booked:
        return redirect(f"{ENTRIES}?done={answer['id']}")
    return await _show_new_entry(visit, form, None, answer)


async def _show_reversal(visit: Visit, form: Form, fault: Fault | None, preview: Any = None) -> Response:
    fields, entry_id = _filled(visit, form, _OF_REVERSAL), visit.request.path_params["id"]
    return await _form_of(visit, "money_entry_undo.html", fields, fault, preview, entry_id=entry_id)


async def _send_reversal(visit: Visit, form: Form) -> Response:
    if form.get("do") == "change":
        return await _show_reversal(visit, form, None)
    entry_id = visit.request.path_params["id"]
    body = _body(form, _OF_REVERSAL)
    answer, is_booked = await _book(visit, form, "/manual-entries/{id}/reverse", body, id=entry_id)
    if is_booked:
        return redirect(f"{ENTRIES}?done={answer['id']}")
    return await _show_reversal(visit, form, None, answer)


async def _show_new_correction(
    visit: Visit, form: Form, fault: Fault | None, preview: Any = None
) -> Response:
    fields = _filled(visit, form, ("conversion_id", *_OF_CORRECTION))
    conversion = None
    if (key := trim(fields["conversion_id"])) and not (fault and not form.get("do")):
        conversion = (await ask(visit, "/conversions/{id}", at={"id": key})).body["data"][0]
    more = {"conversion": conversion}
    return await _form_of(visit, "money_correction_new.html", fields, fault, preview, **more)


async def _send_new_correction(visit: Visit, form: Form) -> Response:
    if form.get("do") == "change":
        return await _show_new_correction(visit, form, None)
    key, body = trim(form.get("conversion_id", "")), _body(form, _OF_CORRECTION)
    answer, is_booked = await _book(visit, form, "/conversions/{id}/corrections", body, id=key)
    if is_booked:
        return redirect(f"{CORRECTIONS}?done={answer['conversion_id']}")
    return await _show_new_correction(visit, form, None, answer)


async def _show_closes(visit: Visit, form: Form, fault: Fault | None, preview: Any = None) -> Response:
    assert visit.session
    found = await listed(visit, "/period-closes", (), None)
    zone, until = visit.settings.time_zone, form.get("until", "")
    more = {
        "found": found,
        "may_close": _CLOSES.allows(visit.session),
        "closing": await _closing(visit, found, until) if preview else (),
        "statements": STATEMENTS,
    }
    fields = {"until": until or months(zone)[0][1]}
    return await _form_of(visit, "money_closes.html", fields, fault, preview, **more)


async def _closing(visit: Visit, closes: Listed, until: str) -> list[tuple[str, str, Any]]:
    """What a close makes final: the party, the address of its statements, and their sums by currency."""
    zone = ZoneInfo(visit.settings.time_zone)
    if closes.rows and not closes.before:
        since = datetime.fromisoformat(closes.rows[0]["until"]).astimezone(zone).date().isoformat()
    else:
        since = f"{read_local(until, is_end=False).year - _YEARS_BEFORE}-01-01"
    found = []
    for party in ("affiliate", "advertiser"):
        span = {"party": party, "from": since, "until": until}
        totals = (await ask(visit, "/statements", span)).body["totals"]
        found.append((party, query_string(span), totals))
    return found


async def _send_close(visit: Visit, form: Form) -> Response:
    if form.get("do") == "change":
        return await _show_closes(visit, form, None)
    body = {"until": _instant(form.get("until", ""), visit.settings.time_zone)}
    answer, is_booked = await _book(visit, form, "/period-closes", body)
    return redirect(CLOSES) if is_booked else await _show_closes(visit, form, None, answer)


def _instant(text: str, zone: str) -> str:
    """The beginning of a day of the network's zone, with its offset.

    Raises:
        RefusedError: it is not a day.
    """
    try:
        second = first_second(read_local(text, is_end=False), zone_named(zone))
    except ValueError as error:
        raise RefusedError(Fault(422, str(error), "until")) from None
    return datetime.fromtimestamp(second, ZoneInfo(zone)).isoformat()


pages = [
    Page(ENTRIES, "signed in", _show_entries, access=_READS),
    Page(f"{ENTRIES}/new", "signed in", _show_new_entry, _send_new_entry, access=BOOKS),
    Page(f"{ENTRIES}/{{id}}/undo", "signed in", _show_reversal, _send_reversal, access=BOOKS),
    Page(CORRECTIONS, "signed in", _show_corrections, access=_READS),
    Page(f"{CORRECTIONS}/new", "signed in", _show_new_correction, _send_new_correction, access=BOOKS),
    Page(CLOSES, "signed in", _show_closes, _send_close, access=_READS),
]
