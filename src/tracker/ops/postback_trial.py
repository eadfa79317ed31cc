"""Tells what a postback would do, before its sender calls: a dry run that changes nothing."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC
from functools import partial
from typing import Any
from urllib.parse import unquote, urlsplit

from tracker.domain.click_id import Mint
from tracker.domain.postback import Postback
from tracker.edge.catalogue.catalogue import Catalogue
from tracker.edge.postback_reader import PostbackReader, Refused, is_postback_path, of_target
from tracker.edge.read.client_address import Proxies
from tracker.errors import UserError
from tracker.ops.partial_catalogue import put
from tracker.store import db
from tracker.store.catalogue import read as stored_catalogue
from tracker.store.conversions import apply_postback
from tracker.store.conversions.list import shown

Trial = dict[str, Any]

_MADE = """
SELECT goal_id, status, is_unproven, order_id, sale_amount, sale_currency, payout, payout_currency,
    revenue, revenue_currency
FROM conversion WHERE id = $1
"""


async def try_postback(connection: db.Connection, url: str, ip: str) -> Trial:
    """What a GET of a URL from an address would do now, ready for JSON.

    Raises:
        UserError: it is not a URL, or not that of a postback.
    """
    form, read = await read_url(connection, url, ip)
    told: Trial = {"form": form}
    try:
        postback = read()
    except Refused as refused:
        return told | {"http_status": refused.answer.status, "result": "refused", "reason": refused.message}
    told |= {
        "http_status": 200,
        "secret_of": postback.advertiser_id and f"advertiser {postback.advertiser_id}",
        "read_as": dict(postback.parameters),
    }
    return told | await _applied(connection, postback)


async def read_url(connection: db.Connection, url: str, ip: str) -> tuple[str | None, Callable[[], Postback]]:
    """The name of the form of a URL, and the way to read its postback as an edge does. That raises Refused.

    Raises:
        UserError: it is not a URL, or not that of a postback.
    """
    scope = _scope(url, ip)
    reader = PostbackReader(Mint(), await _catalogue(connection, scope["path"]), Proxies(()))
    form = None if is_postback_path(scope["path"]) else reader.form_of(scope)
    if form is None and not is_postback_path(scope["path"]):
        raise UserError(f"no postback form takes {scope['path']!r} on this host with this query")
    return form and form.name, partial(reader.read, scope, form, of_target(scope))


def _scope(url: str, ip: str) -> Trial:
    """The request, as ASGI describes it."""
    try:
        parts = urlsplit(url)
    except ValueError:  # of a bracket without its other one
        parts = None
    if parts is None or parts.scheme not in ("http", "https") or not parts.netloc:
        raise UserError("give the whole URL of the postback, from http:// or https:// on")
    return {
        "method": "GET",
        "path": unquote(parts.path) or "/",
        "raw_path": parts.path.encode() or b"/",
        "query_string": parts.query.encode(),
        "client": (ip, 0),
        "headers": [(b"host", parts.netloc.rpartition("@")[2].encode())],
    }


async def _catalogue(connection: db.Connection, path: str) -> Catalogue:
    """The part of the catalogue that a postback needs."""
    catalogue = Catalogue()
    for table in ("postback_form", "secret", "status_word"):
        await put(catalogue, table, stored_catalogue.read_table(connection, table))
    await put(catalogue, "link_form", stored_catalogue.read_link_forms(connection, path))
    catalogue.loaded.set()
    return catalogue


async def _applied(connection: db.Connection, postback: Postback) -> Trial:
    """The result of a postback, which is undone."""
    trying = connection.transaction()
    await trying.start()
    try:
        (applied,) = await apply_postback.take(connection, [postback], None)
        made = await connection.fetchrow(_MADE, applied.conversion_id)
    finally:
        await trying.rollback()
    result = {"result": str(applied.result), "reason": applied.reason}
    return result | ({"conversion": shown(made, UTC)} if made else {})
