"""What offers pay for: goals, and what each pays for whom."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from tracker import parameters
from tracker.catalogue.fields import Code, Country, Currency, Fields, Id, Money, Name, without_default
from tracker.catalogue.resource import MONEY, Resource
from tracker.errors import Errors
from tracker.store.catalogue.edit import Reference, Row, Table
from tracker.store.conversions import goal_prices
from tracker.store.db import Connection

_USUAL_WINDOW = 30 * 86_400
_LONGEST_WINDOW = 2**31 - 1  # 68 years

_NEEDED_BY = """
SELECT 'offers/' || offer_id || '/goals/' || id FROM goal WHERE parent_goal_id = $1 AND NOT is_archived
UNION ALL
SELECT 'affiliates/' || affiliate_id || '/postbacks/' || id FROM affiliate_postback
WHERE goal_id = $1 AND NOT is_archived
LIMIT 5
"""

# A text that is the id of one goal and the code of another means the first, and the second is never meant.
_TAKEN_FOR = """
SELECT meant.id, meant.name, other.id AS code_of FROM goal AS meant JOIN goal AS other
    ON other.offer_id = meant.offer_id AND other.code = meant.id::text AND other.id <> meant.id
WHERE meant.offer_id = $1 AND (other.id = $2 AND other.code = $3 OR meant.id = $2) AND NOT meant.is_archived
    AND NOT other.is_archived
"""
_PRICE = ("payout_type", "payout", "revenue_type", "revenue", "currency")
_MONEY_FIELDS = frozenset(
    {
        *_PRICE,
        *("takes_payout", "takes_revenue"),
        "is_priced",
        *("initial_status", "pixel"),  # whether somebody looks at it before it is paid, and whom to believe
    }
)

_OR_PERCENT = "An amount, or a percentage of the sale."
_THE_GOALS_OWN = "null: the amount of the goal."


class Goal(Fields):
    """An event that an offer pays for, such as a sale or a registration."""

    name: Name
    code: Annotated[
        Code | None,
        Field(description="The name of the goal in the advertiser's postbacks. Unique within the offer."),
    ] = None
    status: Literal["active", "paused"] = "active"
    parent_goal_id: Annotated[
        Id | None,
        Field(
            description="A goal of the same offer. A click needs a conversion of it before one of this goal."
        ),
    ] = None
    multiple: Annotated[
        bool, Field(description="true: one click can have several conversions of this goal.")
    ] = False
    click_window: Annotated[
        int | None,
        Field(
            ge=1,
            le=_LONGEST_WINDOW,
            description="Seconds after the click. A later conversion is rejected. null: 30 days, or no limit "
            "with a parent_goal_id.",
        ),
    ] = None
    initial_status: Annotated[
        Literal["pending", "hold", "approved"],
        Field(description="The status of a conversion whose postback has no status."),
    ] = "approved"
    payout_type: Literal["fixed", "percent"] = "fixed"
    payout: Annotated[Money, Field(description=_OR_PERCENT)] = "0.00"
    revenue_type: Literal["fixed", "percent"] = "fixed"
    revenue: Annotated[Money, Field(description=_OR_PERCENT)] = "0.00"
    currency: Annotated[
        Currency,
        Field(
            description="ISO 4217 code of the fixed amounts. Default: TRACKER_CURRENCY.",
            json_schema_extra=without_default,
        ),
    ] = "USD"
    is_priced: Annotated[
        bool,
        Field(
            description="true once payout or revenue is set, also to 0. Until then conversions are on hold "
            "with the reason `no price`."
        ),
    ] = False
    takes_payout: Annotated[
        bool, Field(description="true: a payout in a postback replaces that of the goal.")
    ] = False
    takes_revenue: Annotated[
        bool, Field(description="true: a revenue in a postback replaces that of the goal.")
    ] = True
    pixel: Annotated[
        bool, Field(description="true: a browser pixel may report conversions. They are pending.")
    ] = False
    is_archived: bool = False

    @model_validator(mode="after")
    def _with_window(self) -> Goal:
        if self.click_window is None and self.parent_goal_id is None:
            self.click_window = _USUAL_WINDOW
        return self

    @model_validator(mode="after")
    def _with_price(self) -> Goal:
        if any(amount.strip("0.") for amount in (self.payout, self.revenue)):
            self.is_priced = True
        return self


class GoalTerms(Fields):
    """Other amounts of a goal for an affiliate, a country, or both. The most specific terms apply."""

    affiliate_id: Annotated[Id | None, Field(description="null: all affiliates.")] = None
    country_code: Annotated[Country | None, Field(description="null: all countries.")] = None
    payout: Annotated[Money | None, Field(description=_THE_GOALS_OWN)] = None
    revenue: Annotated[Money | None, Field(description=_THE_GOALS_OWN)] = None

    def clashes(self) -> dict[str, str]:
        wrong = {}
        if self.affiliate_id is None and self.country_code is None:
            wrong["affiliate_id"] = "and country_code are missing: set one of them, or both"
        if self.payout is None and self.revenue is None:
            wrong["payout"] = "and revenue are missing: set one of them, or both"
        return wrong


def _implies(before: Row, given: Row) -> Row:
    """Who gives an amount sets a price. A goal that gets a parent loses the window that nobody set."""
    meant: Row = {}
    if (given.get("payout"), given.get("revenue")) != (None, None) and "is_priced" not in given:
        meant["is_priced"] = True
    is_new_child = given.get("parent_goal_id") is not None and before.get("parent_goal_id") is None
    if is_new_child and "click_window" not in given and before.get("click_window") == _USUAL_WINDOW:
        meant["click_window"] = None
    return meant


def _refuses(before: Row, fields: Row) -> Errors:
    """What the base goal cannot be: every offer has one."""
    if not before["is_base"]:
        return {}
    wanted = {"is_archived": fields["is_archived"], "parent_goal_id": fields["parent_goal_id"] is not None}
    return {field: ["cannot be set for the offer's base goal"] for field, is_so in wanted.items() if is_so}


async def _warns_of_goal(connection: Connection, before: Row | None, goal: Row) -> list[str]:
    warnings = []
    if before is None or any(goal[field] != before[field] for field in _PRICE):
        warnings = [
            f"{fine.side}{f' of terms {fine.terms_id}' if fine.terms_id else ''}: {fine.text}"
            for fine in await goal_prices.finer_than_units(connection, goal["id"])
        ]
    if before is None or goal["code"] != before["code"]:
        others = await connection.fetch(_TAKEN_FOR, goal["offer_id"], goal["id"], goal["code"])
        warnings += [
            f"a postback that says {id_} means goal {id_} ({name}) by its id, not goal {code_of} by its code"
            for id_, name, code_of in others
        ]
    return warnings


async def _warns_of_terms(connection: Connection, before: Row | None, terms: Row) -> list[str]:
    """The same of terms, whose currency is their goal's."""
    return [
        f"{fine.side}: {fine.text}"
        for fine in await goal_prices.finer_than_units(connection, terms["goal_id"])
        if fine.terms_id == terms["id"] and (before is None or terms[fine.side] != before[fine.side])
    ]


RESOURCES = (
    Resource(
        "offers/{offer_id}/goals",
        "goal",
        Table(
            "goal",
            tuple(Goal.model_fields),
            parent="offer_id",
            facts=("is_base",),
            money=("payout", "revenue"),
            references=(
                Reference("parent_goal_id", "goal", other_than="id", within="offer_id", is_chain=True),
            ),
            exclusive=("code",),
            uses=_NEEDED_BY,
        ),
        Goal,
        {
            "name": parameters.Name,
            "code": parameters.Text,
            "status": parameters.choice("active", "paused"),
            "is_base": parameters.Bool,
        },
        facts={
            "is_base": (
                bool,
                Field(description="true for the base goal: postbacks without a goal are for this goal."),
            )
        },
        refuses=_refuses,
        implies=_implies,
        warns=_warns_of_goal,
        money=_MONEY_FIELDS,
        of_network=frozenset({"currency"}),
        amounts=frozenset(_PRICE),
    ),
    Resource(
        "goals/{goal_id}/terms",
        "goal terms",
        Table(
            "goal_terms",
            tuple(GoalTerms.model_fields),
            parent="goal_id",
            money=("payout", "revenue"),
            references=(Reference("affiliate_id", "affiliate"),),
            unique=("affiliate_id", "country_code"),
        ),
        GoalTerms,
        {"affiliate_id": parameters.Id, "country_code": parameters.Country},
        scope=MONEY,
        warns=_warns_of_terms,
        is_of_money=True,
    ),
)
