"""What the clicks' endpoints answer, for the API's document. The rows come from the store as they are."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, create_model

from tracker.domain.click_fields import FIELDS
from tracker.domain.click_fields import Field as ClickField
from tracker.parameters import Model

EXAMPLE: dict[str, object] = {
    field.name: field.shown_blank if field.example is None else field.example for field in FIELDS
}


def type_of(field: ClickField) -> Any:
    """The type of what a list shows."""
    type_: Any = Literal[field.choices] if field.choices else field.shown_kind
    return type_ | None if field.is_nullable else type_


_KEYS: dict[str, Any] = {
    field.name: (type_of(field), Field(description=field.about or None)) for field in FIELDS
}


class Click(create_model("Click", **_KEYS)):  # type: ignore[misc] # from the table
    """One click. Every key is always present. null, "" and "UNK" mean that the value is unknown."""


class ClickList(Model):
    """A page of clicks. In the feed, total, page and pages are null."""

    data: list[Click]
    total: int | None = Field(description="The exact number of clicks that match.", examples=[100])
    per_page: int = Field(examples=[200])
    page: int | None = Field(examples=[1])
    pages: int | None = Field(examples=[1])
    next_cursor: str | None = Field(
        default=None, description="Cursor of the next page. null on the last page."
    )
    next_after_id: int = Field(default=0, description="Feed only: the after_id for the next request.")
