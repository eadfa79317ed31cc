"""The rights of roles."""

from __future__ import annotations

import pytest

from tracker.domain.access import (
    BOUND_SCOPES,
    HIDING_SCOPES,
    OF_NETWORK,
    ROLES,
    OwnerKind,
    every_rights,
    rights_of,
)
from tracker.store.tokens import NewToken

IMPOSSIBLE: list[tuple[str, OwnerKind | None, bool, str]] = [
    ("admin", "affiliate", False, "admin is not bound to affiliates"),
    ("admin", None, True, "admin sees money"),
    ("finance", None, True, "finance sees money"),
    ("finance", "advertiser", False, "finance is not bound to advertisers"),
    ("analyst", "affiliate", False, "analyst is not bound to affiliates"),
    ("affiliate", None, False, "affiliate needs an owner"),
    ("affiliate", "advertiser", False, "affiliate is not bound to advertisers"),
    ("advertiser", "affiliate", False, "advertiser is not bound to affiliates"),
]


@pytest.mark.parametrize(("role", "owner", "hides_money", "why"), IMPOSSIBLE)
def test_rights_that_a_role_cannot_have_are_refused(
    role: str, owner: OwnerKind | None, hides_money: bool, why: str
) -> None:
    with pytest.raises(ValueError, match=why):
        rights_of(role, owner, hides_money=hides_money)


def test_rights_of_roles_are_those_that_tokens_may_have() -> None:
    """A session is worth a token, so no role may have more."""
    found = list(every_rights())
    assert {rights.role for rights in found} == ROLES.keys()
    for rights in found:
        allowed = BOUND_SCOPES[rights.owner] if rights.owner else OF_NETWORK
        assert rights.scopes
        assert {*rights.scopes} <= {*allowed}, rights
        assert not rights.hides_money or {*rights.scopes} <= {*HIDING_SCOPES}, rights
        owner = {f"{rights.owner}_ids": [1, 2]} if rights.owner else {}
        token = NewToken(rights.scopes, hides_money=rights.hides_money, **owner)  # type: ignore[arg-type]
        assert token.clashes() == {}, rights


def test_only_partners_write_for_themselves() -> None:
    for rights in every_rights():
        writes = {scope for scope in rights.scopes if scope.endswith(":write")}
        if rights.role == "affiliate":
            assert writes == {"applications:write", "own-postbacks:write"}
        elif rights.owner:
            assert writes == set()
