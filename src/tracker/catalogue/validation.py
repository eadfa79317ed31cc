"""Checks the fields that somebody wrote against a model. Every defect is named by its place."""

from __future__ import annotations

import re
from typing import Any, TypeVar

import orjson
from pydantic import BaseModel, ValidationError

from tracker.catalogue.errors import invalid

_MOST_NAMED = 20
_LONGEST_NAMED = 80
_LONGEST_NAME_SHOWN = 50
_NUL = re.compile(rb"(?<!\\)(?:\\\\)*\\u0000")  # which PostgreSQL stores in no text

SomeModel = TypeVar("SomeModel", bound=BaseModel)


def check_storable(fields: dict[str, Any]) -> None:
    """See that PostgreSQL can store an object's texts.

    Raises:
        CatalogueError: INVALID. It names a field with a NUL character or half of one (a lone surrogate),
            or one that is nested too deeply.
    """
    for name, value in fields.items():
        try:
            text = orjson.dumps([name, value])
        except orjson.JSONEncodeError as error:
            why = "has half of a character" if "UTF-8" in str(error) else "is nested too deeply"
            raise invalid({_shown(name): [why]}) from None
        if _NUL.search(text):
            raise invalid({_shown(name): ["has a NUL character"]})


def validated(
    fields: dict[str, Any], model: type[SomeModel], before: dict[str, Any] | None = None
) -> SomeModel:
    """The fields as a model. A field that is the same `before` is not checked by today's rules.

    Raises:
        CatalogueError: INVALID. It names every field that is missing, unknown or unreadable, as in
            clicks.0.offer_id.
    """
    try:
        return model.model_validate(fields, context=before)
    except ValidationError as error:
        raise invalid(_named(error)) from None


def merged(old: Any, patch: Any) -> Any:
    """An object after a merge patch (RFC 7396): null removes, objects are merged, all else replaces."""
    if not isinstance(patch, dict):
        return patch
    new = dict(old) if isinstance(old, dict) else {}
    for name, value in patch.items():
        if value is None:
            new.pop(name, None)
        else:
            new[name] = merged(new.get(name), value)
    return new


def replacing(old: Any, new: Any) -> Any:
    """A merge patch from the old value to the new one, although objects are merged."""
    if not (isinstance(old, dict) and isinstance(new, dict)):
        return new
    return dict.fromkeys(old) | {name: replacing(old.get(name), value) for name, value in new.items()}


def _shown(name: str) -> str:
    return name.replace("\0", "")[:_LONGEST_NAME_SHOWN] or "body"


def _named(error: ValidationError) -> dict[str, list[str]]:
    """By place. Names come from outside, so they are limited in number and length."""
    details = error.errors(include_url=False, include_input=False, include_context=False)[:_MOST_NAMED]
    return {
        ".".join(map(str, detail["loc"]))[:_LONGEST_NAMED] or "body": [
            _message(detail["type"], detail["msg"])
        ]
        for detail in details
    }


_MESSAGES = {
    "extra_forbidden": "is not a field of this object",
    "missing": "is missing",
    "model_type": "is not an object",
    "list_type": "is not a list",
}


def _message(kind: str, message: str) -> str:
    return _MESSAGES.get(kind) or message.removeprefix("Value error, ").replace("Input should be", "must be")
