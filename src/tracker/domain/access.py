"""Access: the scopes of tokens, which of them go with an owner, and the rights of roles."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Literal, NamedTuple

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


class Role(NamedTuple):
    """What a person is to the network. A session is worth a token with the rights of its role."""

    about: str
    scopes: tuple[str, ...]  # without an owner. () = it has to have one
    owners: tuple[OwnerKind, ...] = ()  # the kinds that it may be bound to
    writes_for_owner: bool = False  # bound, it may do what its owners may. False: it reads
    may_hide_money: bool = False


_READS = ("clicks:read", "conversions:read", "offers:read", "reports:read")
ROLES: Mapping[str, Role] = {
    "admin": Role("runs the network", ("admin",)),
    "manager": Role(
        "looks after partners",
        (*_READS, "clicks:write", "conversions:write", "offers:write"),
        ("affiliate", "advertiser"),
        may_hide_money=True,
    ),
    "finance": Role("keeps the books", (*_READS, "money:read", "money:write")),
    "analyst": Role("reads", _READS, may_hide_money=True),
    "affiliate": Role("sends visitors", (), ("affiliate",), writes_for_owner=True, may_hide_money=True),
    "advertiser": Role(
        "pays for conversions", (), ("advertiser",), writes_for_owner=True, may_hide_money=True
    ),
}
"""The roles, from all rights to the fewest."""


class Rights(NamedTuple):
    """What somebody with a role may do, and see. Whose rows is said by the owner itself."""

    role: str
    owner: OwnerKind | None  # None: the network
    hides_money: bool
    scopes: tuple[str, ...]  # in the order of SCOPES


def rights_of(role: str, owner: OwnerKind | None = None, *, hides_money: bool = False) -> Rights:
    """The rights of a role.

    Raises:
        ValueError: the role is not bound to such owners, or does not hide money. The text says which.
    """
    meant = ROLES[role]
    if owner is None and not meant.scopes:
        raise ValueError(f"{role} needs an owner")
    if owner is not None and owner not in meant.owners:
        raise ValueError(f"{role} is not bound to {owner}s")
    if hides_money and not meant.may_hide_money:
        raise ValueError(f"{role} sees money")
    allowed = meant.scopes
    if owner:
        bound = BOUND_SCOPES[owner]
        allowed = bound if meant.writes_for_owner else tuple(one for one in bound if one.endswith(":read"))
    scopes = (one for one in SCOPES if one in allowed and (one in HIDING_SCOPES or not hides_money))
    return Rights(role, owner, hides_money, tuple(scopes))


def every_rights() -> Iterator[Rights]:
    """The rights of all roles, with each kind of owner and sight that they may have."""
    for name, role in ROLES.items():
        for owner in (*((None,) if role.scopes else ()), *role.owners):
            for hides_money in (False, True) if role.may_hide_money else (False,):
                yield rights_of(name, owner, hides_money=hides_money)
