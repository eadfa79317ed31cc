"""The advertisers' secrets: finds the advertiser of a secret, and hides secrets in texts."""

from __future__ import annotations

import re
from hashlib import sha256
from typing import Any, NamedTuple
from urllib.parse import unquote

from tracker.domain.normalise import trim

HIDDEN = "(secret)"
"""Replaces a secret in a text."""

_MINTED = re.compile(r"trs_[^\s\"'<>&,;]*", re.IGNORECASE)
PIECE = re.compile(r"[^\s\"'<>&,;:=?#/\\|()\[\]{}]+")
"""A word of a text. A secret has one or several words."""
_MOST_DECODED = 5  # times a text may be percent-encoded


class _Owner(NamedTuple):
    secret_id: int
    advertiser_id: int
    expires: int | None  # Unix milliseconds


class AdvertiserSecrets:
    """The advertisers' secrets as SHA-256, so that the time of a look-up tells nothing about them."""

    def __init__(self) -> None:
        self._digests: dict[int, bytes] = {}
        self._owners: dict[bytes, _Owner] = {}
        self._past: dict[bytes, int] = {}  # advertisers of secrets that were removed

    def put(self, id_: int, row: dict[str, Any] | None) -> None:
        """Replace one secret. None removes it."""
        digest = self._digests.pop(id_, b"")
        if digest in self._owners and self._owners[digest].secret_id == id_:
            self._past[digest] = self._owners.pop(digest).advertiser_id
        if row is not None:
            digest = bytes.fromhex(row["digest"])
            self._owners[digest] = _Owner(id_, row["advertiser_id"], row["expires"])
            self._digests[id_] = digest

    def owner(self, secret: str, millis: int) -> int | None:
        """The advertiser of a secret at a time, in Unix milliseconds. None if it is unknown or expired."""
        owner = self._owners.get(_digest(secret))
        if owner is None or (owner.expires is not None and owner.expires <= millis):
            return None
        return owner.advertiser_id

    def owner_ever(self, secret: str) -> int | None:
        """The advertiser who has or had a secret."""
        digest = _digest(secret)
        owner = self._owners.get(digest)
        return owner.advertiser_id if owner else self._past.get(digest)

    def hide(self, text: str) -> str:
        """A text without secrets: without those that an advertiser has or had, and those in our format.

        A text with a percent-encoded secret is hidden whole.
        """
        plain = text
        for _ in range(_MOST_DECODED):
            if (decoded := unquote(plain)) == plain:
                break
            plain = decoded
        if self.owner_ever(trim(text)) or (plain != text and self._hide(plain) != plain):
            return HIDDEN
        return self._hide(text)

    def _hide(self, text: str) -> str:
        if self.owner_ever(trim(text)):
            return HIDDEN
        return PIECE.sub(self._hide_piece, _MINTED.sub(HIDDEN, text))

    def _hide_piece(self, piece: re.Match[str]) -> str:
        return HIDDEN if self.owner_ever(piece[0]) else piece[0]


def _digest(secret: str) -> bytes:
    return sha256(secret.encode(errors="replace")).digest()
