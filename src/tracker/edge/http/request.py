"""A request as the redirect reads it, from the fast path or from ASGI."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final, NamedTuple
from urllib.parse import unquote_to_bytes

from tracker.domain.normalise import text_of

MAX_JOINED = 4096
"""Bytes kept of a header of several lines, from its end: our own proxies wrote the end."""

Headers = dict[bytes, bytes]
"""By name, in lower case. Lines of a list are joined (RFC 9110, section 5.3). Else the last line counts."""

_LISTS: Final = frozenset({b"forwarded", b"x-forwarded-for", b"x-forwarded-host", b"x-forwarded-proto"})


class Request(NamedTuple):
    method: str
    scheme: str
    peer: str  # the address at the other end of the connection. "" of a Unix socket
    path: str  # percent-decoded. Bytes that are not UTF-8 stay as they are
    raw_path: bytes
    query: bytes
    headers: Headers

    @classmethod
    def from_scope(cls, scope: Mapping[str, Any]) -> Request:
        """The request of an ASGI scope."""
        return cls(
            scope["method"],
            scope["scheme"],
            scope["client"][0] if scope["client"] else "",
            text_of(unquote_to_bytes(scope["raw_path"])),
            scope["raw_path"],
            scope["query_string"],
            headers_of(scope["headers"]),
        )


def headers_of(lines: Iterable[tuple[bytes, bytes]]) -> Headers:
    headers: Headers = {}
    for name, value in lines:
        add_header(headers, name, value)
    return headers


def add_header(headers: Headers, name: bytes, value: bytes) -> None:
    if name in _LISTS and name in headers:
        value = (headers[name] + b"," + value)[-MAX_JOINED:]
    headers[name] = value
