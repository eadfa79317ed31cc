"""One imported conversion, from a row of a file."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime, tzinfo
from decimal import Decimal
from functools import lru_cache
from typing import Any, NamedTuple

from tracker.domain.click_fields import ADV_SUBS
from tracker.domain.click_id import hash_for, is_click_hash, millis_of
from tracker.domain.money import read_currency
from tracker.domain.normalise import amount, given, hash_, trim, word
from tracker.domain.postback import DEFAULT_WORDS, no_status
from tracker.edge.read.link import MAX_VALUE
from tracker.edge.read.text import crop
from tracker.importing import values
from tracker.importing.date_formats import DateFormat
from tracker.importing.values import RowError, read_all
from tracker.store.conversions.list import OF_CLICK
from tracker.store.imports.conversions import COMPARED, ImportedConversion

_CURRENCIES = ("sale_currency", "payout_currency", "revenue_currency")
_GOALS = ("goal", "goal_code", "goal_name", "event")
_REQUIRED = ("click_hash", "status", "created_at")
REQUIRED = tuple((name,) for name in _REQUIRED)
"""Columns that a file must have."""
OPAQUE = frozenset({"sale_status", "advertiser_external_id", *ADV_SUBS})
"""Columns whose values stay as advertisers sent them."""
IDS = frozenset({"click_hash", "hash", "legacy_id", "order_id"})
"""Columns of ids that may have many digits."""
_DERIVED = (
    *("id", "click_id", "offer_id", "offer_name", "offer_url_id", "advertiser_id"),
    *("advertiser_name", "affiliate_id", "affiliate_name", "country_code", "device_type", "device_os"),
    *("browser", "affiliate_source", "is_test", "click_created_at", "click_legacy_id", "click_legacy_source"),
    "seconds_from_click",
    *OF_CLICK,
)


def _amount(value: Any) -> Decimal | None:
    text = given(str(value))
    return amount(text) if text else None


def _currency(value: Any) -> str | None:
    text = given(str(value))
    return read_currency(text) if text else None


def _status(words: Collection[str]) -> values.Reader:
    def read(value: Any) -> str:
        text = word(given(str(value)))
        if text and text not in words:
            raise ValueError(no_status())
        return text

    return read


def _click(name: str) -> str:
    """A hash as it is stored, or an earlier id as it was written."""
    plain = hash_(name)
    return plain if is_click_hash(plain) else name


def _goal(value: Any) -> str:
    return trim(values.written_key(value))


def _goal_id(value: Any) -> int | None:
    text = given(str(value))
    return values.id_(text) if text else None


def _readers(zone: tzinfo, words: Collection[str], dates: Sequence[DateFormat]) -> dict[str, values.Reader]:
    return {
        "click_hash": values.written_key,
        **dict.fromkeys(("hash", "legacy_id"), values.key),
        "legacy_source": values.source,
        "order_id": values.written_key,
        "goal_id": _goal_id,
        **dict.fromkeys(_GOALS, _goal),
        "status": _status({*words, *DEFAULT_WORDS}),
        **dict.fromkeys(("is_over_cap", "is_unproven"), values.flag),
        **dict.fromkeys(("payout", "revenue", "sale_amount", "refunded"), _amount),
        **dict.fromkeys(("currency", *_CURRENCIES), _currency),
        **dict.fromkeys(("sale_status", "advertiser_external_id", *ADV_SUBS), values.text(MAX_VALUE)),
        **dict.fromkeys(("created_at", "updated_at"), values.moment(zone, dates)),
        **dict.fromkeys(_DERIVED, values.ignored),
    }


class ConversionReader(NamedTuple):
    """Reads the conversions of one earlier tracker."""

    source: str
    zone: tzinfo
    readers: Mapping[str, values.Reader]

    @classmethod
    def of(
        cls,
        source: str,
        zone: tzinfo,
        words: Collection[str] = (),
        dates: Sequence[DateFormat] = (),
    ) -> ConversionReader:
        """`words`: the operator's status words, besides those of other platforms.

        `dates`: formats of times beside those that are read anyway.
        """
        return cls(source, zone, _readers(zone, words, dates))

    def read(self, fields: Mapping[str, Any]) -> ImportedConversion:
        """One row.

        Raises:
            RowError: naming each field that is wrong.
        """
        read = read_all(fields, self.readers)
        row = {name: value for name, value in read.items() if value not in (None, "")}
        missing = [name for name in _REQUIRED if name not in row]
        if missing:
            raise RowError(dict.fromkeys(missing, "is missing"))
        if row.get("refunded", 0) > row.get("sale_amount", 0):
            raise RowError({"refunded": "is more than the sale_amount"})
        order_text = row.get("order_id") or _as_written(fields.get("order_id"))
        order_id = trim(row.get("order_id", "")) or None
        click_text = row["click_hash"]
        ids = {name: fields.get(name) for name in ("hash", "legacy_id")}
        ids |= {"click_hash": click_text, "order_id": order_text}
        row |= {name: _click(row[name]) for name in ("hash", "click_hash") if name in row}
        hash_, legacy_id = self._hash(row), self._legacy_id(row)
        written = {name: text for name, text in ids.items() if text and text != row.get(name)}
        currency = row.get("currency")
        return ImportedConversion(
            hash=hash_,
            click=click_text,
            goal_id=row.get("goal_id"),
            goal=_named_goal(row),
            legacy_id=legacy_id,
            legacy_source=row.get("legacy_source"),
            order_id=order_id,
            order_text=order_text or None,
            order_absent=order_id is None and "order_id" in fields,
            word=row["status"],
            is_over_cap=row.get("is_over_cap", False),
            is_unproven=row.get("is_unproven", False),
            sale_status=row.get("sale_status", ""),
            sale_amount=row.get("sale_amount"),
            sale_currency=row.get("sale_currency", currency),
            refunded=row.get("refunded", Decimal(0)),
            payout=row.get("payout", Decimal(0)),
            payout_currency=row.get("payout_currency", currency),
            revenue=row.get("revenue", Decimal(0)),
            revenue_currency=row.get("revenue_currency", currency),
            own=tuple(row.get(name, "") for name in ("advertiser_external_id", *ADV_SUBS)),
            created_at=_time(millis_of(hash_)),
            updated_at=_time(self._updated(row, millis_of(hash_))),
            named=_compared(tuple(fields), names_source=legacy_id is not None and "legacy_source" in row),
            written_hash=self._hash(row | written) if written else hash_,
        )

    def _updated(self, row: Mapping[str, Any], created: int) -> int:
        updated = row.get("updated_at", created)
        return created if values.is_same_second(updated, created, self.zone) else int(updated)

    def _legacy_id(self, row: Mapping[str, Any]) -> str | None:
        """Its id in the earlier tracker. A file may call it hash."""
        own, legacy_id = row.get("hash"), row.get("legacy_id")
        if legacy_id is None and own is not None and not is_click_hash(own):
            return str(own)
        return legacy_id

    def _hash(self, row: Mapping[str, Any]) -> str:
        """Its own hash, or a hash made from its earlier id, or else from its click, goal and order."""
        own, millis = row.get("hash"), row["created_at"]
        if own is not None and is_click_hash(own):
            if not values.is_same_second(millis, millis_of(own), self.zone):
                raise RowError({"created_at": "is not the time in its hash: is --tz that of the export?"})
            return str(own)
        goal = row.get("goal_id") or _named_goal(row)
        about = "\0".join((row["click_hash"], str(goal), row.get("order_id", "")))
        source = row.get("legacy_source") or self.source
        return hash_for(millis, f"{source}\0conversion\0{row.get('legacy_id') or own or about}")


@lru_cache(64)  # the rows of a file mostly have the same value
def _compared(fields: tuple[str, ...], *, names_source: bool) -> tuple[str, ...]:
    """The columns that the table must have exactly as the file. A source is one where the row names it."""
    currencies = _CURRENCIES if "currency" in fields else ()
    named = tuple(name for name in COMPARED if name in fields or name in currencies)
    return named if names_source else tuple(name for name in named if name != "legacy_source")


def _as_written(order_id: Any) -> str:
    """An absent order id as earlier versions stored it."""
    return crop(order_id, MAX_VALUE) if isinstance(order_id, str) else ""


def _named_goal(row: Mapping[str, Any]) -> str:
    return next((row[name] for name in _GOALS if name in row), "")


def _time(millis: int) -> datetime:
    return datetime.fromtimestamp(millis / 1000, UTC)
