"""The page that a share opens: one stored report, for everybody who has the link.

The secret is in the fragment of the link. The page sends it by POST, and gets a cookie for its own path. The
page reads nothing of its address except its id.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from starlette.exceptions import HTTPException
from starlette.responses import Response

from tracker.api.catalogue import problem_of
from tracker.api.http.complete_until import HEADER, KEPT_HEADER, header
from tracker.api.http.problems import Problem
from tracker.api.http.rate_limits import Limit, Limits
from tracker.api.shares import PAGE, note_use, open_share, read_share
from tracker.catalogue.errors import CatalogueError
from tracker.dashboard import words
from tracker.dashboard.asking import turns_of
from tracker.dashboard.form import Form
from tracker.dashboard.html import Fault, html, redirect
from tracker.dashboard.page import Page
from tracker.dashboard.reports.builder import Head
from tracker.dashboard.reports.rows import Lines
from tracker.dashboard.reports.state import State
from tracker.dashboard.visit import Visit, cookie_of
from tracker.domain import normalise
from tracker.domain.rates import Rate
from tracker.parameters import ParameterError
from tracker.people.sign_in import FieldError
from tracker.reading.reports.query import ReportQuery
from tracker.reading.sources import Source, Sources
from tracker.store.clicks import kept
from tracker.store.reports.measures import MEASURES
from tracker.store.shares import Share

OPENINGS: Final = Rate(60, "minute")
"""How often one share may be opened."""
ATTEMPTS: Final = Rate(20, "minute")
"""How often one address (IPv6: one /64) may send a secret."""

LASTS_SECONDS: Final = 3600
"""How long a browser may open a share again without its link."""

_COOKIE: Final = "tracker-share"
_SAFE_COOKIE: Final = f"__Secure-{_COOKIE}"
_NOT_FOR_SEARCH: Final = {"X-Robots-Tag": "noindex, nofollow"}


async def _show(visit: Visit, _form: Form, fault: Fault | None) -> Response:
    share = None if fault else await open_share(visit.pool, _id(visit), cookie_of(visit, _cookie(visit)))
    response = (
        await _report(visit, share) if share else html("share.html", None, {"path": visit.path}, fault=fault)
    )
    response.headers.update(_NOT_FOR_SEARCH)
    return response


async def _exchange(visit: Visit, form: Form) -> Response:
    limits = _limits(visit)
    client = limits.client_of(visit.request)
    await _take(limits, Limit(f"share-secrets:{client}", ATTEMPTS))
    secret = form.get("secret", "")
    share = await open_share(visit.pool, _id(visit), secret)
    if share is None:
        raise FieldError("secret", "opens nothing: the link is incomplete, was revoked, or has ended")
    path = f"{PAGE}/{share.id}"  # an id in an address may have white space around it
    response = redirect(path)
    is_safe = visit.is_encrypted
    response.set_cookie(
        _cookie(visit),
        secret,
        LASTS_SECONDS,
        path=path,
        secure=is_safe,
        httponly=True,
        samesite="strict",
    )
    return response


async def _report(visit: Visit, share: Share) -> Response:
    """The report of an open share. Its use is noted."""

    async def read(source: Source) -> tuple[ReportQuery, dict[str, Any], dict[str, str]]:
        told = header(source.complete_until, await kept.since(source.pool))
        return *await read_share(source.pool, visit.settings.time_zone, share), told

    limits = _limits(visit)
    await _take(limits, Limit(f"share:{share.id}", OPENINGS))
    await note_use(visit.pool, share, limits.client_of(visit.request), visit.visitor.address)
    try:
        async with turns_of(visit).of(f"share {share.id}"):
            sources: Sources = visit.api.state.sources
            query, body, told = await sources.read(read, goes_on=False, tells_time=True)
    except CatalogueError as error:
        raise problem_of(error) from None
    except ParameterError as error:
        raise HTTPException(422, str(error)) from None
    values = {
        **_of_table(query.group_by, body),
        "share": share.row,
        "zone": str(query.zone(visit.settings.time_zone)),
        "days": [time and f"{time:%Y-%m-%d}" for time in query.times()],
        "complete_until": told.get(HEADER, ""),
        "kept_from": told.get(KEPT_HEADER, ""),
    }
    return html("shared_report.html", None, values)


def _of_table(groups: Sequence[str], body: Mapping[str, Any]) -> dict[str, Any]:
    """The table. Nothing is behind its cells."""
    state = State((("group_by", ",".join(groups)), ("rows", "all")))
    measures = [name for name in MEASURES if name in body["totals"]]
    lines = Lines(state, None, measures, {}, ())
    return {
        "heads": [Head(words.GROUPS[group], []) for group in groups],
        "columns": [Head(words.MEASURES[name], [], MEASURES[name].about) for name in measures],
        "rows": lines.of(body),
        "total": lines.total(body),
    }


def _id(visit: Visit) -> int:
    id_ = normalise.id_(visit.request.path_params["id"])
    if id_ is None:
        raise HTTPException(404)
    return id_


def _cookie(visit: Visit) -> str:
    return _SAFE_COOKIE if visit.is_encrypted else _COOKIE


def _limits(visit: Visit) -> Limits:
    limits: Limits = visit.api.state.limits
    return limits


async def _take(limits: Limits, limit: Limit) -> None:
    """Take one turn.

    Raises:
        Problem: 429 if the rate is spent.
    """
    turn = await limits.take(limit)
    if turn is not None and turn.is_refused:
        seconds = str(max(1, round(turn.retry_after)))
        raise Problem(
            429, "This link was opened too often. Try again in a minute.", headers={"Retry-After": seconds}
        )


pages = [Page(f"{PAGE}/{{id}}", "anyone", _show, _exchange, is_private=True, changes_nothing=True)]
