"""`tracker geo`: addresses in the geo databases."""

from __future__ import annotations

import json
from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from typing import Any

from tracker.commands.arguments import add_json
from tracker.domain.model import Geo
from tracker.domain.normalise import trim
from tracker.edge.enrich.geo import merge
from tracker.edge.read.client_address import plain_address
from tracker.errors import UserError, print_error
from tracker.ops.geo_lookup import Found, GeoLookup
from tracker.settings import Settings

_WRONG_WORD = 2  # the exit code of argparse


def add_arguments(parser: ArgumentParser) -> None:
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    purpose = "show the place of an address, by each geo database"
    lookup = commands.add_parser("lookup", help=purpose, description=f"{purpose[0].upper()}{purpose[1:]}.")
    lookup.add_argument("ip", metavar="IP", help="an IPv4 or IPv6 address")
    add_json(lookup)


def run(settings: Settings, arguments: Namespace) -> int:
    """Print the place of an address.

    Raises:
        UserError: no database can be read, or none has the address.
    """
    ip = plain_address(trim(arguments.ip))
    if not ip:
        return print_error(f"{arguments.ip!r} is not an IP address", _WRONG_WORD)
    with GeoLookup(settings.geoip_db) as lookup:
        found = _find(lookup, ip)
    geo = merge([record.place for record in found])
    if arguments.json:
        print(json.dumps(_as_json(ip, geo, found), indent=2, default=str))  # a record may hold bytes
    else:
        print(_as_text(ip, geo, found))
    return 0


def _find(lookup: GeoLookup, ip: str) -> Sequence[Found]:
    if not lookup.databases:
        raise UserError("no geo database: set TRACKER_GEOIP_DB to an mmdb file (see docs/guides/geoip.md)")
    found = lookup.find(ip)
    if found:
        return found
    types = ", ".join(database.type for database in lookup.databases if not database.problem)
    problems = "; ".join(database.problem for database in lookup.databases if database.problem)
    absent = f"{ip} is not in the geo databases ({types})" if types else f"{ip} cannot be looked up"
    raise UserError(f"{absent}; {problems}" if problems else absent)


def _as_json(ip: str, geo: Geo, found: Sequence[Found]) -> dict[str, Any]:
    databases = [
        {
            "path": str(record.database.path),
            "type": record.database.type,
            "built": record.database.built and record.database.built.date().isoformat(),
            "network": record.network,
            "record": record.record,
        }
        for record in found
    ]
    return {"ip": ip, **geo._asdict(), "databases": databases}


def _as_text(ip: str, geo: Geo, found: Sequence[Found]) -> str:
    place = [f"{name}: {value or '-'}" for name, value in {"ip": ip, **geo._asdict()}.items()]
    databases = [f"in {record.database.path} ({record.database.type}): {record.network}" for record in found]
    return "\n".join(place + databases)
