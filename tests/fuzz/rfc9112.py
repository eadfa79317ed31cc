"""A plain reading of a connection's bytes as HTTP/1.1 messages, by RFC 9112 alone.

It shares nothing with the server that it judges: no parser, no state between chunks. It sees the whole
connection at once.
"""

from __future__ import annotations

import re
from enum import Enum
from typing import NamedTuple

_TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
_METHODS = frozenset({b"GET", b"HEAD", b"POST", b"PUT", b"PATCH", b"DELETE", b"OPTIONS"})
"""The registered methods sent here. Others may be refused (section 3)."""
_REQUEST_LINE = re.compile(rb"(%b) +([\x21-\x7e]+) +HTTP/([0-9])\.([0-9])" % _TOKEN)
_FIELD = re.compile(rb"(%b):[ \t]*((?:[\x21-\x7e\x80-\xff]|[ \t](?!\Z))*)[ \t]*" % _TOKEN)
_QUOTED = rb'"(?:[\t\x20\x21\x23-\x5b\x5d-\x7e\x80-\xff]|\\[\t\x20-\x7e\x80-\xff])*"'
_CHUNK = re.compile(rb"([0-9A-Fa-f]{1,15})(?:;%b(?:=(?:%b|%b))?)*" % (_TOKEN, _TOKEN, _QUOTED))
_LENGTH = re.compile(rb"[0-9]{1,18}")


class End(Enum):
    """The extent to which a connection can be read."""

    NEXT = "behind a message, where another one may begin"
    CLOSED = "behind a message that says that it is the last one"
    HEAD_CUT = "in a head that has not come whole"
    HEAD_BAD = "in a head that is not HTTP"
    BODY_CUT = "in a body that has not come whole"
    BODY_BAD = "in a body that is not framed as HTTP"


class Request(NamedTuple):
    """A message whose head is whole and sound."""

    method: bytes
    target: bytes
    body: bytes  # the part that arrived


class Reading(NamedTuple):
    requests: list[Request]
    end: End


class _BadError(Exception):
    pass


class _CutError(Exception):
    pass


def read(data: bytes) -> Reading:
    """The messages of a connection. BODY_CUT and BODY_BAD are about the last one."""
    requests: list[Request] = []
    at = 0
    while True:
        while data[at : at + 1] in (b"\r", b"\n"):  # blank lines: section 2.2, which lets a lone LF end one
            at += 1
        if at == len(data):
            return Reading(requests, End.NEXT)
        request, end, at = _message(data, at)
        requests += [request] if request else []
        if end is not End.NEXT:
            return Reading(requests, end)


def _message(data: bytes, at: int) -> tuple[Request | None, End, int]:
    try:
        method, target, version, fields, at = _head(data, at)
        length = _framing(version, fields)
    except _BadError:
        return None, End.HEAD_BAD, at
    except _CutError:
        return None, End.HEAD_CUT, at
    try:
        body, at = _chunked(data, at) if length is None else _exactly(data, at, length)
    except _BadError:
        return Request(method, target, b""), End.BODY_BAD, at
    except _CutError:
        return Request(method, target, b""), End.BODY_CUT, at
    end = End.CLOSED if _is_last(version, fields) else End.NEXT
    return Request(method, target, body), end, at


_Fields = list[tuple[bytes, bytes]]


def _line(data: bytes, at: int) -> tuple[bytes, int]:
    end = data.find(b"\n", at)
    if end < 0:
        if b"\r" in data[at:-1]:
            raise _BadError
        raise _CutError
    if data[end - 1 : end] != b"\r" or b"\r" in data[at : end - 1]:
        raise _BadError  # a bare CR or LF: section 2.2
    return data[at : end - 1], end + 1


def _head(data: bytes, at: int) -> tuple[bytes, bytes, bytes, _Fields, int]:
    line, at = _line(data, at)
    request = _REQUEST_LINE.fullmatch(line)
    if request is None or request[1] not in _METHODS:
        raise _BadError
    fields: _Fields = []
    while True:
        line, at = _line(data, at)
        if not line:
            return request[1], request[2], request[3] + request[4], fields, at
        fields.append(_field(line))


def _field(line: bytes) -> tuple[bytes, bytes]:
    field = _FIELD.fullmatch(line)
    if field is None:
        raise _BadError
    return field[1].lower(), field[2]


def _framing(version: bytes, fields: _Fields) -> int | None:
    """The length of the body. None if it is chunked (section 6.3)."""
    hosts = _values(fields, b"host")
    if version not in (b"10", b"11"):  # section 2.3 leaves others to us
        raise _BadError
    if len(hosts) > 1 or (not hosts and version == b"11"):  # section 3.2
        raise _BadError
    lengths, codings = _values(fields, b"content-length"), _values(fields, b"transfer-encoding")
    if codings:
        if lengths or len(codings) > 1 or codings[0].lower() != b"chunked":
            raise _BadError
        return None
    if len(lengths) > 1 or (lengths and not _LENGTH.fullmatch(lengths[0])):
        raise _BadError
    return int(lengths[0]) if lengths else 0


def _values(fields: _Fields, name: bytes) -> list[bytes]:
    return [value for field, value in fields if field == name]


def _exactly(data: bytes, at: int, length: int) -> tuple[bytes, int]:
    if len(data) - at < length:
        raise _CutError
    return data[at : at + length], at + length


def _chunked(data: bytes, at: int) -> tuple[bytes, int]:
    body = b""
    while True:
        line, at = _line(data, at)
        chunk = _CHUNK.fullmatch(line)
        if chunk is None:
            raise _BadError
        size = int(chunk[1], 16)
        if size == 0:
            break
        content, at = _exactly(data, at, size)
        body += content
        end, at = _exactly(data, at, 2)
        if end != b"\r\n":
            raise _BadError
    while True:
        line, at = _line(data, at)
        if not line:
            return body, at
        _field(line)


def _is_last(version: bytes, fields: _Fields) -> bool:
    options = {
        option.strip().lower() for value in _values(fields, b"connection") for option in value.split(b",")
    }
    # Not the RFC's, but ours to decide: these are answered and closed.
    expected = [value.lower() for value in _values(fields, b"expect")]
    upgrades = b"upgrade" in options and bool(_values(fields, b"upgrade"))
    is_ours = upgrades or b"100-continue" in expected
    return b"close" in options or version != b"11" or is_ours
