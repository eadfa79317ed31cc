from __future__ import annotations

import re
from urllib.parse import unquote, urlsplit

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tracker.domain import deep_links
from tracker.domain.macros import MAX_LOCATION

HASH = "01900000000070008000000000000001"
LOCATION = f"https://shop.test/?click_id={HASH}"
HOSTS = deep_links.hosts(["shop.test", ".sub.test", "xn--bcher-kva.test"])
TAIL = f"click_id={HASH}"


def follow(deep_link: str, location: str = LOCATION) -> str | None:
    return deep_links.follow(deep_link, HOSTS, location)


FOLLOWED = [
    ("https://shop.test/shoes/42?color=red#top", f"https://shop.test/shoes/42?color=red&{TAIL}#top"),
    ("https://shop.test", f"https://shop.test?{TAIL}"),
    ("https://shop.test/", f"https://shop.test/?{TAIL}"),
    ("https://shop.test/?", f"https://shop.test/?{TAIL}"),
    ("https://shop.test/?a&", f"https://shop.test/?a&{TAIL}"),
    ("https://shop.test?a=b", f"https://shop.test?a=b&{TAIL}"),
    ("https://shop.test#top?a", f"https://shop.test?{TAIL}#top?a"),
    ("https://shop.test:443/a", f"https://shop.test:443/a?{TAIL}"),
    ("HTTPS://Shop.TEST/A", f"HTTPS://Shop.TEST/A?{TAIL}"),
    ("https://a.sub.test/", f"https://a.sub.test/?{TAIL}"),
    ("https://a.b.sub.test/", f"https://a.b.sub.test/?{TAIL}"),
    ("https://xn--bcher-kva.test/", f"https://xn--bcher-kva.test/?{TAIL}"),
    (
        "https://shop.test/schön?q=ä%20b&r=50%",
        f"https://shop.test/sch%C3%B6n?q=%C3%A4%20b&r=50%25&{TAIL}",
    ),
    ("https://shop.test/@evil.test//evil.test/..", f"https://shop.test/@evil.test//evil.test/..?{TAIL}"),
    ("https://shop.test/?to=https://evil.test", f"https://shop.test/?to=https://evil.test&{TAIL}"),
    ("https://shop.test/{hash}", f"https://shop.test/%7Bhash%7D?{TAIL}"),
    # The click's own hash is the only one that arrives.
    ("https://shop.test/?click_id=mine&a=b&click%5Fid=mine", f"https://shop.test/?a=b&{TAIL}"),
]


@pytest.mark.parametrize(("deep_link", "followed"), FOLLOWED)
def test_deep_link_is_followed_with_the_query_of_the_offer_url(deep_link: str, followed: str) -> None:
    assert follow(deep_link) == followed


# What servers read as click_id: PHP, Rails and qs by brackets, dots and spaces, ASP.NET and Java case aside.
FORGED = [
    *("click_id", "CLICK_ID", "Click_Id", "click%5Fid", "%43lick_id", "click_id+", "+click_id", "clickid%20"),
    *("click_id[]", "click_id%5B%5D", "click_id[0]", "click_id[a][b]", "[click_id]", "click.id", "click+id"),
    *("click[id", "click-id", "clickid", "CLICK%5fID%5b%5D", "click_id%00", "click%FF_id", "click_\u0131d"),
    *("cl\u0131ck_id", "cl%C4%B0ck_id", "a=1;click_id", "a;CLICK_ID", "amp;click_id"),
]


@pytest.mark.parametrize("name", FORGED)
@pytest.mark.parametrize("form", ["{}=forged", "{}", "{}=forged&{}=again", "{0}=forged;b=1"])
def test_parameter_of_the_offer_url_wins_over_every_spelling(name: str, form: str) -> None:
    followed = follow(f"https://shop.test/?q=a%3Bb&{form.format(name, name)}&z=1") or ""
    names = [unquote(piece.partition("=")[0]).lower() for piece in re.split("[?&;]", followed)]
    assert followed.endswith(f"&z=1&{TAIL}")
    assert followed.startswith("https://shop.test/?q=a%3Bb")
    assert [name for name in names if name.startswith(("click", "cl\u0131", "[cl"))] == ["click_id"]
    assert "forged" not in followed


@pytest.mark.parametrize("name", ["click_id2", "my_click_id", "id", "click", "\u5e97", "_", "a[click_id]"])
def test_other_parameters_of_a_deep_link_stay(name: str) -> None:
    assert (follow(f"https://shop.test/?{name}=1;b=2;&c", LOCATION) or "").endswith(f"=1;b=2;&c&{TAIL}")


@pytest.mark.parametrize("added", ["click_id[]=ours", "Click.Id=ours", "[click_id]=ours"])
def test_spelling_of_the_offer_url_does_not_matter(added: str) -> None:
    followed = follow("https://shop.test/?click_id=forged&a", f"https://shop.test/?{added}")
    assert followed == f"https://shop.test/?a&{added}"


LOCATIONS = [
    ("https://shop.test/land", "https://shop.test/a?b=c#d"),
    ("https://shop.test/land#no?query", "https://shop.test/a?b=c#d"),
    ("https://shop.test/land?#e", "https://shop.test/a?b=c#d"),
    ("https://other.test/land?e=f&g=#h", "https://shop.test/a?b=c&e=f&g=#d"),
    ("https://shop.test/land?b=", "https://shop.test/a?b=#d"),
]


@pytest.mark.parametrize(("location", "followed"), LOCATIONS)
def test_deep_link_gets_only_the_query_of_the_offer_url(location: str, followed: str) -> None:
    assert follow("https://shop.test/a?b=c#d", location) == followed


REFUSED = [
    "",
    "/shoes",
    "shop.test/",
    "//shop.test/",
    "http://shop.test/",
    "http\u017f://shop.test/",
    "javascript://shop.test/%0aalert(1)",
    "https:/shop.test/",
    "https:shop.test/",
    "https:///shop.test/",
    "https:\\\\shop.test/",
    "https://evil.test/",
    "https://shop.test.evil.test/",
    "https://evilshop.test/",
    "https://sub.test/",  # .sub.test is what lies below it
    "https://evilsub.test/",
    "https://.sub.test/",
    "https://..sub.test/",
    "https://-.sub.test/",
    "https://a..sub.test/",
    "https://shop.test./",
    "https://shop.test:444/",
    "https://shop.test:/",
    "https://shop.test:443:443/",
    "https://shop.test:443@evil.test/",
    "https://shop.test@evil.test/",
    "https://me@shop.test/",
    "https://shop.test\\@evil.test/",
    "https://evil.test\\@shop.test/",
    "https://evil.test#@shop.test/",
    "https://shop.test\n.evil.test/",
    "https://shop.test/\r\nSet-Cookie: a",
    "https://shop.test/a b",
    " https://shop.test/",
    "https://shop.test/\x00",
    "https://shop.test/\x85",
    "https://shop.test/\ud800",
    "https://shop.test/a\\b",
    "https://[::1]/",
    "https://[shop.test]/",
    "https://shop%2Etest/",
    "https://shop。test/",
    "https://\uff53hop.test/",
    "https://bücher.test/",
    "https://shop\u00ad.test/",
    "https://shop.te\u017ft/",
    "https://" + "a." * 200 + "sub.test/",
    "https://shop.test/?" + "&".join("a" * 101),
    "https://shop.test/" + "a" * (MAX_LOCATION - 50),
]


@pytest.mark.parametrize("deep_link", REFUSED)
def test_doubtful_deep_link_is_not_followed(deep_link: str) -> None:
    assert follow(deep_link) is None


def test_deep_links_need_allowed_hosts() -> None:
    assert deep_links.follow("https://shop.test/", deep_links.hosts([]), LOCATION) is None


def test_longest_location_is_sent() -> None:
    spare = MAX_LOCATION - len(f"https://shop.test/?{TAIL}")
    assert len(follow("https://shop.test/" + "a" * spare) or "") == MAX_LOCATION
    assert follow("https://shop.test/" + "a" * (spare + 1)) is None


PIECES = st.sampled_from(
    [
        *("https:", "http:", "/", "//", "\\", "shop.test", "evil.test", ".sub.test", "a", "@", ":", "443"),
        *(".", "#", "?", "&", "=", "%2e", "%", "[", "]", "\t", "\n", " ", "xn--", "ä", "click_id=mine"),
        *("\u3002", "\uff0f", "\u017f", "\u0130"),  # read as a dot, a slash, an s and an i by some
    ]
)
HOSTILE = st.lists(PIECES, max_size=12).map("".join) | st.text(max_size=60)


@given(HOSTILE | HOSTILE.map("https://shop.test".__add__) | HOSTILE.map("https://a.sub.test/".__add__))
@example("https://shop.test/ä/../\u2028?#")
def test_deep_link_of_any_text_ends_on_an_allowed_host(deep_link: str) -> None:
    followed = follow(deep_link)
    if followed is None:
        return
    assert followed.isascii()
    assert followed.isprintable()
    assert not set(" \\") & set(followed)
    assert len(followed) <= MAX_LOCATION
    # The authority of special URLs ends only at slashes (WHATWG URL, "authority state").
    host, port = re.fullmatch(r"https://([a-z0-9.-]+)(:443)?(?:[/?#].*)?", followed, re.IGNORECASE).groups()  # type: ignore[union-attr]
    assert host.lower() in HOSTS or host.lower().endswith(".sub.test")
    parts = urlsplit(followed)
    assert (parts.hostname, parts.username, parts.port) == (host.lower(), None, port and 443)
    assert parts.query.split("&")[-1] == TAIL
    asked = urlsplit(deep_link)
    assert unquote(parts.path) == unquote(asked.path)
    assert unquote(parts.fragment) == unquote(asked.fragment)


BELOW = st.from_regex(r"[a-z0-9.-]{1,40}", fullmatch=True)


@given(BELOW)
def test_entry_with_a_dot_allows_what_lies_below_it_alone(host: str) -> None:
    followed = follow(f"https://{host}.sub.test/") is not None
    assert followed == all(label.strip("-") == label != "" for label in host.split("."))
    assert follow(f"https://{host}-sub.test/") is None


def test_hosts_are_read_in_lower_case() -> None:
    assert deep_links.hosts(["Shop.TEST", ".a-b.Test"]) == {"shop.test", ".a-b.test"}


NO_HOSTS = [
    *("", ".", "shop", ".test", "shop.test.", "..shop.test", "shop..test", "-shop.test", "shop-.test"),
    *("*.shop.test", "https://shop.test", "shop.test/", "shop.test:443", "me@shop.test", "shop test.test"),
    *("shop.test\n", "bücher.test", "shop.te\u017ft", "192.0.2.7", "[::1]", "a.0x7f", "a.7", "sh_op.test"),
    *("a" * 64 + ".test", "a." * 126 + "test"),
]


@pytest.mark.parametrize("text", NO_HOSTS)
def test_invalid_host_name_is_refused_by_name(text: str) -> None:
    with pytest.raises(ValueError, match=re.escape(f"{text!r} is not a host name")):
        deep_links.hosts(["shop.test", text])
