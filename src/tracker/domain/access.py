"""Access: the scopes of tokens, and which of them go with an owner."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

OwnerKind = Literal["affiliate", "advertiser"]

MEANINGS = {
    "clicks:read": "read clicks",
    "clicks:write": "create clicks",
    "clicks:backfill": "create clicks of the past (needs clicks:write too)",
    "conversions:read": "read conversions and postbacks",
    "conversions:write": "create conversions and set their statuses",
    "offers:read": "read offers, partners and the rest of the catalogue",
    "offers:write": "change the catalogue, except for the fields of money:write",
    "reports:read": "read reports and the ledger",
    "applications:write": "ask to run offers that need approval (affiliates)",
    "own-postbacks:write": "save the affiliate's own URLs for postbacks (affiliates)",
    "money:read": "read statements, bookings and period closes",
    "money:write": "book money by hand, change prices, terms, status words, postback secrets and checks",
    "admin": "everything, including tokens and their audit trail",
}
"""The scopes of tokens, and their meanings."""

SCOPES = tuple(MEANINGS)
"""The scopes of a token. admin implies all of them."""

BOUND_SCOPES: Mapping[OwnerKind, tuple[str, ...]] = {
    "affiliate": (
        *("clicks:read", "conversions:read", "offers:read", "reports:read", "money:read"),
        *("applications:write", "own-postbacks:write"),
    ),
    "advertiser": ("clicks:read", "conversions:read", "reports:read", "money:read"),
}
"""The scopes of a token that is bound to affiliates or advertisers."""

OF_NETWORK = tuple(scope for scope in SCOPES if scope not in ("applications:write", "own-postbacks:write"))
"""The scopes of a token of the network."""

HIDING_SCOPES = (
    *("clicks:read", "clicks:write", "clicks:backfill", "conversions:read", "offers:read", "reports:read"),
    *("applications:write", "own-postbacks:write"),
)
"""The scopes of a token that hides money. All others show amounts, or take them."""

MOST_OWNERS = 1_000
"""Most affiliates or advertisers of one token."""
