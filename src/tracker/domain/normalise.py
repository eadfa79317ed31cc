"""Normalises values from outside: one function for each kind of value, used by every door.

A door is a place where values come in: links, postbacks, pixels, the API, imports, uploads, the command line.
Values that identify or decide go through this module. Opaque values (sub ids, source, external_id) stay as
they came.
"""

from __future__ import annotations

import codecs
import re
import unicodedata
from collections.abc import Mapping
from decimal import ROUND_HALF_UP, Context, Decimal, InvalidOperation
from urllib.parse import unquote, unquote_to_bytes

from tracker.domain import countries, devices, languages

MAX_DIGITS = 14
"""Most digits of an amount before its point, as numeric(20, 6) allows."""

CONTROLS = dict.fromkeys([*range(0x20), *range(0x7F, 0xA0)])
"""The control characters (C0, DEL, C1: Unicode category Cc), which str.translate removes with this."""
_WHITE_SPACE = " \xa0\u1680\u2028\u2029\u202f\u205f\u3000" + "".join(map(chr, range(0x2000, 0x200B)))
_INVISIBLE = "\u200b\u200c\u200d\u2060\ufeff"
AT_ENDS = "".join(map(chr, CONTROLS)) + _WHITE_SPACE + _INVISIBLE
"""The characters that trim removes, for str.strip: a pattern for the end of a text takes quadratic time."""
_NAME = r"[A-Za-z_][A-Za-z0-9_.:-]*"
MACRO = rf"\$?\{{{_NAME}\}}|\{{\{{\s*{_NAME}\s*\}}\}}|\[{_NAME}\]|<{_NAME}>|%%{_NAME}%%|#{_NAME}#|__{_NAME}__"
"""An unfilled macro, for searches of stored rows: PostgreSQL reads the pattern in the same way."""
_MACRO = re.compile(MACRO)
NOTHING = frozenset({"null", "none", "undefined", "nil", "n/a", "(null)", "unknown"})
"""Words for "no value", in lower case."""
_NUMBER = re.compile(r"\+?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]{1,3})?", re.ASCII)
_LONGEST_NUMBER = 60
_ID = re.compile(r"[1-9][0-9]{0,17}")
_MICRO = Decimal("0.000001")
_WIDE = Context(prec=100)
_ESCAPE = re.compile(r"%[0-9A-F]{2}")
_BYTES = re.compile(rb"(?:%[89A-F][0-9A-F])+")
_UUID = re.compile(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_HASH = re.compile(r"[0-9a-f]{32}")
_UUID_WITHOUT_HYPHENS = re.compile(r"[0-9a-fA-F]{32}")
_NOT_IN_EMAIL = r"@\s\x00-\x1f\x7f-\x9f\ud800-\udfff"  # no controls, and no lone surrogates
_EMAIL = re.compile(rf"[^{_NOT_IN_EMAIL}]+@[^{_NOT_IN_EMAIL}]+\.[^{_NOT_IN_EMAIL}.]+")
_LONGEST_EMAIL = 254  # RFC 5321, section 4.5.3.1.3: a path of 256 octets has two brackets
_SEEN = "LNPS"  # letters, numbers, punctuation, symbols: the Unicode categories with a glyph
_BLANK = frozenset("\u115f\u1160\u2800\u3164\uffa0\U0001d159")  # in these categories, but blank
_BETWEEN = re.compile(r"[\s\-_./]+")
_ALPHA_2, _ALPHA_3 = 2, 3
_LONGEST_SHOWN = 50

NO_DEVICES = frozenset(
    {
        "00000000-0000-0000-0000-000000000000",
        "ffffffff-ffff-ffff-ffff-ffffffffffff",
        "d41d8cd9-8f00-b204-e980-0998ecf8427e",
        "9f89c84a-559f-5736-36a4-7ff8daed0d33",
    }
)
"""UUIDs that many devices send: nil and max (RFC 9562, sections 5.9 and 5.10), and MD5 of nothing and of nil.

Some networks send the MD5 of an advertising id even without an id.
"""

ESCAPED_MARKS = re.compile(r"\A(?:(?:amp|#0*38|#x0*26);)+", re.IGNORECASE)
"""The prefix of a name if a page's `&amp;` or `&#038;` was read as `&`."""

PERCENT = "tracker.percent"
"""The error handler of text_of, for bytes.decode."""

AMOUNT = "must be an amount like 12.50"


def trim(text: str) -> str:
    """The text without white space, invisible characters and controls at both ends. The inside stays."""
    return text.strip(AT_ENDS)


def given(text: str) -> str:
    """A value that identifies or decides, trimmed. "" if it is absent.

    Absent means an unfilled macro as the whole value, such as `{order_id}` or `%%ORDER%%`, or a word for
    nothing.
    """
    text = trim(text)
    return "" if is_unfilled(text) or text.lower() in NOTHING else text


def id_(text: str) -> int | None:
    """An id of this tracker, 1 to 18 digits without leading zeros.

    None if the text does not have that form.
    """
    return int(text) if _ID.fullmatch(text := trim(text)) else None


def hash_(text: str) -> str:
    """A hash as it is stored: 32 hexadecimal digits in lower case. "" if it is not one.

    Hyphens do not matter: other programs write it as a UUID (RFC 9562, section 4).
    """
    text = trim(text).replace("-", "").lower()
    return text if _HASH.fullmatch(text) else ""


def is_unfilled(text: str) -> bool:
    """Whether the whole value is an unfilled macro: a name in brackets.

    Its brackets may still be percent-encoded: some senders encode a template twice.
    """
    return bool(_MACRO.fullmatch(text) or ("%" in text and _MACRO.fullmatch(unquote(text))))


def amount(text: str) -> Decimal:
    """An amount in its plain form: `.5`, `1E1` and `59.970000000000006` are 0.5, 10 and 59.97.

    Rounded half away from zero to six decimals, as the columns hold them.

    Raises:
        ValueError: it is not an amount. The message says why.
    """
    text = trim(text)
    if len(text) > _LONGEST_NUMBER or not _NUMBER.fullmatch(text):
        raise ValueError(f"{AMOUNT}: digits, with a point before decimals, and nothing else")
    try:
        rounded = Decimal(text).quantize(_MICRO, rounding=ROUND_HALF_UP, context=_WIDE)
    except InvalidOperation:
        raise ValueError(f"{AMOUNT}: at most {MAX_DIGITS} digits before the point") from None
    if rounded >= 10**MAX_DIGITS:
        raise ValueError(f"{AMOUNT}: at most {MAX_DIGITS} digits before the point")
    return rounded


def word(text: str) -> str:
    """A word such as a status: trimmed, its case folded."""
    return trim(text).casefold()


def name(text: str) -> str:
    """A name of a person or thing: trimmed, in Unicode's composed form (NFC).

    Raises:
        ValueError: it has no visible character.
    """
    text = composed(text)
    if not any(unicodedata.category(character)[0] in _SEEN and character not in _BLANK for character in text):
        raise ValueError("must have a visible character")
    return text


def texts(text: str) -> list[str]:
    """Texts between commas, trimmed, as people write a list in a cell or on the command line."""
    return [trim(part) for part in text.split(",") if trim(part)]


def email(text: str) -> str:
    """An e-mail address, trimmed and in NFC. Only its form is checked, loosely: one @ between name and host.

    Raises:
        ValueError: it does not have that form.
    """
    text = composed(text)
    if len(text) > _LONGEST_EMAIL or not _EMAIL.fullmatch(text):
        raise ValueError("is not an e-mail address such as jane@partner.example")
    return text


def tag(text: str) -> str:
    """A tag in the form that all its spellings share: as a word in NFC.

    Raises:
        ValueError: it has no visible character, or a comma: commas stand between tags.
    """
    text = name(word(text))
    if "," in text:
        raise ValueError("has a comma, which stands between tags")
    return text


def composed(text: str) -> str:
    """The form that all spellings of a name share, except for letter case: trimmed and in NFC."""
    return unicodedata.normalize("NFC", trim(text))


def name_key(text: str) -> str:
    """The form that two equal names share: without differences of case and Unicode form."""
    return composed(text).casefold()


def country(text: str) -> str:
    """A country as its code of ISO 3166-1 (alpha-2), or XK.

    It may be that code, UK or EL, the alpha-3 code, or an English name of this country alone. Every ISO code
    has one meaning, so alpha-3 codes are unambiguous. Numeric codes are not accepted, because a number may
    mean anything.

    Raises:
        ValueError: it is not one country. The message names the possible ones.
    """
    text = trim(unicodedata.normalize("NFKC", text))
    known, code = countries.known(), text.replace(".", "").upper()
    code = countries.ALIASES.get(code, code)
    known_code = code if code in known.names else known.codes.get(code) or countries.named(text)
    if known_code:
        return known_code
    if several := countries.candidates(text):
        raise ValueError(f"{text!r} may be {several}: write the code")
    near = countries.nearest(text)
    hint = f"is {near} ({known.names[near]}) meant?" if near else "write its code of ISO 3166-1, such as DE"
    raise ValueError(f"{text[:_LONGEST_SHOWN]!r} is not a country: {hint}")


def region(text: str) -> str:
    """A part of a country as in ISO 3166-2, such as US-CA. Only its country is checked and corrected.

    Raises:
        ValueError: the part before the hyphen is not the code of a country.
    """
    code, hyphen, part = trim(text).partition("-")
    if len(code) != _ALPHA_2:
        raise ValueError(f"{text[:_LONGEST_SHOWN]!r} is not a region with its country, such as US-CA")
    return country(code) + hyphen + part.upper()


def language(text: str) -> str:
    """A language tag (RFC 5646) that a browser may send. German and deu become de, and pt_BR becomes pt-BR.

    Raises:
        ValueError: it does not begin with a language.
    """
    text = trim(text).replace("_", "-")
    known = languages.known()
    if text.casefold() in known:
        return known[text.casefold()]
    primary, hyphen, rest = text.partition("-")
    code = known.get(primary.casefold(), "")
    if not code and len(primary) == _ALPHA_3 and primary.isascii() and primary.isalpha():
        code = primary.lower()  # a language without a code of two letters, such as fil
    if not code:
        raise ValueError(
            f"{text[:_LONGEST_SHOWN]!r} is not a language: write its code of ISO 639-1, such as de"
        )
    return code + hyphen + rest


def system(text: str) -> str:
    """The name of an operating system here: macOS is "Mac OS X". Other names stay."""
    return devices.SYSTEMS.get(_bare(text), trim(text))


def browser(text: str) -> str:
    """The name of a browser here: "Google Chrome" is Chrome. Other names stay."""
    return devices.BROWSERS.get(_bare(text), trim(text))


def near_word(text: str) -> str:
    """The system or browser related to a word with another meaning: iOS for iPhone.

    Otherwise "".
    """
    return devices.NEAREST.get(_bare(text), "")


def device_type(text: str) -> str:
    """A type of device: mobile becomes phone, and PC becomes desktop.

    Raises:
        ValueError: it is not a type. The message names all of them.
    """
    return _listed(text, devices.TYPES, "a type of device")


def platform(text: str) -> str:
    """The architecture of a processor: x86_64 becomes x64, and aarch64 becomes ARM.

    Raises:
        ValueError: it is not an architecture. The message names all of them.
    """
    return _listed(text, devices.PLATFORMS, "an architecture")


def _listed(text: str, words: Mapping[str, str], kind: str) -> str:
    found = words.get(_bare(text))
    if found is None:
        named = ", ".join(dict.fromkeys(words.values()))
        raise ValueError(f"{text[:_LONGEST_SHOWN]!r} is not {kind}, which are {named}")
    return found


def _bare(text: str) -> str:
    return _BETWEEN.sub("", trim(text).casefold())


def device_id(text: str) -> str:
    """An advertising id (gaid, idfa) in lower case with hyphens, or "" if it does not have that form.

    It is a UUID, except those that mean "no id" or "no tracking".
    """
    if not _UUID.fullmatch(text):
        text = trim(text)
        if _UUID_WITHOUT_HYPHENS.fullmatch(text):
            text = "-".join((text[:8], text[8:12], text[12:16], text[16:20], text[20:]))
        elif not _UUID.fullmatch(text):
            return ""
    text = text.lower()
    return "" if text in NO_DEVICES else text


def text_of(value: bytes) -> str:
    """Bytes as UTF-8. Other bytes stay percent-encoded as `%EE`, so they are not lost."""
    return value.decode("utf-8", PERCENT)


def bytes_of(text: str) -> bytes:
    """The bytes from which text_of made a text.

    A `%EE` that was sent as these three characters becomes one byte.
    """
    return _BYTES.sub(_as_bytes, text.encode())


def unquoted(text: str) -> str:
    """A percent-decoded value of a query, with `+` as a space (see text_of)."""
    return text_of(unquote_to_bytes(text.replace("+", " ")))


def pairs(query: bytes) -> list[tuple[str, str]]:
    """The decoded names and values of a query or form, in order (see unquoted)."""
    split = (pair.partition("=") for pair in text_of(query).split("&") if pair)
    return [(unquoted(name), unquoted(value)) for name, _, value in split]


def cut(text: str, limit: int) -> str:
    """The first `limit` characters, or up to two fewer, so that an escape such as `%EE` is not split."""
    if len(text) <= limit:
        return text
    for start in range(max(limit - 2, 0), limit):
        if _ESCAPE.match(text, start):
            return text[:start]
    return text[:limit]


def _as_escapes(error: UnicodeError) -> tuple[str, int]:
    assert isinstance(error, UnicodeDecodeError)
    return "".join(f"%{byte:02X}" for byte in error.object[error.start : error.end]), error.end


def _as_bytes(escapes: re.Match[bytes]) -> bytes:
    decoded = unquote_to_bytes(escapes[0])
    return decoded if text_of(decoded).encode() == escapes[0] else escapes[0]  # otherwise they were not bytes


codecs.register_error(PERCENT, _as_escapes)
