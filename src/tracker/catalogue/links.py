"""Where links are found: tracking hosts, and the forms of other trackers' links and postbacks."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from typing import Annotated, Any, Literal

from pydantic import Field

from tracker import parameters
from tracker.catalogue.fields import Fields, Host, Id, Name, NameOrNone, OpaqueCode, Text
from tracker.catalogue.resource import MONEY, Resource
from tracker.edge.catalogue import postback_forms
from tracker.edge.catalogue.form_paths import ANY_HOST, key_of, read_host
from tracker.edge.catalogue.link_forms import LinkForms
from tracker.edge.catalogue.postback_forms import MAX_MATCH, MAX_NAMES, WrongForm
from tracker.errors import Errors
from tracker.store.catalogue import read as stored_catalogue
from tracker.store.catalogue.edit import Reference, Row, Table
from tracker.store.db import Connection


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


_Objects = dict[str, Any]


class PostbackForm(Fields):
    """The meaning of postbacks in the form of another tracker. It proves nothing about their sender."""

    name: Annotated[Name, Field(examples=["TUNE"])]
    host: Annotated[Text | None, Field(description="null: any host.")] = None
    path: Annotated[
        Text,
        Field(
            description="Fixed, or with placeholders for whole segments: parameters of ours, and {secret}.",
            examples=["/{secret}/postback"],
        ),
    ]
    match: Annotated[
        _Objects,
        Field(
            description="Names that the query must have, with their values. * is any value.",
            examples=[{"a": "lsr"}],
            json_schema_extra={"maxProperties": MAX_MATCH},
        ),
    ] = Field(default_factory=dict)
    parameters: Annotated[
        _Objects,
        Field(
            description='Their names and ours. "" leaves out a name that is one of ours.',
            examples=[{"subid": "click_id"}],
            json_schema_extra={"maxProperties": MAX_NAMES},
        ),
    ] = Field(default_factory=dict)
    constants: Annotated[
        _Objects,
        Field(
            description="Our names and their fixed values.",
            examples=[{"status": "approved"}],
            json_schema_extra={"maxProperties": MAX_NAMES},
        ),
    ] = Field(default_factory=dict)
    values: Annotated[
        _Objects,
        Field(
            description="By our name (status, goal, currency, sale_status): their values and ours.",
            examples=[{"status": {"lead": "pending", "sale": "approved"}}],
            json_schema_extra={"maxProperties": MAX_NAMES},
        ),
    ] = Field(default_factory=dict)
    secret: Annotated[
        Text | None,
        Field(description="Their parameter with the advertiser's secret. null: token, or {secret} in path."),
    ] = None
    advertiser_id: Annotated[
        Id | None,
        Field(description="Only this advertiser's secrets and clicks. null: every advertiser's."),
    ] = None
    source: Annotated[
        NameOrNone | None, Field(description="The earlier tracker whose click ids come. null: any.")
    ] = None

    def clashes(self) -> dict[str, str]:
        try:
            postback_forms.compiled(1, self.model_dump())
        except WrongForm as error:
            return {error.field: error.why}
        return {}


async def _claimed_by_another_form(connection: Connection, row: Row) -> Errors:
    """Why a link form cannot have its path: a postback form has it for any query, or a link form does.

    Edges know one link form for a host and the shape of a path.
    """
    key, host = key_of(row["path"]), read_host(row["host"])
    for id_, link in await stored_catalogue.read_link_forms(connection, row["path"]):
        is_same_place = (key_of(link["path"]), read_host(link["host"])) == (key, host)
        is_equal = link["path"].rstrip("/") == row["path"].rstrip("/")  # 409, as unique columns are
        if is_same_place and not is_equal and int(id_) != row.get("id", 0):
            return {"path": [f"is the path of link form {id_}"]}
    for form in _usable(await stored_catalogue.read_table(connection, "postback_form")):
        if form.key == key and not form.match and _meet(form.host, host):
            return {"path": [f"is the path of postback form {form.id} ({form.name})"]}
    return {}


async def _claimed_already(connection: Connection, row: Row) -> Errors:
    """Why a postback form cannot have its path: another form has it, and no match separates them."""
    form = postback_forms.compiled(row.get("id", 0), row)
    for other in _usable(await stored_catalogue.read_table(connection, "postback_form")):
        is_same_place = (other.key, other.host) == (form.key, form.host) and other.id != form.id
        if is_same_place and not form.is_apart_from(other):
            why = f"does not separate it from postback form {other.id} ({other.name}), which has this path"
            return {"match": [why]}
    links = [] if form.match else await stored_catalogue.read_link_forms(connection, row["path"])
    for id_, link in links:
        if key_of(link["path"]) == form.key and _meet(read_host(link["host"]), form.host):
            return {"path": [f"is the path of link form {id_}: give a match"]}
    return {}


def _usable(rows: stored_catalogue.Rows) -> Iterator[postback_forms.PostbackForm]:
    """The forms of rows, without those that somebody saved by SQL and no edge takes."""
    for id_, row in rows:
        with suppress(WrongForm):
            yield postback_forms.compiled(int(id_), row)


def _meet(host: str, other: str) -> bool:
    return host == other or ANY_HOST in (host, other)


class LinkCode(Fields):
    """A code in other trackers' links that means an offer, one of its URLs, or an affiliate."""

    kind: Literal["offer", "affiliate"]
    code: OpaqueCode
    host: Host | None = Field(None, description="The host of the links. null: every host.")
    offer_id: Id | None = None
    offer_url_id: Id | None = None
    affiliate_id: Id | None = None

    def clashes(self) -> dict[str, str]:
        means = f"{self.kind}_id"
        others = {"offer_id", "offer_url_id", "affiliate_id"} - {means}
        others -= {"offer_url_id"} if self.kind == "offer" else set()
        wrong = {name: f"cannot be combined with kind {self.kind}" for name in others if getattr(self, name)}
        if getattr(self, means) is None:
            wrong[means] = f"is needed for kind {self.kind}"
        return wrong


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
        checks=_claimed_by_another_form,
    ),
    Resource(
        "postback-forms",
        "postback form",
        Table(
            "postback_form",
            tuple(PostbackForm.model_fields),
            references=(Reference("advertiser_id", "advertiser"),),
            unique=("name", "host"),
        ),
        PostbackForm,
        {
            "name": parameters.Name,
            "host": parameters.Text,
            "path": parameters.Text,
            "advertiser_id": parameters.Id,
            "source": parameters.Text,
        },
        scope=MONEY,
        checks=_claimed_already,
        amounts=frozenset({"constants", "values"}),
    ),
    Resource(
        "link-codes",
        "link code",
        Table(
            "link_code",
            tuple(LinkCode.model_fields),
            references=(
                Reference("offer_id", "offer"),
                Reference("offer_url_id", "offer_url", within="offer_id"),
                Reference("affiliate_id", "affiliate"),
            ),
            unique=("kind", "code", "host"),
        ),
        LinkCode,
        {
            "kind": parameters.choice("offer", "affiliate"),
            "code": parameters.Text,
            "host": parameters.Text,
            "offer_id": parameters.Id,
            "affiliate_id": parameters.Id,
        },
    ),
)
