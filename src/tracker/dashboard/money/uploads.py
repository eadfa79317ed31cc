"""Pages that book many entries or corrections by a file. What it books is shown first.

A file is booked as a whole, or not at all. The second form has an Idempotency-Key, so it books once.
"""

from __future__ import annotations

from functools import partial
from secrets import token_hex
from typing import Any, Final, NamedTuple

from starlette.responses import Response

from tracker.dashboard.asking import ask
from tracker.dashboard.catalogue.names import names_in
from tracker.dashboard.form import MAX_UPLOAD, Form, text_of, type_of
from tracker.dashboard.html import Fault, html, redirect
from tracker.dashboard.money.bookings import CORRECTIONS, ENTRIES
from tracker.dashboard.money.statements import BOOKS, PARTIES
from tracker.dashboard.page import Page
from tracker.dashboard.visit import Visit

_OF_LINE: Final = "lines."


class Upload(NamedTuple):
    """One kind of file."""

    title: str
    list: str  # the page that lists what was booked
    path: str  # of the API
    about: str
    example: str

    @property
    def address(self) -> str:
        return f"{self.list}/upload"


_UPLOADS: Final = (
    Upload(
        "Entries from a file",
        ENTRIES,
        "/manual-entries/uploads",
        "A line has affiliate_id or advertiser_id, kind (payment, bonus, fee or chargeback), amount, "
        "currency and reason. booked_at and reference are optional.",
        "affiliate_id,kind,amount,currency,booked_at,reason,reference",
    ),
    Upload(
        "Corrections from a file",
        CORRECTIONS,
        "/conversions/correction-uploads",
        "A line has conversion_id or order_id, the right payout, revenue or sale_amount, and a reason. "
        "advertiser_id tells conversions with the same order id apart.",
        "conversion_id,payout,revenue,reason",
    ),
)


async def _show(
    upload: Upload, visit: Visit, form: Form, fault: Fault | None, result: Any = None
) -> Response:
    sums = (result or {}).get("sums") or []
    values = {
        "upload": upload,
        "text": form.get("text", ""),
        "result": result,
        "sums": sums,
        "names": await names_in(visit, sums, *PARTIES),
        "problems": _problems(fault) if fault else [],
        "most": MAX_UPLOAD >> 10,
        "key": token_hex(16),
    }
    return html("money_upload.html", visit, values, fault=_besides_lines(fault))


def _problems(fault: Fault) -> list[tuple[int, str, str]]:
    """The wrong lines: number, field as the file calls it, and why."""
    found = []
    for place, why in fault.fields.items():
        if place.startswith(_OF_LINE):
            number, _, field = place.removeprefix(_OF_LINE).partition(".")
            found.append((int(number), field, why))
    return found


def _besides_lines(fault: Fault | None) -> Fault | None:
    """A fault that says how many lines are wrong. A table says which."""
    if fault is None or not any(place.startswith(_OF_LINE) for place in fault.fields):
        return fault
    return fault._replace(text=f"{fault.text.partition(' are wrong.')[0]} are wrong.", fields={})


async def _send(upload: Upload, visit: Visit, form: Form) -> Response:
    text, is_booked = text_of(form), form.get("confirmed") == "yes"
    headers = {"content-type": type_of(text)}
    if is_booked:
        headers["Idempotency-Key"] = form.get("key", "") or token_hex(16)
    query = {"dry_run": "" if is_booked else "true"}
    asked = ask(visit, upload.path, query, method="POST", body=text.encode(), headers=headers)
    result = (await asked).body
    if is_booked:
        return redirect(f"{upload.list}?booked={result['lines']}")
    return await _show(upload, visit, Form([("text", text)]), None, result)


pages = [
    Page(
        upload.address,
        "signed in",
        partial(_show, upload),
        partial(_send, upload),
        access=BOOKS,
        takes_file=True,
    )
    for upload in _UPLOADS
]
