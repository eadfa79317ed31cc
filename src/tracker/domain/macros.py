"""Macros of offer URLs: `{name}` compiled when the catalogue loads, filled once per click.

Values from visitors are percent-encoded except for RFC 3986's unreserved characters, and never scanned again.
Macros cannot stand before the path. So a click cannot change the site that its template leads to.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Container
from datetime import UTC, datetime
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address
from sys import intern
from typing import Final
from urllib.parse import quote

from tracker.domain import link_query
from tracker.domain.click_fields import LONGEST
from tracker.domain.model import NO_URL_ID, Choice, Click, Template
from tracker.domain.normalise import cut

MAX_LOCATION: Final = 8192
"""Longest Location sent, in bytes."""
_PARAMETER: Final = "param:"

_Getter = Callable[[Click, Choice], str]

_ORIGIN = re.compile(r"https?://(?P<authority>[^/?#]*)(?P<path>[^?#]*)", re.IGNORECASE | re.ASCII)
_AUTHORITY = re.compile(
    r"(?P<host>\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?\.?)(?::(?P<port>[0-9]+))?"
)
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*", re.IGNORECASE)
_UNSAFE = re.compile(r"[\x00-\x20\x7f-\x9f\\\ud800-\udfff]")
_DOTS = re.compile(r"(?:^|(?<=/))\.{1,2}(?![^/?#])|%2e", re.IGNORECASE)
_DOT_SEGMENT = re.compile(r"[^?#]*/\.{1,2}(?![^/?#])")
_STRAY_PERCENT = re.compile(r"%(?![0-9A-Fa-f]{2})")
_LITERAL_SAFE = "!#$%&'()*+,/:;=?@[]~-._"


class TemplateError(ValueError):
    """A URL may not be saved. The message names the broken rule and the position, counted from 0."""

    def __init__(self, url: str, position: int, rule: str) -> None:
        super().__init__(f"{rule} (at position {position} of {url!r})")
        self.position = position
        self.rule = rule


def compile(url: str) -> Template:  # noqa: A001 - the field's word, used as macros.compile
    """Turn an offer URL into literals and macro names, alternating.

    Raises:
        TemplateError: as for compile_url.
    """
    return compile_url(url, MACROS, takes_parameters=True)


def compile_url(url: str, known: Container[str], *, takes_parameters: bool = False) -> Template:
    """Turn a URL with some known macros into literals and macro names, alternating.

    `takes_parameters`: {param:NAME} is known, too.

    Raises:
        TemplateError: a macro is unknown or unclosed, or stands before the path. The scheme is not
            http or https, or there are credentials or a bad host or port. The path has dot segments, or the
            URL has white space, control characters or a backslash.
    """
    _check_characters(url)
    origin = _ORIGIN.match(url)
    if not origin:
        raise TemplateError(url, 0, "a URL starts with http:// or https://")
    _check_authority(url, origin)
    _check_dots(url, origin.start("path"), origin.end("path"))
    parts = _split(url, known, takes_parameters)
    parts[::2] = map(_ascii, parts[::2])
    return tuple(map(intern, parts))  # parts that thousands of URLs share are cached


def free_text(text: str) -> str:
    """A text of free_1 … free_10 as it goes into the Location: the author's own text, as ASCII.

    Raises:
        TemplateError: dot segments, white space, control characters or a backslash.
    """
    _check_dots(text, 0, len(text))
    return literal(text)


def literal(text: str) -> str:
    """Part of an address as it goes into a Location: ASCII, with its existing escapes.

    Raises:
        TemplateError: white space, control characters or a backslash.
    """
    _check_characters(text)
    return _ascii(text)


def fill(template: Template, click: Click, choice: Choice) -> str:
    """The Location of a click as ASCII, filled in one pass.

    `choice` is the offer and URL that take the click.
    """
    if len(template) == 1:
        return template[0]
    parts = list(template)
    for position in range(1, len(parts), 2):
        name = parts[position]
        getter = MACROS.get(name)
        text = getter(click, choice) if getter is not None else _parameter(click, name)
        if text and name not in _AS_IS and not (text.isascii() and text.isalnum()):
            text = _quoted(text)
        parts[position] = text
    return "".join(parts)


def value(name: str, click: Click, choice: Choice) -> str:
    """The value of a template's macro, before percent-encoding."""
    getter = MACROS.get(name)
    return getter(click, choice) if getter is not None else _parameter(click, name)


def _parameter(click: Click, name: str) -> str:
    """The value of {param:NAME}: a parameter of the tracking link, cut as the affiliate's own values are."""
    return cut(link_query.value(click.link.query, name[len(_PARAMETER) :]) or "", LONGEST["aff_sub"])


@lru_cache(4096)  # cached texts of links, half a kilobyte each at most
def _quoted(text: str) -> str:
    return quote(text, safe="")


def text(template: Template) -> str:
    """A template as it was written, except for characters that became ASCII."""
    return "".join(f"{{{part}}}" if n % 2 else part for n, part in enumerate(template))


def sendable(location: str) -> bool:
    """Whether a filled template may be sent: one line of ASCII, short enough, to the site of its template.

    A value "." or ".." that fills a whole path segment cannot be escaped. Browsers read %2E as a dot and
    remove the segment before it (WHATWG URL, "double-dot URL path segment").
    """
    if len(location) > MAX_LOCATION or not location.isascii() or "\n" in location or "\r" in location:
        return False
    return "/." not in location or not _DOT_SEGMENT.match(location)


def _ascii(text: str) -> str:
    # A stray % is escaped, because it could form an escape with the value after it.
    return quote(_STRAY_PERCENT.sub("%25", text), safe=_LITERAL_SAFE)


def _check_characters(text: str) -> None:
    bad = _UNSAFE.search(text)
    if bad:
        raise TemplateError(
            text, bad.start(), "white space, control characters and backslashes must be percent-encoded"
        )


def _check_dots(text: str, start: int, end: int) -> None:
    dots = _DOTS.search(text, start, end)
    if dots:
        raise TemplateError(
            text, dots.start(), "a path must not have . or .. as a segment, or a dot written as %2E"
        )


def _check_authority(url: str, origin: re.Match[str]) -> None:
    authority, start = origin["authority"], origin.start("authority")
    if "{" in authority:
        raise TemplateError(url, start + authority.index("{"), "no macro may stand before the path")
    if "@" in authority:
        raise TemplateError(url, start, "a URL carries no user name or password")
    parts = _AUTHORITY.fullmatch(authority)
    if not parts or not _is_host(parts["host"]):
        raise TemplateError(url, start, "the host is not a plain ASCII host name (write others in punycode)")
    if len(parts["port"] or "") > 5 or int(parts["port"] or 0) > 65535:
        raise TemplateError(url, start + parts.start("port"), "the port is not a number up to 65535")


def _is_host(host: str) -> bool:
    """Whether browsers keep the host as it is written. A host that ends in a number is an address to them."""
    try:
        if host.startswith("["):
            IPv6Address(host[1:-1])
        elif _NUMBER.fullmatch(host.removesuffix(".").rpartition(".")[2]):
            IPv4Address(host)
    except ValueError:
        return False
    return True


def _split(url: str, known: Container[str], takes_parameters: bool) -> list[str]:
    parts, at = [], 0
    while (opening := url.find("{", at)) >= 0:
        closing = url.find("}", opening)
        if closing < 0:
            raise TemplateError(url, opening, "this brace is not closed (a literal one is %7B)")
        name = url[opening + 1 : closing]
        if name.startswith(_PARAMETER):
            _check_parameter(url, opening, name[len(_PARAMETER) :], takes_parameters)
        elif name not in known:
            raise TemplateError(url, opening, f"unknown macro {{{name}}}")
        parts += [url[at:opening], name]
        at = closing + 1
    rest = url[at:]
    if "}" in rest:
        raise TemplateError(url, at + rest.index("}"), "this brace was not opened (a literal one is %7D)")
    return [*parts, rest]


def _check_parameter(url: str, position: int, name: str, takes_parameters: bool) -> None:
    if not takes_parameters:
        raise TemplateError(url, position, "{param:…} is a macro of offer URLs and fallback URLs only")
    try:
        link_query.check_name(name)
    except ValueError as error:
        raise TemplateError(url, position, f"{{param:{name}}}: {error}") from error


def _time(format_: str) -> _Getter:
    return lambda click, choice: datetime.fromtimestamp(click.millis // 1000, UTC).strftime(format_)


def _aff_sub(n: int) -> _Getter:
    return lambda click, choice: click.link.aff_subs[n]


def _adv_sub(n: int) -> _Getter:
    return lambda click, choice: click.link.adv_subs[n]


def _free(n: int) -> _Getter:
    return lambda click, choice: choice.terms.free[n] or choice.offer.free[n]


def _number(value: int | None) -> str:
    return "" if value is None else str(value)


def _known(text: str) -> str:
    return "" if text == "UNK" else text  # the name in the read API, which advertisers need not know


MACROS: Final[dict[str, _Getter]] = {
    "hash": lambda click, choice: click.hash,
    "offer_id": lambda click, choice: str(choice.offer.id),
    "offer_name": lambda click, choice: choice.offer.name,
    "offer_url_id": lambda click, choice: _number(None if choice.url.id == NO_URL_ID else choice.url.id),
    "advertiser_id": lambda click, choice: str(choice.offer.advertiser_id),
    "affiliate_id": lambda click, choice: str(click.affiliate.id),
    "affiliate_name": lambda click, choice: click.affiliate.name,
    "aff_group_id": lambda click, choice: _number(click.affiliate.group_id),
    "brand_id": lambda click, choice: _number(choice.offer.brand_id),
    "affiliate_source": lambda click, choice: click.link.source,
    "external_id": lambda click, choice: click.link.external_id,
    "gaid": lambda click, choice: click.link.gaid,
    "idfa": lambda click, choice: click.link.idfa,
    "country_code": lambda click, choice: click.geo.country_code or "",
    "region_code": lambda click, choice: click.geo.region_code or "",
    "device_os": lambda click, choice: _known(click.device.os),
    "device_os_version": lambda click, choice: _known(click.device.os_version),
    "device_brand": lambda click, choice: click.device.brand,
    "device_model": lambda click, choice: click.device.model,
    "browser": lambda click, choice: click.device.browser,
    "platform": lambda click, choice: click.device.platform,
    "mobile_carrier": lambda click, choice: _known(click.geo.mobile_carrier),
    "user_agent": lambda click, choice: click.visitor.user_agent,
    "ip": lambda click, choice: click.visitor.ip,
    "timestamp": lambda click, choice: str(click.millis // 1000),
    "date": _time("%Y-%m-%d"),
    "datetime": _time("%Y-%m-%d %H:%M:%S"),
    "rand": lambda click, choice: str(int(click.hash[20:], 16) % 10**10),
    **{f"aff_sub{n + 1}" if n else "aff_sub": _aff_sub(n) for n in range(20)},
    **{f"adv_sub{n + 1}" if n else "adv_sub": _adv_sub(n) for n in range(5)},
    **{f"free_{n + 1}": _free(n) for n in range(10)},
}
_ALIASES = {"click_id": "hash", "click_hash": "hash", "transaction_id": "hash", "source": "affiliate_source"}
_ALIASES |= {f"sub{n + 1}": f"aff_sub{n + 1}" if n else "aff_sub" for n in range(20)}
MACROS.update({alias: MACROS[name] for alias, name in _ALIASES.items()})

# Digits and letters, and texts that free_text checked when the catalogue was loaded.
_AS_IS: Final = frozenset(
    {"hash", "offer_id", "affiliate_id", "timestamp", *(f"free_{n + 1}" for n in range(10))}
)
