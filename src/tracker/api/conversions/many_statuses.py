"""One status for many conversions: those of a filter, or some by their ids."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Annotated, Any

from pydantic import BeforeValidator, ConfigDict, Field
from starlette.responses import Response
from starlette.routing import Route

from tracker.api.conversions.endpoints import ALL, PATH, READ_SCOPE
from tracker.api.conversions.manual import SCOPE, folded
from tracker.api.conversions.schema import Status
from tracker.api.conversions.status_upload import MOST_LISTED
from tracker.api.http.endpoint import Body, Call, endpoint
from tracker.api.http.listing import as_json
from tracker.api.http.problems import conflict, invalid
from tracker.catalogue.fields import Fields, Id, Text
from tracker.catalogue.validation import check_storable, validated
from tracker.domain.money import show
from tracker.domain.postback import ConversionStatus
from tracker.parameters import Model
from tracker.reading import conversions as reading
from tracker.reading.conversions import ConversionFilterQuery
from tracker.store.conversions import many
from tracker.store.conversions.manual import NO_CONVERSION
from tracker.store.conversions.many import MOST, Chosen, OtherNumberError, Outcome, TooManyError

_CHOOSES_NOTHING = frozenset({"tz", "date_basis", "source"})


class StatusOfMany(Fields):
    """The new status, and which conversions of the filters get it."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"status": "approved", "ids": [902, 903], "dry_run": True}]}
    )

    status: Annotated[Status, BeforeValidator(folded)] = Field(
        description="As in a change of one: approved and rejected can become each other, and no other status."
    )
    sale_status: Text | None = Field(None, description="Status text. Their clicks show it too.")
    ids: list[Id] | None = Field(
        None, min_length=1, max_length=MOST, description="Only these ones. Default: all of the filters."
    )
    dry_run: bool = Field(False, description="true: show what would change, and change nothing.")
    expected: Annotated[int, Field(ge=0, le=MOST)] | None = Field(
        None,
        description="The `matched` of a dry run. If another number matches by now, nothing is changed: 409.",
    )


class ChangedOfMany(Model):
    """A conversion with a new status."""

    conversion_id: int = Field(examples=[902])
    status_before: Status | None = Field(description="null without the scope conversions:read.")
    status_after: Status


class RefusedOfMany(Model):
    """A conversion that did not get the status."""

    conversion_id: int = Field(examples=[903])
    reason: str = Field(examples=["it stays rejected"])


class AmountOfMany(Model):
    """The sum of one currency."""

    currency: str = Field(examples=["EUR"])
    amount: str = Field(examples=["512.50"])


class ManyStatuses(Model):
    """The result: matched = changed + on_hold + unchanged + refused."""

    dry_run: bool
    matched: int = Field(description="Conversions that are meant.", examples=[43])
    changed: int = Field(description="Those that got the status.", examples=[40])
    on_hold: int = Field(
        description="Those that went on hold instead, because their approval is in doubt.", examples=[1]
    )
    unchanged: int = Field(description="Those that had the status already.", examples=[1])
    refused: int = Field(description="Those that keep another status.", examples=[1])
    missing: int = Field(description="Ids that are no conversion of the filters.", examples=[0])
    payouts: list[AmountOfMany] | None = Field(
        description="The payouts of those that changed, without tests. null without conversions:read."
    )
    revenues: list[AmountOfMany] | None = Field(description="The same of what advertisers pay.")
    changes: list[ChangedOfMany] = Field(description=f"The first {MOST_LISTED:,} changes.")
    problems: list[RefusedOfMany] = Field(
        description=f"The first {MOST_LISTED:,} that are on hold, refused or missing."
    )


@endpoint(
    scope=SCOPE,
    query=ConversionFilterQuery,
    body=Body(StatusOfMany),
    returns=ManyStatuses,
    may_fail=(409,),
    tag="Conversions",
)
async def set_status_of_many(call: Call[ConversionFilterQuery]) -> Response:
    """Set the status of many conversions

    Those of the list's filters, those of `ids`, or what both have in common: at most 10,000. Something has to
    be chosen. Each conversion follows the rules of a single change. What cannot get the status is named with
    its reason, and all others get it in one transaction. A repeated request changes nothing more.
    `dry_run: true` shows the same result and changes nothing.
    """
    body = await call.object()
    check_storable(body)
    fields = validated(body, StatusOfMany)
    if fields.ids is None and not call.query.model_fields_set - _CHOOSES_NOTHING:
        raise invalid({"ids": ["is missing, and so is a filter"]})
    query = await reading.by_hash(call.state.pool, call.query, ALL)
    chosen = Chosen(query.conversions(call.network_zone), fields.ids, fields.expected)
    status = ConversionStatus(fields.status)
    try:
        outcome = await many.set_status(
            call.state.pool,
            chosen,
            status,
            call.token.name,
            sale_status=fields.sale_status,
            dry_run=fields.dry_run,
        )
    except TooManyError as error:
        raise invalid({"created_from": [f"{error}: narrow the filter"]}) from None
    except OtherNumberError as error:
        raise conflict({"expected": [f"{error}: look again"]}) from None
    shows = call.token.allows(READ_SCOPE)
    return as_json({"dry_run": fields.dry_run, **_shown(outcome, status, shows_all=shows)})


def _shown(outcome: Outcome, status: ConversionStatus, *, shows_all: bool) -> dict[str, Any]:
    moved = [each for each in outcome.changes if each.before is not each.after]
    changed = sum(each.after is status for each in moved)
    problems = [(each.id, why) for each in outcome.changes if (why := each.refusal(status))]
    unchanged = sum(each.before is each.after is status for each in outcome.changes)
    named = [*problems, *((id_, NO_CONVERSION) for id_ in outcome.missing)]
    return {
        "matched": len(outcome.changes),
        "changed": changed,
        "on_hold": len(moved) - changed,
        "unchanged": unchanged,
        "refused": len(outcome.changes) - len(moved) - unchanged,
        "missing": len(outcome.missing),
        "payouts": _sums(outcome.payouts) if shows_all else None,
        "revenues": _sums(outcome.revenues) if shows_all else None,
        "changes": [
            {
                "conversion_id": each.id,
                "status_before": each.before if shows_all else None,
                "status_after": each.after,
            }
            for each in moved[:MOST_LISTED]
        ],
        "problems": [{"conversion_id": id_, "reason": why} for id_, why in named[:MOST_LISTED]],
    }


def _sums(by_currency: Mapping[str, Decimal]) -> list[dict[str, str]]:
    return [{"currency": currency, "amount": show(amount)} for currency, amount in by_currency.items()]


routes: list[Route] = [Route(f"{PATH}/status", set_status_of_many, methods=["POST"])]
