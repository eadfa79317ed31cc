from urllib.parse import quote

import pytest

from tests.factories.clicks import a_click, an_offer, free_texts
from tracker import device
from tracker.domain import macros
from tracker.domain.macros import TemplateError
from tracker.domain.model import NO_TERMS, NO_URL_ID, Choice, Click, OfferUrl
from tracker.edge.enrich.geo import NOWHERE


def a_choice(click: Click, **changes: object) -> Choice:
    return Choice(click.offer, click.terms, OfferUrl(7, "page", (), 1))._replace(**changes)


def fill(url: str, **changes: object) -> str:
    click = a_click(**changes)
    return macros.fill(macros.compile(url), click, a_choice(click))


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
    (
        "https://x.test/{free_1}?x={free_2}",
        {"offer": an_offer(free=free_texts("a/b"))},
        "https://x.test/a/b?x=",
    ),
    (
        "https://x.test/{free_1}/{free_2}/{free_10}",
        {
            "offer": an_offer(free=free_texts("every", "every")),
            "terms": NO_TERMS._replace(free=free_texts("own")),
        },
        "https://x.test/own/every/",
    ),
    (
        "https://x.test/?ua={user_agent}&ip={ip}",
        {"user_agent": "A/1 (x)"},
        "https://x.test/?ua=A%2F1%20%28x%29&ip=192.0.2.7",
    ),
    ("https://x.test/?s={aff_sub}", {"aff_subs": ("{hash}",)}, "https://x.test/?s=%7Bhash%7D"),
    ("https://x.test/ü?q=%41", {}, "https://x.test/%C3%BC?q=%41"),
    ("https://x.test/?save=50%&s=%{aff_sub}", {"aff_subs": ("2e",)}, "https://x.test/?save=50%25&s=%252e"),
    ("HTTPS://X.test:8443?{aff_sub}#{aff_sub}", {"aff_subs": ("#?",)}, "HTTPS://X.test:8443?%23%3F#%23%3F"),
    ("http://[2001:db8::7]:80/", {}, "http://[2001:db8::7]:80/"),
    ("http://192.0.2.7/.well-known/a..b/...", {}, "http://192.0.2.7/.well-known/a..b/..."),
    ("https://x.test/?to=/../", {}, "https://x.test/?to=/../"),
]


@pytest.mark.parametrize(("url", "changes", "location"), FILLED)
def test_macros_are_filled_once_and_encoded(url: str, changes: dict[str, object], location: str) -> None:
    assert fill(url, **changes) == location


REFUSED = [
    ("", 0, "http:// or https://"),
    ("ftp://x.test/", 0, "http:// or https://"),
    ("javascript:alert(1)", 0, "http:// or https://"),
    ("data:text/html,x", 0, "http:// or https://"),
    ("//x.test/", 0, "http:// or https://"),
    ("https:/x.test/", 0, "http:// or https://"),
    ("httpſ://x.test/", 0, "http:// or https://"),  # noqa: RUF001 - a long s, which is an s in lower case
    (" https://x.test/", 0, "white space"),
    ("{aff_sub}://x.test/", 0, "http:// or https://"),
    ("https://{aff_sub}/", 8, "no macro may stand before the path"),
    ("https://x.test{aff_sub}/", 14, "no macro may stand before the path"),
    ("https://x.test{aff_sub}", 14, "no macro may stand before the path"),
    ("https://x.test:{aff_sub}/", 15, "no macro may stand before the path"),
    ("https://{aff_sub}@x.test/", 8, "no macro may stand before the path"),
    ("https://user:pw@x.test/", 8, "no user name or password"),
    ("https://x.test@evil.test/", 8, "no user name or password"),
    ("https://x.test:65536/", 15, "port"),
    ("https://x.test:99999999/", 15, "port"),
    ("https://x.test:/", 8, "plain ASCII host name"),
    ("https://x.test:a/", 8, "plain ASCII host name"),
    ("https://", 8, "plain ASCII host name"),
    ("https:///path", 8, "plain ASCII host name"),
    ("https://?x.test", 8, "plain ASCII host name"),
    ("https://:80/", 8, "plain ASCII host name"),
    ("https://ä.test/", 8, "plain ASCII host name"),
    ("https://x%2Etest/", 8, "plain ASCII host name"),
    ("https://2130706433/", 8, "plain ASCII host name"),
    ("https://127.1/", 8, "plain ASCII host name"),
    ("https://0x7f.0.0.1/", 8, "plain ASCII host name"),
    ("https://192.0.2.300/", 8, "plain ASCII host name"),
    ("https://[::g]/", 8, "plain ASCII host name"),
    ("https://[1::2::3]/", 8, "plain ASCII host name"),
    ("https://x.test/\r\nSet-Cookie: a", 15, "control characters"),
    ("https://x.test/\x00", 15, "control characters"),
    ("https://x.test/?a\x85", 17, "control characters"),
    ("https://x.test/\ud800", 15, "control characters"),
    ("https://x.test/\t", 15, "control characters"),
    ("https://x.test/a b", 16, "white space"),
    ("https://x.test\\@evil.test/", 14, "backslashes"),
    ("https://x.test/../a", 15, "a path must not have . or .."),
    ("https://x.test/a/..", 17, "a path must not have . or .."),
    ("https://x.test/./a", 15, "a path must not have . or .."),
    ("https://x.test/{aff_sub}/.?a", 25, "a path must not have . or .."),
    ("https://x.test/a/%2e%2E/b", 17, "a dot written as %2E"),
    ("https://x.test/{aff_sub}%2e", 24, "a dot written as %2E"),
    ("https://x.test/{nope}", 15, "unknown macro {nope}"),
    ("https://x.test/{HASH}", 15, "unknown macro {HASH}"),
    ("https://x.test/{}", 15, "unknown macro {}"),
    ("https://x.test/{{hash}}", 15, "unknown macro {{hash}"),
    ("https://x.test/{aff_sub21}", 15, "unknown macro {aff_sub21}"),
    ("https://x.test/?a={param:}", 18, "{param:}: the name of a parameter has 1 to 50"),
    ("https://x.test/?a={param:a b}", 26, "white space"),
    ("https://x.test/?a={param:a*}", 18, "{param:a*}: the name of a parameter has 1 to 50"),
    ("https://x.test/?a={param:test}", 18, "{param:test}: the signature of test links"),
    ("https://{param:a}/", 8, "no macro may stand before the path"),
    ("https://x.test/{hash", 15, "not closed"),
    ("https://x.test/hash}", 19, "not opened"),
]


@pytest.mark.parametrize(("url", "position", "rule"), REFUSED)
def test_refuses_unsafe_templates_naming_position_and_rule(url: str, position: int, rule: str) -> None:
    with pytest.raises(TemplateError) as refused:
        macros.compile(url)
    assert refused.value.position == position
    assert rule in refused.value.rule
    assert str(refused.value) == f"{refused.value.rule} (at position {position} of {url!r})"


FREE = [
    ("", ""),
    ("grün/ä?b=c#d", "gr%C3%BCn/%C3%A4?b=c#d"),
    ("//evil.test", "//evil.test"),
    ("{hash}", "%7Bhash%7D"),
    ("100%", "100%25"),
    ("a/.../b", "a/.../b"),
]


@pytest.mark.parametrize(("text", "kept"), FREE)
def test_free_texts_are_kept_but_ascii(text: str, kept: str) -> None:
    assert macros.free_text(text) == kept


@pytest.mark.parametrize(
    "text", ["..", ".", "../x", "a/../x", "a/.?b", "%2e", "a/.%2E/", "a b", "a\\b", "a\rb"]
)
def test_free_texts_that_would_change_the_way_are_refused(text: str) -> None:
    with pytest.raises(TemplateError):
        macros.free_text(text)


NAMES = [
    *("hash", "click_id", "click_hash", "transaction_id", "offer_id", "offer_name", "offer_url_id"),
    *("advertiser_id", "affiliate_id", "affiliate_name", "aff_group_id", "brand_id", "affiliate_source"),
    *("source", "external_id", "gaid", "idfa", "country_code", "region_code", "device_os"),
    *("device_os_version", "device_brand", "device_model", "browser", "platform", "mobile_carrier"),
    *("user_agent", "ip", "timestamp", "date", "datetime", "rand", "aff_sub", "adv_sub"),
    *(f"aff_sub{n}" for n in range(2, 21)),
    *(f"sub{n}" for n in range(1, 21)),
    *(f"adv_sub{n}" for n in range(2, 6)),
    *(f"free_{n}" for n in range(1, 11)),
]


def test_macros_are_those_of_the_contract() -> None:
    assert set(macros.MACROS) == set(NAMES)


VALUES = {
    "hash": "01900000000070008000000000000001",
    "offer_id": "3",
    "offer_name": "Test Offer",
    "offer_url_id": "7",
    "advertiser_id": "1",
    "affiliate_id": "513",
    "affiliate_name": "John Doe",
    "aff_group_id": "6",
    "brand_id": "1",
    "affiliate_source": "the source",
    "external_id": "the external id",
    "gaid": "the gaid",
    "idfa": "the idfa",
    "country_code": "NL",
    "region_code": "NH",
    "device_os": "Android",
    "device_os_version": "15",
    "device_brand": "Samsung",
    "device_model": "S25 / Ultra",
    "browser": "Chrome",
    "platform": "ARM",
    "mobile_carrier": "KPN",
    "user_agent": "Mozilla/5.0",
    "ip": "2001:db8::7",
    "timestamp": "1728559449",
    "date": "2024-10-10",
    "datetime": "2024-10-10 11:24:09",
    "rand": "1",
} | {
    f"{name}{n if n > 1 or name == 'free_' else ''}": f"{name} {n}"
    for name, most in (("aff_sub", 20), ("adv_sub", 5), ("free_", 10))
    for n in range(1, most + 1)
}
ALIASES = {"click_id": "hash", "click_hash": "hash", "transaction_id": "hash", "source": "affiliate_source"}
ALIASES |= {f"sub{n}": f"aff_sub{n if n > 1 else ''}" for n in range(1, 21)}


def a_full_click() -> Click:
    """A click with a different value for every macro."""
    click = a_click(user_agent="Mozilla/5.0", millis=1_728_559_449_000)
    link = click.link._replace(
        source="the source",
        external_id="the external id",
        gaid="the gaid",
        idfa="the idfa",
        aff_subs=tuple(f"aff_sub {n + 1}" for n in range(20)),
        adv_subs=tuple(f"adv_sub {n + 1}" for n in range(5)),
    )
    free = tuple(quote(f"free_ {n + 1}") for n in range(10))
    return click._replace(
        link=link,
        affiliate=click.affiliate._replace(group_id=6),
        visitor=click.visitor._replace(ip="2001:db8::7"),
        device=click.device._replace(
            os="Android", os_version="15", brand="Samsung", model="S25 / Ultra", platform="ARM"
        ),
        geo=click.geo._replace(region_code="NH", mobile_carrier="KPN"),
        terms=NO_TERMS._replace(free=free),
    )


@pytest.mark.parametrize("name", NAMES)
def test_macros_have_their_own_values(name: str) -> None:
    click = a_full_click()
    location = macros.fill(macros.compile(f"https://x.test/?v={{{name}}}"), click, a_choice(click))
    assert location == "https://x.test/?v=" + quote(VALUES[ALIASES.get(name, name)], safe="")


def test_unknown_fields_of_a_click_are_empty() -> None:
    click = a_click(device=device.read("", ""), geo=NOWHERE, user_agent="")
    known_of_any = {"hash", "offer_id", "offer_name", "offer_url_id", "advertiser_id", "affiliate_id"}
    known_of_any |= {"affiliate_name", "brand_id", "ip", "timestamp", "date", "datetime", "rand"}
    for name in set(VALUES) - known_of_any:
        template = macros.compile(f"https://x.test/?v={{{name}}}")
        assert macros.fill(template, click, a_choice(click)) == "https://x.test/?v=", name


def test_offer_macros_are_those_of_the_offer_that_takes_the_click() -> None:
    taker = an_offer(id=9, name="Taker", advertiser_id=4, brand_id=None, free=free_texts("taken"))
    click = a_click(terms=NO_TERMS._replace(free=free_texts("asked")))
    template = macros.compile("https://x.test/{offer_id}/{offer_name}/{advertiser_id}/{brand_id}/{free_1}")
    choice = a_choice(click, offer=taker, terms=NO_TERMS)
    assert macros.fill(template, click, choice) == "https://x.test/9/Taker/4//taken"


def test_url_of_another_offer_has_no_id() -> None:
    click = a_click()
    choice = a_choice(click, url=OfferUrl(NO_URL_ID, "fallback", (), 0))
    assert (
        macros.fill(macros.compile("https://x.test/?u={offer_url_id}"), click, choice) == "https://x.test/?u="
    )


SENDABLE = [
    ("https://x.test/a/{aff_sub}/b", "c", True),
    ("https://x.test/a/{aff_sub}/b", ".c", True),
    ("https://x.test/a/{aff_sub}/b", "...", True),
    ("https://x.test/a/{aff_sub}/b", "%2e%2e", True),  # becomes %252e, which is no dot
    ("https://x.test/a/{aff_sub}/b", "..", False),
    ("https://x.test/a/{aff_sub}/b", ".", False),
    ("https://x.test/a/.{aff_sub}", ".", False),
    ("https://x.test/a/..{aff_sub}?b", "", False),
    ("https://x.test/a/..{aff_sub}#b", "", False),
    ("https://x.test/a/..{aff_sub}#b", "c", True),
    ("https://x.test/{aff_sub}?b=/..", "", True),
    ("https://x.test/?b=/{aff_sub}", "..", True),
    ("https://x.test/#/{aff_sub}", "..", True),
    ("https://x.test/?b={aff_sub}", "c" * (8192 - 18), True),
    ("https://x.test/?b={aff_sub}", "c" * (8192 - 17), False),
]


@pytest.mark.parametrize(("url", "value", "sendable"), SENDABLE)
def test_location_that_leads_elsewhere_or_is_too_long_is_not_sendable(
    url: str, value: str, sendable: bool
) -> None:
    assert macros.sendable(fill(url, aff_subs=(value,))) is sendable


def test_location_that_is_not_ascii_is_not_sendable() -> None:
    assert not macros.sendable("https://x.test/ä")
