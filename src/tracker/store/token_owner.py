"""The owner of a bound token, and the rows of other tables that it may see."""

from __future__ import annotations

from typing import Literal, NamedTuple

# As edges decide it: all affiliates see public offers, and approved affiliates see the others.
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
        """SQL condition: the rows of `offer` that it may see. Owners never see drafts."""
        return f"offer.status <> 'draft' AND {_OFFERS[self.kind].format(id=int(self.id))}"


def visible_offers(owner: Owner | None) -> str:
    """SQL condition: the visible rows of `offer`. None is the network, which sees all."""
    return "true" if owner is None else owner.offers
