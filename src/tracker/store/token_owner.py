"""The owner of a bound token, and the rows of other tables that it may see."""

from __future__ import annotations

from typing import NamedTuple

from tracker.domain.access import OwnerKind

# As edges decide it: all affiliates see public offers, and approved affiliates see the others.
_OFFERS = {
    "affiliate": """
(visibility = 'public' OR EXISTS (
    SELECT FROM offer_affiliate AS terms
    WHERE terms.offer_id = offer.id AND terms.affiliate_id IN ({ids}) AND terms.status = 'approved'))""",
    "advertiser": "advertiser_id IN ({ids})",
}


class Owner(NamedTuple):
    """The affiliates or advertisers that a token is bound to."""

    kind: OwnerKind
    ids: tuple[int, ...]  # distinct, in order, at least one

    @property
    def column(self) -> str:
        return f"{self.kind}_id"

    @property
    def offers(self) -> str:
        """SQL condition: the rows of `offer` that one of them may see."""
        return offers_of(self.kind, ", ".join(str(int(id_)) for id_ in self.ids))


def offers_of(kind: OwnerKind, ids: str) -> str:
    """SQL condition: the rows of `offer` that one of some owners may see. Owners never see drafts.

    `ids`: the owners in SQL.
    """
    return f"offer.status <> 'draft' AND {_OFFERS[kind].format(ids=ids)}"


def visible_offers(owner: Owner | None) -> str:
    """SQL condition: the visible rows of `offer`. None is the network, which sees all."""
    return "true" if owner is None else owner.offers
