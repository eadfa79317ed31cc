"""Why the rules of the catalogue refuse a change."""

from __future__ import annotations

from enum import Enum, auto

from tracker.errors import Errors, in_words


class Kind(Enum):
    """Each kind has a status of HTTP in api/catalogue.py."""

    UNKNOWN = auto()  # the object or its parent does not exist
    INVALID = auto()  # a field is missing or unknown, or its value is refused
    CONFLICT = auto()  # the fields do not go with the rows that exist
    STALE = auto()  # the object has another version than the editor expects
    FORBIDDEN = auto()  # the editor lacks a scope


class CatalogueError(Exception):
    """A rule refuses a change or a place."""

    def __init__(
        self,
        kind: Kind,
        errors: Errors,
        detail: str = "",
        *,
        version: int | None = None,
        scope: str = "",
    ) -> None:
        """`detail` is a sentence. Default: the first messages of the errors.

        `version`: the object's current one, if the change was made for another. `scope`: the missing one.
        """
        self.kind = kind
        self.errors = errors
        self.detail = detail or in_words(errors)
        self.version = version
        self.scope = scope
        super().__init__(self.detail)


def invalid(errors: Errors) -> CatalogueError:
    return CatalogueError(Kind.INVALID, errors)


def conflict(errors: Errors) -> CatalogueError:
    return CatalogueError(Kind.CONFLICT, errors)
