"""Looks addresses up with geoip2 where speed does not matter: `explain`, `tracker geo lookup`, the doctor.

geoip2 has a model for MaxMind's types of database and for DB-IP's, which name themselves alike. Other
databases, and records that geoip2 cannot read, are read as the edge reads them. The place is the edge's.

The files are mapped as they are, without the edge's private copy: open a lookup, use it and close it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from ipaddress import ip_network
from pathlib import Path
from typing import Any, NamedTuple, Self

import maxminddb
from geoip2.database import Reader
from geoip2.errors import AddressNotFoundError
from geoip2.models import ASN, ConnectionType, Country

from tracker.domain.model import Geo
from tracker.edge.enrich.geo import Database, Place, error_with_path, merge, place_of

Model = Country | ASN | ConnectionType

_LOOK_UPS: Mapping[str, Callable[[Reader, str], Model]] = {
    "Enterprise": Reader.enterprise,
    "City": Reader.city,
    "Country": Reader.country,
    "GeoIP2-ISP": Reader.isp,
    "GeoLite2-ASN": Reader.asn,
    "GeoIP2-Connection-Type": Reader.connection_type,
}
"""geoip2's look-up for each type of database. A type is a part of the name in the file, as geoip2 has it."""


class Found(NamedTuple):
    """An address in one database."""

    database: Database
    network: str  # the widest one around the address with the same record, such as 81.2.69.0/24
    place: Place
    record: Mapping[str, Any]  # all fields of the database, ready for JSON


class GeoLookup:
    """The configured databases, open for a few look-ups."""

    def __init__(self, paths: Sequence[Path]) -> None:
        self._files = [_File(path) for path in paths]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with ExitStack() as stack:
            for file in self._files:
                stack.callback(file.close)

    @property
    def databases(self) -> tuple[Database, ...]:
        """Every database in the order of the setting. An unreadable one has a problem and no type."""
        return tuple(file.database for file in self._files)

    def find(self, ip: str) -> list[Found]:
        """The records of an address, by database. Databases without it are left out."""
        return [found for file in self._files if (found := file.find(ip))]

    def locate(self, ip: str) -> Geo:
        """The place of an address as clicks get it: the first database that knows a field fills it."""
        return merge([found.place for found in self.find(ip)])


class _File:
    """One open database."""

    def __init__(self, path: Path) -> None:
        self._geoip2: Reader | None = None
        self._plain: maxminddb.Reader | None = None
        try:
            self._geoip2 = Reader(str(path))
            self._plain = maxminddb.open_database(str(path))
        except (OSError, ValueError, maxminddb.InvalidDatabaseError) as error:
            self.database = Database(path, "", None, error_with_path(error, path))
            return
        metadata = self._geoip2.metadata()
        built = datetime.fromtimestamp(metadata.build_epoch, UTC)
        self.database = Database(path, metadata.database_type, built, "")

    def find(self, ip: str) -> Found | None:
        try:
            return self._by_model(ip) or self._by_record(ip)
        except (ValueError, TypeError, maxminddb.InvalidDatabaseError):
            return None  # not an address, an IPv6 address in a database of IPv4, or damage

    def close(self) -> None:
        for reader in (self._geoip2, self._plain):
            if reader is not None:
                reader.close()

    def _by_model(self, ip: str) -> Found | None:
        look_up = next((_LOOK_UPS[part] for part in _LOOK_UPS if part in self.database.type), None)
        if self._geoip2 is None or look_up is None:
            return None
        try:
            model = look_up(self._geoip2, ip)
        except AddressNotFoundError:
            return None
        except (TypeError, AttributeError):  # fields of another shape than geoip2 expects
            return None
        record = model.to_dict()
        return Found(self.database, _network(model), place_of(record), record)

    def _by_record(self, ip: str) -> Found | None:
        if self._plain is None:
            return None
        record, bits = self._plain.get_with_prefix_len(ip)
        if not isinstance(record, dict):
            return None
        network = str(ip_network(f"{ip}/{bits}", strict=False))
        return Found(self.database, network, place_of(record), record)


def _network(model: Model) -> str:
    return str(model.traits.network if isinstance(model, Country) else model.network)
