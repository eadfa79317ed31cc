"""The kinds of the catalogue's objects as pages show them: their names, their columns and their addresses."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple, get_args
from urllib.parse import quote

from tracker.catalogue.resource import MONEY, READ, Resource
from tracker.catalogue.resources import RESOURCES
from tracker.dashboard.asking import query_string
from tracker.dashboard.catalogue.fields import Control, controls_of, shown
from tracker.dashboard.html import ROOT
from tracker.dashboard.navigation import Access
from tracker.dashboard.visit import Visit
from tracker.dashboard.words import amount, label_of, lasting, sentence
from tracker.domain.normalise import trim
from tracker.people.seeing import token_of
from tracker.store.catalogue.edit import Row

_COLUMNS: Final[Mapping[str, tuple[str, ...]]] = {
    "advertisers": ("name", "email", "external_id", "tags"),
    "advertisers/{advertiser_id}/postback-secrets": ("name", "created_at", "expires_at"),
    "status-words": ("word", "status", "advertiser_id"),
    "offers": ("name", "status", "advertiser_id", "visibility", "category", "tags"),
    "offers/{offer_id}/urls": ("name", "status", "weight", "url", "targeting"),
    "offers/{offer_id}/affiliates": ("status", "closed_until", "asked_at", "note"),
    "offers/{offer_id}/free-values": ("n", "affiliate_id", "value"),
    "offers/{offer_id}/caps": ("counts", "period", "amount", "currency", "affiliate_id", "on_reached"),
    "offers/{offer_id}/goals": (
        *(
            "name",
            "code",
            "status",
            "is_base",
            "payout_type",
            "payout",
            "revenue_type",
            "revenue",
            "currency",
        ),
    ),
    "goals/{goal_id}/terms": ("affiliate_id", "country_code", "payout", "revenue"),
    "affiliates": ("name", "status", "group_id", "is_test", "email", "external_id", "tags"),
    "affiliates/{affiliate_id}/postbacks": ("status", "offer_id", "goal_id", "statuses", "url"),
    "blocks": ("field", "value", "offer_id", "affiliate_id"),
    "bot-rules": ("field", "value"),
    "tracking-hosts": ("status", "scheme", "brand_id", "affiliate_id"),
    "link-forms": ("name", "host", "path", "parameters"),
    "postback-forms": ("name", "host", "path", "match", "advertiser_id"),
    "link-codes": ("kind", "code", "host", "offer_id", "offer_url_id", "affiliate_id"),
}
_ABOUT: Final[Mapping[str, str]] = {
    "status-words": "What the words of advertisers' postbacks mean.",
    "blocks": "Sources, sub ids and addresses whose clicks are refused.",
    "bot-rules": "What marks a click as one of a bot.",
    "tracking-hosts": "The hosts of tracking links.",
    "link-forms": "Links in the form of an earlier tracker.",
    "postback-forms": "Postbacks in the form of an earlier tracker.",
    "link-codes": "Codes in links of an earlier tracker, and what they mean.",
    "network": "Where clicks go that no offer takes.",
}
OF_PEOPLE: Final = ("offers", "affiliates", "advertisers")
"""The kinds that the menu names."""

VERBS: Final[Mapping[str, str]] = {
    "active": "Activate",
    "paused": "Pause",
    "blocked": "Block",
    "approved": "Approve",
    "rejected": "Reject",
    "burned": "Mark as burned",
    "retired": "Retire",
}
"""What a button says that gives an object another status."""
_STATES_NOTHING = frozenset({"status_word"})  # its status is a value, and not its own


_SHOWN_ELSEWHERE = frozenset({"name", "version", "is_archived"})

_WHOM: Final[Mapping[tuple[str, int | None], str]] = {
    ("cap", None): "all together",
    ("cap", 0): "each",
    ("offer_free_value", 0): "all",
}
"""What stands for an affiliate's id, by table and value."""

Names = Mapping[tuple[str, int], str]
"""Names of objects, by table and id."""


class Cell(NamedTuple):
    """A value in a table."""

    text: str
    href: str = ""
    kind: str = ""  # number, or mark with a colour


class Listed(NamedTuple):
    """A row of a table."""

    key: str
    title: str
    href: str
    cells: list[Cell]
    statuses: list[tuple[str, str]]  # buttons: status and verb
    status_href: str


class Kind(NamedTuple):
    """One kind of object, with its pages."""

    resource: Resource

    @property
    def noun(self) -> str:
        return self.resource.noun.partition(" of ")[0]

    @property
    def plural(self) -> str:
        return label_of(self.resource.path.rpartition("/")[2].replace("-", "_"))

    @property
    def about(self) -> str:
        return _ABOUT.get(self.resource.path, "")

    @property
    def path(self) -> str:
        """The template of the list's address."""
        return f"{ROOT}/{self.resource.path}"

    @property
    def one(self) -> str:
        """The template of an object's address."""
        key = self.resource.table.key
        return f"{self.path}/{{{key}}}" if key else self.path

    @property
    def api(self) -> str:
        return f"/{self.resource.path}"

    @property
    def api_one(self) -> str:
        key = self.resource.table.key
        return f"{self.api}/{{{key}}}" if key else self.api

    @property
    def reads(self) -> Access:
        return Access((READ,), (None,), shows_money=self.resource.is_of_money)

    def is_read_by(self, visit: Visit) -> bool:
        assert visit.session
        return self.reads.allows(visit.session)

    @property
    def creates(self) -> Access:
        return Access((self.resource.scope,), (None,), shows_money=self.resource.is_of_money)

    @property
    def changes(self) -> Access:
        return Access(self.resource.scopes, (None,), shows_money=self.resource.is_of_money)

    @property
    def statuses(self) -> tuple[str, ...]:
        """The statuses that a button can give."""
        status = self.resource.fields.model_fields.get("status")
        if status is None or self.resource.table.name in _STATES_NOTHING:
            return ()
        return tuple(one for one in get_args(status.annotation) if one in VERBS)

    @property
    def children(self) -> list[Kind]:
        """The kinds of its parts."""
        return [kind for kind in KINDS if kind.resource.table.parent_table == self.resource.table.name]

    @property
    def parent(self) -> Kind | None:
        whose = self.resource.table.parent_table
        return next((kind for kind in KINDS if kind.resource.table.name == whose), None) if whose else None

    @property
    def columns(self) -> tuple[str, ...]:
        return _COLUMNS.get(self.resource.path, ())

    def place(self, row: Mapping[str, Any]) -> dict[str, object]:
        """What names a row in an address."""
        return {column: row[column] for column in self.resource.table.fixed}

    def address(self, place: Mapping[str, object], *more: str) -> str:
        """The address of an object, or of a page about it."""
        return "/".join((filled(self.one, place), *more))

    def called(self, row: Row) -> str:
        key = row.get(self.resource.table.key, "")
        return row.get("name") or trim(f"{sentence(self.noun)} {key}")

    def controls(self, visit: Visit, *, is_new: bool) -> list[Control]:
        """The controls of a form. Those that the session may not change are locked."""
        assert visit.session
        token, resource = token_of(visit.session), self.resource
        model = (resource.new or resource.fields) if is_new else resource.fields
        return [
            control._replace(
                names=self.table_named_by(control.name),
                is_locked=not token.allows(MONEY if control.name in resource.money else resource.scope)
                and not (is_new and control.is_needed),
                default=visit.settings.catalogue_defaults.get(control.name, control.default)
                if control.name in resource.of_network
                else control.default,
                has_unique=resource.table.name == "offer_url",
            )
            for control in controls_of(model)
            if control.name != "is_archived" and (is_new or control.name not in self.fixed)
        ]

    @property
    def fixed(self) -> tuple[str, ...]:
        return self.resource.table.fixed

    def cells(self, row: Row, names: Names) -> list[Cell]:
        return [self.cell(name, row, names) for name in self.columns if name in row]

    def named_by(self, rows: Iterable[Row]) -> dict[str, list[int]]:
        """The ids of objects that rows name, by table. Of parts of others nothing is known by their id."""
        found: dict[str, dict[int, None]] = {}
        for row in rows:
            for column, id_ in row.items():
                table = self.table_named_by(column)
                if table and id_ and not kind_of(table).resource.table.parent:
                    found.setdefault(table, {})[id_] = None
        return {table: list(ids) for table, ids in found.items()}

    def headings(self, rows: Iterable[Row]) -> list[tuple[str, str, str]]:
        """The columns' names, labels and kinds. Those that the session may not see are in no row."""
        seen = next(iter(rows), {})
        names = [name for name in self.columns if name in seen or not seen]
        return [(name, self.label(name), self.cell(name, seen, {}).kind) for name in names]

    def listed(self, row: Row, names: Names, *, may_change: bool) -> Listed:
        here = self.place(row)
        others = [one for one in self.statuses if one != row.get("status")] if may_change else []
        buttons = [] if row.get("is_archived") else [(one, VERBS[one]) for one in others]
        href = self.address(here)
        return Listed(
            str(row.get(self.resource.table.key, "")),
            self.called(row),
            href,
            self.cells(row, names),
            buttons,
            f"{href}/status",
        )

    def facts(self, row: Row, names: Names) -> list[tuple[str, Cell]]:
        """What is known of an object, for its page. What is empty is left out."""
        columns = [name for name in self.resource.table.shown if name not in _SHOWN_ELSEWHERE]
        return [
            (self.label(name), self.cell(name, row, names))
            for name in columns
            if row.get(name) not in (None, "", [], {})
        ]

    def label(self, name: str) -> str:
        """What a person calls a column."""
        is_thing = self.table_named_by(name) or name in _LISTS
        return label_of(name.removesuffix("_id") if is_thing else name)

    def cell(self, name: str, row: Row, names: Names) -> Cell:
        """The value of a column, in words."""
        table, value = self.table_named_by(name), row.get(name)
        if name == "affiliate_id" and (self.resource.table.name, value) in _WHOM:
            return Cell(_WHOM[self.resource.table.name, value])
        if table and value:
            return Cell(names.get((table, value), str(value)), _address_of(table, value), "")
        if value and name in _LISTS:
            return Cell(str(value), with_query(_LISTS[name], {name: value}))
        if name == "status":
            return Cell(shown(value), "", _COLOURS.get(str(value), "mark"))
        if unit := _in_its_unit(name, row):
            return Cell(unit, "", "number")
        is_number = isinstance(value, int) and not isinstance(value, bool)
        return Cell(shown(value), "", "number" if is_number or name in self.resource.table.money else "")

    def table_named_by(self, column: str) -> str:
        """The table whose row a column names. "" if it names none."""
        return _NAMES.get((self.resource.table.name, column), "")


def _in_its_unit(name: str, row: Row) -> str:
    """A number with its unit: a length of time, an amount or a percentage. "" for what has none."""
    value = row.get(name)
    if name in _SECONDS and value:
        return lasting(value)
    if name not in _AMOUNTS or value in (None, ""):
        return ""
    if row.get(f"{name}_type") == "percent":
        return f"{value} %"
    currency = row.get(f"{name}_currency") or row.get("currency")
    return f"{amount(str(value))} {currency or row.get('counts') or ''}".rstrip()


_LISTS: Final[Mapping[str, str]] = {"group_id": f"{ROOT}/affiliates", "brand_id": f"{ROOT}/offers"}
"""Numbers that name nothing else than the objects that have them: the lists of these, by column."""
_SECONDS: Final = frozenset({"unique_window", "click_window"})
_AMOUNTS: Final = frozenset({"payout", "revenue", "sale_amount", "amount", "change"})

_COLOURS: Final = {
    "active": "mark on",
    "approved": "mark on",
    "paused": "mark warn",
    "pending": "mark warn",
    "hold": "mark warn",
    "burned": "mark bad",
    "blocked": "mark bad",
    "rejected": "mark bad",
}

KINDS: Final[Sequence[Kind]] = tuple(Kind(resource) for resource in RESOURCES)
_NAMES: Final[Mapping[tuple[str, str], str]] = {
    (resource.table.name, reference.column): reference.table
    for resource in RESOURCES
    for reference in resource.table.references
}
"""The table whose row a column names, by table and column."""


def kind_of(table: str) -> Kind:
    return next(kind for kind in KINDS if kind.resource.table.name == table)


def filled(template: str, place: Mapping[str, object]) -> str:
    """An address with the values of its parameters."""
    for name, value in place.items():
        template = template.replace(f"{{{name}}}", quote(str(value), safe=""))
    return template


def _address_of(table: str, id_: object) -> str:
    """The address of a row that another names. "" if it cannot be known from the id alone."""
    kind = kind_of(table)
    return "" if kind.resource.table.parent else kind.address({"id": id_})


def with_query(path: str, query: Mapping[str, Any]) -> str:
    text = query_string(query)
    return f"{path}?{text}" if text else path
