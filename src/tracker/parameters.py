"""Types of parameters: texts of a query string or of the command line, and the values they stand for.

The file is in no room: `catalogue` and `reading` both need it, and `domain` has the standard library only.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Sequence
from datetime import datetime
from ipaddress import ip_network
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema

from tracker.domain import devices, normalise
from tracker.domain.local_time import read_local, zone_named
from tracker.domain.model import MAX_ID
from tracker.domain.normalise import trim
from tracker.edge.read.client_address import plain_address
from tracker.edge.read.text import crop
from tracker.errors import Errors, in_words

_MAX_PER_PAGE = 1_000
_LONGEST_TEXT = 500  # as links are cropped: no stored text is longer

_LONGEST_SHOWN = 50  # characters of a value in an error
_LONGEST_CODE = 3
_MAX_REASON = 2**15 - 1  # of a smallint
_VISITOR_KEY = re.compile(r"[0-9a-fA-F]{16}")

_BOOLEANS = {"true": True, "1": True, "false": False, "0": False}
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


class ParameterError(Exception):
    """Parameters cannot be read, or contradict each other."""

    def __init__(self, errors: Errors) -> None:
        self.errors = errors
        super().__init__(in_words(errors))


def _whole(low: int, high: int) -> Callable[[str], int]:
    def read(text: str) -> int:
        text = trim(text)
        if (
            not (text.isascii() and text.isdigit())
            or len(text) > len(str(high))
            or not low <= int(text) <= high
        ):
            raise ValueError(f"is not a whole number from {low} to {high}")
        return int(text)

    return read


def _id(text: str) -> int:
    found = normalise.id_(text)
    if found is None:
        raise ValueError(f"is not a whole number from 1 to {MAX_ID}, written without leading zeros")
    return found


def _hash(text: str) -> str:
    found = normalise.hash_(text)
    if not found:
        raise ValueError("is not a hash: 32 hexadecimal digits")
    return found


def _boolean(text: str) -> bool:
    if (text := normalise.word(text)) not in _BOOLEANS:
        raise ValueError("is not true or false")
    return _BOOLEANS[text]


def _text(text: str) -> str:
    if len(text) > _LONGEST_TEXT or _CONTROL.search(text):
        raise ValueError(f"is longer than {_LONGEST_TEXT} characters or has control characters")
    return text


def _ident(text: str) -> str:
    """As it was written: rows may have it like that, or trimmed."""
    _text(trim(text))
    return crop(text, len(text))


def _names(text: str) -> list[str]:
    """The forms in which a name may be kept: as it was written, and with its accents composed or apart."""
    composed = normalise.composed(_text(text))
    return list(dict.fromkeys((text, composed, unicodedata.normalize("NFD", composed))))


def _name_of(known: Callable[[str], str]) -> Callable[[str], str]:
    """A text, as the name that a system or browser has here."""
    return lambda text: known(_text(text))


def _or_unknown(read: Callable[[str], str]) -> Callable[[str], str]:
    """A value, or an empty text for rows without one."""
    return lambda text: read(text) if trim(text) else ""


def _search(text: str) -> str:
    return normalise.composed(_text(text))


def _tag(text: str) -> str:
    return normalise.tag(_text(text))


def _one_of(*known: str) -> Callable[[str], str]:
    def read(text: str) -> str:
        text = trim(text)
        text = text if text in known else normalise.word(text)
        if text not in known:
            raise ValueError(f"is not one of: {', '.join(known)}")
        return text

    return read


def _local(*, is_end: bool) -> Callable[[str], datetime]:
    return lambda text: read_local(text, is_end=is_end)


def choice(*known: str) -> Any:
    """The type of a parameter that is one of some words."""
    return Annotated[str | None, BeforeValidator(_one_of(*known)), _schema("string", enum=list(known))]


def whole(low: int, high: int) -> Any:
    """The type of a parameter that is a whole number in a range."""
    return Annotated[int, BeforeValidator(_whole(low, high)), _schema("integer", minimum=low, maximum=high)]


def words(*known: str) -> Any:
    """The type of a parameter that is some words of a few, separated by commas."""
    read = _one_of(*known)
    pattern = f"^({'|'.join(known)})(,({'|'.join(known)}))*$"
    return Annotated[
        list[str] | None,
        BeforeValidator(lambda text: [read(word) for word in text.split(",")]),
        _schema("string", pattern=pattern, examples=[known[0]]),
    ]


SEVERAL: Final = "several values"
"""Marks the type of a parameter that may be repeated."""

MAX_SECONDS: Final = 10**10
"""Longest time of a parameter in seconds: three centuries."""
MOST_VALUES: Final = 100
"""Most values of such a parameter."""


def _by_commas(text: str) -> list[str]:
    return text.split(",")


def _as_one(text: str) -> list[str]:
    """A text that may have a comma itself."""
    return [text]


def _by_commas_of_codes(text: str) -> list[str]:
    """Countries. Names such as "Korea, Republic of" have commas, and codes have at most three letters."""
    codes = text.split(",")
    return codes if all(len(trim(code)) <= _LONGEST_CODE for code in codes) else [text]


def _several(
    read: Callable[[str], Any], *, split: Callable[[str], list[str]] = _by_commas, **items: Any
) -> Any:
    """The type of a parameter with several values: it may be repeated, and each text is `split`."""

    def read_all(given: str | Sequence[str]) -> tuple[Any, ...]:
        parts = [given] if isinstance(given, str) else given
        texts = [text for part in parts for text in split(part)]
        if len(texts) > MOST_VALUES:
            raise ValueError(f"has more than {MOST_VALUES} values")
        return tuple(dict.fromkeys(map(read if len(texts) == 1 else read_one, texts)))

    def read_one(text: str) -> Any:
        try:
            return read(text)
        except ValueError as error:
            raise ValueError(f"{text[:_LONGEST_SHOWN]!r}: {error}") from None

    schema = _schema("array", items=items, minItems=1, maxItems=MOST_VALUES)
    return Annotated[tuple[Any, ...] | None, BeforeValidator(read_all), schema, SEVERAL]


def choices(*known: str) -> Any:
    """The type of a parameter that is some words of a few."""
    return _several(_one_of(*known), type="string", enum=list(known))


def _address(text: str) -> str:
    """An address or a network in canonical form. A network of one address is that address."""
    text = trim(text)
    if address := plain_address(text):
        return address
    try:
        network = ip_network(text, strict=False)
    except ValueError:
        raise ValueError("is not an IP address or CIDR") from None
    is_one = network.prefixlen == network.max_prefixlen
    return plain_address(str(network.network_address)) if is_one else str(network)


def _visitor_key(text: str) -> int:
    text = trim(text)
    if not _VISITOR_KEY.fullmatch(text):
        raise ValueError("is not a visitor_key: 16 hexadecimal digits")
    return int.from_bytes(bytes.fromhex(text), signed=True)


def _schema(type_: str, **more: object) -> WithJsonSchema:
    return WithJsonSchema({"type": type_, **more})


def about(text: str) -> Any:
    return Field(default=None, description=text)


_A_HASH = "01927632a6c87d3f9b1c5e8a4f60d2b7"
_HASH_SCHEMA = _schema("string", pattern="^[0-9a-fA-F]{32}$", examples=[_A_HASH])
_COUNTRY_SCHEMA = _schema("string", examples=["NL"])
_DATE_SCHEMA = _schema("string", examples=["2024-07-08 13:40:00", "2024-07-08"])

_ID: dict[str, Any] = {"type": "integer", "minimum": 1, "maximum": MAX_ID, "examples": [3]}
_TEXT: dict[str, Any] = {"type": "string", "maxLength": _LONGEST_TEXT, "examples": ["winter"]}

Ids = _several(_id, **_ID)
Keys = _several(_ident, **_TEXT | {"examples": [_A_HASH]})
Texts = _several(_text, split=_as_one, **_TEXT)
Idents = _several(_ident, split=_as_one, **_TEXT | {"examples": ["A-1001"]})
Countries = _several(
    _or_unknown(normalise.country), split=_by_commas_of_codes, type="string", examples=["NL"]
)
Systems = _several(_name_of(normalise.system), split=_as_one, **_TEXT | {"examples": ["Android"]})
Browsers = _several(_name_of(normalise.browser), split=_as_one, **_TEXT | {"examples": ["Chrome"]})
DeviceTypes = _several(
    _or_unknown(normalise.device_type),
    type="string",
    enum=[*dict.fromkeys(devices.TYPES.values()), ""],
    examples=["phone"],
)
Addresses = _several(_address, type="string", examples=["198.51.100.0/24"])
Reasons = _several(_whole(0, _MAX_REASON), type="integer", minimum=0, maximum=_MAX_REASON, examples=[12])
VisitorKeys = _several(
    _visitor_key, type="string", pattern="^[0-9a-fA-F]{16}$", examples=["9f86d081884c7d65"]
)
Id = Annotated[int | None, BeforeValidator(_id), WithJsonSchema(_ID)]
Hash = Annotated[str | None, BeforeValidator(_hash), _HASH_SCHEMA]
Bool = Annotated[bool | None, BeforeValidator(_boolean), _schema("boolean")]
Text = Annotated[
    str | None, BeforeValidator(_text), _schema("string", maxLength=_LONGEST_TEXT, examples=["winter"])
]
Search = Annotated[
    str, BeforeValidator(_search), _schema("string", maxLength=_LONGEST_TEXT, examples=["puzzle"])
]
Tag = Annotated[
    str | None, BeforeValidator(_tag), _schema("string", maxLength=_LONGEST_TEXT, examples=["vip"])
]
Ident = Annotated[
    str | None, BeforeValidator(_ident), _schema("string", maxLength=_LONGEST_TEXT, examples=["A-1001"])
]
Name = Annotated[
    list[str] | None,
    BeforeValidator(_names),
    _schema("string", maxLength=_LONGEST_TEXT, examples=["Puzzle Quest"]),
]
Country = Annotated[str | None, BeforeValidator(normalise.country), _COUNTRY_SCHEMA]
From = Annotated[datetime | None, BeforeValidator(_local(is_end=False)), _DATE_SCHEMA]
To = Annotated[datetime | None, BeforeValidator(_local(is_end=True)), _DATE_SCHEMA]
Zone = Annotated[Any, BeforeValidator(zone_named), _schema("string", examples=["Europe/Berlin"])]
Sort = Annotated[
    str,
    BeforeValidator(_one_of("-created_at", "created_at")),
    _schema("string", enum=["-created_at", "created_at"]),
]
Format = Annotated[
    Literal["ndjson", "csv", "excel"],
    BeforeValidator(_one_of("ndjson", "csv", "excel")),
    _schema("string", enum=["ndjson", "csv", "excel"]),
]
Separator = Annotated[
    Literal[",", ";"] | None, BeforeValidator(_one_of(",", ";")), _schema("string", enum=[",", ";"])
]
PerPage = Annotated[
    int, BeforeValidator(_whole(1, _MAX_PER_PAGE)), _schema("integer", minimum=1, maximum=_MAX_PER_PAGE)
]
PageNumber = Annotated[
    int | None, BeforeValidator(_whole(1, 10**12)), _schema("integer", minimum=1, maximum=10**12)
]
CursorText = Annotated[str | None, BeforeValidator(_text), _schema("string")]
AfterId = Annotated[
    int | None, BeforeValidator(_whole(0, MAX_ID)), _schema("integer", minimum=0, maximum=MAX_ID)
]
Seconds = Annotated[
    int | None, BeforeValidator(_whole(0, MAX_SECONDS)), _schema("integer", minimum=0, maximum=MAX_SECONDS)
]


def without_defaults_of_null(schema: dict[str, Any]) -> None:
    for parameter in schema["properties"].values():
        if "default" in parameter and parameter["default"] is None:
            del parameter["default"]


class Model(BaseModel):
    """A model that is built by its first use, in a millisecond. A start would build two hundred."""

    model_config = ConfigDict(defer_build=True)


class Query(Model):
    """Parameters of an endpoint: none."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        json_schema_extra=without_defaults_of_null,
        arbitrary_types_allowed=True,
    )
