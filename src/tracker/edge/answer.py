"""The answers an edge gives: prepared once, no-store, and with nothing of the request in them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from functools import lru_cache
from typing import Any, NamedTuple

from tracker.model import Reason

Message = MutableMapping[str, Any]
Send = Callable[[Message], Awaitable[None]]
Headers = list[tuple[bytes, bytes]]

_NO_STORE = (b"cache-control", b"no-store, private")
_NO_INDEX = (b"x-robots-tag", b"noindex, nofollow")
_PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>{title}</title>
<style>body {{ font: 1rem/1.5 system-ui; margin: 15vh auto; max-width: 30rem; padding: 0 1rem }}</style>
<h1>{title}</h1>
<p>{text}</p>
</html>
"""


class Answer(NamedTuple):
    start: Message
    body: Message


async def give(send: Send, answer: Answer, *, without_body: bool = False) -> None:
    await send(answer.start)
    await send(_EMPTY if without_body else answer.body)


def redirect(status: int, location: str, referrer_policy: str) -> Answer:
    """A redirect that no cache keeps and no crawler follows (RFC 9110, section 15.4)."""
    headers = [(b"location", location.encode("ascii")), *_redirect_headers(referrer_policy)]
    return Answer({"type": "http.response.start", "status": status, "headers": headers}, _EMPTY)


def refusal(reason: Reason) -> Answer:
    """What a visitor gets whose click nobody takes."""
    return GONE if reason in (Reason.OFFER_PAUSED, Reason.OFFER_EXPIRED) else REFUSED


def with_header(answer: Answer, name: bytes, value: bytes) -> Answer:
    start = {**answer.start, "headers": [*answer.start["headers"], (name, value)]}
    return Answer(start, answer.body)


@lru_cache(32)
def _redirect_headers(referrer_policy: str) -> tuple[tuple[bytes, bytes], ...]:
    headers = (_NO_STORE, _NO_INDEX, (b"content-length", b"0"))
    return (*headers, (b"referrer-policy", referrer_policy.encode("ascii"))) if referrer_policy else headers


def page(status: int, title: str, text: str, *extra: tuple[bytes, bytes]) -> Answer:
    body = _PAGE.format(title=title, text=text).encode()
    headers = [
        _NO_STORE,
        _NO_INDEX,
        (b"content-type", b"text/html; charset=utf-8"),
        (b"content-length", str(len(body)).encode()),
        *extra,
    ]
    return Answer(
        {"type": "http.response.start", "status": status, "headers": headers},
        {"type": "http.response.body", "body": body},
    )


_EMPTY: Message = {"type": "http.response.body", "body": b""}

NOT_FOUND = page(404, "Link not found", "This link does not lead anywhere. Please check its address.")
GONE = page(410, "Offer ended", "This offer is not available any more.")
REFUSED = page(403, "Offer not available", "This offer is not available to you.")
TOO_LONG = page(414, "Link too long", "This link is too long to be followed.")
NOT_ALLOWED = page(405, "Method not allowed", "A link is followed with GET.", (b"allow", b"GET, HEAD"))
UNAVAILABLE = page(503, "One moment", "Please try this link again in a moment.", (b"retry-after", b"1"))
