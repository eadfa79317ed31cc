"""Macros of postbacks to affiliates: the facts about a conversion that its affiliate may know.

They exclude revenue, the advertiser, the order and the visitor's identity.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from urllib.parse import quote
from uuid import UUID

from tracker.domain.click_fields import AFF_SUBS
from tracker.domain.macros import MAX_LOCATION, compile_url, sendable
from tracker.domain.model import Template
from tracker.domain.money import show
from tracker.domain.normalise import bytes_of

Facts = Mapping[str, Any]
"""A conversion with its click, by column names."""

_CONVERSION_COLUMNS = ("offer_id", "offer_name", "goal_id", "goal_name", "affiliate_id", "affiliate_name")
CLICK_COLUMNS = (
    *("offer_url_id", "affiliate_source", "external_id", "gaid", "idfa", "country_code", "region_code"),
    *("device_os", "device_os_version", "device_brand", "device_model", "device_type", "browser", "platform"),
    *("mobile_carrier", *AFF_SUBS),
)
"""The facts of the click. Each is also a macro."""


def compile(url: str) -> Template:  # noqa: A001 - as macros.compile
    """Turn a postback's URL into literals and macro names, alternating.

    Raises:
        TemplateError: as for offer URLs.
    """
    return compile_url(url, MACROS)


def fill(template: Template, facts: Facts) -> str:
    """The address of one postback, filled in one pass with percent-encoded values.

    Bytes of a link that are not UTF-8 are sent as these bytes: the affiliate knows its code page.

    Raises:
        ValueError: a value would change its target, or the address is too long.
    """
    url = "".join(
        quote(bytes_of(MACROS[part](facts)), safe="") if position % 2 else part
        for position, part in enumerate(template)
    )
    if not sendable(url):
        raise ValueError(f"longer than {MAX_LOCATION} bytes, or a value makes a . or .. of a segment")
    return url


_Getter = Callable[[Facts], str]


def _column(name: str) -> _Getter:
    return lambda facts: "" if facts[name] in (None, "UNK") else str(facts[name])


def _time(format_: str) -> _Getter:
    return lambda facts: _made(facts).strftime(format_)


def _rfc3339(at: datetime) -> str:
    return at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _made(facts: Facts) -> datetime:
    made: datetime = facts["created_at"]
    return made.astimezone(UTC)


_COLUMNS = {name: name for name in (*_CONVERSION_COLUMNS, *CLICK_COLUMNS)} | {
    "conversion_id": "id",
    "status": "status_after",
    "currency": "payout_currency",
    "source": "affiliate_source",
    **{f"sub{n}": name for n, name in enumerate(AFF_SUBS, 1)},
}


def of_a_test(known: Facts) -> Facts:
    """The facts of a made-up conversion, for a test of a URL. `known` replaces some.

    Its hashes are 0, its amount is 0, and every text of the click is empty.
    """
    now = datetime.now(UTC)
    made_up = {
        "id": 0,
        "status_after": "approved",
        "payout": Decimal(0),
        "payout_currency": "",
        "change_number": 1,
    }
    hashes = {"hash": UUID(int=0), "click_hash": UUID(int=0)}
    texts = dict.fromkeys((*_CONVERSION_COLUMNS, *CLICK_COLUMNS), "")
    return {**texts, **made_up, **hashes, "created_at": now, "changed_at": now, **known}


OF_MONEY = frozenset({"payout", "currency"})
"""The macros that are about amounts."""

MACROS: dict[str, _Getter] = {
    **{macro: _column(column) for macro, column in _COLUMNS.items()},
    **dict.fromkeys(
        ("hash", "click_id", "click_hash", "transaction_id"), lambda facts: facts["click_hash"].hex
    ),
    "conversion_hash": lambda facts: facts["hash"].hex,
    "payout": lambda facts: show(facts["payout"]),
    "changed_at": lambda facts: _rfc3339(facts["changed_at"]),
    "change_number": lambda facts: str(facts["change_number"]),
    "timestamp": lambda facts: str(int(_made(facts).timestamp())),
    "date": _time("%Y-%m-%d"),
    "datetime": _time("%Y-%m-%d %H:%M:%S"),
}
