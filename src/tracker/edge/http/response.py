"""The responses of an edge: prepared once, no-store, and free of anything from the request."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Final, NamedTuple

from tracker.domain.model import Reason, fast

Message = MutableMapping[str, Any]
Send = Callable[[Message], Awaitable[None]]

_ALWAYS = b"cache-control: no-store, private\r\nx-robots-tag: noindex, nofollow\r\n"
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


class Response(NamedTuple):
    """A response. `head` holds the header lines as they go over the wire."""

    status: int
    head: bytes
    body: bytes


async def send_as_messages(send: Send, answer: Response, *, without_body: bool = False) -> None:
    """Send a response as ASGI messages."""
    lines = answer.head.removesuffix(b"\r\n").split(b"\r\n")
    headers = [(name, value) for name, _, value in (line.partition(b": ") for line in lines)]
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    await send({"type": "http.response.body", "body": b"" if without_body else answer.body})


def redirect(status: int, location: str, referrer_policy: str) -> Response:
    """A redirect that no cache keeps and no crawler follows (RFC 9110, section 15.4)."""
    head = b"location: " + location.encode("ascii") + _HEADS[referrer_policy]
    return fast(Response, (status, head, b""))


def refusal(reason: Reason) -> Response:
    """The page of a rejected click."""
    return GONE if reason in (Reason.OFFER_PAUSED, Reason.OFFER_EXPIRED) else REFUSED


def with_header(answer: Response, name: bytes, value: bytes) -> Response:
    return answer._replace(head=b"%b%b: %b\r\n" % (answer.head, name, value))


class _Heads(dict[str, bytes]):
    """The header lines behind a redirect's Location, by Referrer-Policy. There are few policies."""

    def __missing__(self, referrer_policy: str) -> bytes:
        policy = b"referrer-policy: %b\r\n" % referrer_policy.encode("ascii") if referrer_policy else b""
        return self.setdefault(referrer_policy, b"\r\n" + _ALWAYS + b"content-length: 0\r\n" + policy)


_HEADS: Final = _Heads()


def page(status: int, title: str, text: str, extra: bytes = b"") -> Response:
    return content(status, _PAGE.format(title=title, text=text).encode(), b"text/html; charset=utf-8", extra)


def content(status: int, body: bytes, kind: bytes, extra: bytes = b"") -> Response:
    """A response of a media type. `extra`: further header lines."""
    head = b"%bcontent-type: %b\r\ncontent-length: %d\r\n%b" % (_ALWAYS, kind, len(body), extra)
    return Response(status, head, body)


def prefetched(status: int) -> Response:
    """The answer to a prefetch, so that a browser asks again when its user follows the link."""
    return page(status, "Not followed yet", "This link is counted when it is followed.")


NOT_FOUND = page(404, "Link not found", "This link does not lead anywhere. Please check its address.")
GONE = page(410, "Offer ended", "This offer is not available any more.")
REFUSED = page(403, "Offer not available", "This offer is not available to you.")
TOO_LONG = page(414, "Link too long", "This link is too long to be followed.")
NOT_ALLOWED = page(405, "Method not allowed", "A link is followed with GET.", b"allow: GET, HEAD\r\n")
UNAVAILABLE = page(503, "One moment", "Please try this link again in a moment.", b"retry-after: 1\r\n")
FAILED = page(500, "Something went wrong", "Please try this link again in a moment.")
