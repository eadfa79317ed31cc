"""Pages of operations: findings, the ledger's edges, unmatched hits, dead letters and imports."""

from __future__ import annotations

import asyncio
from typing import Any, Final

from starlette.responses import Response

from tracker.api.ledger import PATH as LEDGER
from tracker.dashboard.asking import RefusedError, ask
from tracker.dashboard.form import Form
from tracker.dashboard.html import ROOT, Fault, html, redirect
from tracker.dashboard.navigation import Access
from tracker.dashboard.page import Page
from tracker.dashboard.visit import Visit

STATE: Final = f"{ROOT}/operations"
DEAD_LETTERS: Final = f"{STATE}/dead-letters"
IMPORTS: Final = f"{STATE}/imports"

_OPERATORS = Access(scopes=("admin",), owners=(None,))
_WORST_FIRST = ("fail", "warn", "ok")
_ORPHANS = 25
_MOST_LETTERS = 1_000
_PER_PAGE = 50


async def _show_state(visit: Visit, _form: Form, fault: Fault | None) -> Response:
    answer, (ledger, problem), (orphans, orphan_problem) = await asyncio.gather(
        ask(visit, "/findings"),
        _unless_away(visit, LEDGER),
        _unless_away(visit, "/unmatched-hits", limit=_ORPHANS),
    )
    findings = sorted(answer.body["data"], key=lambda finding: _WORST_FIRST.index(finding["level"]))
    values = {
        "findings": findings,
        "wrong": sum(finding["level"] != "ok" for finding in findings),
        "ledger": ledger,
        "problem": problem,
        "orphans": (orphans or {}).get("data", []),
        "orphan_problem": orphan_problem,
        "zone": visit.settings.time_zone,
    }
    return html("operations.html", visit, values, fault=fault)


async def _unless_away(visit: Visit, path: str, **query: Any) -> tuple[Any, str]:
    """An answer, or None with the reason: the page shows the rest while an engine is away."""
    try:
        return (await ask(visit, path, query)).body, ""
    except RefusedError as error:
        return None, error.fault.text


async def _show_dead_letters(visit: Visit, form: Form, fault: Fault | None = None) -> Response:
    letters = (await ask(visit, "/dead-letters", {"limit": _MOST_LETTERS})).body
    values = {
        "letters": letters,
        "chosen": form.all("ids"),
        "do": form.get("do", ""),
        "done": {word: _number(visit, word) for word in ("replayed", "dropped")},
    }
    return html("dead_letters.html", visit, values, fault=fault)


def _number(visit: Visit, name: str) -> str:
    """A number in the query. "" for anything else, because a link could put any text there."""
    text = visit.request.query_params.get(name, "")
    return text if text.isascii() and text.isdigit() else ""


async def _show_dead_letter(visit: Visit, _: Form, fault: Fault | None) -> Response:
    letter = await ask(visit, "/dead-letters/{id}", at={"id": visit.request.path_params["id"]})
    return html("dead_letter.html", visit, {"letter": letter.body}, fault=fault)


async def _settle(visit: Visit, form: Form) -> Response:
    """Replay dead letters, or drop them once that was confirmed."""
    do, ids = form.get("do", ""), form.all("ids")
    if do not in ("replay", "drop") or not ids:
        raise RefusedError(Fault(422, "Choose one or more clicks first.", "ids"))
    if do == "drop" and form.get("confirmed") != "yes":
        return await _show_dead_letters(visit, form)
    done = (await ask(visit, f"/dead-letters/{do}", method="POST", body={"ids": ids})).body
    return redirect(f"{DEAD_LETTERS}?{'replayed' if do == 'replay' else 'dropped'}={len(done['ids'])}")


async def _show_imports(visit: Visit, _: Form, fault: Fault | None) -> Response:
    page = visit.request.query_params.get("page", "1")
    answer = (await ask(visit, "/imports", {"page": page, "per_page": _PER_PAGE})).body
    values = {"imports": answer, "zone": visit.settings.time_zone}
    return html("imports.html", visit, values, fault=fault)


pages = [
    Page(STATE, "signed in", _show_state, access=_OPERATORS),
    Page(DEAD_LETTERS, "signed in", _show_dead_letters, _settle, access=_OPERATORS),
    Page(f"{DEAD_LETTERS}/{{id}}", "signed in", _show_dead_letter, access=_OPERATORS),
    Page(IMPORTS, "signed in", _show_imports, access=_OPERATORS),
]
