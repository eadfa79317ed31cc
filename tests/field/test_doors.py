"""Every door reads values of a kind alike, through domain/normalise.py."""

from __future__ import annotations

import ast
from argparse import ArgumentParser, _SubParsersAction
from collections.abc import Iterator, Mapping
from importlib import import_module
from pathlib import Path

import pytest

import tracker
from tests.field.advertiser import advertiser_of
from tests.field.doors import (
    AMOUNT,
    COUNTRY,
    CURRENCY,
    DEVICE,
    DOORS,
    EMAIL,
    ID,
    KINDS,
    NAME,
    SPELLINGS,
    STATUS,
    TIME,
    Pair,
    World,
    fill_lists,
)
from tests.integration.api_client import api_of
from tests.integration.importing import Importer, importer
from tracker.api import tokens
from tracker.api.app import create_api
from tracker.api.http.routing import ROOT
from tracker.catalogue import advertisers_affiliates, goals, links, offers, traffic
from tracker.cli import CATALOGUE, COMMANDS
from tracker.edge.read.link import PATHS as LINK_PATHS
from tracker.settings import Settings

__all__ = ["importer"]

AROUND = (" {} ", "\u00a0{}\u200b", "\ufeff{}\u3000", "{}\u2060")
"""Invisible characters around a value."""

SCOPES = (
    *("clicks:read", "clicks:write", "clicks:backfill", "conversions:read", "conversions:write"),
    *("offers:read", "offers:write", "reports:read", "money:read", "money:write", "admin"),
)

_TELLS = "an advertiser tells this of no click"
_OF_CONVERSION = "this is a matter of clicks, and its click has it"
_NO_MONEY = "no money passes here"
_NAMES_NOBODY = "what is meant goes by its id here"

WITHOUT: Mapping[tuple[str, str], str] = {
    **{
        (door, kind): _TELLS
        for door in DOORS
        if door.startswith(("postback", "pixel")) or door == "create conversions"
        for kind in (COUNTRY, TIME, DEVICE)
    },
    ("pixel", STATUS): "what a browser tells is pending",
    **{("link", kind): _NO_MONEY for kind in (AMOUNT, CURRENCY)},
    **{("link", kind): "a link says ids and opaque texts" for kind in (STATUS, NAME, COUNTRY, TIME)},
    **{("import conversions", kind): _OF_CONVERSION for kind in (COUNTRY, DEVICE)},
    **{("change a conversion", kind): _OF_CONVERSION for kind in (COUNTRY, TIME, DEVICE)},
    ("change a conversion", NAME): _NAMES_NOBODY,
    **{("status upload", kind): _OF_CONVERSION for kind in (COUNTRY, TIME, DEVICE)},
    **{("status upload", kind): "a line says a status, no amount" for kind in (AMOUNT, CURRENCY)},
    **{("create clicks", kind): _NO_MONEY for kind in (AMOUNT, CURRENCY)},
    ("create clicks", STATUS): "the rules say what becomes of a click",
    ("create clicks", NAME): _NAMES_NOBODY,
    ("create clicks", COUNTRY): "it is found by the address",
    ("create clicks", DEVICE): "a request has no such field",
    **{("import clicks", kind): _NO_MONEY for kind in (AMOUNT, CURRENCY)},
    ("import clicks", STATUS): "a click's status is one of three words of the product",
    ("import clicks", NAME): _NAMES_NOBODY,
    ("import clicks", DEVICE): "the column stays as it came, and makes no visitor here",
    **{
        (door, DEVICE): "no object of the catalogue has one"
        for door in ("management", "catalogue commands", "import catalogue")
    },
    ("import catalogue", ID): "ids are numbers of JSON and YAML",
    **{("lists", kind): "no list is filtered by it" for kind in (AMOUNT, CURRENCY, DEVICE)},
    **{("reports", kind): "no report is filtered by it" for kind in (AMOUNT, CURRENCY, NAME, DEVICE)},
    ("reports", STATUS): "a report's status is a click's, one of three words of the product",
    **{
        (door, kind): "a link says ids and opaque texts"
        for door in ("explain", "explain command")
        for kind in (AMOUNT, CURRENCY, STATUS, NAME, COUNTRY)
    },
    **{
        (door, EMAIL): "no person's address passes here"
        for door in DOORS.keys() - {"management", "catalogue commands", "import catalogue", "other commands"}
    },
    **{
        ("other commands", kind): "no other command takes one"
        for kind in (AMOUNT, CURRENCY, STATUS, NAME, COUNTRY, DEVICE)
    },
}
"""Impossible pairs, with the reason."""

_LISTS = "lists"
_NOTHING = "it takes no value of these kinds"
RESOURCES = tuple(
    resource
    for module in (advertisers_affiliates, offers, goals, traffic, links, tokens)
    for resource in getattr(module, "RESOURCES", ())
)
ROUTES: Mapping[str, str] = {
    **{f"{ROOT}/{resource.path}": "management" for resource in RESOURCES},
    **{
        f"{ROOT}/{resource.path}/{{{resource.table.key}}}": "management"
        for resource in RESOURCES
        if resource.table.key
    },
    **{
        f"{ROOT.removesuffix('users')}{whose}/{what}{end}": _LISTS
        for whose in ("users", "affiliates", "advertisers")
        for what in ("clicks", "conversions")
        for end in ("", "/export", "/{id}", *(["/times"] if what == "conversions" else []))
    },
    f"{ROOT}/offers/{{offer_id}}/copy": "management",  # the same type of name
    f"{ROOT}/offers/{{offer_id}}/cap-fill": _LISTS,
    **{
        f"{ROOT.removesuffix('users')}{whose}/{path}": _LISTS
        for whose in ("users", "affiliates", "advertisers")
        for path in ("clicks/{id}/story", "search")
    },
    f"{ROOT}/clicks": "create clicks",
    f"{ROOT}/conversions": "create conversions",
    f"{ROOT}/conversions/{{id}}": "change a conversion",
    f"{ROOT}/conversions/status-uploads": "status upload",
    f"{ROOT}/conversions/status": "change a conversion",  # the same types of fields
    **dict.fromkeys(
        (f"{ROOT}/conversions/correction-uploads", f"{ROOT}/conversions/{{id}}/corrections"), "management"
    ),  # the same types of fields
    **{
        f"{ROOT.removesuffix('users')}{whose}/reports": "reports"
        for whose in ("users", "affiliates", "advertisers")
    },
    **dict.fromkeys(
        (f"{ROOT}/audit", f"{ROOT}/catalogue-changes", f"{ROOT}/postbacks", f"{ROOT}/sent-postbacks"), _LISTS
    ),
    **{
        f"{ROOT.removesuffix('users')}{whose}/statements{end}": _LISTS  # their days are their own
        for whose in ("users", "affiliates", "advertisers")
        for end in ("", "/lines", "/entries")
    },
    **{
        f"{ROOT}/manual-entries{end}": "management"  # the same types of fields
        for end in ("", "/uploads", "/{id}/reverse")
    },
    **dict.fromkeys((f"{ROOT}/findings", f"{ROOT}/imports", f"{ROOT}/unmatched-hits"), _NOTHING),
    **{f"{ROOT}/dead-letters{end}": _NOTHING for end in ("", "/{id}", "/replay", "/drop")},
    f"{ROOT}/audit/{{id}}": _LISTS,
    **{
        f"{ROOT.removesuffix('users')}{whose}/balances": _LISTS
        for whose in ("users", "affiliates", "advertisers")
    },
    f"{ROOT}/corrections": _LISTS,
    **dict.fromkeys(
        (f"{ROOT}/test-runs", f"{ROOT}/test-runs/{{id}}"), "management"
    ),  # the same types of fields
    f"{ROOT}/test-runs/{{id}}/postback": "postback, GET",  # it is read as one
    f"{ROOT}/sent-postbacks/{{id}}": _LISTS,
    f"{ROOT}/sent-postbacks/{{id}}/refire": _LISTS,
    **dict.fromkeys(
        (f"{ROOT}/sent-postbacks/refire", f"{ROOT}/postbacks/replay", f"{ROOT}/postback-urls"), _LISTS
    ),
    **{
        f"{ROOT.removesuffix('users')}affiliates/{path}": _LISTS
        for path in ("offers", "offers/{offer_id}/link", "sent-postbacks")
    },
    f"{ROOT}/applications": _LISTS,
    **{
        f"{ROOT.removesuffix('users')}affiliates/{path}": "management"  # the same types of fields
        for path in ("applications", "postbacks", "postbacks/{id}", "postbacks/{id}/test")
    },
    f"{ROOT}/offers/{{offer_id}}/affiliate/{{affiliate_id}}/link": "management",
    **dict.fromkeys((f"{ROOT}/notes", f"{ROOT}/notes/{{id}}"), "management"),  # the same types of fields
    f"{ROOT}/marks": _LISTS,
    f"{ROOT}/period-closes": "management",  # until is a Moment, as starts_at is
    **dict.fromkeys((f"{ROOT}/webhooks", f"{ROOT}/webhooks/{{id}}"), "management"),
    **dict.fromkeys((f"{ROOT}/webhooks/{{id}}/rotate", f"{ROOT}/webhooks/{{id}}/test"), "management"),
    f"{ROOT}/sent-webhooks": _LISTS,
    f"{ROOT}/sent-webhooks/{{id}}": _LISTS,
    f"{ROOT}/sent-webhooks/{{id}}/refire": _LISTS,
    **dict.fromkeys((f"{ROOT}/users", f"{ROOT}/users/{{id}}"), "management"),
    **dict.fromkeys(
        (
            f"{ROOT}/users/{{id}}/reset",
            f"{ROOT}/users/{{id}}/sessions",
            f"{ROOT}/users/{{id}}/sessions/{{session_id}}",
        ),
        "management",
    ),
    **{
        f"{ROOT.removesuffix('users')}{whose}/{what}{end}": "management"  # names, ids and queries
        for whose in ("users", "affiliates", "advertisers")
        for what in ("views", "shares")
        for end in ("", "/{id}")
    },
    f"{ROOT}/tokens": "management",
    f"{ROOT}/tokens/{{id}}": "management",
    f"{ROOT}/tokens/{{id}}/rotate": "management",
    "/backend/open-api/v1/explain": "explain",
    "/backend/open-api/v1/ledger": _LISTS,
    **dict.fromkeys(("/docs", "/docs/{name}", "/openapi.json", "/health/live", "/health/ready"), _NOTHING),
}
"""The door of each path of the API. A path with several methods has the door of its writing one."""

WORDS: Mapping[str, str] = {
    **dict.fromkeys(CATALOGUE, "catalogue commands"),
    **dict.fromkeys(
        ("link", "token", "users", "postbacks", "ledger", "resume-sending", "rebuild-stats"), "other commands"
    ),
    "conversions": "lists",
    "statements": "lists",
    **dict.fromkeys(("manual-entries", "corrections"), "management"),  # the fields of the API
    "reports": "reports",
    "status-upload": "status upload",
    "period-close": "management",  # --until is read as the API's filters are
    "explain": "explain command",
    "import": "import clicks",
    "export": "lists",
    **dict.fromkeys(
        (
            "up",
            "edge",
            "api",
            "worker",
            "metrics",
            "migrate",
            "doctor",
            "backup",
            "restore",
            "demo",
            "orphans",
            "geo",
            "health",
            "hold-sending",
            "spool",
            "retention",
        ),
        _NOTHING,
    ),
    "dead-letters": _NOTHING,
}
"""The door of each command."""


def test_kinds_of_input_go_through_all_doors_or_have_a_reason() -> None:
    pairs = {(door, kind) for door, kinds in DOORS.items() for kind in kinds}
    assert not pairs & WITHOUT.keys()
    assert pairs | WITHOUT.keys() == {(door, kind) for door in DOORS for kind in KINDS}


def test_paths_of_the_api_have_a_door() -> None:
    settings = Settings.from_env({"TRACKER_REDIS_URL": "redis://x", "TRACKER_POSTGRES_DSN": "postgresql://x"})
    paths = {route.path for route in create_api(settings).router.routes}  # type: ignore[attr-defined]
    assert paths == ROUTES.keys()
    assert set(ROUTES.values()) - {_NOTHING} <= DOORS.keys()


def test_commands_have_a_door() -> None:
    assert WORDS.keys() == {*COMMANDS, *CATALOGUE}
    assert set(WORDS.values()) - {_NOTHING} <= DOORS.keys()
    parser = ArgumentParser()
    import_module("tracker.commands.import").add_arguments(parser)
    (kinds,) = (action for action in parser._actions if isinstance(action, _SubParsersAction))
    of_files = {kind for kind, words in kinds.choices.items() if "FILE" in words.format_usage()}
    assert {f"import {kind}" for kind in of_files} == {door for door in DOORS if door[:7] == "import "}


def test_paths_of_the_edge_have_a_door() -> None:
    assert set(LINK_PATHS) == {"/offer/", "/backend/api/v3/offer/"}
    from tracker.edge import postback_reader

    assert {"/postback", "/postback/", "/pixel", "/pixel/"} == postback_reader._PATHS
    assert postback_reader._GOAL == "/api/v3/goal/"


def _texts(kind: str, pair: Pair) -> Iterator[tuple[str, str]]:
    """The first spelling with all surroundings, the others with one each."""
    (first, out), *others = pair.spellings or SPELLINGS[kind]
    yield from ((around.format(first), out) for around in AROUND)
    yield from ((AROUND[n % len(AROUND)].format(text), out) for n, (text, out) in enumerate(others))


@pytest.mark.anyio
@pytest.mark.parametrize("door", DOORS)
async def test_value_has_one_form_at_every_door(door: str, database: Settings, importer: Importer) -> None:
    async with advertiser_of(database) as advertiser, api_of(database, scopes=SCOPES) as api:
        world = World(advertiser, api, importer)
        await world.prepare()
        if door in ("lists", "reports"):
            await fill_lists(world)
        for kind, pair in DOORS[door].items():
            for text, out in _texts(kind, pair):
                assert (door, kind, text, await pair.send(world, text)) == (door, kind, text, out)


# Modules that read a text without domain/normalise.py


METHODS = {"strip", "lstrip", "rstrip", "upper", "lower", "casefold", "title", "capitalize", "swapcase"}

BY_ITSELF: Mapping[str, tuple[str, ...]] = {
    "a header's or body's grammar says what white space is (RFC 9110, 5.6.3)": (
        "api/conversions/status_upload.py _encoding",
        "api/http/auth.py _presented",
        "api/http/body.py check_type",
        "api/http/if_match.py if_match_holds",
        "edge/catalogue/tracking_hosts.py plain_host",
        "device.py _Hints.split",
        "edge/http/bounds.py BoundedProtocol._check_head",
        "edge/http/request_head.py RequestHead._join_lists",
        "edge/http/request_head.py RequestHead.hit",
        "dashboard/form.py check_origin",
        "dashboard/form.py read_form",
        "dashboard/visit.py Visit.origin",
        "dashboard/visit.py _secret",
        "dashboard/visit.py _is_loopback",
        "edge/read/client_address.py Proxies._rfc7239",
        "edge/read/client_address.py Proxies._right_most_stranger",
        "edge/read/client_address.py _last_scheme",
        "edge/read/client_address.py _last",
        "edge/read/client_address.py _node",
        "edge/read/client_address.py _pairs",
        "edge/read/postback_body.py _Parts._end_header",
        "edge/read/postback_body.py _is_json",
        "edge/read/postback_body.py read_body",
        "edge/read/text.py read",
        "dashboard/form.py check_origin",
        "dashboard/form.py read_form",
        "dashboard/visit.py Visit.origin",
        "dashboard/visit.py _secret",
        "dashboard/visit.py _is_loopback",
        "settings.py _read_secret",
        "settings.py secret_files",
    ),
    "a User-Agent is searched for what bots and devices write": (
        "edge/catalogue/bot_rules.py OperatorBots._add",
        "edge/catalogue/bot_rules.py OperatorBots._by_user_agent",
        "edge/catalogue/bot_rules.py OperatorBots._remove",
        "edge/enrich/bots.py _tidy",
        "edge/enrich/bots.py read",
        "device.py _architecture",
        "device.py _read_platform",
        "device.py read",
    ),
    "words are compared in lower case, and were trimmed": (
        "edge/enrich/device_words.py _hardly_asked_for",
        "edge/enrich/device_words.py _hint",
        "edge/enrich/device_words.py _known",
        "edge/enrich/device_words.py _unknown",
        "edge/enrich/device_words.py ours",
        "importing/clicks.py _country",
        "importing/clicks.py _region",
        "importing/values.py fact.read_text",
        "ops/geo_update.py _letters",
        "ops/upgrade/targeting.py _folded",
    ),
    "a search finds a text in any case": ("store/catalogue/edit.py _patterns",),
    "parts of a URL are no values of these kinds": (
        "catalogue/advertisers_affiliates.py _address",
        "settings.py _stream_url",
        "stream/homes.py _Asked.__init__",
        "catalogue/links.py _claimed_by_another_form",
        "edge/postback_reader.py goal_in_path",
        "store/catalogue/read.py read_link_forms",
    ),
    "the lenient reading takes more away than any other": ("edge/read/lenient_link.py _name",),
    "a line without content is no row": (
        "api/conversions/status_upload.py _json_rows",
        "api/conversions/status_upload.py read_lines",
        "commands/status_upload.py _apply",
        "importing/files.py RowFile._lines",
        "importing/files.py RowFile._ndjson",
        "importing/files.py _is_ndjson",
    ),
    "a text of our own, or of a program that we started": (
        "api/catalogue.py _name",
        "api/openapi/document.py _tags",
        "api/clicks/story.py _partner_model",
        "reading/search.py _named",
        "api/partner_access/endpoints.py PartnerView.tag",
        "api/partner_access/endpoints.py _report_model",
        "api/partner_access/endpoints.py _with_rows",
        "api/partner_access/endpoints.py _statement_entries.entries",
        "api/partner_access/schema.py examples",
        "api/partner_access/schema.py query_model",
        "api/partner_access/schema.py row_model",
        "api/tracking_links.py get_link",
        "cli.py _parser",
        "commands/catalogue.py _about",
        "commands/catalogue.py _add_words",
        "commands/catalogue.py _print_row",
        "commands/catalogue.py add_arguments",
        "commands/dead_letters.py add_arguments",
        "commands/geo.py add_arguments",
        "commands/import.py run",
        "commands/status_upload.py _content",
        "commands/tables.py print_table",
        "commands/token.py add_arguments.command",
        "commands/users.py add_arguments.command",
        "dashboard/asking.py _request",
        "dashboard/catalogue/kinds.py _in_its_unit",
        "dashboard/catalogue/names.py _id_of",
        "dashboard/reports/rows.py _reason",
        "dashboard/reports/builder.py _narrower",
        "dashboard/words.py sentence",
        "importing/files.py unpacked",
        "metrics_socket.py _answer",
        "ops/backup/programs.py _complaint",
        "ops/doctor/copies.py _confirmed",
        "ops/explain.py _fallbacks",
        "ops/explain.py _outcome",
        "ops/explain.py explain_stored",
        "ops/ledger.py _line",
        "processes/children.py _open_locks",
        "processes/children.py _started_at",
        "processes/children.py first_closed",
        "processes/engines/accounts.py _make",
        "processes/engines/cluster.py _check_version",
        "processes/engines/launcher.py last_line",
        "processes/log_lines.py Json.format",
        "processes/log_lines.py Text.format",
        "processes/up.py _Tracker._demo",
        "processes/up.py _missing",
        "reading/cursor.py _bound",
        "reading/marks.py subject",
        "store/conversions/reasons.py too_late",
        "store/paging.py reading",
    ),
    "a variable of the environment is the operator's, and has a reader of its own": (
        "compiled.py _use",
        "settings.py Settings.from_env",
        "settings.py _networks",
        "settings.py _paths",
        "settings.py _base",
        "settings.py _roles",
    ),
    "a number of ours, or of a table": (
        "api/booking.py sums_of",
        "catalogue/goals.py Goal._with_price",
        "dashboard/money/payments.py",
        "dashboard/money/payments.py _open",
        "dashboard/catalogue/offer.py _meter",
        "dashboard/reports/report_chart.py _value",
        "dashboard/reports/report_chart.py of",
        "dashboard/reports/values.py",
        "dashboard/reports/values.py _change",
        "dashboard/reports/values.py _part",
        "dashboard/reports/values.py shown",
        "dashboard/overview/figures.py",
        "dashboard/overview/figures.py _decimal",
        "dashboard/overview/figures.py _number",
        "dashboard/scale.py",
        "dashboard/scale.py _step",
        "dashboard/scale.py scale_of",
        "importing/conversions.py ConversionReader.read",
        "ops/upgrade/goals.py _booked",
        "store/catalogue/edit.py read_object",
        "store/conversions/apply_postback.py _PostbackApplier._amounts_after",
        "ops/cap_counters.py count",
        "store/conversions/caps.py CapBook._used_of",
        "store/conversions/caps.py _fill_of",
        "store/conversions/caps.py _worth",
        "store/conversions/goal_prices.py",
        "store/reports/closes.py changed_since_close",
    ),
    "a code that we made, as people type it": ("people/second_factor.py digest",),
    "the name of a file says its kind": (
        "importing/entries.py Kinds.named_by",
        "importing/entries.py read",
    ),
    "the text of an error, without the values in it": ("importing/wrong_rows.py _kind_of",),
}
"""Places that trim, fold or read a number without domain/normalise.py, and why they may."""

SRC = Path(tracker.__file__).parent


class _Readers(ast.NodeVisitor):
    """The functions of a module that use one of METHODS, or make a Decimal."""

    def __init__(self, module: str) -> None:
        self._within = [module]
        self.found: set[str] = set()

    def _enter(self, node: ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) -> None:
        self._within.append(node.name)
        self.generic_visit(node)
        self._within.pop()

    visit_FunctionDef = visit_AsyncFunctionDef = visit_ClassDef = _enter  # noqa: N815

    def visit_Attribute(self, node: ast.Attribute) -> None:
        if node.attr in METHODS:
            self._note()
        self.generic_visit(node)

    def visit_Call(self, node: ast.Call) -> None:
        if isinstance(node.func, ast.Name) and node.func.id == "Decimal":
            self._note()
        self.generic_visit(node)

    def _note(self) -> None:
        module, *names = self._within
        self.found.add(" ".join(filter(None, (module, ".".join(names)))))


def readers_of(module: str, code: str) -> set[str]:
    readers = _Readers(module)
    readers.visit(ast.parse(code))
    return readers.found


def test_modules_read_values_through_normalise() -> None:
    found = set()
    for path in sorted(SRC.rglob("*.py")):
        module = str(path.relative_to(SRC))
        if not module.startswith("domain/") and module != "money.py":
            found |= readers_of(module, path.read_text())
    assert found == {place for places in BY_ITSELF.values() for place in places}


@pytest.mark.parametrize(
    ("code", "found"),
    [
        ("def f(text):\n    return text.strip()", {"m.py f"}),
        ("x = list(map(str.lower, texts))", {"m.py"}),
        ("class A:\n    async def f(self, text):\n        return Decimal(text)", {"m.py A.f"}),
        ("def f(text):\n    return trim(text)", set()),
    ],
)
def test_reader_is_found(code: str, found: set[str]) -> None:
    assert readers_of("m.py", code) == found
