"""Where links are found: tracking hosts, and the forms of other trackers' links."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from tracker import parameters
from tracker.catalogue.fields import Fields, Host, Id, NameOrNone, Text
from tracker.catalogue.resource import Resource
from tracker.edge.catalogue.link_forms import LinkForms
from tracker.store.catalogue.edit import Reference, Table


class TrackingHost(Fields):
    """A host for new tracking links."""

    host: Host
    status: Literal["active", "burned", "retired"] = "active"
    brand_id: Id | None = None
    affiliate_id: Id | None = None
    scheme: Literal["http", "https"] = "https"


# A form that is right, to try one field at a time in.
_RIGHT: dict[str, Any] = {
    "name": "",
    "host": None,
    "path": "/right",
    "parameters": {},
    "constants": {"offer_id": 1, "affiliate_id": 1},
}


class LinkForm(Fields):
    """The meaning of links in the form of another tracker."""

    name: NameOrNone = ""
    host: Text | None = None
    path: Text
    parameters: dict[str, Any] = Field(default_factory=dict)
    constants: dict[str, Any] = Field(default_factory=dict)

    def clashes(self) -> dict[str, str]:
        form = self.model_dump()
        tried = {field: _wrong({**_RIGHT, field: value}) for field, value in form.items()}
        wrong = {field: why for field, why in tried.items() if why}
        together = "" if wrong else _wrong(form)
        return {"parameters": together} if together else wrong


def _wrong(form: dict[str, Any]) -> str:
    """Why an edge would not take a form. "" where it would."""
    try:
        LinkForms().put(1, form)
    except ValueError as error:
        return str(error)
    return ""


RESOURCES = (
    Resource(
        "tracking-hosts",
        "tracking host",
        Table(
            "tracking_host",
            tuple(TrackingHost.model_fields),
            key="host",
            references=(Reference("affiliate_id", "affiliate"),),
            unique=("host",),
        ),
        TrackingHost,
        {
            "status": parameters.choice("active", "burned", "retired"),
            "brand_id": parameters.Id,
            "affiliate_id": parameters.Id,
        },
    ),
    Resource(
        "link-forms",
        "link form",
        Table("link_form", tuple(LinkForm.model_fields), unique=("host", "path")),
        LinkForm,
        {"name": parameters.Name, "host": parameters.Text, "path": parameters.Text},
    ),
)
