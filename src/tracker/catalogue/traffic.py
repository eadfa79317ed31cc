"""What holds for the whole network's traffic: block lists, bot rules, its fallback."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from tracker import parameters
from tracker.catalogue.fields import (
    Doubts,
    Fields,
    Id,
    Pattern,
    UrlTemplate,
    Value,
    doubts_of_url,
    one_fallback,
)
from tracker.catalogue.resource import Resource
from tracker.edge.catalogue.block_lists import BlockList
from tracker.edge.catalogue.bot_rules import OperatorBots
from tracker.store.catalogue.edit import Reference, Row, Table

_BLOCKABLE = ("ip", "source", "aff_sub", *(f"aff_sub{n}" for n in range(2, 21)))


class Block(Fields):
    """A block of traffic. Without offer and affiliate it applies everywhere."""

    offer_id: Id | None = None
    affiliate_id: Id | None = None
    field: Literal[_BLOCKABLE]  # type: ignore[valid-type]
    value: Value = Field(
        description="A source, a sub id, an IP address or a CIDR.", examples=["192.0.2.0/24"]
    )

    def clashes(self) -> dict[str, str]:
        try:
            BlockList().put(1, self.model_dump())
        except ValueError as error:
            return {"value": str(error)}
        return {}


class BotRule(Fields):
    """A rule that marks bots, by a part of the User-Agent or by IP address or CIDR."""

    field: Literal["user_agent", "ip"]
    value: Pattern = Field(examples=["AcmeTool"])

    def clashes(self) -> dict[str, str]:
        try:
            OperatorBots().put(1, self.model_dump())
        except ValueError as error:
            return {"value": str(error)}
        return {}


class Network(Fields):
    """The fallback of clicks that no offer takes."""

    fallback_url: UrlTemplate | None = None
    fallback_offer_id: Id | None = None

    def clashes(self) -> dict[str, str]:
        return one_fallback(self.fallback_url, self.fallback_offer_id)

    @classmethod
    def doubts(cls, row: Row) -> Doubts:
        return {"fallback_url": doubts_of_url(row["fallback_url"])}


RESOURCES = (
    Resource(
        "blocks",
        "block",
        Table(
            "block",
            tuple(Block.model_fields),
            references=(Reference("offer_id", "offer"), Reference("affiliate_id", "affiliate")),
        ),
        Block,
        {
            "offer_id": parameters.Id,
            "affiliate_id": parameters.Id,
            "field": parameters.choice(*_BLOCKABLE),
            "value": parameters.Text,
        },
    ),
    Resource(
        "bot-rules",
        "bot rule",
        Table("bot_rule", tuple(BotRule.model_fields)),
        BotRule,
        {"field": parameters.choice("user_agent", "ip"), "value": parameters.Text},
    ),
    Resource(
        "network",
        "network",
        Table(
            "deployment",
            tuple(Network.model_fields),
            key="",
            references=(Reference("fallback_offer_id", "offer"),),
        ),
        Network,
    ),
)
