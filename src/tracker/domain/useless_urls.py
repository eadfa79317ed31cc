"""Finds URLs of the catalogue that can be saved and sent but cannot do what they should.

Certain mistakes are refused when the URL is saved. Possible mistakes are only warned about.
"""

from __future__ import annotations

import re
from collections.abc import Container, Iterator
from ipaddress import ip_address, ip_network
from urllib.parse import unquote, urlsplit

from tracker.domain.macros import TemplateError
from tracker.domain.normalise import is_unfilled
from tracker.domain.public_addresses import PORTS, refusal

_NAME = r"[A-Za-z_][A-Za-z0-9_.:-]*"
# Macros of other systems. `[name]=` is a form field with a list, as PHP has them.
_FOREIGN = re.compile(
    rf"[$%]\{{(?P<braces>{_NAME})\}}|\[(?P<brackets>{_NAME})\](?![=\[])|<(?P<angles>{_NAME})>|%%(?P<percents>{_NAME})%%"
    rf"|#(?P<hashes>{_NAME})#|__(?P<underscores>[A-Za-z](?:_?[A-Za-z0-9.:-])*)__|!!!(?P<marks>{_NAME})!!!"
    rf"|\$(?P<dollars>{_NAME})\$|(?<!%)%(?![0-9A-Fa-f]{{2}})(?P<percent>{_NAME})%(?!%)"
)
_OURS = re.compile(rf"\{{({_NAME})\}}")
_AMPERSAND = re.compile(r"&(?:amp|#0*38|#x0*26);", re.IGNORECASE)
_ENTITY = re.compile(r"&(?:quot|apos|lt|gt|nbsp|#[0-9]+|#x[0-9a-f]+);", re.IGNORECASE)
# Characters that no word of any script and no emoji needs: they are copied from a chat or a document.
_INVISIBLE = re.compile(r"[\xad\u200b\u200e\u200f\u202a-\u202e\u2060-\u2069\ufeff]")
_QUOTES = re.compile(r"[\u2018-\u201f\u2026\u2039\u203a\xab\xbb]")
# A value that is a name between marks of no particular system, or after one, as in SQL and PHP.
_MARKED = re.compile(rf"(?<==)(?:[(@|*~!^]{{1,2}}({_NAME})[)@|*~!^]{{1,2}}|[:@$]({_NAME}))(?=[&#]|$)")
_SECOND_MARK = re.compile(r"\?(?=([A-Za-z_][\w.-]*)=)", re.ASCII)
_WITHOUT_MARK = re.compile(r"&([A-Za-z_][\w.-]*)=", re.ASCII)
_BETWEEN_PARTS = re.compile(r"[/?&=#]")
_EVERYWHERE = (ip_network("0.0.0.0/0"), ip_network("::/0"))
# Names without a public server: RFC 6761, RFC 6762 (and its appendix G), RFC 7686, RFC 8375, RFC 9476, and
# ICANN's resolutions of 2018-02-04 and 2024-07-29.
_LOCAL = (
    *(".localhost", ".localdomain", ".local", ".internal", ".intranet", ".private", ".invalid", ".home.arpa"),
    *(".home", ".lan", ".corp", ".onion", ".alt"),
)
_SOMEWHERE = "host.example"
_USUAL_PORTS = {"http": 80, "https": 443}


def refuse(url: str, known: Container[str]) -> None:
    """Check that a URL with some known macros has no mistake with a clear correction.

    Raises:
        TemplateError: an ampersand in HTML's form, an invisible character, a known macro in another system's
            brackets, or an impossible host or port.
    """
    host, port = _place(url)
    if ".." in host:
        raise TemplateError(url, url.index(".."), "the host has two points with nothing between them")
    if port == 0:
        raise TemplateError(url, url.index(":0"), "there is no port 0")
    if match := _INVISIBLE.search(url):
        raise TemplateError(url, match.start(), f"an invisible character (U+{ord(match[0]):04X})")
    if match := _AMPERSAND.search(url):
        raise TemplateError(url, match.start(), f"{match[0]} is how HTML writes &: write & itself")
    for position, written, name in _foreign(url):
        if name in known:
            raise TemplateError(url, position, f"{written} is not filled here: write {{{name}}}")


def refuse_host(url: str) -> None:
    """Check that an affiliate postback goes to an allowed address.

    Raises:
        TemplateError: no setting can allow it.
    """
    host, port = _place(url)
    if _is_address(host) and (why := refusal(host, port, _EVERYWHERE)):
        raise TemplateError(url, url.index(host), f"{why}, and is never called")


def refuse_private(url: str) -> None:
    """Check that an affiliate postback goes to a public address and a usual port, if its text says so.

    Raises:
        TemplateError: it does not. The operator's settings do not matter.
    """
    if why := _why_private(url):
        raise TemplateError(url, url.index("//") + 2, f"{why}: affiliates' own postbacks go to public hosts")


def corrected(url: str, known: Container[str]) -> str:
    """A URL without the mistakes that `refuse` refuses, except an impossible host or port."""
    url = _INVISIBLE.sub("", url)
    while match := _AMPERSAND.search(url):
        url = url[: match.start()] + "&" + url[match.end() :]
    for position, written, name in reversed(list(_foreign(url))):
        if name in known:
            url = url[:position] + f"{{{name}}}" + url[position + len(written) :]
    return url


def of_url(url: str, known: Container[str]) -> list[str]:
    """The oddities of a URL with some known macros."""
    foreign = [f"{written} is sent as it stands: it is not a macro here" for _, written, _ in _foreign(url)]
    return [*foreign, *_escaped(url, known), *_marked(url, known), *_misplaced(url)]


def of_offer_url(url: str, known: Container[str]) -> list[str]:
    """The oddities of an offer URL."""
    doubts, (host, _) = of_url(url, known), _place(url)
    if refusal(host, PORTS[0]) if _is_address(host) else _is_local(host):
        doubts.append(f"{host} is not public: only visitors within its network reach it")
    return doubts


def of_postback(url: str, known: Container[str]) -> list[str]:
    """The oddities of an affiliate postback's URL."""
    doubts = of_url(url, known)
    if why := _why_private(url):
        doubts.append(f"{why}: nothing is sent there unless TRACKER_POSTBACK_NETWORKS allows it")
    if "#" in url and not any(written.startswith("#") for _, written, _ in _foreign(url)):
        doubts.append("what follows # is never sent (RFC 9110, section 7.1)")
    return doubts


def _why_private(url: str) -> str:
    host, port = _place(url)
    return refusal(host, port) if _is_address(host) else _why_not(host, port)


def of_free_text(text: str) -> list[str]:
    """The oddities of a text for a macro {free_1} … {free_10}."""
    written = [*_FOREIGN.finditer(text), *_OURS.finditer(_FOREIGN.sub("", text))]
    return [f"{macro[0]} is sent as it stands: a free value has no macros" for macro in written]


def _foreign(url: str) -> Iterator[tuple[int, str, str]]:
    """Macros of other systems: position, text, and names in lower case."""
    for match in _FOREIGN.finditer(url, _path_at(url)):
        assert match.lastgroup
        yield match.start(), match[0], match[match.lastgroup].lower()


def _escaped(url: str, known: Container[str]) -> Iterator[str]:
    """Macros with percent-encoded brackets: a whole part of the URL, or a known macro in a larger text."""
    for part in _BETWEEN_PARTS.split(url[_path_at(url) :]):
        text = unquote(unquote(part))
        ours = next((name for name in _OURS.findall(text) if name.lower() in known), "")
        if text == part or "{" in part or not (is_unfilled(text) or (ours and "://" not in text)):
            continue
        hint = f": write {{{ours.lower()}}} to have it filled" if ours else ""
        yield f"{part} is sent as it stands{hint}"


def _marked(url: str, known: Container[str]) -> Iterator[str]:
    """Names of macros between marks, and marks that a page or an editor has inserted."""
    for match in _MARKED.finditer(url):
        name = (match[1] or match[2]).lower()
        if name in known:
            yield f"{match[0]} is sent as it stands: write {{{name}}} to have it filled"
    if entity := _ENTITY.search(url):
        yield f"{entity[0]} is how HTML writes a character: write the character itself"
    if quote := _QUOTES.search(url):
        yield f"{quote[0]} is sent as it stands: an editor may have put it in"


def _misplaced(url: str) -> Iterator[str]:
    """Parameters that are not separate, because the mark before them is a different one."""
    before, _, query = url[_path_at(url) :].partition("#")[0].partition("?")
    if not query and (match := _WITHOUT_MARK.search(before)):
        yield f"{match[1]} is a part of the path: write ? before it"
    for part in query.split("&"):
        match = _SECOND_MARK.search(part)
        if match and "://" not in part[: match.start()]:
            yield f"{match[1]} is a part of the value before it: write & before it"


def _path_at(url: str) -> int:
    """Where the path begins: host names and addresses in brackets are before it."""
    begins = re.compile(r"[/?#]").search(url, url.find("//") + 2)
    return begins.start() if begins else len(url)


def _place(url: str) -> tuple[str, int]:
    """The host and port of a URL.

    A URL that edges leave out gets a public place, because it is reported elsewhere.
    """
    try:
        parts = urlsplit(url)
        port = _USUAL_PORTS[parts.scheme] if parts.port is None else parts.port
        return parts.hostname or _SOMEWHERE, port
    except (ValueError, KeyError):
        return _SOMEWHERE, PORTS[0]


def _is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


def _is_local(host: str) -> bool:
    """Whether only machines of one network know a host by this name."""
    name = f".{host.lower().rstrip('.')}"
    return name.endswith(_LOCAL) or name.count(".") == 1


def _why_not(host: str, port: int) -> str:
    """Why no request goes to a host with this name."""
    if _is_local(host):
        return f"{host} is not a public name"
    return "" if port in PORTS else f"port {port} is not one of {', '.join(map(str, PORTS))}"
