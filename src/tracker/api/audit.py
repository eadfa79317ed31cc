"""The audit trail: every change of the catalogue, with its author and its time."""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import Field
from starlette.responses import Response
from starlette.routing import Route

from tracker.api.catalogue import PageQuery, as_json, list_rows, listed
from tracker.api.conversions import affiliate_postbacks, period_closes
from tracker.api.http.endpoint import Call, endpoint
from tracker.api.http.routing import ROOT
from tracker.catalogue.errors import CatalogueError, Kind
from tracker.catalogue.notes import NOTES
from tracker.catalogue.resource import READ, place_of
from tracker.catalogue.resources import RESOURCES
from tracker.parameters import From, Id, Model, Query, Text, To, about, choice
from tracker.reading.query import ZoneQuery, span_of
from tracker.store.books import corrections, manual_entries
from tracker.store.catalogue import edit
from tracker.store.catalogue.edit import AUDIT, Row
from tracker.store.conversions import affiliate_postbacks as outgoing
from tracker.store.tokens import Token

_ALL_SCOPE = "admin"
_SCOPES = {
    **{resource.table.name: READ for resource in (*RESOURCES, NOTES)},
    period_closes.TABLE.name: period_closes.READ_SCOPE,
    manual_entries.TABLE.name: period_closes.READ_SCOPE,
    corrections.TABLE.name: period_closes.READ_SCOPE,
    outgoing.SENT.name: affiliate_postbacks.READ_SCOPE,
    outgoing.TESTED.name: READ,
}
"""The scope that sees changes of a resource. Other resources, such as tokens, need admin."""

_WITHOUT_ADDRESS = AUDIT._replace(columns=tuple(name for name in AUDIT.columns if name != "address"))


class AuditQuery(PageQuery, ZoneQuery):
    """Which changes."""

    at_from: From = about("Earliest local time. A date alone means its first second.")
    at_to: To = about("Latest local time, inclusive. A date alone means its last second.")
    under: Text = Field(
        None, description="Changes of the object with this path and of its parts, as in offers/3."
    )
    path: Text = Field(None, description="Changes of the object with this path, as in offers/3/urls/132.")
    resource: Text = Field(None, description="Changes of this kind of object, as in offer_url.")
    token_id: Id = Field(None, description="Changes made with this token.")
    user_id: Id = Field(None, description="Changes made by this user.")
    action: choice("create", "update", "delete") = Field(None, description="Changes with this action.")  # type: ignore[valid-type]

    def others(self) -> Self:
        """The filters without the time."""
        return self.model_copy(update={"tz": None, "at_from": None, "at_to": None})

    def span(self, network_zone: str) -> Row:
        """The filter by time.

        Raises:
            ParameterError: the end is before the start.
        """
        if self.at_from is None and self.at_to is None:
            return {}
        return {"at": span_of(self.at_from, self.at_to, self.zone(network_zone), "at")}


class Change(Model):
    """One change of one object."""

    id: int
    at: str = Field(description="UTC.", examples=["2026-11-25T16:00:00.123456+00:00"])
    token_id: int | None = Field(description="null for users and the command line.")
    token_name: str = Field(description="The name of the token at that time, or the user's e-mail address.")
    user_id: int | None = Field(description="null for tokens and the command line.")
    address: str | None = Field(
        None, description="The IP address of the request. Empty for the command line. Only `admin` sees it."
    )
    action: Literal["create", "update", "delete"]
    resource: str = Field(examples=["offer_url"])
    path: str = Field(examples=["offers/3/urls/132"])
    before: dict[str, Any] | None = Field(description="The object before. null if it was created.")
    after: dict[str, Any] | None = Field(description="The object after. null if it was deleted.")


@endpoint(scope=READ, query=AuditQuery, returns=listed("ChangeList", Change), tag="Management")
async def list_changes(call: Call[AuditQuery]) -> Response:
    """List changes

    The audit trail of changes through the API, newest first. Each entry is written in the transaction of its
    change. Some entries need a scope of their own: period closes, entries by hand and corrections
    `money:read`, resent postbacks `conversions:read` and tokens `admin`.
    """
    query, pool = call.query.others(), call.state.pool
    place = call.query.span(call.state.settings.time_zone)
    if call.token.allows(_ALL_SCOPE):
        return await list_rows(pool, AUDIT, query, place)
    seen = _seen(call.token)
    if query.resource is not None:
        seen &= {query.resource}
    place |= {"resource": sorted(seen)}
    return await list_rows(pool, _WITHOUT_ADDRESS, query.model_copy(update={"resource": None}), place)


@endpoint(scope=READ, query=Query, returns=Change, tag="Management", path={"id": "The change's id."})
async def get_change(call: Call[Query]) -> Response:
    """Get a change

    One entry of the audit trail. To set a changed object back, send the fields of `before` that differ in a
    `PATCH` to its path, with the ETag of the object as it is now.
    """
    place, table = place_of(call.path, "id"), AUDIT
    if not call.token.allows(_ALL_SCOPE):
        place, table = place | {"resource": sorted(_seen(call.token))}, _WITHOUT_ADDRESS
    row = await edit.one(call.state.pool, table, place)
    if row is None:
        raise CatalogueError(Kind.UNKNOWN, {}, "There is no such change.")
    return as_json(row)


routes: list[Route] = [Route(f"{ROOT}/audit", list_changes), Route(f"{ROOT}/audit/{{id}}", get_change)]


def _seen(token: Token) -> set[str]:
    """The resources whose changes a token sees."""
    return {resource for resource, scope in _SCOPES.items() if token.allows(scope)}
