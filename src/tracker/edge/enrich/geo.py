"""Locates addresses in mmdb databases: MaxMind's nested records, DB-IP's, and the flat ones of others.

This is the hot path's reader. geoip2's models cost 11 µs an address, so the few fields needed are picked from
the record itself, once for each record: its place is remembered by its position in the file (mmdb_tree).
`ops.geo_lookup` uses geoip2 where speed does not matter. The C reader maps its file into memory. A mapped
file that somebody truncates in place kills the process (SIGBUS), so every database is mapped from a private
copy.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from socket import AF_INET, AF_INET6, inet_pton
from tempfile import NamedTemporaryFile
from typing import NamedTuple, Protocol

import maxminddb

from tracker.domain.model import Geo
from tracker.edge.enrich.mmdb_tree import DAMAGED, SearchTree

CACHE_SIZE = 65_536
"""Most remembered addresses, and most remembered places of records."""
MAX_FIELD = 100
"""Longest name kept, in characters."""

NOWHERE = Geo(None, None, None, None, "UNK")
"""The location of an unknown address."""

_log = logging.getLogger(__name__)
_Record = Mapping[str, object]
_NONE: _Record = {}
_ISP_NAMES = ("isp", "organization", "autonomous_system_organization", "as_name")
_MAPPED_IPV4 = "::ffff:"
_BITS_OF_POSITION = 32


class Database(NamedTuple):
    """One configured database, as it is served now."""

    path: Path
    type: str  # as the file names itself, such as GeoLite2-City. "" if it is not served
    built: datetime | None  # None if it is not served
    problem: str  # why the file, or its newer version, is not served. "" without a problem


class Locator(Protocol):
    """Finds the place of an address: GeoReader for clicks, ops.geo_lookup for people."""

    def locate(self, ip: str, /) -> Geo:
        """The place of an address. It never raises, for any string."""


class _File:
    """One open file: its reader, and its tree."""

    def __init__(self, path: Path) -> None:
        """Open a copy of the file.

        Raises:
            OSError, ValueError, maxminddb.InvalidDatabaseError: it cannot be read.
        """
        self.path = path
        self.damage = ""
        with path.open("rb") as original, NamedTemporaryFile(prefix="tracker-geo-", suffix=".mmdb") as copy:
            shutil.copyfileobj(original, copy, 1 << 20)
            copy.flush()
            try:
                self.reader = maxminddb.open_database(copy.name)
            except maxminddb.InvalidDatabaseError as error:
                raise maxminddb.InvalidDatabaseError(str(error).replace(copy.name, str(path))) from error
            told = self.reader.metadata()
            self.tree = SearchTree(copy.fileno(), told.node_count, told.record_size, told.ip_version)

    def record(self, ip: str) -> _Record:
        """The record of an address. Empty if the file has no record of it."""
        try:
            record = self.reader.get(ip)
        except (ValueError, TypeError):  # not an address, or an IPv6 address in a database of IPv4
            return _NONE
        except maxminddb.InvalidDatabaseError as error:
            if not self.damage:
                self.damage = error_with_path(error, self.path)
                _log.warning(
                    "geo database is damaged: %(cause)s", {"event": "geo_damaged", "cause": self.damage}
                )
            return _NONE
        return record if isinstance(record, dict) else _NONE

    def close(self) -> None:
        self.reader.close()
        self.tree.close()


class _Source:
    """One configured path, and the version of its file that is open."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.file: _File | None = None
        self._problem = ""
        self._version: tuple[int, int, int] | None = None
        self._tried = False

    def open_if_changed(self) -> bool:
        """Open the file if it has changed. On failure the open version goes on serving."""
        version = self._version_on_disk()
        if self._tried and version == self._version:
            return False
        self._tried = True
        self._version = version
        try:
            self.file = _File(self.path)
        except (OSError, ValueError, maxminddb.InvalidDatabaseError) as error:
            self._problem = error_with_path(error, self.path)
            _log.warning("geo database not read: %(cause)s", {"event": "geo_unread", "cause": self._problem})
            return False
        self._problem = ""
        return True

    def describe(self) -> Database:
        if self.file is None:
            return Database(self.path, "", None, self._problem)
        metadata = self.file.reader.metadata()
        built = datetime.fromtimestamp(metadata.build_epoch, UTC)
        return Database(self.path, metadata.database_type, built, self._problem or self.file.damage)

    def close(self) -> None:
        if self.file is not None:
            self.file.close()
            self.file = None

    def _version_on_disk(self) -> tuple[int, int, int] | None:
        with suppress(OSError):
            status = self.path.stat()
            return status.st_mtime_ns, status.st_ino, status.st_size
        return None


class _Served:
    """The open files, and the places of their records, by their positions in all files as one number.

    Another thread opens newer files, whose positions mean something else: another object serves them.
    """

    def __init__(self, files: Sequence[_File]) -> None:
        self._files = files
        self._finders = [file.tree.find for file in files]
        self._places: dict[int, Geo] = {}

    def locate(self, ip: str) -> Geo:
        address = ip.removeprefix(_MAPPED_IPV4) if ":" in ip and "." in ip else ip
        try:
            packed = inet_pton(AF_INET6 if ":" in address else AF_INET, address)
        except (OSError, ValueError):
            return self._read(address)  # the readers know more ways to write an address
        positions = 0
        for find in self._finders:
            positions = positions << _BITS_OF_POSITION | find(packed)
        known = self._places.get(positions)
        if known is not None:
            return known
        geo = self._read(address)
        if DAMAGED not in [find(packed) for find in self._finders]:
            if len(self._places) >= CACHE_SIZE:
                self._places.clear()
            self._places[positions] = geo
        return geo

    def _read(self, address: str) -> Geo:
        records = [file.record(address) for file in self._files]
        return merge([place_of(record) for record in records if record])


class GeoReader:
    """Looks addresses up in all databases. The first database that knows a field fills it.

    An unreadable database causes a warning with its path, and the others serve.
    """

    locate: Callable[[str], Geo]
    """The location of an address. Never raises, even for hostile strings."""

    def __init__(self, paths: Sequence[Path]) -> None:
        self._sources = [_Source(path) for path in paths]
        if not paths:
            _log.warning(
                "no geo database: country, region, city and ISP of clicks stay unknown", {"event": "geo_none"}
            )
        for source in self._sources:
            source.open_if_changed()
        self._serve()

    @property
    def databases(self) -> tuple[Database, ...]:
        return tuple(source.describe() for source in self._sources)

    def reload_changed(self) -> bool:
        """Open databases whose file has changed. Returns whether any has. It blocks: call it in a thread."""
        changed = [source.open_if_changed() for source in self._sources]
        if any(changed):
            self._serve()
        return any(changed)

    def close(self) -> None:
        for source in self._sources:
            source.close()
        self._serve()

    def _serve(self) -> None:
        served = _Served([source.file for source in self._sources if source.file is not None])
        self.locate = lru_cache(CACHE_SIZE)(served.locate)


def merge(places: Sequence[Place]) -> Geo:
    """The place of an address by all databases: the first one that knows a field fills it."""
    if not places:
        return NOWHERE
    merged = places[0]
    for place in places[1:]:
        merged = merged.completed_by(place)
    carrier = merged.carrier or (merged.isp if merged.is_mobile else None) or NOWHERE.mobile_carrier
    return Geo(merged.country, merged.region, merged.city, merged.isp, carrier)


def error_with_path(error: Exception, path: Path) -> str:
    """The error as one line that names the file."""
    if isinstance(error, OSError) and error.strerror:
        return f"{path}: {error.strerror}"
    return str(error) if str(path) in str(error) else f"{path}: {error}"


class Place(NamedTuple):
    """The fields of one record in one database."""

    country: str | None
    region: str | None
    city: str | None
    isp: str | None
    carrier: str | None
    is_mobile: bool
    """Whether the address belongs to a mobile network, so that its ISP is the carrier."""

    def completed_by(self, more: Place) -> Place:
        return Place(
            self.country or more.country,
            self.region or more.region,
            self.city or more.city,
            self.isp or more.isp,
            self.carrier or more.carrier,
            self.is_mobile or more.is_mobile,
        )


def place_of(record: _Record) -> Place:
    """The fields of one record, nested as MaxMind's or flat."""
    traits = _inside(record, "traits") or record
    return Place(
        country=_country(record),
        region=_region(record),
        city=_city(record),
        isp=_isp(traits),
        carrier=_carrier(record),
        is_mobile="mobile_network_code" in traits or traits.get("connection_type") == "Cellular",
    )


def _country(record: _Record) -> str | None:
    return (
        _name(_inside(record, "country").get("iso_code"))
        or _name(record.get("country_code"))
        or _name(_inside(record, "registered_country").get("iso_code"))
    )


def _region(record: _Record) -> str | None:
    """The code of the widest subdivision. DB-IP Lite has only its name."""
    subdivisions = record.get("subdivisions")
    if isinstance(subdivisions, list) and subdivisions and isinstance(subdivisions[0], dict):
        return _name(subdivisions[0].get("iso_code"))
    return _name(record.get("region_code"))


def _city(record: _Record) -> str | None:
    return _name(_inside(_inside(record, "city"), "names").get("en")) or _name(record.get("city"))


def _isp(traits: _Record) -> str | None:
    for name in _ISP_NAMES:
        if name in traits:
            return _name(traits[name])
    return None


def _carrier(record: _Record) -> str | None:
    return _name(record.get("mobile_carrier")) or _name(_inside(record, "carrier").get("name"))


def _inside(record: _Record, name: str) -> _Record:
    value = record.get(name)
    return value if isinstance(value, dict) else _NONE


def _name(value: object) -> str | None:
    """A name fit for a column: text, without the NUL that Postgres refuses."""
    if not isinstance(value, str):
        return None
    return (value.replace("\0", "") if "\0" in value else value)[:MAX_FIELD] or None
