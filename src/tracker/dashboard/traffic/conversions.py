"""Pages of conversions: the list with its times, one status for many, one by hand, and a file of statuses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from secrets import token_hex
from typing import Any, Final

from starlette.responses import Response

from tracker.api.conversions.endpoints import ALL
from tracker.api.partner_access.schema import CONVERSIONS
from tracker.dashboard.asking import RefusedError, ask, download
from tracker.dashboard.catalogue.names import address_with_ids
from tracker.dashboard.charts import Bar, Chart, histogram
from tracker.dashboard.form import MAX_UPLOAD, Form, number_or_text, text_of, type_of
from tracker.dashboard.html import ROOT, Fault, html, redirect
from tracker.dashboard.list_state import ListState, chosen
from tracker.dashboard.navigation import Access
from tracker.dashboard.page import Page
from tracker.dashboard.traffic.click_words import COLUMNS, PERIODS
from tracker.dashboard.visit import Visit
from tracker.people.seeing import token_of
from tracker.reading.filters import EXCLUDE
from tracker.reading.visibility import Visibility
from tracker.store.conversions.list import FILTERS

LIST: Final = f"{ROOT}/conversions"

READS: Final = Access(scopes=("conversions:read",))
WRITES: Final = Access(scopes=("conversions:write",), owners=(None,), shows_money=True)

_FIELDS: Final[Mapping[str, str]] = {
    "created_from": "From",
    "created_to": "To",
    "offer_id": "Offer",
    "affiliate_id": "Affiliate",
    "order_id": "Order id",
}
_MORE: Final[Mapping[str, str]] = {
    "advertiser_id": "Advertiser",
    "goal_id": "Goal",
    "hash": "Conversion's hash",
    "click_hash": "Click's hash",
    "country_code": "Country",
    "affiliate_source": "Source",
    "sale_status": "Advertiser's status text",
    "seconds_from_click_from": "Seconds from click, at least",
    "seconds_from_click_to": "Seconds from click, at most",
    "updated_from": "Changed from",
    "updated_to": "Changed to",
    "tz": "Time zone",
}
_CHOICES: Final[Mapping[str, tuple[str, Sequence[tuple[str, str]]]]] = {
    "date_basis": ("Dates are of", (("", "conversions"), ("click", "their clicks"))),
    "is_test": ("Tests", (("", "with tests"), ("false", "without tests"), ("true", "only tests"))),
    "is_unproven": ("Without proof", (("", "all"), ("true", "only unproven"), ("false", "without them"))),
    "is_over_cap": ("Over a cap", (("", "all"), ("true", "only over a cap"), ("false", "without them"))),
    "sort": (
        "Order",
        (
            ("", "newest first"),
            ("created_at", "oldest first"),
            ("seconds_from_click", "shortest time from click first"),
            ("-seconds_from_click", "longest time from click first"),
        ),
    ),
}
LABELS: Final[Mapping[str, str]] = {
    **COLUMNS,
    "click_hash": "Click",
    "offer_id": "Offer",
    "goal_id": "Goal",
    "affiliate_id": "Affiliate",
    "advertiser_id": "Advertiser",
    "seconds_from_click": "From click",
    "is_unproven": "Without proof",
    "is_over_cap": "Over a cap",
    "hash": "Hash",
    "click_id": "Click's number",
    "order_id": "Order id",
    "payout": "Payout",
    "revenue": "Revenue",
    "sale_amount": "Sale",
    "refunded": "Refunded",
    "updated_at": "Changed",
    "click_created_at": "Click's time",
    "click_legacy_id": "Click's earlier id",
    "click_legacy_source": "Click's earlier tracker",
    "legacy_id": "Earlier id",
    "legacy_source": "Earlier tracker",
}
"""What people call the columns of conversions."""
_USUAL: Final = (
    *("id", "created_at", "status", "payout", "revenue", "offer_id", "affiliate_id", "goal_id", "order_id"),
    *("country_code", "seconds_from_click", "click_hash"),
)
_AMOUNTS: Final = {"payout": "payout_currency", "revenue": "revenue_currency", "sale_amount": "sale_currency"}
_NOT_COLUMNS: Final = frozenset(
    {*_AMOUNTS.values(), "offer_name", "goal_name", "affiliate_name", "advertiser_name"}
)
"""Keys that other columns show."""
_STATUSES: Final = ("pending", "hold", "approved", "rejected")


def may_write(visit: Visit) -> bool:
    """Whether a session may change conversions."""
    assert visit.session
    return WRITES.allows(visit.session) and not visit.session.seen_as


def keys_of(visit: Visit) -> tuple[str, ...]:
    """The keys of a conversion that a session sees."""
    assert visit.session
    token = token_of(visit.session)
    visibility = Visibility(CONVERSIONS[token.owner.kind]) if token.owner else ALL
    return visibility.seen_by(token).keys


def _is_seen(name: str, keys: Sequence[str]) -> bool:
    column = name.removeprefix(EXCLUDE)
    return column not in FILTERS or column in keys


async def _show(visit: Visit, _: Form, fault: Fault | None) -> Response:
    if fault is None and (address := await address_with_ids(visit)):
        return redirect(address)
    state, keys = ListState.of(visit, "last_30_days"), keys_of(visit)
    body: dict[str, Any] = {"data": [], "total": 0, "page": 1, "next_cursor": None}
    times, complete_until = None, ""
    if fault is None:
        answer = await ask(visit, "/conversions", state.query)
        body, complete_until = answer.body, answer.complete_until
        times = (await ask(visit, "/conversions/times", state.filters)).body if state.get("times") else None
    before, after = state.ways(body["next_cursor"])
    known = [key for key in keys if key not in _NOT_COLUMNS]
    fields = {name: label for name, label in _FIELDS.items() if _is_seen(name, keys)}
    more = {name: label for name, label in _MORE.items() if _is_seen(name, keys)}
    choices = {name: told for name, told in _CHOICES.items() if _is_seen(name, keys)}
    values = {
        "state": state,
        "rows": body["data"],
        "total": body["total"],
        "before": before,
        "after": after,
        "columns": chosen(state, known, _USUAL),
        "known": known,
        "labels": {name: LABELS.get(name) or name.replace("_", " ") for name in known},
        "periods": [("", "Own times"), *PERIODS.items()],
        "amounts": _AMOUNTS,
        "fields": fields,
        "more": more,
        "choices": choices,
        "statuses": _STATUSES,
        "status_choices": _status_choices(state.get("status")),
        "besides": state.besides({*fields, *more, *choices, "status"}),
        "chart": chart_of(times) if times else None,
        "times": times,
        "steps": _steps(state, times) if times else [],
        "may_write": may_write(visit),
        "zone": state.get("tz") or visit.settings.time_zone,
        "complete_until": complete_until,
        "done": state.get("done"),
        "order": dict(_CHOICES["sort"][1]).get(state.get("sort"), "newest first"),
    }
    return html("conversions.html", visit, values, fault=fault)


async def _export(visit: Visit, _form: Form, _fault: Fault | None) -> Response:
    """A file of the list's filters."""
    return await download(visit, "/conversions/export", visit.request.url.query)


def chart_of(times: Mapping[str, Any]) -> Chart | None:
    """The times from click to conversion. None without conversions."""
    if not times["total"]:
        return None
    bars = [Bar(_step_name(step), step["conversions"]) for step in times["data"]]
    return histogram("Conversions by the time from their click", bars, "Time from click")


def _steps(state: ListState, times: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The steps of time that have conversions, and the addresses of their lists."""
    found = [step for step in times["data"] if step["conversions"] and step["seconds_from"] is not None]
    return [
        (
            _step_name(step),
            state.address(
                "times",
                seconds_from_click_from=step["seconds_from"],
                seconds_from_click_to="" if step["seconds_to"] is None else step["seconds_to"],
            ),
        )
        for step in found
    ]


def _status_choices(asked: str) -> list[tuple[str, str]]:
    """The statuses to choose from, and the one of the address if it is several."""
    usual = [("", "all"), *((word, word) for word in _STATUSES), ("pending,hold", "pending or hold")]
    is_usual = asked in [value for value, _ in usual]
    return usual if is_usual else [*usual, (asked, asked.replace(",", " or "))]


def _step_name(step: Mapping[str, int | None]) -> str:
    start, end = step["seconds_from"], step["seconds_to"]
    if start is None:
        return "before"
    return f"{_short(start)}+" if end is None else f"{_short(start)}-{_short(end + 1)}"


def _short(seconds: int) -> str:
    """A time in its largest whole unit."""
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "m")):
        if seconds >= size and seconds % size == 0:
            return f"{seconds // size}{unit}"
    return f"{seconds}s" if seconds else "0"


async def _show_change(visit: Visit, form: Form, fault: Fault | None) -> Response:
    """What a change of many would do. It is asked first, and done by the button on that page."""
    values = {"form": form, "ids": form.all("ids"), "outcome": None, "list": LIST}
    return html("conversions_change.html", visit, values, fault=fault)


async def _change(visit: Visit, form: Form) -> Response:
    """Show the outcome for the chosen conversions, or bring it about once that was confirmed."""
    ids, whole = form.all("ids"), form.get("choose") == "all"
    if not ids and not whole:
        raise RefusedError(Fault(422, "Choose one or more conversions first."))
    is_confirmed = form.get("confirmed") == "yes"
    body: dict[str, Any] = {"status": form.get("status", ""), "dry_run": not is_confirmed}
    if not whole:
        body["ids"] = [number_or_text(id_) for id_ in ids]
    if is_confirmed and form.get("expected"):
        body["expected"] = number_or_text(form["expected"])
    filters = form.get("filters", "") if whole else ""
    outcome = (await ask(visit, "/conversions/status", filters, method="POST", body=body)).body
    if is_confirmed:
        back = form.get("filters", "")
        return redirect(f"{LIST}?{back}{'&' if back else ''}done={outcome['changed']}")
    values = {"form": form, "ids": ids, "outcome": outcome, "list": LIST}
    return html("conversions_change.html", visit, values)


_NEW: Final[Sequence[tuple[str, str, str]]] = (
    ("click_id", "Click", "Its hash, or its id in an earlier tracker."),
    ("order_id", "Order id", "It tells conversions of one goal apart."),
    ("goal_id", "Goal", "The id. Without one it is the offer's base goal."),
    ("sale_amount", "Sale amount", "Percentages are of this amount."),
    ("payout", "Payout", "Without one it is the goal's."),
    ("revenue", "Revenue", "Without one it is the goal's."),
    ("currency", "Currency", "Of the amounts, such as EUR. Without one it is the goal's."),
    ("sale_status", "Status text", "A text of the advertiser."),
)


_CHOSEN: Final = (("", "as the goal says"), *((word, word) for word in _STATUSES))


async def _show_new(visit: Visit, form: Form, fault: Fault | None) -> Response:
    given = form or Form(visit.request.query_params.multi_items())
    values = {"given": given, "fields": _NEW, "statuses": _CHOSEN, "key": given.get("key") or token_hex(16)}
    return html("conversion_new.html", visit, values, fault=fault)


async def _create(visit: Visit, form: Form) -> Response:
    """Make a conversion. A form that is sent twice makes one."""
    names = (*(name for name, *_ in _NEW), "status")
    body: dict[str, Any] = {name: form[name] for name in names if form.get(name)}
    if "goal_id" in body:
        body["goal_id"] = number_or_text(body["goal_id"])
    headers = {"idempotency-key": form.get("key") or token_hex(16)}
    told = (await ask(visit, "/conversions", method="POST", body=body, headers=headers)).body
    if told["conversion_id"] is None:
        return redirect(f"{ROOT}/postbacks?hash={told['hash']}")
    return redirect(f"{LIST}/{told['conversion_id']}?told={told['result']}")


async def _show_upload(visit: Visit, form: Form, fault: Fault | None) -> Response:
    values = {"text": form.get("text", ""), "result": None, "most": MAX_UPLOAD >> 10}
    return html("conversions_upload.html", visit, values, fault=fault)


async def _upload(visit: Visit, form: Form) -> Response:
    """Show what a file of statuses would do, or apply it once that was confirmed."""
    text, is_confirmed = text_of(form), form.get("confirmed") == "yes"
    result = await ask(
        visit,
        "/conversions/status-uploads",
        {} if is_confirmed else {"dry_run": "true"},
        method="POST",
        body=text.encode(),
        headers={"content-type": type_of(text)},
    )
    values = {"text": text, "result": result.body, "most": MAX_UPLOAD >> 10}
    return html("conversions_upload.html", visit, values)


pages = [
    Page(LIST, "signed in", _show, access=READS),
    Page(f"{LIST}/export", "signed in", _export, access=READS, is_file=True),
    Page(f"{LIST}/status", "signed in", _show_change, _change, access=WRITES),
    Page(f"{LIST}/new", "signed in", _show_new, _create, access=WRITES),
    Page(f"{LIST}/upload", "signed in", _show_upload, _upload, access=WRITES, takes_file=True),
]
