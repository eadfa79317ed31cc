"""Signed test links: their clicks are served but not counted, until the link expires."""

from __future__ import annotations

from hashlib import blake2b
from hmac import compare_digest

from tracker.domain.model import Link

_LONGEST_TIME = 15  # digits of Unix seconds: more are not a time, and slow to parse
_DIGITS = 20


def sign(secret: bytes, offer_id: int, affiliate_id: int, expires: int) -> str:
    """The `test` parameter for this offer and affiliate: <expires, Unix seconds>.<20 hex digits>."""
    signed = f"{offer_id}.{affiliate_id}.{expires}".encode()
    digest = blake2b(signed, digest_size=_DIGITS // 2, key=secret, person=b"tracker testlink")
    return f"{expires}.{digest.hexdigest()}"


def is_valid(secret: bytes, link: Link, now_millis: int) -> bool:
    """Whether the link has our signature for its offer and affiliate, and has not expired."""
    time, _, _ = link.test.partition(".")
    if not (link.test.isascii() and time.isdigit() and len(time) <= _LONGEST_TIME):
        return False
    expires = int(time)
    is_ours = compare_digest(sign(secret, link.offer_id, link.affiliate_id, expires), link.test)
    return is_ours and now_millis < expires * 1000
