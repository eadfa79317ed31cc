"""The endpoint that says how full an offer's caps are."""

from __future__ import annotations

import time
from datetime import datetime
from typing import Any, Literal

from pydantic import Field
from starlette.responses import Response
from starlette.routing import Route

from tracker.api.http.endpoint import Call, endpoint
from tracker.api.http.listing import as_json
from tracker.api.http.problems import RETRY_AFTER, Problem
from tracker.api.http.routing import ROOT
from tracker.catalogue.offers import CAPS, OFFERS
from tracker.catalogue.resource import READ, found, place_of
from tracker.domain import money
from tracker.ops.cap_fill import MOST_OF_ONE, of_offer
from tracker.parameters import Id, Model, Query
from tracker.store.catalogue import edit
from tracker.store.conversions.cap_marks import FOR_GOOD, CapCount
from tracker.stream.reader import UNREACHABLE

PATH = f"{ROOT}/offers/{{offer_id}}/cap-fill"


class CapFillQuery(Query):
    """Whose counts."""

    affiliate_id: Id = Field(
        None,
        description="Caps of each affiliate are counted for this one. Default: for the "
        f"{MOST_OF_ONE} fullest of the affiliates with clicks since yesterday, or with conversions.",
    )


class CapFill(Model):
    """A cap with its count in the present period."""

    cap_id: int = Field(examples=[11])
    affiliate_id: int | None = Field(description="Whose count it is. null: all affiliates together.")
    counts: Literal["clicks", "uniques", "conversions", "payout", "revenue"]
    period: Literal["hour", "day", "month", "total"]
    amount: int = Field(description="The limit.", examples=[1000])
    used: str = Field(description="The count. Money in the cap's currency.", examples=["930"])
    currency: str | None = Field(examples=["EUR"])
    on_reached: Literal["close", "mark"]
    starts_at: str = Field(
        description="The start of the period, UTC.", examples=["2026-11-30T00:00:00+00:00"]
    )
    ends_at: str | None = Field(
        description="Its end, UTC, from which the count is 0 again. null: never.",
        examples=["2026-12-01T00:00:00+00:00"],
    )


class CapFillList(Model):
    """The counts of an offer's caps."""

    data: list[CapFill]
    total: int = Field(examples=[1])


@endpoint(
    scope=READ,
    query=CapFillQuery,
    without_money=CapFillQuery,
    returns=CapFillList,
    may_fail=(404,),
    tag="Management",
    path={"offer_id": "The offer's id."},
)
async def list_cap_fill(call: Call[CapFillQuery]) -> Response:
    """Show how full caps are

    The counts of the offer's caps in their present periods. Those of clicks and uniques come from the stream
    server, all others from stored conversions. A cap of no clicks is left out: it is always full.
    """
    place = place_of(call.path, "offer_id")
    state, offer_id = call.state, place["offer_id"]
    found(await edit.one(state.pool, OFFERS.table, {"id": offer_id}), OFFERS)
    millis = int(time.time() * 1000)
    try:
        counts = await of_offer(state.settings, state.pool, offer_id, call.query.affiliate_id, millis)
    except UNREACHABLE:
        raise Problem(503, "The stream server cannot answer now.", headers=RETRY_AFTER) from None
    rows = list(map(_shown, counts))
    if call.token.hides_money:
        rows = [seen for row in rows if (seen := CAPS.without_money(row)) is not None]
    return as_json({"data": rows, "total": len(rows)})


def _shown(count: CapCount) -> dict[str, Any]:
    return {
        "cap_id": count.cap_id,
        "affiliate_id": count.affiliate_id,
        "counts": count.counts,
        "period": count.period,
        "amount": count.amount,
        "used": money.show(count.used) if count.currency else str(count.used),
        "currency": count.currency,
        "on_reached": "close" if count.closes else "mark",
        "starts_at": count.starts_at.isoformat(),
        "ends_at": _end(count.ends_at),
    }


def _end(at: datetime) -> str | None:
    return None if at == FOR_GOOD else at.isoformat()


routes: list[Route] = [Route(PATH, list_cap_fill)]
