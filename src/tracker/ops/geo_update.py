"""Fetches newer geo databases: from MaxMind with a licence key, from DB-IP without one.

The name of a configured file says what it is: GeoLite2-City.mmdb is an edition of MaxMind, and
dbip-city-lite.mmdb one of DB-IP. A new file is checked before it takes the place of the old one. Then edges
open it. urllib takes the proxy and the certificates of the system, as operators expect it.
"""

from __future__ import annotations

import gzip
import hashlib
import hmac
import os
import re
import ssl
import tarfile
import zlib
from base64 import b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from email.utils import formatdate, parsedate_to_datetime
from http.client import HTTPException
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO, NamedTuple, Protocol
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import certifi

from tracker.errors import UserError
from tracker.ops.geo_lookup import GeoLookup
from tracker.release import version
from tracker.settings import Settings, packaged_geoip

MAXMIND_URL = "https://download.maxmind.com"
"""https://dev.maxmind.com/geoip/updating-databases/"""
DB_IP_URL = "https://download.db-ip.com"
"""https://db-ip.com/db/lite.php"""
MOST_BYTES = 2 << 30
"""Of an archive, and of the database in it. The largest ones that are sold have some hundred MB."""

_SECONDS = 60.0  # without a byte
_MAXMIND = re.compile(r"Geo(?:Lite2|IP2)-[A-Za-z-]+")
_DB_IP = re.compile(r"dbip-(?:city|country|asn)-lite")
_SHA256 = re.compile(r"\s*([0-9a-f]{64})\b")
_WELL_KNOWN = ("8.8.8.8", "1.1.1.1", "9.9.9.9", "2001:4860:4860::8888")
"""Addresses of public name servers, which every database of all countries has."""
_CHUNK = 1 << 20


class Readable(Protocol):
    """What gives bytes."""

    def read(self, most: int, /) -> bytes:
        """So many bytes at most. None at the end."""


class Update(NamedTuple):
    """What became of one configured file."""

    path: Path
    built: datetime | None
    """When the data of the new file were put together. None: the file is the newest one."""


class GeoUpdateError(UserError):
    """A database could not be fetched. The file that was there stays in use."""


def sources(settings: Settings) -> dict[Path, str]:
    """Where each configured database comes from: the edition, by its file.

    Raises:
        UserError: no file is configured, or the name of one says no edition.
    """
    if not settings.geoip_db or settings.geoip_db == packaged_geoip():
        raise UserError(
            "no file to update: set TRACKER_GEOIP_DB to a file such as geoip/dbip-city-lite.mmdb. It need not"
            " be there yet"
        )
    editions = {path: path.name.removesuffix(".mmdb") for path in settings.geoip_db}
    for path, edition in editions.items():
        if not (_MAXMIND.fullmatch(edition) or _DB_IP.fullmatch(edition)):
            raise UserError(
                f"{path}: the name does not say where it comes from. Name it as an edition of MaxMind,"
                " such as GeoLite2-City.mmdb, or of DB-IP, such as dbip-city-lite.mmdb"
            )
        if _MAXMIND.fullmatch(edition) and not settings.maxmind_license_key:
            raise UserError(
                f"{path}: MaxMind asks for TRACKER_MAXMIND_ACCOUNT_ID and TRACKER_MAXMIND_LICENSE_KEY"
            )
    return editions


def publisher(edition: str) -> str:
    """Who publishes an edition."""
    return "MaxMind" if _MAXMIND.fullmatch(edition) else "DB-IP"


def update(settings: Settings, path: Path, edition: str) -> Update:
    """Put the newest edition in the place of a file, unless it is there already.

    Raises:
        GeoUpdateError: it cannot be fetched, is damaged, or is no such database. The old file stays.
    """
    with _explained(path), TemporaryDirectory(prefix=".geo-", dir=path.absolute().parent) as folder:
        archive = Path(folder) / "archive"
        fetch = _from_maxmind if _MAXMIND.fullmatch(edition) else _from_db_ip
        changed = fetch(settings, edition, archive, _modified(path))
        if changed is None:
            return Update(path, None)
        made = Path(folder) / f"{edition}.mmdb"
        _unpack(archive, edition, made)
        built = _check(made, edition, path)
        os.utime(made, (changed, changed))
        _swap(made, path)
        return Update(path, built)


def _from_maxmind(settings: Settings, edition: str, archive: Path, since: float | None) -> float | None:
    key = f"{settings.maxmind_account_id}:{settings.maxmind_license_key}"
    secret = f"Basic {b64encode(key.encode()).decode()}"
    url = f"{MAXMIND_URL}/geoip/databases/{edition}/download?suffix=tar.gz"
    changed = _fetch(url, archive, since, secret)
    if changed is None:
        return None
    checksum = archive.with_name("checksum")
    _fetch(f"{url}.sha256", checksum, None, secret)
    told = _SHA256.match(checksum.read_text(errors="replace"))
    if not told:
        raise ValueError("its checksum is no SHA-256")
    if not hmac.compare_digest(told[1], _sha256(archive)):
        raise ValueError("it is not as its checksum says: try again")
    return changed


def _from_db_ip(settings: Settings, edition: str, archive: Path, since: float | None) -> float | None:
    """DB-IP publishes once a month. The archive has a checksum of its own, as every gzip has."""
    today = datetime.now(UTC).date()
    months = (today, today.replace(day=1) - timedelta(days=1))
    for last, month in enumerate(months, 1 - len(months)):
        try:
            return _fetch(f"{DB_IP_URL}/free/{edition}-{_month(month)}.mmdb.gz", archive, since)
        except HTTPError as error:
            if error.code != 404 or last == 0:
                raise
    raise AssertionError("the last month returns or raises")


def _month(day: date) -> str:
    return f"{day:%Y-%m}"


def _fetch(url: str, into: Path, since: float | None, secret: str = "") -> float | None:
    """Fetch a file, if it changed after a Unix time. Returns when it did. None: it did not."""
    request = Request(url, headers={"User-Agent": f"Tracker/{version()}"})  # noqa: S310 - our own addresses
    if since is not None:
        request.add_header("If-Modified-Since", formatdate(since, usegmt=True))
    if secret:
        request.add_unredirected_header("Authorization", secret)  # MaxMind sends on to another host
    trusted = ssl.create_default_context()
    trusted.load_verify_locations(certifi.where())
    try:
        with urlopen(request, timeout=_SECONDS, context=trusted) as answer, into.open("wb") as file:  # noqa: S310
            _copy(answer, file)
            length = answer.headers.get("Content-Length")
            if length is not None and int(length) != file.tell():
                raise ValueError(f"only {file.tell():,} of {int(length):,} bytes came: try again")
            return _time_of(answer.headers.get("Last-Modified"))
    except HTTPError as error:
        error.close()
        if error.code == 304:
            return None
        raise


def _copy(source: Readable, target: IO[bytes]) -> None:
    while chunk := source.read(_CHUNK):
        if target.tell() + len(chunk) > MOST_BYTES:
            raise ValueError(f"it has more than {MOST_BYTES:,} bytes")
        target.write(chunk)


def _time_of(header: str | None) -> float:
    try:
        return parsedate_to_datetime(header or "").timestamp()
    except ValueError:
        return datetime.now(UTC).timestamp()


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _unpack(archive: Path, edition: str, into: Path) -> None:
    with into.open("wb") as file:
        if not tarfile.is_tarfile(archive):
            with gzip.open(archive) as unpacked:
                _copy(unpacked, file)
            return
        with tarfile.open(archive) as members:
            for member in members:
                if member.isfile() and Path(member.name).name == f"{edition}.mmdb":
                    packed = members.extractfile(member)
                    assert packed is not None
                    _copy(packed, file)
                    return
    raise ValueError(f"there is no {edition}.mmdb in its archive")


def _check(made: Path, edition: str, path: Path) -> datetime:
    """Check that a file is this database, and not older than the one that is there. Returns its age."""
    with GeoLookup([made]) as lookup, GeoLookup([path] if path.exists() else []) as before:
        (database,) = lookup.databases
        if database.problem or database.built is None:
            raise ValueError("it is no geo database, or damaged")
        if _letters(edition) not in _letters(database.type):
            raise ValueError(f"it is a {database.type!r}")
        if not any(lookup.find(address) for address in _WELL_KNOWN):
            raise ValueError("it knows no address of the well-known ones: it is damaged")
        for old in before.databases:
            if old.built and old.type == database.type and old.built > database.built:
                raise ValueError(f"it is of {database.built:%Y-%m-%d}, and older than the one that is there")
        return database.built


def _letters(name: str) -> str:
    """DB-IP's files say DBIP-City-Lite, and their names dbip-city-lite."""
    return re.sub(r"[^a-z0-9]", "", name.lower())


def _modified(path: Path) -> float | None:
    return path.stat().st_mtime if path.exists() else None


def _swap(made: Path, path: Path) -> None:
    """Put a file in the place of another at once, on the disk too. Edges run under other accounts."""
    made.chmod(0o644)
    with made.open("rb") as file:
        os.fsync(file.fileno())
    made.replace(path)
    folder = os.open(path.absolute().parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    """Failures as GeoUpdateError. None of them shows the key."""
    try:
        yield
    except HTTPError as error:
        known = {401: "MaxMind refuses the account or the key", 403: "it may not be downloaded with this key"}
        why = known.get(error.code, f"the server answers {error.code} {error.reason}")
        raise GeoUpdateError(f"{path} stays as it is: {why}") from None
    except (OSError, HTTPException, ValueError, EOFError, tarfile.TarError, zlib.error) as error:
        raise GeoUpdateError(f"{path} stays as it is: {str(error) or type(error).__name__}") from None
