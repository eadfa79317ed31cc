"""The paths of forms, which are data: fixed, or with placeholders for whole segments."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from urllib.parse import unquote

from tracker.edge.catalogue.tracking_hosts import plain_host
from tracker.edge.read.text import crop

MAX_SEGMENTS = 8
"""Most segments of a path with placeholders."""
ANY_HOST = ""
OPEN = "{}"
"""A placeholder's segment in the key of a path."""

_LONGEST_PATH = 1000
_OURS = {"offer", "backend", "api", "health", "metrics", "postback", "pixel", "hosts"}  # first segments
_HOST = re.compile(r"[a-z0-9]([a-z0-9.-]*[a-z0-9])?")

Shape = tuple[int, ...]
"""The numbers of a path's segments with placeholders."""


class Shapes:
    """The shapes of some forms' paths."""

    def __init__(self) -> None:
        self._shapes: dict[int, list[Shape]] = {}  # by number of slashes. Kept when its last form is removed

    def add(self, key: str, shape: Shape) -> None:
        shapes = self._shapes.setdefault(key.count("/"), [])
        if shape and shape not in shapes:
            shapes.append(shape)
            shapes.sort(key=lambda shape: (len(shape), shape))  # more fixed segments are tried earlier

    def keys(self, path: str) -> Iterator[str]:
        """The possible keys of a path's forms. A slash at its end makes no difference."""
        path = path.removesuffix("/")
        yield path
        shapes = self._shapes.get(path.count("/"))
        if shapes:
            segments = path.split("/")
            if _first(segments) in _OURS:
                return
            for shape in shapes:
                if all(segments[place] for place in shape):
                    yield "/".join(OPEN if n in shape else text for n, text in enumerate(segments))


def read_host(host: str | None) -> str:
    """The host of a form in its normal form. None is any host.

    Raises:
        ValueError: it is not a host.
    """
    if host is None:
        return ANY_HOST
    plain = plain_host(host)
    if not _HOST.fullmatch(plain):
        raise ValueError(f"{host!r} is not a host")
    return plain


def read_path(raw: str, places: Mapping[str, int]) -> tuple[str, tuple[tuple[int, int], ...]]:
    """The key of a form's path, and the place of each placeholder's segment.

    Raises:
        ValueError: it is not a path of forms, or names a placeholder that `places` does not know.
    """
    path = unquote(raw)  # as requests are compared
    if not path.startswith("/") or "?" in raw or "#" in raw or crop(path, _LONGEST_PATH) != path:
        raise ValueError(f"{raw[:_LONGEST_PATH]!r} is not a path")
    parts = path.removesuffix("/").split("/")
    if _first(parts) in _OURS:
        raise ValueError(f"{raw!r} is a path of the edge's own")
    named = {n: _place(part, places) for n, part in enumerate(parts) if "{" in part or "}" in part}
    if len(set(named.values())) < len(named):
        raise ValueError(f"{raw!r} has a placeholder twice")
    if named and len(parts) > MAX_SEGMENTS + 1:
        raise ValueError(f"{raw!r} has more than {MAX_SEGMENTS} segments")
    return key_of(raw), tuple(named.items())


def _first(segments: Iterable[str]) -> str:
    """The first segment. Links with `//` in the place of `/` are read as with `/`."""
    return next(filter(None, segments), "")


def key_of(raw: str) -> str:
    """The key of a saved path. The meaning of its placeholders makes no difference."""
    parts = unquote(raw).removesuffix("/").split("/")
    return "/".join(OPEN if "{" in part or "}" in part else part for part in parts)


def _place(segment: str, places: Mapping[str, int]) -> int:
    if not (segment.startswith("{") and segment.endswith("}")):
        raise ValueError(f"{segment!r} is not a whole placeholder")
    if segment[1:-1] not in places:
        raise ValueError(f"{segment} in the path is not known")
    return places[segment[1:-1]]
