"""The first-party cookie that identifies a visitor.

It holds the visitor key of the first click, and a proof that the key came from us. The key is not a new one:
of two first clicks at the same moment exactly one is unique, because both have the key of address and
User-Agent, and both set the same cookie. Later clicks keep the key even if the address changes.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from hashlib import blake2b
from hmac import compare_digest
from itertools import islice
from typing import Final

MAX_TRIES: Final = 4
"""Most cookies of our name that one request is checked for. A browser sends several, of different paths or
domains, and each costs a keyed hash."""

MAX_COOKIES: Final = 16_384
"""Bytes of a Cookie header that are searched, from its start."""

_DIGITS: Final = 16  # of the key, and of its proof


def value(key: int, secret: bytes) -> str:
    """The cookie's value: the visitor key (64 bits) and its proof, 16 hex digits each."""
    digits = f"{key:016x}"
    return digits + _proof(digits, secret)


def read(headers: Mapping[bytes, bytes], name: bytes, secret: bytes) -> int | None:
    """The visitor key of the first cookie of ours. None without one.

    One Cookie header is read: a browser sends only one (RFC 6265, section 5.4), and the parts of HTTP/2 are
    joined before they become HTTP/1.1 (RFC 9113, section 8.2.3).
    """
    cookies = headers.get(b"cookie")
    if cookies is None or cookies.find(name) < 0:  # `in` raises and drops an error first
        return None
    for match in islice(_pattern(name).finditer(cookies, 0, MAX_COOKIES), MAX_TRIES):
        digits, proof = match[1].decode(), match[2].decode()
        if compare_digest(_proof(digits, secret), proof):
            return int(digits, 16)
    return None


def header(name: bytes, key: int, secret: bytes, max_age: int, secure: bool) -> bytes:
    """The Set-Cookie value (RFC 6265bis). `max_age` is in seconds. `secure` if the link is https.

    SameSite is Lax and not Strict, because tracking links are followed from other sites.
    """
    cookie = b"%b=%b; Max-Age=%d; Path=/; HttpOnly; SameSite=Lax"
    cookie %= (name, value(key, secret).encode(), max_age)
    return cookie + b"; Secure" if secure else cookie


def _proof(digits: str, secret: bytes) -> str:
    return blake2b(
        digits.encode(), digest_size=_DIGITS // 2, key=secret, person=b"tracker cookie"
    ).hexdigest()


@lru_cache(8)
def _pattern(name: bytes) -> re.Pattern[bytes]:
    """Quotes and blanks are read as servers do. Parts do not overlap, so the search takes linear time."""
    return re.compile(
        rb'(?:\A|;)[ \t]*%b=[ \t]*"?([0-9a-f]{%d})([0-9a-f]{%d})"?[ \t]*(?=;|\Z)'
        % (re.escape(name), _DIGITS, _DIGITS)
    )
