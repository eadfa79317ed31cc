"""Which of its affiliates a request of a token is about."""

from __future__ import annotations

from collections.abc import Sequence

from tracker.api.http.problems import invalid
from tracker.store.token_owner import Owner


def one_of(owner: Owner, affiliate_id: int | None) -> int:
    """The affiliate that a body names. Without a name it is the only one.

    Raises:
        Problem: 422 for none of several, and for one of somebody else, as for one that does not exist.
    """
    if affiliate_id is None and len(owner.ids) == 1:
        return owner.ids[0]
    if affiliate_id is None:
        raise invalid({"affiliate_id": ["is missing: this token is of several affiliates"]})
    if affiliate_id not in owner.ids:
        raise invalid({"affiliate_id": ["matches no affiliate"]})
    return affiliate_id


def some_of(owner: Owner, affiliate_id: int | None) -> Sequence[int]:
    """The affiliates that a parameter leaves. None of somebody else."""
    return [id_ for id_ in owner.ids if affiliate_id in (None, id_)]
