"""Parameters of a link that go on to the offer's page, and {param:NAME}."""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qsl, quote, urlencode, urlsplit

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tests.factories.clicks import HASH, a_click
from tests.factories.rows import cap_row, offer_row, url_row
from tracker.domain import caps, link_query
from tracker.domain.click_id import millis_of
from tracker.domain.macros import MAX_LOCATION
from tracker.domain.model import NO_TERMS, Click
from tracker.domain.normalise import CONTROLS, text_of
from tracker.edge import pass_through
from tracker.edge.catalogue.catalogue import Catalogue
from tracker.edge.outcome import prepare_outcomes
from tracker.edge.read.lenient_link import read_leniently
from tracker.edge.read.link import read_link

LISTED = ["utm_*", "gclid", "aff_sub2"]
PAGE = "https://x.test/?c={hash}"
CLICK = f"https://x.test/?c={HASH}"
SECRET = "trs_" + "Ab-_9" * 9


def catalogue_of(url: str = PAGE, listed: list[str] = LISTED, **offer: Any) -> Catalogue:
    catalogue = Catalogue()
    catalogue.put("offer", "3", offer_row(3, urls=[url_row(30, url)], pass_through=listed, **offer))
    assert not catalogue.problems
    return catalogue


def click_on(catalogue: Catalogue, query: str) -> Click:
    offer, link = catalogue.offers[3], read_link("/offer/3", query.encode())
    counters = caps.counters(offer, NO_TERMS, 513, millis_of(HASH))
    return a_click(offer=offer, link=link, counters=counters)


def location_of(query: str, url: str = PAGE, listed: list[str] = LISTED, **offer: Any) -> str:
    catalogue = catalogue_of(url, listed, **offer)
    return prepare_outcomes(click_on(catalogue, f"affiliate_id=513&{query}"), catalogue).unique.location


PASSED = [
    ("utm_source=mail&x=1&gclid=A-b_c", PAGE, f"{CLICK}&utm_source=mail&gclid=A-b_c", "in the link's order"),
    ("", PAGE, CLICK, "nothing to pass"),
    ("gclid=", PAGE, f"{CLICK}&gclid=", "an empty value is one"),
    ("gclid", PAGE, f"{CLICK}&gclid=", "so is a name alone"),
    ("gclid=a&gclid=b", PAGE, f"{CLICK}&gclid=a", "the first of repeated ones"),
    ("g%63lid=a&gclid=b", PAGE, f"{CLICK}&gclid=a", "names are compared decoded"),
    ("amp;gclid=b&gclid=a", PAGE, f"{CLICK}&gclid=a", "a plain name wins over a marked one"),
    ("amp;gclid=b", PAGE, f"{CLICK}&gclid=b", "a page's own &amp; was not read"),
    ("GCLID=a&Utm_source=b", PAGE, CLICK, "case counts"),
    ("utm_=a", PAGE, f"{CLICK}&utm_=a", "a beginning may be all of it"),
    ("gclid=a%20b+c%2Bd%26e%23f", PAGE, f"{CLICK}&gclid=a%20b%20c%2Bd%26e%23f", "encoded once"),
    ("gclid=%2541", PAGE, f"{CLICK}&gclid=%2541", "not decoded twice"),
    ("gclid=%EE%EA", PAGE, f"{CLICK}&gclid=%EE%EA", "bytes of another code page stay these bytes"),
    ("gclid=a%0D%0AX%3A%00b", PAGE, f"{CLICK}&gclid=aX%3Ab", "no control characters"),
    ("gclid={hash}", PAGE, f"{CLICK}&gclid=%7Bhash%7D", "no macros in values"),
    ("utm_a%5B%5D=1&utm_a;b=1&utm_%20=1", PAGE, CLICK, "names have letters, digits, _ . - only"),
    ("aff_sub=1&aff_sub2=2&sub2=3", PAGE, f"{CLICK}&aff_sub2=2", "ours only where named"),
    ("gclid=a", "https://x.test", "https://x.test?gclid=a", "no query yet"),
    ("gclid=a", "https://x.test/?", "https://x.test/?gclid=a", "an empty query"),
    ("gclid=a", "https://x.test/?b=1&", "https://x.test/?b=1&gclid=a", "an & at the end"),
    ("gclid=a", "https://x.test/p#/top?b=1", "https://x.test/p?gclid=a#/top?b=1", "before the fragment"),
    ("gclid=a", "https://x.test/?gclid=own", "https://x.test/?gclid=own", "the template's own wins"),
    ("gclid=a", "https://x.test/?x=1;gclid=own", "https://x.test/?x=1;gclid=own", "also after a semicolon"),
    ("utm_id=a", "https://x.test/?utm.id=1", "https://x.test/?utm.id=1", "PHP takes both for one"),
    ("utm_id=a&utm_i.d=b", PAGE, f"{CLICK}&utm_id=a", "so only one of them goes on"),
    (f"gclid={SECRET}&utm_x=1", PAGE, f"{CLICK}&utm_x=1", "no secret of ours"),
    (f"gclid={quote(quote(SECRET.replace('_', '%5F', 1)))}", PAGE, CLICK, "also encoded again"),
    ("utm_campaign=trk_spring", PAGE, f"{CLICK}&utm_campaign=trk_spring", "a campaign may be called so"),
]


@pytest.mark.parametrize(("query", "url", "location", "reason"), PASSED)
def test_listed_parameters_go_on(query: str, url: str, location: str, reason: str) -> None:
    assert location_of(query, url) == location, reason


def test_beginning_names_no_parameter_of_ours() -> None:
    query = "aff_sub=1&adv_sub=2&aff_id=3&affx=4&adx=5&test=6"
    assert location_of(query, listed=["aff*", "ad*", "t*", "u*"]) == f"{CLICK}&affx=4&adx=5"
    assert location_of(query, listed=["adv_sub"]) == f"{CLICK}&adv_sub=2"


def test_deep_links_own_parameters_win() -> None:
    query = "utm_a=1&utm_b=2&url=" + quote("https://shop.test/shoes?utm_a=own#top", safe="")
    location = location_of(query, deep_link_hosts=["shop.test"])
    assert location == f"https://shop.test/shoes?utm_a=own&c={HASH}&utm_b=2#top"


def test_link_whose_parameters_have_no_room_is_followed_without_them() -> None:
    long, catalogue = "x" * 4000, catalogue_of()
    query = f"affiliate_id=513&utm_a={long}&utm_b={'é' * 700}&utm_c={long}&utm_d=d"
    click = click_on(catalogue, query)
    location = prepare_outcomes(click, catalogue).unique.location
    assert location == f"{CLICK}&utm_a={long}&utm_c={long}&utm_d=d"
    passing = catalogue.offers[3].pass_through
    assert passing
    assert pass_through.left_out(location, query, passing) == 1
    assert pass_through.left_out(location, "utm_a=1&other=2", passing) == 0


def test_number_of_passed_parameters_is_bounded() -> None:
    query = "&".join(f"utm_{n}=1" for n in range(pass_through.MOST_PASSED + 5))
    assert location_of(query).count("utm_") == pass_through.MOST_PASSED


def test_each_outcome_passes_what_its_offer_lists() -> None:
    catalogue = catalogue_of(
        duplicates="fallback",
        fallback_offer_id=4,
        duplicates_forced=True,
        caps=[cap_row(1)],
    )
    catalogue.put("offer", "4", offer_row(4, pass_through=["gclid"]))
    click = click_on(catalogue, "affiliate_id=513&utm_a=1&gclid=2")
    unique, duplicate, capped = prepare_outcomes(click, catalogue)
    assert unique.location == f"{CLICK}&utm_a=1&gclid=2"
    assert duplicate.location == capped.location == f"https://offer4.test/?c={HASH}&gclid=2"
    catalogue.put(
        "offer",
        "3",
        offer_row(3, status="paused", pass_through=LISTED, fallback_url="https://f.test/?g={param:gclid}"),
    )
    click = click_on(catalogue, "affiliate_id=513&utm_a=1&gclid=2")
    assert prepare_outcomes(click, catalogue).unique.location == "https://f.test/?g=2", "no page of the offer"


@pytest.mark.parametrize(
    ("path", "query"),
    [
        ("/offer/3", "affiliate_id=513.&gclid=a b?utm_a=1"),
        ("/offer/3&gclid=a%20b&utm_a=1", "affiliate_id=513."),
        ("/offer/3%3Faffiliate_id%3D513%26gclid%3Da%20b%26utm_a=1", ""),
    ],
)
def test_lenient_reading_finds_the_same_parameters(path: str, query: str) -> None:
    catalogue = catalogue_of()
    link = read_leniently(path.encode(), query.replace(" ", "%20").encode())
    assert link
    click = a_click(offer=catalogue.offers[3], link=link)
    location = prepare_outcomes(click, catalogue).unique.location
    assert dict(parse_qsl(urlsplit(location).query)) == {"c": HASH, "gclid": "a b", "utm_a": "1"}


MACROS = [
    ("gclid=a%20b", "https://x.test/{param:gclid}?g={param:gclid}", "https://x.test/a%20b?g=a%20b"),
    ("", "https://x.test/?g={param:gclid}", "https://x.test/?g="),
    ("affiliate_id=9", "https://x.test/?a={param:affiliate_id}", "https://x.test/?a=513"),
    (f"g={'é' * 600}", "https://x.test/?g={param:g}", "https://x.test/?g=" + "%C3%A9" * 500),
    ("g=%EE", "https://x.test/?g={param:g}", "https://x.test/?g=%25EE"),
    (f"g={SECRET}", "https://x.test/?g={param:g}", "https://x.test/?g="),
    ("g=..", "https://x.test/{param:g}/a", ""),
]


@pytest.mark.parametrize(("query", "url", "location"), MACROS)
def test_macro_of_a_parameter_is_filled(query: str, url: str, location: str) -> None:
    assert location_of(query, url, []) == location


WRONG = [
    (["utm_*"] * 21, "at most 20"),
    (["*"], "letters, digits"),
    (["a*b"], "letters, digits"),
    (["a**"], "letters, digits"),
    ([""], "letters, digits"),
    (["a b"], "letters, digits"),
    (["ä"], "letters, digits"),
    (["a" * 51], "1 to 50"),
    (["gclid", "test"], "'test': the signature of test links stays here"),
]


@pytest.mark.parametrize(("listed", "rule"), WRONG)
def test_wrong_list_is_reported_and_the_offer_serves(listed: list[str], rule: str) -> None:
    with pytest.raises(ValueError, match=rule):
        pass_through.compile(listed)
    catalogue = Catalogue()
    catalogue.put("offer", "3", offer_row(3, pass_through=listed))
    assert rule in catalogue.problems["offer", "3"][0]
    assert catalogue.offers[3].pass_through is None


NAMES = st.sampled_from(
    ["utm_a", "utm_b", "utm_.a", "utm_a[]", "UTM_A", "gclid", "c", "x", "b", "test", "url"]
)
TEXTS = st.text(max_size=40) | st.sampled_from(["é" * 900, "x" * 3000, "a&b=c#d", "%41", "\r\nX: y", SECRET])
PAIRS = st.lists(st.tuples(NAMES, TEXTS), max_size=12)
URLS = st.sampled_from(
    [
        PAGE,
        "https://x.test",
        "https://x.test/p?utm_a=own&c={hash}",
        "https://x.test/#f?x",
        "https://x.test/?b&",
    ]
)


def surrogate_free(pairs: list[tuple[str, str]]) -> list[tuple[str, str]]:
    return [(name, text.encode("utf-8", "replace").decode()) for name, text in pairs]


@given(PAIRS.map(surrogate_free), URLS)
@example([("utm_a", "1"), ("utm_a", "2")], PAGE)
def test_location_of_any_link_keeps_its_templates_parameters(pairs: list[tuple[str, str]], url: str) -> None:
    query = urlencode(pairs)
    plain, location = location_of("", url), location_of(query, url)
    assert len(location) <= MAX_LOCATION
    assert location.isascii()
    assert location.isprintable()
    before, after = urlsplit(plain), urlsplit(location)
    assert (after.scheme, after.netloc, after.path, after.fragment) == (
        *(before.scheme, before.netloc, before.path, before.fragment),
    )
    own = parse_qsl(before.query, keep_blank_values=True)
    found = parse_qsl(after.query, keep_blank_values=True)
    assert found[: len(own)] == own, "unchanged, and first"
    sent = {name: text.translate(CONTROLS) for name, text in reversed(pairs)}
    passed = dict(found[len(own) :])
    assert len(passed) == len(found) - len(own), "each once"
    assert passed.items() <= sent.items()
    assert passed.keys() <= {"utm_a", "utm_b", "utm_.a", "gclid"} - dict(own).keys()
    assert SECRET not in location
    if len(query) * 3 + len(plain) < MAX_LOCATION and "utm_.a" not in sent:  # there is room, and no twin
        wanted = {"utm_a", "utm_b", "gclid"} - dict(own).keys()
        assert passed.keys() == {name for name in wanted if SECRET not in sent.get(name, SECRET)}


@given(st.binary(max_size=200))
def test_any_query_is_read(query: bytes) -> None:
    text = text_of(query)
    for name in link_query.names(text):
        link_query.check_name(name)
        value = link_query.value(text, name)
        assert value is None or (value.isprintable() or not set(map(ord, value)) & CONTROLS.keys())


@given(st.integers(0, MAX_LOCATION), st.integers(1, 3))
@example(2500, 3)
@example(2721, 1)
def test_number_left_out_is_that_of_missing_parameters(length: int, times: int) -> None:
    query = "&".join(f"utm_{n}={'/' * length}" for n in range(times))
    passing = catalogue_of().offers[3].pass_through
    assert passing
    location = pass_through.add(CLICK, query, passing)
    assert len(location) <= MAX_LOCATION
    assert location.count("&utm_") + pass_through.left_out(location, query, passing) == times
