"""Forms: what a browser sends from a page of ours, and from nobody else's."""

from __future__ import annotations

import codecs
import re
from collections.abc import AsyncGenerator, Iterable, Mapping
from typing import Final
from urllib.parse import parse_qsl

from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect, Request

from tracker.dashboard.asking import RefusedError
from tracker.dashboard.html import Fault
from tracker.dashboard.visit import Visit
from tracker.domain.normalise import trim
from tracker.people import sessions

MAX_BODY: Final = 64 * 1024
"""Longest form, in bytes."""
MAX_UPLOAD: Final = 1024 * 1024
"""Longest form with a file, in bytes."""
MOST_PARAMETERS: Final = 100
"""Most parameters of an address with a value. A page links to itself without each, with all the others."""
TOKEN: Final = "token"  # noqa: S105
"""The field that says which session a form belongs to."""

_MEDIA_TYPE = "application/x-www-form-urlencoded"
_WITH_FILE = "multipart/form-data"
_MOST_FIELDS = 1_000
_NUMBER = re.compile(r"-?[0-9]{1,18}", re.ASCII)


_NO_FILES: Final[Mapping[str, bytes]] = {}


class Form(dict[str, str]):
    """The fields of a form. Of fields with one name the last one counts, unless all are asked for."""

    def __init__(self, pairs: Iterable[tuple[str, str]] = (), files: Mapping[str, bytes] = _NO_FILES) -> None:
        self._pairs = tuple(pairs)
        self.files = files
        super().__init__(self._pairs)

    @property
    def pairs(self) -> tuple[tuple[str, str], ...]:
        """The names and values of all fields, in their order."""
        return self._pairs

    def all(self, name: str) -> list[str]:
        """The values of all fields with a name, in their order."""
        return [value for given, value in self._pairs if given == name]


def text_of(form: Form) -> str:
    """The text of a form's file, or else what was pasted.

    A file is UTF-16 by its mark, else UTF-8, else what old spreadsheets write.

    Raises:
        RefusedError: there is neither.
    """
    file = form.files.get("file", b"")
    if not trim(text := _decoded(file) if file else form.get("text", "")):
        raise RefusedError(Fault(422, "Choose a file, or paste its lines.", "file"))
    return text


def _decoded(file: bytes) -> str:
    if file.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return file.decode("utf-16", "replace")
    try:
        return file.decode("utf-8-sig")
    except UnicodeDecodeError:
        return file.decode("cp1252", "replace")


def type_of(text: str) -> str:
    """The media type of lines that a person sends: JSON objects, or CSV."""
    return "application/x-ndjson" if trim(text).startswith("{") else "text/csv"


def parameters(given: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """The parameters of an address that have a value. A form sends its empty fields, too.

    Raises:
        HTTPException: 400. They are more than MOST_PARAMETERS.
    """
    pairs = [(name, value) for name, value in given if value]
    if len(pairs) > MOST_PARAMETERS:
        raise HTTPException(400, f"This address has more than {MOST_PARAMETERS} parameters.")
    return pairs


def number_or_text(text: str) -> int | str:
    """A whole number of at most 18 digits. Another text stays, and an endpoint says what is wrong."""
    plain = trim(text)
    return int(plain) if _NUMBER.fullmatch(plain) else text


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


async def read_form(request: Request, *, takes_file: bool = False) -> Form:
    """The fields of a form. With `takes_file` it may have files, and be as long as MAX_UPLOAD.

    Raises:
        HTTPException: 415 for another media type, 413 if it is too long, 400 if it cannot be read.
    """
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    accepted = (_MEDIA_TYPE, _WITH_FILE) if takes_file else (_MEDIA_TYPE,)
    if media_type not in accepted or request.headers.get("content-encoding", "identity") != "identity":
        raise HTTPException(415, "This is not a form of these pages.", {"Accept": ", ".join(accepted)})
    try:
        body = await _read(request, MAX_UPLOAD if takes_file else MAX_BODY)
        form = await _with_files(request, body) if media_type == _WITH_FILE else _plain(body)
        _check_texts(form)
    except (ValueError, ClientDisconnect, MultiPartException):
        raise HTTPException(400, "The form cannot be read.") from None
    return form


def _check_texts(form: Form) -> None:
    """See that all texts of a form can be sent on. Its charset may make halves of characters.

    Raises:
        ValueError: one has such a half, or a NUL character.
    """
    texts = "".join(map("".join, form.pairs))
    texts.encode()
    if "\0" in texts:
        raise ValueError("has a NUL character")


def _plain(body: bytes) -> Form:
    pairs = parse_qsl(body.decode(), keep_blank_values=True, errors="strict", max_num_fields=_MOST_FIELDS)
    return Form(pairs)


async def _with_files(request: Request, body: bytes) -> Form:
    """A form in parts (RFC 7578)."""

    async def whole() -> AsyncGenerator[bytes, None]:
        yield body

    parser = MultiPartParser(
        request.headers, whole(), max_files=1, max_fields=_MOST_FIELDS, max_part_size=MAX_UPLOAD
    )
    sent = await parser.parse()
    try:
        parts = sent.multi_items()
        files = {name: await part.read() for name, part in parts if isinstance(part, UploadFile)}
        return Form([(name, part) for name, part in parts if isinstance(part, str)], files)
    finally:
        await sent.close()


async def _read(request: Request, most: int) -> bytes:
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > most:
            raise HTTPException(413, f"The form is longer than {most >> 10} KiB.")
    return bytes(body)


_UNKNOWN_PROXY = (
    "Your browser uses https, and the proxy before the tracker does not say so. Ask your administrator to "
    "set TRACKER_TRUSTED_PROXIES to the address of the proxy, and to let the proxy send X-Forwarded-Proto."
)
