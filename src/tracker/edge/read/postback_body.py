"""Bodies of postbacks: forms, multipart forms and JSON, also where their type is another one or none."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from tracker.domain.normalise import pairs, text_of
from tracker.domain.postback import GOALS, IDS, ORDER_IDS

FORM, MULTIPART, JSON = "application/x-www-form-urlencoded", "multipart/form-data", "application/json"

_SNIFFED = {FORM, JSON, "", "text/plain", "application/octet-stream", "text/json", "application/x-json"}
"""Types of which the content decides: `curl -d '{…}'` calls JSON a form, other senders call it a text."""
_TEXTS = {*IDS, *GOALS, "status", "token"}
"""What JSON must say by a text or a number."""
_ORDERS = {*ORDER_IDS, "transaction_id"}
_BOM, _UTF_16_AND_32 = b"\xef\xbb\xbf", (b"\xff\xfe", b"\xfe\xff", b"\x00\x00\xfe\xff")
_WHITE_SPACE = b" \t\r\n"
_NOTHING: tuple[Any, ...] = (None, [])
"""How senders write an object without members: [] is PHP's."""


class UnreadableBody(Exception):  # noqa: N818 - says what it is
    """A body that is not taken, and by which status (HTTP) and field that is answered."""

    def __init__(self, status: int, message: str, field: str = "") -> None:
        super().__init__(message)
        self.status = status
        self.field = field


def read_body(headers: Mapping[bytes, bytes], body: bytes) -> list[tuple[str, str]]:
    """What a body says, by name, in its order.

    Raises:
        UnreadableBody: 415 for other types, 422 for what is not of its type.
    """
    if headers.get(b"content-encoding", b"identity").strip().lower() not in (b"identity", b""):
        raise UnreadableBody(415, "Send the body uncompressed.")
    given = headers.get(b"content-type", b"")
    type_ = given.partition(b";")[0].strip().lower().decode("latin-1")
    if type_ == MULTIPART:
        return _read_multipart(given, body)
    if type_ not in _SNIFFED and not type_.endswith("+json"):
        raise UnreadableBody(
            415, f"Send a body of {FORM}, {MULTIPART} or {JSON}, and say so in Content-Type."
        )
    text = body.removeprefix(_BOM).strip(_WHITE_SPACE)
    return _read_json(body) if text and _is_json(type_, body) else pairs(text)


def _is_json(type_: str, body: bytes) -> bool:
    """By its content; of what may be either, its type decides."""
    if body.startswith(_UTF_16_AND_32) or body.removeprefix(_BOM).lstrip(_WHITE_SPACE)[:1] in (b"{", b"["):
        return True
    return "json" in type_ and b"=" not in body


def _read_json(body: bytes) -> list[tuple[str, str]]:
    """Of an object of texts and numbers; those as they are written, for no amount is a float."""
    text = body if body.startswith(_UTF_16_AND_32) else text_of(body.removeprefix(_BOM))
    try:
        said = json.loads(text, object_pairs_hook=_first, parse_float=str, parse_int=str, parse_constant=str)
        if said in _NOTHING:
            return []
        if not isinstance(said, dict):
            raise UnreadableBody(422, "body is not a JSON object", "body")
        # An order id without a value was sent; of all else null says nothing.
        said = {name: value for name, value in said.items() if value is not None or name in _ORDERS}
        return [(_clean(name), _text(name, value)) for name, value in said.items()]
    except (ValueError, RecursionError):
        raise UnreadableBody(422, "body is not JSON", "body") from None


def _first(members: list[tuple[str, Any]]) -> dict[str, Any]:
    """The first of members that are named alike counts, as in a query."""
    first: dict[str, Any] = {}
    for name, value in members:
        first.setdefault(name, value)
    return first


def _text(name: str, value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, str):
        return _clean(value)
    if name in _TEXTS:
        raise UnreadableBody(422, f"{name} must be a text or a number", name)
    return _clean(json.dumps(value, ensure_ascii=False, separators=(",", ":")))


def _clean(text: str) -> str:
    """Without halves of surrogate pairs, which no UTF-8 has."""
    return text.encode(errors="replace").decode()


def _read_multipart(type_: bytes, body: bytes) -> list[tuple[str, str]]:
    """The parts of a form (RFC 7578). What a file part holds is read like any other value."""
    parts = _Parts()
    try:
        parser = MultipartParser(parse_options_header(type_)[1].get(b"boundary", b""), parts.callbacks())
        parser.write(body)
        parser.finalize()
    except FormParserError:
        parts.is_whole = False
    if not parts.is_whole:
        raise UnreadableBody(422, f"body is not {MULTIPART}, or not whole", "body")
    return parts.said


class _Parts:
    """Collects what a parser of multipart forms tells of."""

    def __init__(self) -> None:
        self.said: list[tuple[str, str]] = []
        self.is_whole = False
        self._begin()

    def callbacks(self) -> Any:
        return {
            "on_part_begin": self._begin,
            "on_header_field": self._add_to_field,
            "on_header_value": self._add_to_value,
            "on_header_end": self._end_header,
            "on_part_data": self._add_data,
            "on_part_end": self._end,
            "on_end": self._end_all,
        }

    def _begin(self) -> None:
        self._name, self._data = b"", bytearray()
        self._field, self._value = bytearray(), bytearray()

    def _add_to_field(self, data: bytes, start: int, end: int) -> None:
        self._field += data[start:end]

    def _add_to_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _end_header(self) -> None:
        if self._field.lower() == b"content-disposition":
            self._name = parse_options_header(bytes(self._value))[1].get(b"name", b"")
        self._field, self._value = bytearray(), bytearray()

    def _add_data(self, data: bytes, start: int, end: int) -> None:
        self._data += data[start:end]

    def _end(self) -> None:
        self.said.append((text_of(self._name), text_of(bytes(self._data))))

    def _end_all(self) -> None:
        self.is_whole = True
