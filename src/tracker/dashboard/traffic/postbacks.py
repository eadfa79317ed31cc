"""Pages of postbacks: those of advertisers with replay, those to affiliates with re-fire, and their URLs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple
from urllib.parse import parse_qsl, urlencode

from starlette.responses import Response

from tracker.dashboard.asking import RefusedError, ask, query_string
from tracker.dashboard.catalogue.names import address_with_ids, names_in
from tracker.dashboard.form import Form
from tracker.dashboard.html import ROOT, Fault, html, redirect
from tracker.dashboard.list_state import ListState
from tracker.dashboard.navigation import Access
from tracker.dashboard.page import Page
from tracker.dashboard.traffic.click_words import PERIODS
from tracker.dashboard.traffic.conversions import may_write
from tracker.dashboard.visit import Visit
from tracker.domain.postback import Result
from tracker.people.seeing import token_of
from tracker.store.conversions.postbacks import REPLAYED

IN: Final = f"{ROOT}/postbacks"
OUT: Final = f"{IN}/out"
URLS: Final = f"{IN}/urls"

_READS: Final = Access(scopes=("conversions:read",), owners=(None,))


class _Log(NamedTuple):
    """A log, its endpoint, and what can be done with its rows."""

    path: str
    endpoint: str
    again: str  # the endpoint that does it once more
    word: str  # for that
    template: str
    fields: Mapping[str, str]
    choices: Mapping[str, tuple[str, Sequence[tuple[str, str]]]]


def _either(*words: str) -> list[tuple[str, str]]:
    return [("", "all"), *((word, word) for word in words)]


_IN: Final = _Log(
    IN,
    "/postbacks",
    "/postbacks/replay",
    "replay",
    "postbacks_in.html",
    {
        "created_from": "From",
        "created_to": "To",
        "click_id": "Click",
        "advertiser_id": "Advertiser",
        "conversion_id": "Conversion",
        "hash": "Postback's hash",
        "form": "Form",
    },
    {
        "result": ("Result", _either(*Result)),
        "source": ("Came as", _either("postback", "pixel", "api", "import")),
    },
)
_OUT: Final = _Log(
    OUT,
    "/sent-postbacks",
    "/sent-postbacks/refire",
    "send",
    "postbacks_out.html",
    {
        "created_from": "From",
        "created_to": "To",
        "affiliate_id": "Affiliate",
        "affiliate_postback_id": "URL's id",
        "conversion_id": "Conversion",
        "host": "Host",
    },
    {"state": ("State", _either("waiting", "sent", "failed", "held"))},
)


async def _show_in(visit: Visit, form: Form, fault: Fault | None) -> Response:
    return await _show(visit, _IN, fault, form=form)


async def _show_out(visit: Visit, form: Form, fault: Fault | None) -> Response:
    return await _show(visit, _OUT, fault, form=form)


async def _show(
    visit: Visit, log: _Log, fault: Fault | None, *, form: Form, outcome: Mapping[str, Any] | None = None
) -> Response:
    """A log. After a question about its rows it also shows what would become of them."""
    if fault is None and not form and (address := await address_with_ids(visit)):
        return redirect(address)
    state = ListState.of(visit, "last_7_days", form.get("filters"))
    body: dict[str, Any] = {"data": [], "total": 0, "page": 1, "pages": 1, "next_cursor": None}
    if fault is None or form.get("filters") is not None:
        body = (await ask(visit, log.endpoint, state.query)).body
    before, after = state.ways(body["next_cursor"]) if log is _IN else _pages(state, body)
    values = {
        "log": log,
        "state": state,
        "names": await names_in(visit, body["data"], "affiliate", "advertiser"),
        "rows": body["data"],
        "total": body["total"],
        "before": before,
        "after": after,
        "periods": [("", "Own times"), *PERIODS.items()],
        "besides": state.besides({*log.fields, *log.choices}),
        "outcome": outcome,
        "again": form,
        "replayed": REPLAYED,
        "may_write": may_write(visit),
        "done": state.get("done"),
        "zone": state.get("tz") or visit.settings.time_zone,
    }
    return html(log.template, visit, values, fault=fault)


def _pages(state: ListState, body: Mapping[str, Any]) -> tuple[str, str]:
    number = body["page"]
    return (
        state.address(page=number - 1) if number > 1 else "",
        state.address(page=number + 1) if number < body["pages"] else "",
    )


async def _replay(visit: Visit, form: Form) -> Response:
    return await _do_again(visit, form, _IN)


async def _refire(visit: Visit, form: Form) -> Response:
    return await _do_again(visit, form, _OUT)


async def _do_again(visit: Visit, form: Form, log: _Log) -> Response:
    """Show what would become of the rows of a filter, or of one row, and do it once that was confirmed."""
    if not may_write(visit):
        raise RefusedError(Fault(403, "You may read postbacks, and not send them once more."))
    one = form.get("one", "")
    if one and log is _OUT:
        await ask(visit, "/sent-postbacks/{id}/refire", at={"id": one}, method="POST")
        return _back(log, form, 1)
    chosen = f"hash={one}" if one else form.get("filters", "")
    is_confirmed = form.get("confirmed") == "yes"
    outcome = (await ask(visit, log.again, chosen, method="POST", body={"dry_run": not is_confirmed})).body
    if is_confirmed:
        return _back(log, form, outcome.get("fired", outcome["matched"]))
    return await _show(visit, log, None, form=form, outcome=outcome)


def _back(log: _Log, form: Form, number: int) -> Response:
    pairs = [*parse_qsl(form.get("filters", "")), ("done", str(number))]
    return redirect(f"{log.path}?{urlencode(pairs)}")


async def _show_urls(visit: Visit, _: Form, fault: Fault | None) -> Response:
    assert visit.session
    if fault is None and (address := await address_with_ids(visit)):
        return redirect(address)
    given = visit.request.query_params
    wanted = {name: given.get(name, "") for name in ("affiliate_id", "is_failing")}
    body: dict[str, Any] = {"data": [], "total": 0, "page": 1, "pages": 1}
    if fault is None:
        body = (
            await ask(visit, "/postback-urls", {**wanted, "page": given.get("page", ""), "per_page": 100})
        ).body
    number = body["page"]
    ways = {
        "before": f"{URLS}?{query_string({**wanted, 'page': number - 1})}" if number > 1 else "",
        "after": f"{URLS}?{query_string({**wanted, 'page': number + 1})}" if number < body["pages"] else "",
    }
    token = token_of(visit.session)
    values = {
        "rows": body["data"],
        "total": body["total"],
        **ways,
        "wanted": wanted,
        "may_pause": token.allows("offers:write") and not visit.session.seen_as,
        "may_write": may_write(visit),
        "zone": visit.settings.time_zone,
    }
    return html("postback_urls.html", visit, values, fault=fault)


async def _set_url(visit: Visit, form: Form) -> Response:
    """Pause a URL, or let it go on."""
    await ask(
        visit,
        "/affiliates/{affiliate_id}/postbacks/{id}",
        at={"affiliate_id": form.get("affiliate_id", ""), "id": form.get("id", "")},
        method="PATCH",
        body={"status": form.get("status", "")},
        headers={"if-match": f'"{form["version"]}"'} if form.get("version") else {},
    )
    return redirect(visit.path)


pages = [
    Page(IN, "signed in", _show_in, _replay, access=_READS),
    Page(OUT, "signed in", _show_out, _refire, access=_READS),
    Page(URLS, "signed in", _show_urls, _set_url, access=_READS),
]
