"""One imported click: from a row of a file to a row of the table, with its earlier id."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import tzinfo
from functools import lru_cache, partial
from operator import itemgetter
from typing import Any, NamedTuple

from tracker.domain import normalise
from tracker.domain.click_fields import FIELDS, LONGEST, STORED, Field
from tracker.domain.click_id import is_click_hash, legacy_hash, millis_of
from tracker.domain.model import ClickRow, Reason
from tracker.edge.enrich import device_words
from tracker.edge.read.client_address import plain_address
from tracker.importing import values
from tracker.importing.date_formats import DateFormat
from tracker.importing.values import RowError, read_all
from tracker.store.imports.clicks import EarlierId, ImportedClick, Written
from tracker.store.imports.progress import MISSING, Known

_LONGEST_WORD = 100

# Codes without a country. Trackers and CDNs use user-assigned codes (ISO 3166-1, 8.1.3) for "unknown",
# proxies and Tor. Old geo databases use codes for Europe and Asia as a whole.
_NO_COUNTRIES = frozenset({"XX", "ZZ", "T1", "A1", "A2", "O1", "EU", "AP"})
_REGION = re.compile(r"(?:[A-Z]{2}-)?([A-Z0-9]{1,3})")

REQUIRED = (("offer_id",), ("affiliate_id",), ("legacy_id", "hash"), ("created_at", "hash"))
"""Columns that a file must have, at least one of each group."""

_COMPARED = frozenset(ClickRow._fields) - {"hash"}

OPAQUE = frozenset(LONGEST)
"""Columns whose values stay as visitors and affiliates sent them."""

IDS = frozenset({"hash", "group_hash", "legacy_id"})
"""Columns of ids that may have many digits."""

_BLANK = {field.name: field.blank for field in STORED}
_in_order = itemgetter(*ClickRow._fields)


def _visitor_key(value: Any) -> int:
    """Sixteen hexadecimal digits as the signed number of the column."""
    try:
        return _signed(int(values.key(value), 16))
    except ValueError:
        raise ValueError("is not sixteen hexadecimal digits") from None


def _signed(number: int) -> int:
    if number >> 64:
        raise ValueError
    return number - (number >> 63 << 64)


def _reason(value: Any) -> int:
    try:
        return Reason(int(value)).value
    except (ValueError, TypeError):
        raise ValueError("is no reason of this tracker") from None


def _country(text: str) -> str:
    return "" if text.upper() in _NO_COUNTRIES else normalise.country(text)


def _region(text: str) -> str:
    """The part of an ISO 3166-2 code after the country, as the edges store it."""
    found = _REGION.fullmatch(text.upper())
    if found is None:
        raise ValueError(f"{text[:_LONGEST_WORD]!r} is not a region's code (ISO 3166-2), such as CA of US-CA")
    return found[1]


def _address(text: str) -> str:
    found = plain_address(text)
    if not found:
        raise ValueError(f"{text[:_LONGEST_WORD]!r} is not an IP address")
    return found


def _readers(zone: tzinfo, dates: Sequence[DateFormat]) -> dict[str, values.Reader]:
    by_type = {field.name: _reader(field) for field in FIELDS}
    return {**by_type, **_READERS, "legacy_source": values.source, "created_at": values.moment(zone, dates)}


def _reader(field: Field) -> values.Reader:
    if not field.of:
        return values.ignored
    if field.choices:
        return values.choice(*field.choices)
    if field.longest:
        return values.text(field.longest)
    return values.fact(_LONGEST_WORD) if field.kind is str else _OF_TYPE[field.kind]


_OF_TYPE: Mapping[type, values.Reader] = {int: values.id_, bool: values.flag}
_READERS: Mapping[str, values.Reader] = {
    **dict.fromkeys(("hash", "group_hash", "legacy_id"), values.key),
    "reason": _reason,
    "visitor_key": _visitor_key,
    "country_code": values.fact(_LONGEST_WORD, _country),
    "region_code": values.fact(_LONGEST_WORD, _region),
    "device_os": values.fact(_LONGEST_WORD, partial(device_words.ours, "os")),
    "device_type": values.fact(_LONGEST_WORD, normalise.device_type),
    "platform": values.fact(_LONGEST_WORD, normalise.platform),
    "browser": values.fact(_LONGEST_WORD, partial(device_words.ours, "browser")),
    "ip": values.fact(_LONGEST_WORD, _address),
}
"""Fields that are not read by their type alone."""


class ClickReader(NamedTuple):
    """Reads the clicks of one earlier tracker."""

    source: str
    known: Known
    zone: tzinfo
    readers: Mapping[str, values.Reader]

    @classmethod
    def of(cls, source: str, zone: tzinfo, known: Known, dates: Sequence[DateFormat] = ()) -> ClickReader:
        """`dates`: formats of times beside those that are read anyway."""
        return cls(source, known, zone, _readers(zone, dates))

    def read(self, fields: Mapping[str, Any]) -> ImportedClick:
        """One row.

        Raises:
            RowError: naming each field that is wrong.
        """
        found = read_all(fields, self.readers)
        named_source = found.pop("legacy_source", None)
        source = named_source or self.source
        hash_, earlier = self._identity(found, source)
        written = self._written(fields, found, hash_, earlier, source)
        found |= _grouped(found, hash_)
        for name, value in self._from_catalogue(found).items():
            if name not in fields:  # null means that there is no value
                found[name] = value
        found.setdefault("requested_offer_id", found["offer_id"])
        found.setdefault("visitor_key", _signed(int(hash_[16:], 16)))  # no other source's
        named = _compared(tuple(fields))
        row = ClickRow._make(_in_order(_BLANK | found))
        return ImportedClick(row, earlier, named, named_source is not None, written)

    def _identity(self, found: dict[str, Any], source: str) -> tuple[str, EarlierId | None]:
        """The click's hash here, and the earlier id that leads to it."""
        hash_, legacy_id, millis = (found.get(name) for name in ("hash", "legacy_id", "created_at"))
        own = normalise.hash_(hash_) if hash_ else ""
        if is_click_hash(own):
            _check_time(own, millis, self.zone)
            if legacy_id is None or normalise.hash_(legacy_id) == own:
                return own, None
            return own, (legacy_id, source)
        earlier = legacy_id if hash_ is None else hash_
        if earlier is None:
            raise RowError({"legacy_id": "is missing, and there is no hash either"})
        if legacy_id not in (None, earlier):
            raise RowError({"hash": "is no hash of this tracker, and legacy_id is another one"})
        if millis is None:
            raise RowError({"created_at": "is missing"})
        return legacy_hash(millis, source, earlier), (earlier, source)

    def _written(
        self,
        fields: Mapping[str, Any],
        found: Mapping[str, Any],
        hash_: str,
        earlier: EarlierId | None,
        source: str,
    ) -> Written | None:
        """The id as the file has it, if earlier versions took that other text for an earlier id."""
        millis = found.get("created_at")
        legacy_id = earlier and earlier[0]
        text = (legacy_id and fields.get("legacy_id")) or fields.get("hash")
        if not isinstance(text, str) or text in (legacy_id, hash_) or millis is None:
            return None
        if legacy_id is not None and normalise.hash_(found.get("hash") or "") == hash_:
            return Written((text, source), hash_)
        return Written((text, source), legacy_hash(millis, source, text))

    def _from_catalogue(self, found: Mapping[str, Any]) -> dict[str, Any]:
        offer = self.known.offers.get(found.get("offer_id", 0))
        group_id = self.known.affiliates.get(found.get("affiliate_id", 0), MISSING)
        errors = {}
        if offer is None:
            errors["offer_id"] = "matches no offer"
        if group_id == MISSING:
            errors["affiliate_id"] = "matches no affiliate"
        if offer is None or errors:
            raise RowError(errors)
        return {"advertiser_id": offer.advertiser_id, "brand_id": offer.brand_id, "aff_group_id": group_id}


@lru_cache(64)  # the rows of a file mostly have the same value
def _compared(fields: tuple[str, ...]) -> tuple[str, ...]:
    """The columns that the table must have exactly as the file."""
    return tuple(name for name in fields if name in _COMPARED)


def _check_time(hash_: str, millis: int | None, zone: tzinfo) -> None:
    if millis is None:
        millis = values.past(millis_of(hash_))
    if not values.is_same_second(millis, millis_of(hash_), zone):
        raise RowError({"created_at": "is not the time in its hash: is --tz that of the export?"})


def _grouped(found: dict[str, Any], hash_: str) -> dict[str, Any]:
    """Whether the click is its visitor's first, and the hash of the first.

    Earlier hashes of other trackers lead nowhere.
    """
    first = found.get("group_hash")
    if first and is_click_hash(plain := normalise.hash_(first)):
        first = plain
    is_unique = found.get("is_unique")
    if is_unique is None:
        is_unique = first in (None, found.get("hash"), hash_) and not found.get("is_bot")
    for name in ("legacy_id", "created_at"):
        found.pop(name, None)
    group_hash = hash_ if is_unique else first if first and is_click_hash(first) else None
    return {"hash": hash_, "group_hash": group_hash, "is_unique": is_unique}
