"""The page that pays several open balances at once. All payments are booked, or none."""

from __future__ import annotations

import csv
from decimal import Decimal
from io import StringIO
from secrets import token_hex
from typing import Any, Final, NamedTuple

from starlette.responses import Response

from tracker.dashboard.asking import RefusedError, ask
from tracker.dashboard.catalogue.names import names_in
from tracker.dashboard.form import Form
from tracker.dashboard.html import ROOT, Fault, html, redirect
from tracker.dashboard.money.bookings import ENTRIES
from tracker.dashboard.money.statements import BOOKS, MOST_SHOWN, PARTIES, as_of, party_of
from tracker.dashboard.page import Page
from tracker.dashboard.visit import Visit
from tracker.domain.normalise import amount, trim

PATH: Final = f"{ROOT}/money/pay"

_OF_FILE = ("affiliate_id", "advertiser_id", "kind", "amount", "currency", "booked_at", "reason", "reference")
_SHARED = ("booked_at", "reason")
_FIRST_LINE = 2  # after the header
_SMALLEST = Decimal("0.000001")
_FIELDS = ("party", "currency", "least", "booked_at", "reason", "reference")


async def _show(visit: Visit, form: Form, fault: Fault | None, preview: Any = None) -> Response:
    given = form or visit.request.query_params
    fields = {name: given.get(name, "") for name in _FIELDS} | {"party": _party(visit, form)}
    is_refused = fault is not None and fault.of("least") != ""
    at, found = as_of(visit), Open([], [], "")
    if not (preview or is_refused):
        found = await _open(visit, fields)
    values = {
        "fields": fields,
        "rows": found.rows[:MOST_SHOWN],
        "currencies": found.currencies,
        "total": len(found.rows),
        "complete_until": found.complete_until,
        "as_of": at,
        "chosen": form.all("pay"),
        "preview": preview,
        "names": await names_in(visit, preview["entries"] if preview else (), *PARTIES),
        "key": token_hex(16),
        "zone": visit.settings.time_zone,
    }
    return html("money_pay.html", visit, values, fault=fault)


def _party(visit: Visit, form: Form) -> str:
    return form.get("party", "") if form.get("party") in ("affiliate", "advertiser") else party_of(visit)


class Open(NamedTuple):
    """The balances that are open: above 0, and at least the amount of the form."""

    rows: list[dict[str, Any]]
    currencies: list[str]  # all of them
    complete_until: str


async def _open(visit: Visit, fields: dict[str, str]) -> Open:
    """What is open.

    Raises:
        RefusedError: that is not an amount.
    """
    try:
        least = amount(fields["least"]) if trim(fields["least"]) else Decimal(0)
    except ValueError as error:
        raise RefusedError(Fault(422, str(error), "least")) from None
    told = await ask(visit, "/balances", {"party": fields["party"]})
    found = told.body
    rows = [
        row
        for row in found["data"]
        if fields["currency"] in ("", row["currency"])
        and not row["balance"].startswith("-")
        and amount(row["balance"]) >= max(least, _SMALLEST)
    ]
    return Open(rows, [total["currency"] for total in found["totals"]], told.complete_until)


async def _send(visit: Visit, form: Form) -> Response:
    if form.get("do") == "change":
        return await _show(visit, form, None)
    if not form.all("pay"):
        raise RefusedError(Fault(422, "Choose one or more balances first.", "pay"))
    is_booked = form.get("do") == "book"
    query, headers = {"dry_run": "" if is_booked else "true"}, {"content-type": "text/csv"}
    if is_booked:
        headers["Idempotency-Key"] = form.get("key", "") or token_hex(16)
    path, body = "/manual-entries/uploads", _file(form)
    try:
        answer = (await ask(visit, path, query, method="POST", body=body, headers=headers)).body
    except RefusedError as error:
        raise RefusedError(_named(error.fault, form.all("pay"))) from None
    if is_booked:
        return redirect(f"{ENTRIES}?kind=payment&booked={answer['lines']}")
    return await _show(visit, form, None, answer)


def _file(form: Form) -> bytes:
    """The chosen payments as a file for the API. Each has a reference of its own, if they have any."""
    text = StringIO()
    lines = csv.DictWriter(text, _OF_FILE, restval="")
    lines.writeheader()
    reference = trim(form.get("reference", ""))
    for chosen in form.all("pay"):
        id_, _, rest = chosen.partition(" ")
        owed, _, currency = rest.partition(" ")
        line = {f"{form.get('party', '')}_id": id_, "kind": "payment", "amount": owed, "currency": currency}
        line |= {name: form.get(name, "") for name in ("booked_at", "reason")}
        line["reference"] = f"{reference}-{id_}-{currency}" if reference else ""
        # One line of text for each: a fault names the line of the file that it is in.
        lines.writerow({name: " ".join(line[name].splitlines()) for name in _OF_FILE if name in line})
    return text.getvalue().encode()


def _named(fault: Fault, chosen: list[str]) -> Fault:
    """The fault of a file with the parties that its lines are of, and the fields that all lines share."""
    fields: dict[str, str] = {}
    for place, why in fault.fields.items():
        _, _, line = place.partition(".")
        number, _, field = line.partition(".")
        if field in _SHARED or not number:
            fields[field or place] = why
        else:
            id_, _, _ = chosen[int(number) - _FIRST_LINE].partition(" ")
            fields[id_] = f"{field} {why}"
    return fault._replace(fields=fields)


pages = [Page(PATH, "signed in", _show, _send, access=BOOKS)]
