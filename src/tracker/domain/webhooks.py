"""Webhooks: events for the network's own systems, signed as Standard Webhooks 1.0.0 says.

https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
"""

from __future__ import annotations

import hmac
from base64 import b64decode, b64encode
from collections.abc import Iterable
from secrets import token_bytes
from urllib.parse import urlsplit

CREATED, UPDATED, PERIOD_CLOSED = "conversion.created", "conversion.updated", "period.closed"
CLOSED_BY_CAP, CAP_NEARLY_FULL, CAP_REACHED = "offer.closed_by_cap", "cap.90_percent", "cap.reached"
APPLICATION_ASKED = "application.asked"
ALERT_RAISED, ALERT_CLEARED, TEST = "alert.raised", "alert.cleared", "webhook.test"
EVENTS = {
    CREATED: "a conversion was stored",
    UPDATED: "a status, an amount or another field of a conversion changed",
    CLOSED_BY_CAP: "a full cap closed an offer, for all affiliates or for one",
    CAP_NEARLY_FULL: "a cap has counted 90 % in its period",
    CAP_REACHED: "a cap is full in its period",
    PERIOD_CLOSED: "the books were closed up to a time",
    APPLICATION_ASKED: "an affiliate asks to run an offer that needs approval",
    ALERT_RAISED: "something needs the operator's attention",
    ALERT_CLEARED: "it does not need it any more",
}
"""The types of events that a webhook may want, and their meanings."""

MOST_WEBHOOKS = 50
"""Most webhooks that are not archived."""
LONGEST_URL = 2000
"""Characters."""

_PREFIX = "whsec_"
_SECRET_BYTES = 32  # the specification wants 24 to 64


def new_secret() -> str:
    """A random secret in the form that receivers' libraries expect."""
    return _PREFIX + b64encode(token_bytes(_SECRET_BYTES)).decode()


def message_id(key: str) -> str:
    """The header webhook-id of an event: the same in each attempt. `key` has hexadecimal digits."""
    return f"msg_{key}"


def signature(secrets: Iterable[str], id_: str, timestamp: int, payload: bytes) -> str:
    """The header webhook-signature: a signature by each secret, separated by blanks.

    `timestamp` is the Unix second of the attempt.
    """
    signed = b"%s.%d.%s" % (id_.encode(), timestamp, payload)
    return " ".join(f"v1,{_by(secret, signed)}" for secret in secrets)


def _by(secret: str, signed: bytes) -> str:
    key = b64decode(secret.removeprefix(_PREFIX))
    return b64encode(hmac.digest(key, signed, "sha256")).decode()


def fault_of_url(url: str) -> str:
    """Why a webhook cannot have a URL, or ""."""
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        return "is not a URL"
    if not url.startswith(("http://", "https://")) or not parts.hostname:
        return "is not an http or https URL with a host, begun in small letters"
    if not url.isascii() or any(character <= " " or character == "\x7f" for character in url):
        return "has a blank, a control character or one beyond ASCII: write it percent-encoded"
    if "@" in parts.netloc:
        return "has a user name or password: the signature proves who sends"
    return "has a part after #, which is never sent" if "#" in url else ""
