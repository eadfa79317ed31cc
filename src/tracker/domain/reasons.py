"""Why clicks were refused, in words for people."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from tracker.domain.model import Reason

MEANINGS: Final[Mapping[Reason, str]] = {
    Reason.NONE: "accepted as usual",
    Reason.OFFER_PAUSED: "the offer was paused",
    Reason.OFFER_HAS_NO_URL: "the offer had no active URL with a weight",
    Reason.LOCATION_UNSENDABLE: "the filled URL could not be sent",
    Reason.OFFER_MISCONFIGURED: "the offer was set up wrongly",
    Reason.OFFER_EXPIRED: "the offer had ended",
    Reason.OFFER_NOT_STARTED: "the offer had not started",
    Reason.OFFER_CLOSED: "the offer was closed, for everyone or for this affiliate",
    Reason.CAPPED: "a cap was full",
    Reason.OFFER_DRAFT: "the offer was a draft",
    Reason.AFFILIATE_BLOCKED: "the affiliate was blocked",
    Reason.AFFILIATE_PENDING: "the affiliate was pending",
    Reason.AFFILIATE_NOT_APPROVED: "the affiliate was not approved for the offer",
    Reason.OFF_TARGET: "the visitor did not fit the rules of the offer or of its URLs",
    Reason.DUPLICATE: "the visitor had clicked before",
    Reason.VISITOR_UNKNOWN: "accepted, but there was no room to remember the visitor",
    Reason.SOURCE_BLOCKED: "a block list has the source",
    Reason.SUB_BLOCKED: "a block list has the sub id",
    Reason.IP_BLOCKED: "a block list has the address",
}


def meaning(number: int) -> str:
    """The meaning of a stored reason. An unknown number is one of a later version."""
    return MEANINGS[Reason(number)] if number in MEANINGS else f"reason {number}"
