"""Whose postback it is, by the secret that it carries."""

from __future__ import annotations

from hashlib import sha256
from typing import Any, NamedTuple


class _Owner(NamedTuple):
    secret_id: int
    advertiser_id: int
    expires: int | None  # Unix milliseconds


class AdvertiserSecrets:
    """The advertisers' secrets, as SHA-256: how long it takes to look one up tells nothing of any."""

    def __init__(self) -> None:
        self._digests: dict[int, bytes] = {}
        self._owners: dict[bytes, _Owner] = {}

    def put(self, id_: int, row: dict[str, Any] | None) -> None:
        """Replace one secret; None removes it."""
        digest = self._digests.pop(id_, b"")
        if digest in self._owners and self._owners[digest].secret_id == id_:
            del self._owners[digest]
        if row is not None:
            digest = bytes.fromhex(row["digest"])
            self._owners[digest] = _Owner(id_, row["advertiser_id"], row["expires"])
            self._digests[id_] = digest

    def owner(self, secret: str, millis: int) -> int | None:
        """The advertiser whose secret it is at a time; None: nobody's, or one that has expired."""
        found = self._owners.get(sha256(secret.encode(errors="replace")).digest())
        if found is None or (found.expires is not None and found.expires <= millis):
            return None
        return found.advertiser_id
