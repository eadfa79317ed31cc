from urllib.parse import unquote, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.clicks import a_click, an_offer
from tracker import macros
from tracker.macros import TemplateError
from tracker.model import OfferUrl


def fill(url: str, **changes: object) -> str:
    click = a_click(**changes)
    return macros.fill(macros.compile(url), click, click.offer, OfferUrl(7, "page", (), 1))


FILLED = [
    ("https://x.test/", {}, "https://x.test/"),
    ("https://x.test/?c={hash}", {}, "https://x.test/?c=01900000000070008000000000000001"),
    (
        "https://x.test/?c={click_id}&t={transaction_id}",
        {"hash": "0" * 32},
        f"https://x.test/?c={'0' * 32}&t={'0' * 32}",
    ),
    ("https://x.test/{offer_id}/{offer_url_id}/{affiliate_id}", {}, "https://x.test/3/7/513"),
    (
        "https://x.test/?a={aff_sub}&b={sub2}&c={aff_sub20}",
        {"aff_subs": ("ä b", "a&b=c")},
        "https://x.test/?a=%C3%A4%20b&b=a%26b%3Dc&c=",
    ),
    ("https://x.test/?n={offer_name}&p={affiliate_name}", {}, "https://x.test/?n=Test%20Offer&p=John%20Doe"),
    ("https://x.test/?g={aff_group_id}&b={brand_id}&r={region_code}", {}, "https://x.test/?g=&b=1&r="),
    (
        "https://x.test/?t={timestamp}&d={date}&dt={datetime}",
        {"millis": 1_728_559_449_000},
        "https://x.test/?t=1728559449&d=2024-10-10&dt=2024-10-10%2011%3A24%3A09",
    ),
    ("https://x.test/{free_1}?x={free_2}", {"free": {0: ("a/b", "")}}, "https://x.test/a/b?x="),
    ("https://x.test/{free_1}", {"free": {0: ("every",), 513: ("own",)}}, "https://x.test/own"),
    (
        "https://x.test/?ua={user_agent}&ip={ip}",
        {"user_agent": "A/1 (x)"},
        "https://x.test/?ua=A%2F1%20%28x%29&ip=192.0.2.7",
    ),
    ("https://x.test/?s={aff_sub}", {"aff_subs": ("{hash}",)}, "https://x.test/?s=%7Bhash%7D"),
    ("https://x.test/ü?q=%41", {}, "https://x.test/%C3%BC?q=%41"),
]


@pytest.mark.parametrize(("url", "changes", "location"), FILLED)
def test_fills_each_macro_once_and_encoded(url: str, changes: dict[str, object], location: str) -> None:
    assert fill(url, **changes) == location


REFUSED = [
    ("ftp://x.test/", 0, "http:// or https://"),
    ("javascript:alert(1)", 0, "http:// or https://"),
    ("//x.test/", 0, "http:// or https://"),
    ("https://{aff_sub}/", 8, "no macro may stand before the path"),
    ("https://x.test{aff_sub}/", 14, "no macro may stand before the path"),
    ("https://user:pw@x.test/", 8, "no user name or password"),
    ("https://x.test:99999999/", 8, "plain ASCII host name"),
    ("https:///path", 8, "plain ASCII host name"),
    ("https://ä.test/", 8, "plain ASCII host name"),
    ("https://x.test/\r\nSet-Cookie: a", 15, "control characters"),
    ("https://x.test/a b", 16, "white space"),
    ("https://x.test\\@evil.test/", 14, "backslashes"),
    ("https://x.test/{nope}", 15, "unknown macro {nope}"),
    ("https://x.test/{param:x}", 15, "unknown macro {param:x}"),
    ("https://x.test/{hash", 15, "not closed"),
    ("https://x.test/hash}", 19, "not opened"),
]


@pytest.mark.parametrize(("url", "position", "rule"), REFUSED)
def test_refuses_unsafe_templates_naming_position_and_rule(url: str, position: int, rule: str) -> None:
    with pytest.raises(TemplateError) as refused:
        macros.compile(url)
    assert refused.value.position == position
    assert rule in refused.value.rule
    assert repr(url) in str(refused.value)


@given(st.text(max_size=500), st.text(max_size=500))
def test_whatever_is_sent_the_template_keeps_its_shape(first: str, second: str) -> None:
    template = "https://x.test:8443/a/{aff_sub}/b?c={aff_sub2}#d"
    first, second = first.encode("utf-8", "replace").decode(), second.encode("utf-8", "replace").decode()
    location = fill(template, aff_subs=(first, second))
    parts = urlsplit(location)
    assert location.isascii()
    assert location.isprintable()
    assert (parts.scheme, parts.netloc, parts.fragment) == ("https", "x.test:8443", "d")
    assert [unquote(segment) for segment in parts.path.split("/")] == ["", "a", first, "b"]
    assert unquote(parts.query.removeprefix("c=")) == second


def test_every_macro_can_be_filled() -> None:
    for name in macros.MACROS:
        assert fill(f"https://x.test/?v={{{name}}}").startswith("https://x.test/?v=")


def test_an_offers_own_macros_are_those_of_the_offer_that_takes_the_click() -> None:
    taker = an_offer(id=9, name="Fallback")
    template = macros.compile("https://x.test/{offer_id}/{offer_name}")
    assert macros.fill(template, a_click(), taker, OfferUrl(7, "page", (), 1)) == "https://x.test/9/Fallback"
