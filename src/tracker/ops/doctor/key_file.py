"""Whether the key file opens what the database has encrypted with it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from tracker import secret_key
from tracker.errors import CannotStartError
from tracker.ops.doctor.finding import Finding
from tracker.secret_key import OtherKeyError
from tracker.settings import Settings


class Sealed(NamedTuple):
    """An encrypted secret."""

    name: str
    secret: bytes
    advice: str  # how to get a new one


def findings(
    settings: Settings, topic: str, sealed: Sequence[Sealed], missing: str, lost: str
) -> list[Finding]:
    """What is wrong with the key file or with some secrets.

    `missing` follows the file's name if there is no file. `lost` says what to do if it never comes back.
    """
    path = settings.key_file
    try:
        key = secret_key.read(path)
    except FileNotFoundError:
        text, advice = f"the key file {path} {missing}", f"put the file back. If it is lost{lost}"
        return [Finding(topic, "fail", text, advice)] if sealed else []
    except CannotStartError as error:
        return [Finding(topic, "fail", str(error))]
    return [
        Finding(
            topic,
            "fail",
            f"{one.name} was encrypted with another key than that in {path}",
            f"put the right key file there, or {one.advice}",
        )
        for one in sealed
        if not _opens(key, one.secret)
    ]


def _opens(key: secret_key.SecretKey, secret: bytes) -> bool:
    try:
        key.open(secret)
    except OtherKeyError:
        return False
    return True
