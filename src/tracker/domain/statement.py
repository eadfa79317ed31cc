"""Statements of what is owed: parties, manual entries and their signs, and balances."""

from __future__ import annotations

from decimal import Decimal
from enum import StrEnum
from typing import Final, NamedTuple

_NOTHING = Decimal(0)


class Party(StrEnum):
    """Whose statement it is. The network owes affiliates, and advertisers owe the network."""

    AFFILIATE = "affiliate"
    ADVERTISER = "advertiser"

    @property
    def side(self) -> str:
        """The amount of a conversion that the party's statement has."""
        return "payout" if self is Party.AFFILIATE else "revenue"


class ManualKind(StrEnum):
    """What an entry by hand is about."""

    BONUS = "bonus"
    FEE = "fee"
    CHARGEBACK = "chargeback"
    PAYMENT = "payment"


_RAISES: Final = {
    (Party.AFFILIATE, ManualKind.BONUS),
    (Party.ADVERTISER, ManualKind.BONUS),
    (Party.ADVERTISER, ManualKind.FEE),
}
"""The entries that raise a balance. All others lower it: a fee is always in favour of the network."""


def change_of(party: Party, kind: ManualKind, amount: Decimal, *, is_reversal: bool = False) -> Decimal:
    """How an entry by hand changes the balance of its party. `amount` is above 0."""
    raises = (party, kind) in _RAISES
    return amount if raises is not is_reversal else -amount


class Balance(NamedTuple):
    """What a party's balance in one currency is made of, each part with its sign."""

    opening: Decimal = _NOTHING  # all entries before the span
    booked: Decimal = _NOTHING  # of conversions, in their own period
    adjustments: Decimal = _NOTHING  # of conversions whose period was closed before
    bonus: Decimal = _NOTHING
    fee: Decimal = _NOTHING
    chargeback: Decimal = _NOTHING
    payment: Decimal = _NOTHING

    @property
    def closing(self) -> Decimal:
        """What is owed at the end of the span."""
        return sum(self, _NOTHING)
