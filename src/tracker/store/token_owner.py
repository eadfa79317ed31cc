"""Whom a bound token belongs to, and what such an owner may see of other tables."""

from __future__ import annotations

from typing import Literal, NamedTuple

# As edges decide it: a public offer is everybody's, the others are those of approved affiliates.
_OFFERS = {
    "affiliate": """
(visibility = 'public' OR EXISTS (
    SELECT FROM offer_affiliate AS terms
    WHERE terms.offer_id = offer.id AND terms.affiliate_id = {id} AND terms.status = 'approved'))""",
    "advertiser": "advertiser_id = {id}",
}


class Owner(NamedTuple):
    """The affiliate or advertiser that a token is bound to."""

    kind: Literal["affiliate", "advertiser"]
    id: int

    @property
    def column(self) -> str:
        return f"{self.kind}_id"

    @property
    def offers(self) -> str:
        """A condition in SQL: which rows of `offer` it may see. Nobody outside sees drafts."""
        return f"offer.status <> 'draft' AND {_OFFERS[self.kind].format(id=int(self.id))}"


def visible_offers(owner: Owner | None) -> str:
    """Which rows of `offer` may be seen, as a condition in SQL; None is the network, which sees all."""
    return "true" if owner is None else owner.offers
