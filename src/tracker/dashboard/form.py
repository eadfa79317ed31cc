"""Forms: what a browser sends from a page of ours, and from nobody else's."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final
from urllib.parse import parse_qsl

from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request

from tracker.dashboard.visit import Visit
from tracker.people import sessions

MAX_BODY: Final = 64 * 1024
"""Longest form, in bytes."""
TOKEN: Final = "token"  # noqa: S105
"""The field that says which session a form belongs to."""

_MEDIA_TYPE = "application/x-www-form-urlencoded"
_MOST_FIELDS = 1_000


class Form(dict[str, str]):
    """The fields of a form. Of fields with one name the last one counts, unless all are asked for."""

    def __init__(self, pairs: Iterable[tuple[str, str]] = ()) -> None:
        self._pairs = tuple(pairs)
        super().__init__(self._pairs)

    def all(self, name: str) -> list[str]:
        """The values of all fields with a name, in their order."""
        return [value for given, value in self._pairs if given == name]


def check_origin(visit: Visit, *, proves_itself: bool = False) -> None:
    """Refuse a form of another site (OWASP Cross-Site Request Forgery Prevention Cheat Sheet).

    A page without referrers sends the origin `null`, and then Sec-Fetch-Site counts. Browsers leave that out
    without encryption. So a form that carries a secret of its own (`proves_itself`) passes without both.

    Raises:
        HTTPException: 403.
    """
    headers = visit.request.headers
    origin, fetch_site = headers.get("origin", ""), headers.get("sec-fetch-site", "")
    if origin and origin != "null":
        if origin.lower() == visit.origin:
            return
        if origin.lower() == visit.origin.replace("http://", "https://", 1):
            raise HTTPException(403, _UNKNOWN_PROXY)
    elif fetch_site == "same-origin" or (proves_itself and origin == "null" and not fetch_site):
        return
    raise HTTPException(403, "This form was sent from another site. Open the page here, and try again.")


def check_token(visit: Visit, form: Form) -> None:
    """Refuse a form of another session.

    Raises:
        HTTPException: 403.
    """
    if visit.session and not sessions.is_form_token(visit.secret, form.get(TOKEN, "")):
        raise HTTPException(
            403, "This form is from an earlier session. Open the page again, and repeat what you did."
        )


async def read_form(request: Request) -> Form:
    """The fields of a form.

    Raises:
        HTTPException: 415 for another media type, 413 if it is too long, 400 if it cannot be read.
    """
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type != _MEDIA_TYPE or request.headers.get("content-encoding", "identity") != "identity":
        raise HTTPException(415, "This is not a form of these pages.", {"Accept": _MEDIA_TYPE})
    try:
        text = (await _read(request)).decode()
        form = Form(parse_qsl(text, keep_blank_values=True, errors="strict", max_num_fields=_MOST_FIELDS))
    except (ValueError, ClientDisconnect):
        raise HTTPException(400, "The form cannot be read.") from None
    if any("\0" in value for value in form.values()):
        raise HTTPException(400, "The form cannot be read.")
    return form


async def _read(request: Request) -> bytes:
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_BODY:
            raise HTTPException(413, f"The form is longer than {MAX_BODY >> 10} KiB.")
    return bytes(body)


_UNKNOWN_PROXY = (
    "Your browser uses https, and the proxy before the tracker does not say so. Ask your administrator to "
    "set TRACKER_TRUSTED_PROXIES to the address of the proxy, and to let the proxy send X-Forwarded-Proto."
)
