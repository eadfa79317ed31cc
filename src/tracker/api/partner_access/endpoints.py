"""Endpoints for affiliates and advertisers: the network's endpoints, limited to the rows of an owner.

Which keys of a row they see is in partner_access/schema.py.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

from pydantic import BaseModel, create_model
from starlette.responses import Response
from starlette.routing import Route

from tracker.api.catalogue import listed
from tracker.api.clicks import endpoints as clicks
from tracker.api.clicks.schema import Click
from tracker.api.conversions import endpoints as conversions
from tracker.api.conversions.schema import Conversion, ConversionList
from tracker.api.conversions.times import ConversionTimes, answer_times
from tracker.api.http.auth import VIEWS
from tracker.api.http.endpoint import Answer, Call, endpoint
from tracker.api.http.exports import STREAMED
from tracker.api.http.later import Later, made_later
from tracker.api.partner_access.schema import CLICKS, CONVERSIONS, REPORTS, list_model, query_model, row_model
from tracker.api.reports import (
    ComparedSums,
    ReportAnswer,
    ReportChanges,
    ReportRow,
    ReportSums,
    answer_report,
    without_money,
)
from tracker.api.statements import (
    BalanceAnswer,
    BalanceRow,
    StatementAnswer,
    StatementEntry,
    StatementRow,
    answer_balances,
    answer_entries,
    answer_lines,
    answer_statements,
)
from tracker.parameters import Query
from tracker.reading.clicks import ExportQuery, ListQuery, columns_of
from tracker.reading.conversions import ConversionExportQuery, ConversionFilterQuery, ConversionListQuery
from tracker.reading.keys import KEY, KeyQuery
from tracker.reading.query import SomeQuery
from tracker.reading.reports.query import FIELDS, ReportQuery, groups_of, measures_of, sort_of
from tracker.reading.statements import (
    BalanceQuery,
    StatementEntriesQuery,
    StatementLinesQuery,
    StatementQuery,
)
from tracker.reading.visibility import Visibility
from tracker.store.clicks import list as click_list
from tracker.store.conversions import list as conversion_list
from tracker.store.reports.measures import MEASURES


class PartnerView(NamedTuple):
    """One kind of rows, and the network's endpoints that read them."""

    noun: str  # in the path, and in the scope
    row: type[BaseModel]
    keys: Mapping[str, tuple[str, ...]]  # visible keys of a row, by kind of owner
    columns: Collection[str]  # columns that have a filter
    list_query: type[Query]
    export_query: type[Query]
    answer_list: Callable[[Call[Any], Any, Visibility], Awaitable[Response]]
    answer_one: Callable[[Call[Any], Visibility], Awaitable[Response]]
    answer_export: Callable[[Call[Any], Any, Visibility], Awaitable[Response]]

    @property
    def scope(self) -> str:
        return f"{self.noun}:read"

    @property
    def tag(self) -> str:
        return self.noun.capitalize()


_PARTNER_VIEWS = (
    PartnerView(
        "clicks",
        Click,
        CLICKS,
        click_list.FILTERS,
        ListQuery,
        ExportQuery,
        clicks.answer_clicks,
        clicks.answer_click,
        clicks.answer_click_export,
    ),
    PartnerView(
        "conversions",
        Conversion,
        CONVERSIONS,
        conversion_list.FILTERS,
        ConversionListQuery,
        ConversionExportQuery,
        conversions.answer_conversions,
        conversions.answer_conversion,
        conversions.answer_conversion_export,
    ),
)


@made_later
def _report_model(kind: str) -> type[BaseModel]:
    compared = row_model(kind, ReportSums, REPORTS[kind])
    other = {"compared": (compared | None, ComparedSums.model_fields["compared"])}
    sums = row_model(kind, ComparedSums, REPORTS[kind], **other)
    row: Any = row_model(kind, ReportRow, REPORTS[kind], **other)
    changes = row_model(kind, ReportChanges, ("text", "conversions", *REPORTS[kind]))
    of_network = ReportAnswer.model_fields
    fields: Any = {
        "data": (list[row], of_network["data"]),
        "other": (sums | None, of_network["other"]),
        "totals": (sums, of_network["totals"]),
        "approximate": (bool, of_network["approximate"]),
        "changed_since_close": (changes | None, of_network["changed_since_close"]),
    }
    return create_model(f"{kind.capitalize()}Report", __doc__=ReportAnswer.__doc__, **fields)


def _report(kind: str) -> Answer:
    groups = [group for group, field in FIELDS.items() if field in REPORTS[kind]]
    measures = [name for name in MEASURES if name in REPORTS[kind]]

    def query_with(shown: Sequence[str]) -> Later[Query]:
        parameters = {
            "group_by": (groups_of(groups), ...),
            "measures": measures_of(shown),
            "sort": sort_of(groups, shown),
        }
        return query_model(kind, ReportQuery, click_list.FILTERS, CLICKS[kind], **parameters)

    @endpoint(
        scope="reports:read",
        owner=kind,
        query=query_with(measures),
        without_money=query_with(without_money(measures)),
        returns=_report_model(kind),
        files=STREAMED,
        tag="Reports",
        has_complete_until=True,
        from_standby=True,
        name=f"read_{kind}_reports",
        text="Get a report\n\nThe same as the network's report, limited to your rows.",
    )
    async def report(call: Call[Query]) -> Response:
        visibility = Visibility(REPORTS[kind]).seen_by(call.token)
        return await answer_report(call, whole(call.query, ReportQuery), visibility)

    return report


_PARTIES = ("party", "affiliate_id", "advertiser_id")
"""Parameters of statements that an owner implies, except for its own ids."""


def _keys_of(kind: str, row: type[BaseModel]) -> list[str]:
    """The keys of a row about money, without those of the other side."""
    other = "advertiser" if kind == "affiliate" else "affiliate"
    return [name for name in row.model_fields if not name.startswith(other)]


@made_later
def _with_rows(kind: str, noun: str, answer: type[BaseModel], row: type[BaseModel]) -> type[BaseModel]:
    """An answer about money, with the rows as the kind of owner sees them."""
    shown: Any = row_model(kind, row, _keys_of(kind, row))
    data: Any = (list[shown], answer.model_fields["data"])
    return create_model(f"{kind.capitalize()}{noun}", __base__=answer, __doc__=answer.__doc__, data=data)


def _statements(kind: str) -> Answer:
    @endpoint(
        scope="money:read",
        owner=kind,
        query=query_model(kind, StatementQuery, _PARTIES, (f"{kind}_id",)),
        returns=_with_rows(kind, "Statements", StatementAnswer, StatementRow),
        files=("text/csv",),
        tag="Money",
        has_complete_until=True,
        name=f"read_{kind}_statements",
        text="Get your statements\n\nThe same as the network's statements, of you alone.",
    )
    async def statements(call: Call[Query]) -> Response:
        return await answer_statements(call, whole(call.query, StatementQuery), call.owner)

    return statements


def _balances(kind: str) -> Answer:
    @endpoint(
        scope="money:read",
        owner=kind,
        query=query_model(kind, BalanceQuery, _PARTIES, (f"{kind}_id",)),
        returns=_with_rows(kind, "Balances", BalanceAnswer, BalanceRow),
        tag="Money",
        has_complete_until=True,
        name=f"read_{kind}_balances",
        text="Get your balances\n\nThe same as the network's balances, of you alone.",
    )
    async def balances(call: Call[Query]) -> Response:
        return await answer_balances(call, whole(call.query, BalanceQuery), call.owner)

    return balances


def _statement_entries(kind: str) -> Answer:
    hidden = ("author",) if kind == "advertiser" else ("author", "order_id")
    keys = [name for name in _keys_of(kind, StatementEntry) if name not in hidden]
    entry = partial(row_model, kind, StatementEntry, keys)

    @endpoint(
        scope="money:read",
        owner=kind,
        query=query_model(kind, StatementEntriesQuery, _PARTIES, (f"{kind}_id",)),
        returns=listed(f"{kind.capitalize()}StatementEntryList", entry),
        tag="Money",
        has_complete_until=True,
        name=f"list_{kind}_statement_entries",
        text="List the entries of your statements\n\nThe same as the network's list, of you alone.",
    )
    async def entries(call: Call[Query]) -> Response:
        return await answer_entries(call, whole(call.query, StatementEntriesQuery), call.owner)

    return entries


def _statement_lines(kind: str) -> Answer:
    @endpoint(
        scope="money:read",
        owner=kind,
        query=query_model(kind, StatementLinesQuery, _PARTIES, (f"{kind}_id",)),
        returns=None,
        files=STREAMED,
        tag="Money",
        has_complete_until=True,
        name=f"export_{kind}_statement_lines",
        text="Export the lines of your statements\n\nAll entries behind your statements, as a stream.",
    )
    async def lines(call: Call[Query]) -> Response:
        return await answer_lines(call, whole(call.query, StatementLinesQuery), call.owner)

    return lines


def _routes_of(kind: str, view: PartnerView) -> list[Route]:
    path = f"{VIEWS[kind]}/{view.noun}"
    return [
        Route(path, _list(kind, view)),
        Route(f"{path}/export", _export(kind, view)),
        Route(f"{path}/{{id}}", _one(kind, view)),
    ]


def _list(kind: str, view: PartnerView) -> Answer:
    query = query_model(kind, view.list_query, view.columns, view.keys[kind])

    @endpoint(
        scope=view.scope,
        owner=kind,
        query=query,
        without_money=query,
        returns=list_model(kind, view.row, view.keys[kind], **_next_of(view)),
        tag=view.tag,
        has_complete_until=True,
        from_standby=True,
        name=f"list_{kind}_{view.noun}",
        text=f"List your {view.noun}\n\nThe same as the network's list and feed, limited to your rows.",
    )
    async def list_(call: Call[Query]) -> Response:
        return await view.answer_list(call, whole(call.query, view.list_query), _visibility(call, view))

    return list_


def _next_of(view: PartnerView) -> dict[str, Any]:
    """The key with which a change feed goes on, if the list has one."""
    name = "next_updated_after"
    return {name: (int, ConversionList.model_fields[name])} if view.row is Conversion else {}


def _one(kind: str, view: PartnerView) -> Answer:
    @endpoint(
        scope=view.scope,
        owner=kind,
        query=KeyQuery,
        without_money=KeyQuery,
        returns=list_model(kind, view.row, view.keys[kind]),
        tag=view.tag,
        path={"id": KEY},
        may_fail=(410,) if view.row is Click else (),
        has_complete_until=True,
        name=f"get_{kind}_{view.noun}",
        text=f"Get one of your {view.noun}\n\nBy its id, its hash, or its id in an earlier tracker. "
        "Rows of others are 404.",
    )
    async def get(call: Call[KeyQuery]) -> Response:
        return await view.answer_one(call, _visibility(call, view))

    return get


def _times(kind: str) -> Answer:
    query = query_model(kind, ConversionFilterQuery, conversion_list.FILTERS, CONVERSIONS[kind])

    @endpoint(
        scope="conversions:read",
        owner=kind,
        query=query,
        without_money=query,
        returns=ConversionTimes,
        tag="Conversions",
        from_standby=True,
        name=f"read_{kind}_conversion_times",
        text="Get times from click to conversion\n\nThe same as the network's, limited to your conversions.",
    )
    async def times(call: Call[Query]) -> Response:
        visibility = Visibility(CONVERSIONS[kind]).seen_by(call.token)
        return await answer_times(call, whole(call.query, ConversionFilterQuery), visibility)

    return times


def _export(kind: str, view: PartnerView) -> Answer:
    keys = view.keys[kind]
    chosen = {"columns": columns_of(keys)} if "columns" in view.export_query.model_fields else {}
    query = query_model(kind, view.export_query, view.columns, keys, **chosen)

    @endpoint(
        scope=view.scope,
        owner=kind,
        query=query,
        without_money=query,
        returns=None,
        files=STREAMED,
        tag=view.tag,
        has_complete_until=True,
        from_standby=True,
        name=f"export_{kind}_{view.noun}",
        text=f"Export your {view.noun}\n\nAll your rows as a stream of NDJSON or CSV.",
    )
    async def export(call: Call[Query]) -> Response:
        return await view.answer_export(call, whole(call.query, view.export_query), _visibility(call, view))

    return export


def _visibility(call: Call[Any], view: PartnerView) -> Visibility:
    return Visibility(view.keys[call.owner.kind]).seen_by(call.token)


def whole(query: Query, model: type[SomeQuery]) -> SomeQuery:
    """The query of the network's endpoint, from the query of an owner."""
    return model.model_construct(query.model_fields_set, **dict(query))


routes: list[Route] = [
    *(Route(f"{root}/conversions/times", _times(kind)) for kind, root in VIEWS.items()),
    *(route for kind in VIEWS for view in _PARTNER_VIEWS for route in _routes_of(kind, view)),
    *(Route(f"{root}/reports", _report(kind)) for kind, root in VIEWS.items()),
    *(Route(f"{root}/statements", _statements(kind)) for kind, root in VIEWS.items()),
    *(Route(f"{root}/statements/lines", _statement_lines(kind)) for kind, root in VIEWS.items()),
    *(Route(f"{root}/statements/entries", _statement_entries(kind)) for kind, root in VIEWS.items()),
    *(Route(f"{root}/balances", _balances(kind)) for kind, root in VIEWS.items()),
]
