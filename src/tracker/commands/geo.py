"""`tracker geo`: addresses in the geo databases, and newer databases."""

from __future__ import annotations

import json
from argparse import ArgumentParser, Namespace, RawDescriptionHelpFormatter
from collections.abc import Callable, Sequence
from typing import Any

from tracker.commands.arguments import add_json
from tracker.domain.model import Geo
from tracker.domain.normalise import trim
from tracker.edge.enrich.geo import merge
from tracker.edge.read.client_address import plain_address
from tracker.errors import UserError, print_error
from tracker.ops import geo_update
from tracker.ops.geo_lookup import Found, GeoLookup
from tracker.settings import Settings

_UPDATE = """\
The name of a file says what it is. GeoLite2-City.mmdb and other editions of MaxMind need
TRACKER_MAXMIND_ACCOUNT_ID and TRACKER_MAXMIND_LICENSE_KEY. dbip-city-lite.mmdb, dbip-country-lite.mmdb and
dbip-asn-lite.mmdb are DB-IP's, which need none. A file need not be there yet.

Each new file is checked before it takes the place of the old one. Running edges then open it. If anything is
wrong with it, the old file stays, and the exit code is 1. A file that is the newest one is not fetched again.

examples:
  TRACKER_GEOIP_DB=geoip/dbip-city-lite.mmdb tracker geo update --dry-run
  TRACKER_GEOIP_DB=geoip/GeoLite2-City.mmdb,geoip/GeoLite2-ASN.mmdb tracker geo update
"""
_WRONG_WORD = 2  # the exit code of argparse


def add_arguments(parser: ArgumentParser) -> None:
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    purpose = "show the place of an address, by each geo database"
    lookup = commands.add_parser("lookup", help=purpose, description=f"{purpose[0].upper()}{purpose[1:]}.")
    lookup.add_argument("ip", metavar="IP", help="an IPv4 or IPv6 address")
    add_json(lookup)
    lookup.set_defaults(word=_look_up)
    newer = commands.add_parser(
        "update",
        help="fetch newer databases from MaxMind or DB-IP",
        description="Fetch a newer file for each database of TRACKER_GEOIP_DB.",
        epilog=_UPDATE,
        formatter_class=RawDescriptionHelpFormatter,
    )
    newer.add_argument("--dry-run", action="store_true", help="print what would be fetched, and from whom")
    newer.set_defaults(word=_update)


def run(settings: Settings, arguments: Namespace) -> int:
    """Run the command that was named.

    Raises:
        UserError: see the commands.
    """
    word: Callable[[Settings, Namespace], int] = arguments.word
    return word(settings, arguments)


def _update(settings: Settings, arguments: Namespace) -> int:
    """Fetch newer databases. One that fails does not keep the others from it.

    Raises:
        UserError: no database can be fetched by its name.
    """
    code = 0
    for path, edition in geo_update.sources(settings).items():
        if arguments.dry_run:
            print(f"{path}: {edition} of {geo_update.publisher(edition)} would be fetched")
            continue
        try:
            done = geo_update.update(settings, path, edition)
        except geo_update.GeoUpdateError as error:
            code = print_error(str(error))
        else:
            told = f"data of {done.built:%Y-%m-%d}" if done.built else "there is no newer one"
            print(f"{path}: {told}")
    return code


def _look_up(settings: Settings, arguments: Namespace) -> int:
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
