"""Macros of offer URLs: `{name}` compiled when the catalogue loads, filled once per click.

What a visitor sends is percent-encoded but for RFC 3986's unreserved characters and never scanned again, and
no macro may stand before the path: so a click cannot change where its template leads.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime
from urllib.parse import quote

from tracker.model import Click, Offer, OfferUrl, Template

MAX_LOCATION = 8192
"""Longest Location sent, in bytes."""

_Getter = Callable[[Click, Offer, OfferUrl], str]

_ORIGIN = re.compile(r"https?://(?P<authority>[^/?#]*)", re.IGNORECASE)
_HOST = re.compile(
    r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?\.?(?::[0-9]{1,5})?|\[[0-9A-Fa-f:.]+\](?::[0-9]{1,5})?"
)
_CONTROL = re.compile(r"[\x00-\x20\x7f-\x9f\\]")
_LITERAL_SAFE = "!#$%&'()*+,/:;=?@[]~-._"


class TemplateError(ValueError):
    """An offer URL that may not be saved: says the rule it breaks and the position, counted from 0."""

    def __init__(self, url: str, position: int, rule: str) -> None:
        super().__init__(f"{rule} (at position {position} of {url!r})")
        self.position = position
        self.rule = rule


def compile(url: str) -> Template:  # noqa: A001 - the word for it, used as macros.compile
    """Turn an offer URL into literals and macro names, alternating.

    Raises:
        TemplateError: unknown or unclosed macro; a macro, credentials or a bad host before the path; another
            scheme than http and https; white space, control characters or a backslash.
    """
    _check_characters(url)
    origin = _ORIGIN.match(url)
    if not origin:
        raise TemplateError(url, 0, "an offer URL starts with http:// or https://")
    _check_authority(url, origin)
    parts = _split(url)
    parts[::2] = [quote(literal, safe=_LITERAL_SAFE) for literal in parts[::2]]
    return tuple(parts)


def free_text(text: str) -> str:
    """A text of free_1 … free_10 as it goes into the Location: its author's own, but ASCII.

    Raises:
        TemplateError: white space, control characters or a backslash.
    """
    _check_characters(text)
    return quote(text, safe=_LITERAL_SAFE)


def fill(template: Template, click: Click, offer: Offer, offer_url: OfferUrl) -> str:
    """The Location of a click: ASCII, in one pass. `offer` is the one that takes the click."""
    if len(template) == 1:
        return template[0]
    parts = list(template)
    for position in range(1, len(parts), 2):
        name = parts[position]
        text = MACROS[name](click, offer, offer_url)
        parts[position] = (
            text if name in _RAW or (text.isascii() and text.isalnum()) else quote(text, safe="")
        )
    return "".join(parts)


def _check_characters(text: str) -> None:
    bad = _CONTROL.search(text)
    if bad:
        raise TemplateError(
            text, bad.start(), "white space, control characters and backslashes must be percent-encoded"
        )


def _check_authority(url: str, origin: re.Match[str]) -> None:
    authority, start = origin["authority"], origin.start("authority")
    if "{" in authority:
        raise TemplateError(url, start + authority.index("{"), "no macro may stand before the path")
    if "@" in authority:
        raise TemplateError(url, start, "an offer URL carries no user name or password")
    if not _HOST.fullmatch(authority):
        raise TemplateError(url, start, "the host is not a plain ASCII host name (write others in punycode)")


def _split(url: str) -> list[str]:
    parts, at = [], 0
    while (opening := url.find("{", at)) >= 0:
        closing = url.find("}", opening)
        if closing < 0:
            raise TemplateError(url, opening, "this brace is not closed (a literal one is %7B)")
        name = url[opening + 1 : closing]
        if name not in MACROS:
            raise TemplateError(url, opening, f"unknown macro {{{name}}}")
        parts += [url[at:opening], name]
        at = closing + 1
    rest = url[at:]
    if "}" in rest:
        raise TemplateError(url, at + rest.index("}"), "this brace was not opened (a literal one is %7D)")
    return [*parts, rest]


def _time(format_: str) -> _Getter:
    return lambda click, offer, url: datetime.fromtimestamp(click.millis // 1000, UTC).strftime(format_)


def _aff_sub(n: int) -> _Getter:
    return lambda click, offer, url: click.link.aff_subs[n]


def _adv_sub(n: int) -> _Getter:
    return lambda click, offer, url: click.link.adv_subs[n]


def _free(n: int) -> _Getter:
    def free(click: Click, offer: Offer, url: OfferUrl) -> str:
        own = offer.free.get(click.affiliate.id)
        every = offer.free.get(0)
        return (own and own[n]) or (every and every[n]) or ""

    return free


def _number(value: int | None) -> str:
    return "" if value is None else str(value)


MACROS: dict[str, _Getter] = {
    "hash": lambda click, offer, url: click.hash,
    "offer_id": lambda click, offer, url: str(offer.id),
    "offer_name": lambda click, offer, url: offer.name,
    "offer_url_id": lambda click, offer, url: str(url.id),
    "advertiser_id": lambda click, offer, url: str(offer.advertiser_id),
    "affiliate_id": lambda click, offer, url: str(click.affiliate.id),
    "affiliate_name": lambda click, offer, url: click.affiliate.name,
    "aff_group_id": lambda click, offer, url: _number(click.affiliate.group_id),
    "brand_id": lambda click, offer, url: _number(offer.brand_id),
    "affiliate_source": lambda click, offer, url: click.link.source,
    "external_id": lambda click, offer, url: click.link.external_id,
    "gaid": lambda click, offer, url: click.link.gaid,
    "idfa": lambda click, offer, url: click.link.idfa,
    "country_code": lambda click, offer, url: click.geo.country_code or "",
    "region_code": lambda click, offer, url: click.geo.region_code or "",
    "device_os": lambda click, offer, url: click.device.os,
    "device_os_version": lambda click, offer, url: click.device.os_version,
    "device_brand": lambda click, offer, url: click.device.brand,
    "device_model": lambda click, offer, url: click.device.model,
    "browser": lambda click, offer, url: click.device.browser,
    "platform": lambda click, offer, url: click.device.platform,
    "mobile_carrier": lambda click, offer, url: click.geo.mobile_carrier,
    "user_agent": lambda click, offer, url: click.visitor.user_agent,
    "ip": lambda click, offer, url: click.visitor.ip,
    "timestamp": lambda click, offer, url: str(click.millis // 1000),
    "date": _time("%Y-%m-%d"),
    "datetime": _time("%Y-%m-%d %H:%M:%S"),
    "rand": lambda click, offer, url: str(int(click.hash[20:], 16) % 10**10),
    **{f"aff_sub{n + 1}" if n else "aff_sub": _aff_sub(n) for n in range(20)},
    **{f"adv_sub{n + 1}" if n else "adv_sub": _adv_sub(n) for n in range(5)},
    **{f"free_{n + 1}": _free(n) for n in range(10)},
}
_ALIASES = {"click_id": "hash", "click_hash": "hash", "transaction_id": "hash", "source": "affiliate_source"}
_ALIASES |= {f"sub{n + 1}": f"aff_sub{n + 1}" if n else "aff_sub" for n in range(20)}
MACROS |= {alias: MACROS[name] for alias, name in _ALIASES.items()}

_RAW = frozenset(f"free_{n + 1}" for n in range(10))  # went through free_text when the catalogue was loaded
