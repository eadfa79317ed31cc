"""One imported conversion, from a row of a file."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, tzinfo
from decimal import Decimal
from typing import Any, NamedTuple

from tracker.clickhash import hash_for, is_click_hash, millis_of
from tracker.conversion import ADV_SUBS, read_status
from tracker.edge.link import MAX_VALUE
from tracker.importing import values
from tracker.importing.values import RowError, read_all
from tracker.money import read_amount, read_currency
from tracker.store.imported_conversions import ImportedConversion

_CURRENCIES = ("sale_currency", "payout_currency", "revenue_currency")
_REQUIRED = ("click_hash", "status", "created_at")
_DERIVED = (
    *("id", "click_id", "offer_id", "offer_name", "offer_url_id", "goal_name", "advertiser_id"),
    *("advertiser_name", "affiliate_id", "affiliate_name", "country_code", "device_type", "device_os"),
    *("browser", "affiliate_source", "is_test", "click_created_at"),
)


def _amount(value: Any) -> Decimal:
    return read_amount(str(value))


def _currency(value: Any) -> str:
    return read_currency(str(value))


def _status(value: Any) -> str:
    return read_status(str(value))


def _click(value: Any) -> str:
    """A hash as it is kept, or an earlier id as it is."""
    name = values.key(value)
    plain = name.replace("-", "").lower()
    return plain if is_click_hash(plain) else name


def _readers(zone: tzinfo) -> dict[str, values.Reader]:
    return {
        "click_hash": _click,
        **dict.fromkeys(("hash", "legacy_id", "order_id"), values.key),
        "goal_id": values.id_,
        "status": _status,
        "is_over_cap": values.flag,
        **dict.fromkeys(("payout", "revenue", "sale_amount"), _amount),
        **dict.fromkeys(("currency", *_CURRENCIES), _currency),
        **dict.fromkeys(("sale_status", "advertiser_external_id", *ADV_SUBS), values.text(MAX_VALUE)),
        **dict.fromkeys(("created_at", "updated_at"), values.moment(zone)),
        **dict.fromkeys(_DERIVED, values.ignored),
    }


class ConversionReader(NamedTuple):
    """Reads the conversions of one earlier tracker."""

    source: str
    readers: Mapping[str, values.Reader]

    @classmethod
    def of(cls, source: str, zone: tzinfo) -> ConversionReader:
        return cls(source, _readers(zone))

    def read(self, fields: Mapping[str, Any]) -> ImportedConversion:
        """One row.

        Raises:
            RowError: naming each field that is wrong.
        """
        found = read_all(fields, self.readers)
        missing = [name for name in _REQUIRED if name not in found]
        if missing:
            raise RowError(dict.fromkeys(missing, "is missing"))
        hash_ = self._hash(found)
        currency = found.get("currency")
        return ImportedConversion(
            hash=hash_,
            click=found["click_hash"],
            goal_id=found.get("goal_id"),
            order_id=found.get("order_id"),
            status=found["status"],
            is_over_cap=found.get("is_over_cap", False),
            sale_status=found.get("sale_status", ""),
            sale_amount=found.get("sale_amount"),
            sale_currency=found.get("sale_currency", currency),
            payout=found.get("payout", Decimal(0)),
            payout_currency=found.get("payout_currency", currency),
            revenue=found.get("revenue", Decimal(0)),
            revenue_currency=found.get("revenue_currency", currency),
            own=tuple(found.get(name, "") for name in ("advertiser_external_id", *ADV_SUBS)),
            created_at=_time(millis_of(hash_)),
            updated_at=_time(found.get("updated_at", millis_of(hash_))),
        )

    def _hash(self, found: Mapping[str, Any]) -> str:
        """Its own, or one made of its earlier id; of what it is about where it had none."""
        own, millis = found.get("hash"), found["created_at"]
        if own is not None and is_click_hash(own):
            if millis // 1000 != millis_of(own) // 1000:
                raise RowError({"created_at": "is not the time in its hash: is --tz that of the export?"})
            return str(own)
        about = "\0".join(str(found.get(name, "")) for name in ("click_hash", "goal_id", "order_id"))
        return hash_for(millis, f"{self.source}\0conversion\0{found.get('legacy_id') or own or about}")


def _time(millis: int) -> datetime:
    return datetime.fromtimestamp(millis / 1000, UTC)
