"""Bodies of postbacks: forms, multipart forms and JSON, even under another Content-Type or none."""

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
"""Types whose content decides: `curl -d '{…}'` calls JSON a form, other senders call it a text."""
_TEXTS = {*IDS, *GOALS, "status", "token"}
"""Parameters that must be a text or a number in JSON."""
_ORDERS = {*ORDER_IDS, "transaction_id"}
_BOM, _UTF_16_AND_32 = b"\xef\xbb\xbf", (b"\xff\xfe", b"\xfe\xff", b"\x00\x00\xfe\xff")
_WHITE_SPACE = b" \t\r\n"
_NOTHING: tuple[Any, ...] = (None, [])
"""How senders write an object without members: [] is PHP's."""


class UnreadableBody(Exception):  # noqa: N818 - a fault of the sender's, not of ours
    """A body that is not taken, with the HTTP status and the field of the answer."""

    def __init__(self, status: int, message: str, field: str = "") -> None:
        super().__init__(message)
        self.status = status
        self.field = field


def read_body(headers: Mapping[bytes, bytes], body: bytes) -> list[tuple[str, str]]:
    """The parameters of a body, in its order.

    Raises:
        UnreadableBody: 415 for other types, 422 for a body that is not of its type.
    """
    if headers.get(b"content-encoding", b"identity").strip().lower() not in (b"identity", b""):
        raise UnreadableBody(415, "Send the body uncompressed.")
    content_type = headers.get(b"content-type", b"")
    type_ = content_type.partition(b";")[0].strip().lower().decode("latin-1")
    if type_ == MULTIPART:
        return _read_multipart(content_type, body)
    if type_ not in _SNIFFED and not type_.endswith("+json"):
        raise UnreadableBody(
            415, f"Send a body of {FORM}, {MULTIPART} or {JSON}, and say so in Content-Type."
        )
    text = body.removeprefix(_BOM).strip(_WHITE_SPACE)
    return _read_json(body) if text and _is_json(type_, body) else pairs(text)


def _is_json(type_: str, body: bytes) -> bool:
    """Whether a body is JSON, by its content. If that is unclear, by its type."""
    if body.startswith(_UTF_16_AND_32) or body.removeprefix(_BOM).lstrip(_WHITE_SPACE)[:1] in (b"{", b"["):
        return True
    return "json" in type_ and b"=" not in body


def _read_json(body: bytes) -> list[tuple[str, str]]:
    """The members of a JSON object. Numbers stay as they are written, because amounts are not floats."""
    text = body if body.startswith(_UTF_16_AND_32) else text_of(body.removeprefix(_BOM))
    try:
        parsed = json.loads(
            text, object_pairs_hook=_first, parse_float=str, parse_int=str, parse_constant=str
        )
        if parsed in _NOTHING:
            return []
        if not isinstance(parsed, dict):
            raise UnreadableBody(422, "body is not a JSON object", "body")
        # An order id counts as sent even without a value. Any other null counts as not sent.
        sent = {name: value for name, value in parsed.items() if value is not None or name in _ORDERS}
        return [(_clean(name), _text(name, value)) for name, value in sent.items()]
    except (ValueError, RecursionError):
        raise UnreadableBody(422, "body is not JSON", "body") from None


def _first(members: list[tuple[str, Any]]) -> dict[str, Any]:
    """The first of members with the same name counts, as in a query."""
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
    """The text without lone surrogates, which UTF-8 cannot have."""
    return text.encode(errors="replace").decode()


def _read_multipart(type_: bytes, body: bytes) -> list[tuple[str, str]]:
    """The parts of a form (RFC 7578). The content of a file part is read like any other value."""
    parts = _Parts()
    try:
        parser = MultipartParser(parse_options_header(type_)[1].get(b"boundary", b""), parts.callbacks())
        parser.write(body)
        parser.finalize()
    except FormParserError:
        parts.is_whole = False
    if not parts.is_whole:
        raise UnreadableBody(422, f"body is not {MULTIPART}, or not whole", "body")
    return parts.pairs


class _Parts:
    """Collects the parts of a multipart form from the parser's callbacks."""

    def __init__(self) -> None:
        self.pairs: list[tuple[str, str]] = []
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
        self.pairs.append((text_of(self._name), text_of(bytes(self._data))))

    def _end_all(self) -> None:
        self.is_whole = True
