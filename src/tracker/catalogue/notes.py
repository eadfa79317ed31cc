"""Notes about a time, which charts show: a sale began, a server was slow."""

from __future__ import annotations

from pydantic import Field

from tracker.catalogue.fields import Fields, Name, Time
from tracker.catalogue.resource import Resource
from tracker.store.catalogue.edit import Table


class Note(Fields):
    """What happened, and when."""

    at: Time
    text: Name = Field(description="What happened, in one line.", examples=["Black Friday begins"])


NOTES = Resource(
    "notes",
    "note",
    Table("note", tuple(Note.model_fields), facts=("author", "created_at")),
    Note,
    facts={
        "author": (
            str,
            Field(
                description="The user's e-mail address, or the name of the token. Empty: the command line."
            ),
        ),
        "created_at": (str, Field(examples=["2026-11-25T16:00:00.123456+00:00"])),
    },
)
"""It is no part of the catalogue: files of the catalogue and its feed leave notes out."""
