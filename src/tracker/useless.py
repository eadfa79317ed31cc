"""What is useless in a URL that the catalogue holds: it can be saved and sent, and never does what is meant.

What can only be a mistake is refused when it is saved. The rest is warned of: it may be meant.
"""

from __future__ import annotations

import re
from collections.abc import Container, Iterator
from ipaddress import ip_address, ip_network
from urllib.parse import unquote, urlsplit

from tracker.domain.normalise import is_unfilled
from tracker.macros import TemplateError
from tracker.reach import PORTS, refusal

_NAME = r"[A-Za-z_][A-Za-z0-9_.:-]*"
# Macros of other systems. `[name]=` is a field of a form that is a list, as PHP has them.
_FOREIGN = re.compile(
    rf"[$%]\{{(?P<braces>{_NAME})\}}|\[(?P<brackets>{_NAME})\](?![=\[])|<(?P<angles>{_NAME})>|%%(?P<percents>{_NAME})%%"
    rf"|#(?P<hashes>{_NAME})#|__(?P<underscores>[A-Za-z](?:_?[A-Za-z0-9.:-])*)__|!!!(?P<marks>{_NAME})!!!"
    rf"|\$(?P<dollars>{_NAME})\$|(?<!%)%(?![0-9A-Fa-f]{{2}})(?P<percent>{_NAME})%(?!%)"
)
_OURS = re.compile(rf"\{{({_NAME})\}}")
_AMPERSAND = re.compile(r"&(?:amp|#0*38|#x0*26);", re.IGNORECASE)
_BETWEEN_PARTS = re.compile(r"[/?&=#]")
_EVERYWHERE = (ip_network("0.0.0.0/0"), ip_network("::/0"))
# RFC 6761, RFC 6762, RFC 8375 and ICANN's resolution of 2024-07-29: names that lead to no public server.
_LOCAL = (".localhost", ".local", ".internal", ".invalid", ".home.arpa")
_SOMEWHERE = "host.example"
_USUAL_PORTS = {"http": 80, "https": 443}


def refuse(url: str, known: Container[str]) -> None:
    """See that a URL with some known macros has no mistake of which it is clear what is meant.

    Raises:
        TemplateError: an ampersand in HTML's form, or a known macro in another system's brackets.
    """
    if found := _AMPERSAND.search(url):
        raise TemplateError(url, found.start(), f"{found[0]} is how HTML writes &: write & itself")
    for position, written, name in _foreign(url):
        if name in known:
            raise TemplateError(url, position, f"{written} is not filled here: write {{{name}}}")


def refuse_host(url: str) -> None:
    """See that an affiliate postback goes to an address that may be asked.

    Raises:
        TemplateError: no setting allows it.
    """
    host, port = _place(url)
    if _is_address(host) and (why := refusal(host, port, _EVERYWHERE)):
        raise TemplateError(url, url.index(host), f"{why}, and is never asked")


def mended(url: str, known: Container[str]) -> str:
    """A URL without what `refuse` refuses."""
    while found := _AMPERSAND.search(url):
        url = url[: found.start()] + "&" + url[found.end() :]
    for position, written, name in reversed(list(_foreign(url))):
        if name in known:
            url = url[:position] + f"{{{name}}}" + url[position + len(written) :]
    return url


def of_url(url: str, known: Container[str]) -> list[str]:
    """What is strange in a URL with some known macros."""
    foreign = [f"{written} is sent as it stands: it is not a macro here" for _, written, _ in _foreign(url)]
    return [*foreign, *_escaped(url, known)]


def of_offer_url(url: str, known: Container[str]) -> list[str]:
    """What is strange in a URL that visitors are sent to."""
    found, (host, _) = of_url(url, known), _place(url)
    if refusal(host, PORTS[0]) if _is_address(host) else _is_local(host):
        found.append(f"{host} is not public: only visitors within its network reach it")
    return found


def of_postback(url: str, known: Container[str]) -> list[str]:
    """What is strange in a URL that affiliates are told of conversions by."""
    found = of_url(url, known)
    host, port = _place(url)
    if why := refusal(host, port) if _is_address(host) else _why_not(host, port):
        found.append(f"{why}: nothing is sent there unless TRACKER_POSTBACK_NETWORKS allows it")
    if "#" in url and not any(written.startswith("#") for _, written, _ in _foreign(url)):
        found.append("what follows # is never sent (RFC 9110, section 7.1)")
    return found


def of_free_text(text: str) -> list[str]:
    """What is strange in a text that stands for a macro {free_1} … {free_10}."""
    found = [*_FOREIGN.finditer(text), *_OURS.finditer(_FOREIGN.sub("", text))]
    return [f"{macro[0]} is sent as it stands: a free value has no macros" for macro in found]


def _foreign(url: str) -> Iterator[tuple[int, str, str]]:
    """Macros of other systems: where, as they are written, and their names in lower case."""
    for found in _FOREIGN.finditer(url, _path_at(url)):
        assert found.lastgroup
        yield found.start(), found[0], found[found.lastgroup].lower()


def _escaped(url: str, known: Container[str]) -> Iterator[str]:
    """Macros with percent-encoded brackets: a whole part of the URL, or ours in a part that is not a URL."""
    for part in _BETWEEN_PARTS.split(url[_path_at(url) :]):
        text = unquote(unquote(part))
        ours = next((name for name in _OURS.findall(text) if name.lower() in known), "")
        if text == part or "{" in part or not (is_unfilled(text) or (ours and "://" not in text)):
            continue
        hint = f": write {{{ours.lower()}}} to have it filled" if ours else ""
        yield f"{part} is sent as it stands{hint}"


def _path_at(url: str) -> int:
    """Where the path begins: names of hosts, and addresses in brackets, come before it."""
    begins = re.compile(r"[/?#]").search(url, url.find("//") + 2)
    return begins.start() if begins else len(url)


def _place(url: str) -> tuple[str, int]:
    """The host and port of a URL; of one that an edge leaves out, which is said elsewhere, a public place."""
    try:
        parts = urlsplit(url)
        return parts.hostname or _SOMEWHERE, parts.port or _USUAL_PORTS[parts.scheme]
    except (ValueError, KeyError):
        return _SOMEWHERE, PORTS[0]


def _is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


def _is_local(host: str) -> bool:
    """Whether nobody outside a network knows a host by this name."""
    name = f".{host.lower().rstrip('.')}"
    return name.endswith(_LOCAL) or name.count(".") == 1


def _why_not(host: str, port: int) -> str:
    """Why nothing is sent to a host of this name."""
    if _is_local(host):
        return f"{host} is not a public name"
    return "" if port in PORTS else f"port {port} is none of {', '.join(map(str, PORTS))}"
