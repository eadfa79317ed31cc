"""Deep links: the visitor names the page (`url=`), the offer its hosts, and the click's hash is added.

The check accepts less than a browser does: only plain https, a known host and a path. So browsers have no
room to read the URL differently, and there is no open redirect.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from urllib.parse import unquote_plus

from tracker.domain.macros import MAX_LOCATION, TemplateError, literal

_MAX_PARAMETERS = 100  # most parameters of a deep link, because each is compared
_LABEL = r"(?!-)[a-z0-9-]{1,63}(?<!-)"
_ADDRESS = r"(?:[0-9]+|0x[0-9a-f]*)(?![a-z0-9-])"  # last labels that browsers read as an address
_NAME = rf"(?:{_LABEL}\.){{1,126}}(?!{_ADDRESS}){_LABEL}"
_HOST = re.compile(rf"(?=.{{,253}}\Z)\.?{_NAME}", re.ASCII | re.IGNORECASE)
_DEEP_LINK = re.compile(rf"https://(?P<host>{_NAME})(?::443)?(?=[/?#]|\Z)", re.ASCII | re.IGNORECASE)


def hosts(texts: Sequence[str]) -> frozenset[str]:
    """An offer's deep link hosts in lower case: "shop.test" is that host, ".shop.test" every host below it.

    Raises:
        ValueError: not an ASCII host name (RFC 1123, section 2.1) of two labels or more, or an address.
    """
    bad = next((text for text in texts if not _HOST.fullmatch(text)), None)
    if bad is not None:
        raise ValueError(f"{bad!r} is not a host name such as shop.test, or .shop.test for its subdomains")
    return frozenset(text.lower() for text in texts)


def follow(deep_link: str, hosts: frozenset[str], location: str) -> str | None:
    """The page of a deep link with the query of `location`, the offer URL filled for the click.

    None if the page is not allowed: another scheme, host or port, credentials, white space, control
    characters or a backslash. More than 100 parameters or a URL over MAX_LOCATION are not allowed either. A
    parameter that `location` also has is taken only from there, in any spelling. So a link cannot bring a
    click's hash of its own.
    """
    match = _DEEP_LINK.match(deep_link)
    if not match or not _is_among(match["host"].lower(), hosts):
        return None
    try:
        address, mark, fragment = literal(deep_link).partition("#")
    except TemplateError:
        return None
    page, _, own = address.partition("?")
    if own.count("&") >= _MAX_PARAMETERS:
        return None
    query = _joined(own, location.partition("#")[0].partition("?")[2])
    followed = f"{page}{query and '?' + query}{mark}{fragment}"
    return followed if len(followed) <= MAX_LOCATION else None


def _joined(own: str, added: str) -> str:
    """Two query strings as one. The first one loses the names that the second one has."""
    if not added:
        return own
    taken = names_of(added)
    kept = [_without(taken, pair) for pair in own.split("&")]
    return "&".join([*filter(None, kept), added])


def _without(taken: frozenset[str], pair: str) -> str:
    """A pair without the parameters that are taken from the other query.

    Some servers also split at ";" (HTML 4.01, B.2.2), so a pair may contain several parameters.
    """
    return ";".join(each for each in pair.split(";") if taken.isdisjoint(_names(each)))


def names_of(query: str) -> frozenset[str]:
    """The readings of all names in a query. Two names that share one may be one parameter to a server."""
    return frozenset[str]().union(*map(_names, query.replace(";", "&").split("&")))


def _names(pair: str) -> frozenset[str]:
    return _readings(pair.partition("=")[0])


@lru_cache(256)  # a few names make up most links
def _readings(name: str) -> frozenset[str]:
    """The letters and digits of a name in one case: in full, and up to a bracket.

    Servers distinguish no more than that. ASP.NET folds case, PHP takes "click.id", "click id" and "click[id"
    for "click_id", and PHP, Rails and qs read "click_id[]" and "[click_id]" as "click_id".
    """
    whole = unquote_plus(name).upper().casefold()  # upper() turns a dotless i into one with a dot
    first = whole.replace("]", "[").strip("[ ").partition("[")[0]
    return frozenset("".join(filter(str.isalnum, text)) or text for text in (whole, first))


def _is_among(host: str, hosts: frozenset[str]) -> bool:
    if host in hosts:
        return True
    dot = host.find(".", 1)
    while dot > 0 and host[dot:] not in hosts:
        dot = host.find(".", dot + 1)
    return dot > 0
