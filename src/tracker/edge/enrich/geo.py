"""Locates addresses in mmdb databases: MaxMind's nested records, DB-IP's, and the flat ones of others.

This is the hot path's reader. The C reader's plain `get` costs 4 µs an address and geoip2's models 11 µs
more, so the few fields needed are picked from the record itself. `ops.geo_lookup` uses geoip2 where speed
does not matter. The C reader maps its file into memory. A mapped file that somebody truncates in place kills
the process (SIGBUS), so every database is mapped from a private copy.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import NamedTuple, Protocol

import maxminddb

from tracker.domain.model import Geo

CACHE_SIZE = 65_536
"""Most remembered addresses, and most remembered networks."""
MAX_FIELD = 100
"""Longest name kept, in characters."""

NOWHERE = Geo(None, None, None, None, "UNK")
"""The location of an unknown address."""

_log = logging.getLogger(__name__)
_Record = Mapping[str, object]
_NONE: _Record = {}
_ISP_NAMES = ("isp", "organization", "autonomous_system_organization", "as_name")
_MAPPED_IPV4 = "::ffff:"
_BITS_OF_NETWORK, _ALL_BITS = 24, 128


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


class _Source:
    """One file, its reader, and the version that the reader has open."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.problem = ""
        self._reader: maxminddb.Reader | None = None
        self._version: tuple[int, int, int] | None = None
        self._tried = False
        self._has_warned = False

    def open_if_changed(self) -> bool:
        """Open the file if it has changed. On failure the open version goes on serving."""
        version = self._version_on_disk()
        if self._tried and version == self._version:
            return False
        self._tried = True
        self._version = version
        try:
            self._reader = _open_copy(self.path)
        except (OSError, ValueError, maxminddb.InvalidDatabaseError) as error:
            self.problem = error_with_path(error, self.path)
            _log.warning("geo database not read: %s", self.problem)
            return False
        self.problem = ""
        self._has_warned = False
        return True

    def find(self, ip: str) -> tuple[_Record, int]:
        """The record of an address, and the number of its bits that the record is for."""
        if self._reader is None:
            return _NONE, 0
        try:
            record, bits = self._reader.get_with_prefix_len(ip)
        except (ValueError, TypeError):  # not an address, or an IPv6 address in a database of IPv4
            return _NONE, _ALL_BITS
        except maxminddb.InvalidDatabaseError as error:
            self._warn_of_damage(error)
            return _NONE, _ALL_BITS
        return (record if isinstance(record, dict) else _NONE), bits

    def describe(self) -> Database:
        if self._reader is None:
            return Database(self.path, "", None, self.problem)
        metadata = self._reader.metadata()
        built = datetime.fromtimestamp(metadata.build_epoch, UTC)
        return Database(self.path, metadata.database_type, built, self.problem)

    def close(self) -> None:
        if self._reader is not None:
            self._reader.close()
            self._reader = None

    def _version_on_disk(self) -> tuple[int, int, int] | None:
        with suppress(OSError):
            status = self.path.stat()
            return status.st_mtime_ns, status.st_ino, status.st_size
        return None

    def _warn_of_damage(self, error: Exception) -> None:
        self.problem = error_with_path(error, self.path)
        if not self._has_warned:
            _log.warning("geo database is damaged: %s", self.problem)
        self._has_warned = True


class GeoReader:
    """Looks addresses up in all databases. The first database that knows a field fills it.

    An unreadable database causes a warning with its path, and the others serve.
    """

    locate: Callable[[str], Geo]
    """The location of an address. Never raises, even for hostile strings."""

    def __init__(self, paths: Sequence[Path]) -> None:
        self._sources = [_Source(path) for path in paths]
        if not paths:
            _log.warning("no geo database: country, region, city and ISP of clicks stay unknown")
        for source in self._sources:
            source.open_if_changed()
        self._forget()

    @property
    def databases(self) -> tuple[Database, ...]:
        return tuple(source.describe() for source in self._sources)

    def reload_changed(self) -> bool:
        """Open databases whose file has changed. Returns whether any has. It blocks: call it in a thread."""
        changed = [source.open_if_changed() for source in self._sources]
        if any(changed):
            self._forget()
        return any(changed)

    def close(self) -> None:
        for source in self._sources:
            source.close()
        self._forget()

    def _forget(self) -> None:
        self._networks: dict[str, Geo] = {}
        self.locate = lru_cache(CACHE_SIZE)(self._locate)

    def _locate(self, ip: str) -> Geo:
        """Most databases have one record for the 256 IPv4 addresses of a network, which is remembered."""
        address = ip.removeprefix(_MAPPED_IPV4) if "." in ip else ip
        networks = self._networks  # another thread may replace them meanwhile
        network, _, _ = address.rpartition(".")
        if network in networks:
            return networks[network]
        records = [source.find(address) for source in self._sources]
        geo = merge([place_of(record) for record, _ in records if record])
        if network and max((bits for _, bits in records), default=0) <= _BITS_OF_NETWORK:
            if len(networks) >= CACHE_SIZE:
                networks.clear()
            networks[network] = geo
        return geo


def merge(places: Sequence[Place]) -> Geo:
    """The place of an address by all databases: the first one that knows a field fills it."""
    if not places:
        return NOWHERE
    merged = places[0]
    for place in places[1:]:
        merged = merged.completed_by(place)
    carrier = merged.carrier or (merged.isp if merged.is_mobile else None) or NOWHERE.mobile_carrier
    return Geo(merged.country, merged.region, merged.city, merged.isp, carrier)


def _open_copy(path: Path) -> maxminddb.Reader:
    with path.open("rb") as original, NamedTemporaryFile(prefix="tracker-geo-", suffix=".mmdb") as copy:
        shutil.copyfileobj(original, copy, 1 << 20)
        copy.flush()
        try:
            return maxminddb.open_database(copy.name)
        except maxminddb.InvalidDatabaseError as error:
            raise maxminddb.InvalidDatabaseError(str(error).replace(copy.name, str(path))) from error


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
