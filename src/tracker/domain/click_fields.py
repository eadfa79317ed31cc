"""The fields of a click, one row each. The order of the rows is the order of keys in lists and exports.

The record's decoding, COPY, lists, exports, their schema, filters, partners' views, imports and reports are
derived from this table. Written by hand are the nouns, `ClickRow` and migrations (docs/contributing.md).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from enum import Enum, auto
from typing import Final, NamedTuple

from tracker.domain.model import Reason, Status


class Shown(Enum):
    """What a list shows of a field."""

    AS_IS = auto()
    NULL_IF_BLANK = auto()
    HASH = auto()  # a UUID as 32 hexadecimal digits
    NUMBER = auto()  # 64 bits as 16 hexadecimal digits
    NAME = auto()  # the name of the row that an id refers to
    LEGACY = auto()  # the id in an earlier tracker, and the name of that tracker
    COMPUTED = auto()  # no column: conversions tell it, or the time in the hash


class Filled(Enum):
    """How many clicks have a value."""

    MOSTLY = auto()
    SOMETIMES = auto()  # COPY leaves the column out if no click of a batch has a text
    RARELY = auto()  # lists also read it together with other such columns


AFF_SUBS: Final = ("aff_sub", *(f"aff_sub{n}" for n in range(2, 21)))
ADV_SUBS: Final = ("adv_sub", *(f"adv_sub{n}" for n in range(2, 6)))

AFFILIATE: Final = ("affiliate",)
ADVERTISER: Final = ("advertiser",)
BOTH: Final = (*AFFILIATE, *ADVERTISER)

Blank = str | int | None


class Field(NamedTuple):
    """One field. The defaults suit a text that only the network sees."""

    name: str  # the column, and the key of lists
    kind: type = str  # of the column
    of: str = ""  # the noun that has it, or "click". "" = the writer fills no such column
    called: str = ""  # its name in the noun. "" = the same
    longest: int = 0  # most characters kept of a text that visitors or affiliates send. 0 = our own text
    blank: Blank = ""  # the column of a click without a value
    filled: Filled = Filled.MOSTLY
    shown: Shown = Shown.AS_IS
    choices: tuple[str, ...] = ()  # all of its values
    about: str = ""  # its description in the API's document
    example: str | int | None = None  # None = as blank
    filter: str = ""  # the description of the parameter of its name. "" = no filter
    dimension: str = ""  # its name in group_by. "" = reports do not group by it
    is_counted: bool = True  # report_count has the dimension
    frozen: bool = False  # a conversion keeps the value of its click (ConvertedClick)
    seen_by: tuple[str, ...] = ()  # partners. The network sees every field

    @property
    def shown_blank(self) -> Blank:
        """What a list shows of a blank."""
        return None if self.shown is Shown.NULL_IF_BLANK else self.blank

    @property
    def shown_kind(self) -> type:
        """The type of what a list shows."""
        return str if self.shown is Shown.NUMBER else self.kind

    @property
    def is_nullable(self) -> bool:
        """Whether lists may show null."""
        return self.shown_blank is None


_SENT_VALUE = 500
_HOST = 255
_TARGET = 8192
_UNKNOWN = "UNK"

# fmt: off
# As a table: a row a field.
FIELDS: Final = (
    Field("id", int, example=184568, filter="The click with this id.", seen_by=BOTH),
    Field("hash", of="click", shown=Shown.HASH, about="The public click id: 32 hexadecimal digits (UUIDv7).",
          example="01927632a6c87d3f9b1c5e8a4f60d2b7",
          filter="The click with this hash, or with this id in an earlier tracker.", seen_by=BOTH),
    Field("group_hash", of="click", blank=None, shown=Shown.HASH,
          about="Hash of the visitor's first click in the offer's window.",
          example="01927632a6c87d3f9b1c5e8a4f60d2b7", seen_by=BOTH),
    Field("offer_id", int, of="outcome", about="The offer that took the click.", example=3,
          filter="Clicks that this offer took.", dimension="offer", frozen=True,
          seen_by=BOTH),
    Field("offer_name", blank=None, shown=Shown.NAME, example="Test Offer", seen_by=BOTH),
    Field("offer_url_id", int, of="outcome", blank=None, example=132,
          filter="Clicks sent to this offer URL.", dimension="offer_url", frozen=True, seen_by=BOTH),
    Field("advertiser_id", int, of="outcome", example=1, filter="Clicks of this advertiser's offers.",
          dimension="advertiser", is_counted=False, frozen=True, seen_by=ADVERTISER),
    Field("advertiser_name", blank=None, shown=Shown.NAME, example="PlayGamesl"),
    Field("aff_group_id", int, of="click", blank=None, filter="Clicks of this affiliate group.",
          dimension="affiliate_group", is_counted=False, frozen=True),
    Field("brand_id", int, of="outcome", blank=None, example=1, filter="Clicks of this brand's offers.",
          dimension="brand", is_counted=False,
          frozen=True),
    Field("affiliate_id", int, of="click", example=513, filter="Clicks of this affiliate.",
          dimension="affiliate", frozen=True, seen_by=BOTH),
    Field("affiliate_name", blank=None, shown=Shown.NAME, example="John Doe"),
    Field("device_model", of="device", called="model", frozen=True, seen_by=BOTH),
    Field("device_brand", of="device", called="brand", frozen=True, seen_by=BOTH),
    Field("sale_status", blank="New", shown=Shown.COMPUTED,
          about="The last status text of the advertiser. New if there is none.", seen_by=ADVERTISER),
    Field("advertiser_external_id", blank=None, shown=Shown.COMPUTED, seen_by=ADVERTISER),
    *(
        Field(name, of="link", longest=_SENT_VALUE, filled=Filled.RARELY, shown=Shown.NULL_IF_BLANK,
              filter=f"Clicks whose link has exactly this {name}. Empty: clicks without one.",
              dimension=name, is_counted=False, seen_by=ADVERTISER)
        for name in ADV_SUBS
    ),
    Field("device_os", of="device", called="os", blank=_UNKNOWN, example="Linux",
          filter="Clicks with this operating system. UNK: clicks without one.", dimension="os", frozen=True,
          seen_by=BOTH),
    Field("aff_sub", of="link", longest=_SENT_VALUE, filled=Filled.SOMETIMES,
          filter="Clicks with exactly this aff_sub. Empty: clicks without one.", dimension="aff_sub",
          is_counted=False, frozen=True, seen_by=AFFILIATE),
    Field("aff_sub2", of="link", longest=_SENT_VALUE, filled=Filled.SOMETIMES, filter="Like aff_sub.",
          dimension="aff_sub2", is_counted=False, frozen=True, seen_by=AFFILIATE),
    *(
        Field(name, of="link", longest=_SENT_VALUE, filled=Filled.RARELY, filter="Like aff_sub.",
              dimension=name, is_counted=False, frozen=True, seen_by=AFFILIATE)
        for name in AFF_SUBS[2:]
    ),
    Field("affiliate_source", of="link", called="source", longest=_SENT_VALUE,
          filter="Clicks with exactly this source. Empty: clicks without a source.",
          dimension="affiliate_source", is_counted=False, frozen=True, seen_by=AFFILIATE),
    Field("user_agent", of="visitor", longest=500, shown=Shown.NULL_IF_BLANK, about="As sent.",
          example="Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 Chrome/129.0.0.0 Safari/537.36",
          seen_by=BOTH),
    Field("browser", of="device", shown=Shown.NULL_IF_BLANK, example="Chrome",
          filter="Clicks with this browser. Empty: clicks without one.", dimension="browser", frozen=True,
          seen_by=BOTH),
    Field("ip", of="visitor", shown=Shown.NULL_IF_BLANK, example="198.51.100.7",
          filter="Clicks from this IP address or network (CIDR).", frozen=True),
    Field("device_os_version", of="device", called="os_version", blank=_UNKNOWN, seen_by=BOTH),
    Field("platform", of="device", example="x64", seen_by=BOTH),
    Field("mobile_carrier", of="geo", blank=_UNKNOWN, seen_by=BOTH),
    Field("country_code", of="geo", blank=None, example="NL",
          filter="Clicks from this country (ISO 3166-1 alpha-2). Empty: clicks without one.",
          dimension="country", frozen=True,
          seen_by=BOTH),
    Field("region_code", of="geo", blank=None, example="NH",
          filter="Clicks from this region (ISO 3166-2, without the country). Empty: clicks without one.",
          dimension="region", is_counted=False,
          frozen=True, seen_by=BOTH),
    Field("external_id", of="link", longest=_SENT_VALUE, filled=Filled.RARELY, shown=Shown.NULL_IF_BLANK,
          filter="Clicks with exactly this external id. Empty: clicks without one.", frozen=True,
          seen_by=AFFILIATE),
    Field("has_conversions", bool, blank=False, shown=Shown.COMPUTED,
          filter="true: clicks with a conversion. false: clicks without one.", seen_by=BOTH),
    Field("requested_link", of="visitor", longest=len("https://") + _HOST + _TARGET,
          about="The tracking link that the visitor followed.",
          example="https://example.com/offer/3?affiliate_id=513", seen_by=AFFILIATE),
    Field("redirected_link", of="outcome", called="location", longest=_TARGET, shown=Shown.NULL_IF_BLANK,
          about="The Location header of the answer.",
          example="https://second.example.net/?click=01927632a6c87d3f9b1c5e8a4f60d2b7", seen_by=ADVERTISER),
    Field("is_unique", bool, of="click", example=True,
          filter="true: unique clicks (the visitor's first in the offer's window). false: all other clicks.",
          frozen=True, seen_by=BOTH),
    Field("created_at", shown=Shown.COMPUTED, about="YYYY-MM-DD HH:MM:SS in the time zone of the request.",
          example="2024-10-10 11:24:09", seen_by=BOTH),
    Field("status", of="outcome", blank=Status.ACCEPTED.value,
          choices=tuple(status.value for status in Status), filter="Clicks with this status.",
          dimension="status", seen_by=BOTH),
    Field("reason", int, of="outcome", blank=Reason.NONE.value,
          about="Code of the reason for the status. 0: accepted as usual.",
          filter="Clicks with this reason for their status. 0: accepted as usual.", dimension="reason",
          seen_by=AFFILIATE),
    Field("is_bot", bool, of="click", blank=False, filter="true: clicks of bots. false: clicks of people.",
          frozen=True, seen_by=BOTH),
    Field("bot_reason", of="click", blank=None,
          filter="Clicks that exactly this rule took for a bot's. Empty: clicks without one.",
          dimension="bot_reason", is_counted=False),
    Field("is_test", bool, of="click", blank=False, filter="true: test clicks. false: all other clicks.",
          frozen=True, seen_by=BOTH),
    Field("verdict_late", bool, of="click", blank=False,
          about="is_unique and group_hash were decided after the redirect."),
    Field("requested_offer_id", int, of="link", called="offer_id", example=3,
          filter="Clicks of links to this offer, also those that another offer took.",
          dimension="requested_offer", is_counted=False, frozen=True, seen_by=AFFILIATE),
    Field("requested_url_id", int, of="link", called="url_id", blank=None, filled=Filled.RARELY),
    Field("referrer", of="visitor", longest=2000, filled=Filled.SOMETIMES, shown=Shown.NULL_IF_BLANK,
          frozen=True, seen_by=AFFILIATE),
    Field("host", of="visitor", longest=_HOST, shown=Shown.NULL_IF_BLANK, example="example.com"),
    Field("language", of="visitor", longest=200, shown=Shown.NULL_IF_BLANK, about="Accept-Language as sent.",
          example="nl-NL,nl;q=0.9"),
    Field("client_hints", of="visitor", longest=1000, filled=Filled.RARELY, shown=Shown.NULL_IF_BLANK),
    Field("gaid", of="link", longest=_SENT_VALUE, filled=Filled.RARELY, shown=Shown.NULL_IF_BLANK),
    Field("idfa", of="link", longest=_SENT_VALUE, filled=Filled.RARELY, shown=Shown.NULL_IF_BLANK),
    Field("device_type", of="device", called="type", shown=Shown.NULL_IF_BLANK, example="desktop",
          filter="Clicks from this type of device. Empty: clicks without one.", dimension="device_type",
          frozen=True, seen_by=BOTH),
    Field("browser_version", of="device", shown=Shown.NULL_IF_BLANK, example="129.0", seen_by=BOTH),
    Field("city", of="geo", blank=None, example="Amsterdam",
          filter="Clicks from exactly this city. Empty: clicks without one.", dimension="city",
          is_counted=False, frozen=True, seen_by=BOTH),
    Field("isp", of="geo", blank=None, filter="Clicks of exactly this provider. Empty: clicks without one.",
          dimension="isp", is_counted=False),
    Field("fetch_dest", of="visitor", longest=50, filled=Filled.SOMETIMES, shown=Shown.NULL_IF_BLANK,
          example="document"),
    Field("fetch_user", of="visitor", longest=50, filled=Filled.SOMETIMES, shown=Shown.NULL_IF_BLANK,
          example="?1"),
    Field("visitor_key", int, of="click", shown=Shown.NUMBER,
          about="Keyed hash that identifies the visitor: 16 hexadecimal digits.", example="9f86d081884c7d65",
          filter="Clicks of this visitor."),
    Field("legacy_id", blank=None, shown=Shown.LEGACY, about="The click's id in an earlier tracker.",
          example="10278c6ea8b2b8", seen_by=BOTH),
    Field("legacy_source", blank=None, shown=Shown.LEGACY,
          about="The operator's name of that tracker, for `source`. null: not noted.", example="earlier"),
)
# fmt: on

BY_NAME: Final = {field.name: field for field in FIELDS}
STORED: Final = tuple(field for field in FIELDS if field.of)
"""The columns that a writer fills."""
LONGEST: Final = {field.name: field.longest for field in FIELDS if field.longest}
"""How many characters are kept of what visitors and affiliates send."""
FROZEN: Final = frozenset(field.name for field in FIELDS if field.frozen)
"""The columns that a conversion has from its click."""
OF_CONVERSIONS: Final = {
    **{name: name for name in FROZEN},
    "id": "click_id",
    "hash": "click_hash",
    "status": "click_status",
}
"""A click's columns, and the columns of its conversions that repeat them."""
FILTERS: Final = tuple(field for field in FIELDS if field.filter)
COLUMN_FILTERS: Final = tuple(field.name for field in FILTERS if field.shown is not Shown.COMPUTED)
"""The filters that compare a column."""


def ordered(names: Iterable[str], known: Sequence[str]) -> tuple[str, ...]:
    """Names in the order that clients know. New names follow in the order of the table."""
    places = {name: place for place, name in enumerate(known)}
    return tuple(sorted(names, key=lambda name: places.get(name, len(places))))


_BY_DIMENSION = {field.dimension: field for field in FIELDS if field.dimension}
_KNOWN = (
    *("offer", "offer_url", "affiliate", "country", "device_type", "os", "browser", "status", "reason"),
    *(
        "affiliate_source",
        "advertiser",
        "brand",
        "affiliate_group",
        "requested_offer",
        "region",
        "city",
        "isp",
    ),
    "bot_reason",
)
DIMENSIONS: Final = {name: _BY_DIMENSION[name] for name in ordered(_BY_DIMENSION, _KNOWN)}
"""What reports group by, and the field."""
