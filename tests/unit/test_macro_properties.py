"""The Location of any visitor leads to the host of its template, as browsers read it."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import NamedTuple, TypeVar
from urllib.parse import quote, unquote

from hypothesis import assume, example, given
from hypothesis import strategies as st

from tests.factories.clicks import a_click
from tracker.domain import macros
from tracker.domain.macros import MAX_LOCATION, TemplateError
from tracker.domain.model import Choice, OfferUrl
from tracker.edge.read.text import crop

T = TypeVar("T")


class Address(NamedTuple):
    """An http(s) address in the parts that a browser sees."""

    scheme: str
    authority: str
    path: list[str]
    query: str | None
    fragment: str | None


def as_browsers_read(location: str) -> Address:
    """The basic URL parser of the WHATWG URL standard for special schemes, without the host's own parser."""
    location = re.sub(r"[\t\n\r]", "", location.strip("".join(map(chr, range(0x21)))))
    before, mark, after = location.partition("#")
    fragment = after if mark else None
    before, mark, after = before.partition("?")
    query = after if mark else None
    scheme, rest = re.fullmatch(r"([A-Za-z][A-Za-z0-9+.-]*):[/\\]*(.*)", before).groups()  # type: ignore[union-attr]
    authority, *segments = re.split(r"[/\\]", rest)
    path: list[str] = []
    for segment in segments:
        dots = re.sub(r"%2e", ".", segment, flags=re.IGNORECASE)
        if dots == "..":
            path = path[:-1]
        if dots not in (".", ".."):
            path.append(segment)
    return Address(scheme, authority, path, query, fragment)


PIECES = st.sampled_from(
    [
        *("/", "\\", "?", "#", ".", "..", "%2e", "%2E", "%", "%25", "@", ":", "&", "=", "+", " ", "\t"),
        *("{hash}", "{aff_sub}", "{", "}", "evil.test", "//evil.test/", "\r\nSet-Cookie: a=b", "\x00"),
        *("ä", "\u2028", "\ufffd", "\U0001f600", "a" * 50, "ä" * 250),
    ]
)
SENT = (
    st.lists(PIECES, max_size=8).map("".join)
    | st.text()
    | st.binary().map(lambda sent: sent.decode("utf-8", "replace"))
)
VALUE = SENT.map(lambda text: crop(text.encode("utf-8", "replace").decode(), 500))


def fill(url: str, *values: str) -> str:
    click = a_click(aff_subs=values, user_agent=values[0])
    click = click._replace(link=click.link._replace(source=values[1]))
    return macros.fill(macros.compile(url), click, Choice(click.offer, click.terms, OfferUrl(7, "", (), 1)))


@given(VALUE, VALUE, VALUE)
@example("..", "", "")
@example("", ".", "")
def test_scheme_host_port_and_structure_stay_the_templates(first: str, second: str, third: str) -> None:
    template = "https://x.test:8443/a/{aff_sub}/x{source}y/{aff_sub2}{aff_sub3}/b?c={aff_sub2}&d={user_agent}#{aff_sub3}"
    location = fill(template, first, second, third)
    if not macros.sendable(location):
        assert {first, second + third} & {".", ".."} or len(location) > MAX_LOCATION
        return
    assert location.isascii()
    assert location.isprintable()
    assert " " not in location
    assert len(location) <= MAX_LOCATION
    address = as_browsers_read(location)
    assert (address.scheme, address.authority) == ("https", "x.test:8443")
    assert [unquote(segment) for segment in address.path] == ["a", first, f"x{second}y", second + third, "b"]
    names_and_values = [pair.split("=") for pair in (address.query or "").split("&")]
    assert [(name, unquote(value)) for name, value in names_and_values] == [("c", second), ("d", first)]
    assert unquote(address.fragment or "") == third


@given(VALUE)
def test_value_that_looks_like_a_macro_stays_text(value: str) -> None:
    every = "{aff_sub}|{hash}|" + value
    location = fill("https://x.test/?a={aff_sub}&b={aff_sub2}", every, value)
    assert location == f"https://x.test/?a={quote(every, safe='')}&b={quote(value, safe='')}"
    assert unquote(location.partition("a=")[2].partition("&")[0]) == every


def or_refusal(read: Callable[[str], T], text: str) -> T | TemplateError:
    try:
        return read(text)
    except TemplateError as refusal:
        return refusal


TEMPLATE_PIECES = st.sampled_from(
    [
        *("https://", "http://", "https:", "x.test", "evil.test", ":8443", ":", "@", "/", "//", "\\", "?"),
        *("#", "..", ".", "%2e", "%2", "%", "e", "{aff_sub}", "{source}", "{hash}", "{", "}", "{param:a}"),
        *("ä", " ", "\n", "\ud800", "[", "]", "[::1]", "127.1", "\u017f", "=", "&"),
    ]
)
TEMPLATES = st.lists(TEMPLATE_PIECES, max_size=12).map("".join)


@given(st.text(alphabet=st.characters()) | TEMPLATES | TEMPLATES.map("https://x.test".__add__))
def test_compile_answers_any_text_with_a_template_or_its_own_error(text: str) -> None:
    template = or_refusal(macros.compile, text)
    if isinstance(template, TemplateError):
        assert template.rule
        assert 0 <= template.position <= len(text)
    else:
        assert all(part.isascii() for part in template)
        assert set(template[1::2]) <= {*macros.MACROS, "param:a"}


@given(TEMPLATES.map("https://x.test/".__add__) | TEMPLATES.map("https://".__add__), VALUE, VALUE)
@example("https://x.test/a/{aff_sub}", "..", "")
@example("https://x.test/%{aff_sub}", "2e", "")
@example("https://x.test/.{source}", "", ".")
def test_template_values_cannot_change_the_host(template: str, first: str, second: str) -> None:
    compiled = or_refusal(macros.compile, template)
    assume(not isinstance(compiled, TemplateError))
    location = fill(template, first, second)
    assume(macros.sendable(location))
    plain = as_browsers_read("".join("x" if n % 2 else part for n, part in enumerate(compiled)))
    address = as_browsers_read(location)
    assert (address.scheme, address.authority) == (plain.scheme, plain.authority)
    assert len(address.path) == len(plain.path)
    assert (address.query is None, address.fragment is None) == (plain.query is None, plain.fragment is None)


@given(st.text(alphabet=st.characters()) | TEMPLATES)
def test_free_text_stays_ascii_and_on_its_host(text: str) -> None:
    free = or_refusal(macros.free_text, text)
    if isinstance(free, TemplateError):
        assert 0 <= free.position <= len(text)
        return
    assert free.isascii()
    assert free.isprintable()
    address = as_browsers_read(f"https://x.test/a/{free}")
    assert (address.authority, address.path[0]) == ("x.test", "a")
