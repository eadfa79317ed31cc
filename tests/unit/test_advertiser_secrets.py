"""The owner of a secret, for any order of rows."""

from __future__ import annotations

from hashlib import sha256
from typing import Any

from tracker.edge.catalogue.advertiser_secrets import HIDDEN, AdvertiserSecrets


def row(secret: str, advertiser_id: int, expires: int | None = None) -> dict[str, Any]:
    digest = sha256(secret.encode()).hexdigest()
    return {"advertiser_id": advertiser_id, "digest": digest, "expires": expires}


def test_secret_is_its_advertisers_until_it_expires() -> None:
    secrets = AdvertiserSecrets()
    secrets.put(1, row("one", 7))
    secrets.put(2, row("two", 8, expires=1000))
    asked = [("one", 5000), ("two", 999), ("two", 1000), ("three", 0), ("", 0), ("\ud800", 0)]
    assert [secrets.owner(secret, millis) for secret, millis in asked] == [7, 8, None, None, None, None]


def test_secret_takes_the_place_of_another() -> None:
    secrets = AdvertiserSecrets()
    secrets.put(1, row("one", 7))
    secrets.put(1, row("other", 7))
    assert (secrets.owner("one", 0), secrets.owner("other", 0)) == (None, 7)
    secrets.put(2, row("other", 9))  # deleted and saved again: in either order
    secrets.put(1, None)
    assert secrets.owner("other", 0) == 9
    secrets.put(2, None)
    secrets.put(2, None)
    assert secrets.owner("other", 0) is None


def test_secret_with_invisible_characters_around_is_masked() -> None:
    secrets = AdvertiserSecrets()
    secrets.put(1, row("one", 7))
    for text in ("one", " one\u00a0", "\u200bone", "one\ufeff", "%E2%80%8Bone"):
        assert secrets.hide(text) == HIDDEN, ascii(text)
    assert secrets.hide("another") == "another"
