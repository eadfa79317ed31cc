from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracker.domain.model import Link
from tracker.edge.catalogue.form_paths import MAX_SEGMENTS
from tracker.edge.catalogue.link_forms import LinkForms
from tracker.edge.read.link import MAX_VALUE, read_link


def a_row(path: str, **changes: Any) -> dict[str, Any]:
    return {"id": 1, "name": "", "host": None, "path": path, "parameters": {}, "constants": {}} | changes


def forms_of(*rows: dict[str, Any]) -> LinkForms:
    forms = LinkForms()
    for id_, row in enumerate(rows, 1):
        forms.put(id_, row)
    return forms


def read(forms: LinkForms, host: str, path: str, query: bytes = b"") -> Link | None:
    form = forms.find(host, path)
    assert form is None or forms.claims(path)
    return form and read_link(path, query, form)


TUNE = a_row("/aff_c", host="go.test")
AFFISE = a_row("/click", parameters={"pid": "affiliate_id", "sub1": "aff_sub"})
EVERFLOW = a_row("/ABC123/DEF456/", constants={"offer_id": 3, "affiliate_id": 513})
KEITARO = a_row("/click.php", host="k.test", constants={"offer_id": 3}, parameters={"aid": "affiliate_id"})
CAKE = a_row(
    "/", parameters={"a": "affiliate_id", "c": "offer_id", "s1": "aff_sub", "s2": "aff_sub2", "ckmrdr": "url"}
)
OPAQUE = a_row("/x7Yz", constants={"offer_id": 3, "affiliate_id": "513", "source": "mail"})
IN_PATH = a_row("/c/{offer_id}/{affiliate_id}")
SUB_IN_PATH = a_row("/go/%7Baff_sub%7D/now", constants={"offer_id": 3, "affiliate_id": 513})
ENCODED = a_row("/caf%C3%A9%2F/{offer_id}", constants={"affiliate_id": 513})
ANY_OFFER = a_row("/{offer_id}/{affiliate_id}", host="short.test")

FORMS = forms_of(TUNE, AFFISE, EVERFLOW, KEITARO, CAKE, OPAQUE, IN_PATH, SUB_IN_PATH, ENCODED, ANY_OFFER)

LINKS = [
    ("go.test", "/aff_c", b"offer_id=3&aff_id=513&aff_sub=a&source=s", (3, 513, "a", "s")),
    ("GO.test:443", "/aff_c/", b"offer_id=3&aff_id=513", (3, 513, "", "")),
    ("go.test", "/aff_c", b"offer_id=3", (3, 0, "", "")),
    ("go.test", "/aff_c", b"offer_id=x&aff_id=513", (0, 513, "", "")),
    ("any.test", "/click", b"pid=513&offer_id=3&sub1=a", (3, 513, "a", "")),
    ("any.test", "/click", b"pid=513&offer_id=3&affiliate_id=9", (3, 513, "", "")),  # the first one
    ("any.test", "/click", b"p%69d=%3513&offer_id=3", (3, 513, "", "")),
    ("any.test", "/ABC123/DEF456/", b"sub1=a", (3, 513, "a", "")),
    ("any.test", "/ABC123/DEF456", b"affiliate_id=9&offer_id=9", (3, 513, "", "")),
    ("k.test", "/click.php", b"key=abc&aid=513", (3, 513, "", "")),
    ("any.test", "/", b"a=513&c=3&s1=a", (3, 513, "a", "")),
    ("any.test", "", b"a=513&c=3", (3, 513, "", "")),
    ("any.test", "/x7Yz", b"source=other&aff_sub=a", (3, 513, "a", "mail")),
    ("any.test", "/c/3/513", b"aff_sub=a&affiliate_id=9&aff_id=9", (3, 513, "a", "")),
    ("any.test", "/c/3/513/", b"", (3, 513, "", "")),
    ("any.test", "/c/03/1e3", b"", (0, 0, "", "")),
    ("any.test", "/go/some words/now", b"sub1=b&aff_sub=c", (3, 513, "some words", "")),
    ("any.test", "/go/\0a\x1f/now", b"", (3, 513, "a", "")),
    ("any.test", "/go/%41/now", b"", (3, 513, "%41", "")),  # the path was decoded before
    ("any.test", "/go/" + "ä" * 8192 + "/now", b"", (3, 513, "ä" * MAX_VALUE, "")),
    ("any.test", "/café//3", b"", (3, 513, "", "")),
    ("any.test", "/go/{}/now", b"", (3, 513, "{}", "")),
    ("short.test", "/3/513", b"", (3, 513, "", "")),
    ("short.test", "/ABC123/DEF456", b"", (0, 0, "", "")),  # of its host before of any host
]


@pytest.mark.parametrize(("host", "path", "query", "said"), LINKS)
def test_links_of_other_trackers_are_read(
    host: str, path: str, query: bytes, said: tuple[int, int, str, str]
) -> None:
    link = read(FORMS, host, path, query)
    assert link is not None
    assert (link.offer_id, link.affiliate_id, link.aff_subs[0], link.source) == said


def test_link_form_reads_all_parameters_of_a_link() -> None:
    query = b"c=3&a=513&url_id=7&s2=b&adv_sub5=v&gaid=g&ckmrdr=https%3A%2F%2Fshop.test%2F&test=1.x"
    link = read(FORMS, "any.test", "/", query)
    assert link is not None
    assert (link.url_id, link.aff_subs[1], link.adv_subs[4], link.gaid) == (7, "b", "v", "g")
    assert (link.deep_link, link.test) == ("https://shop.test/", "1.x")


def test_advertisers_parameter_name_goes_before_ours() -> None:
    forms = forms_of(a_row("/r", parameters={"source": "aff_sub2", "offer": "offer_id"}))
    link = read(forms, "", "/r", b"source=x&offer=3&aff_id=5")
    assert link is not None
    assert (link.source, link.aff_subs[1], link.offer_id) == ("", "x", 3)


def test_path_goes_before_a_constant() -> None:
    forms = forms_of(a_row("/r/{offer_id}", constants={"offer_id": 4, "affiliate_id": 5}))
    link = read(forms, "", "/r/3", b"offer_id=6")
    assert link is not None
    assert (link.offer_id, link.affiliate_id) == (3, 5)


@pytest.mark.parametrize(
    ("host", "path"),
    [
        ("other.test", "/aff_c"),
        ("", "/aff_c"),
        ("any.test", "/AFF_C"),
        ("any.test", "/click//"),
        ("any.test", "//"),
        ("any.test", "//click"),
        ("any.test", "/x7Y"),
        ("any.test", "/x7Yz\0"),
        ("any.test", "/x7Yz/x"),
        ("any.test", "/c/3"),
        ("any.test", "/c//513"),
        ("any.test", "/c/3//"),
        ("any.test", "/c/3/513/4"),
        ("any.test", "/c/3%2F513"),
        ("any.test", "/C/3/513"),
        ("any.test", "/go//now"),
        ("any.test", "/" + "x" * 8192),
        ("any.test", "/" * 8192),
        ("any.test", "/c" * 4096),
        ("any.test", "/ç/3/513"),
        ("short.test", "/offer/3"),  # our own path, for any link form
        ("short.test", "/health/live"),
        ("short.test", "/hosts/allowed"),
        ("short.test", "/backend/api"),
    ],
)
def test_other_paths_are_not_of_the_link_form(host: str, path: str) -> None:
    assert FORMS.find(host, path) is None


@pytest.mark.parametrize(
    ("path", "claimed"),
    [
        ("/aff_c", True),
        ("/aff_c/", True),
        ("/c/3/513", True),
        ("/3/513", True),
        ("/favicon.ico", False),
        ("/health/live", False),
        ("/metrics", False),
        ("/postback", False),
    ],
)
def test_path_is_claimed_without_its_host(path: str, claimed: bool) -> None:
    assert FORMS.claims(path) is claimed


BOTH = {"offer_id": 3, "affiliate_id": 513}

WRONG = [
    (a_row("aff_c"), "'aff_c' is not a path"),
    (a_row(""), "'' is not a path"),
    (a_row("/a?b"), "'/a?b' is not a path"),
    (a_row("/a#b"), "'/a#b' is not a path"),
    (a_row("/a\nb"), "is not a path"),
    (a_row("/" + "x" * 1000), "is not a path"),
    (a_row("/offer/{offer_id}"), "a path of the edge's own"),
    (a_row("/backend/api/v3/offer/{offer_id}/"), "a path of the edge's own"),
    (a_row("/health/live"), "a path of the edge's own"),
    (a_row("/metrics"), "a path of the edge's own"),
    (a_row("/postback"), "a path of the edge's own"),
    (a_row("/%70ostback"), "a path of the edge's own"),
    (a_row("/hosts/x"), "a path of the edge's own"),
    (a_row("/c/{offer}"), "{offer} in the path is not known"),
    (a_row("/c/{}"), "{} in the path is not known"),
    (a_row("/c/{url}"), "{url} in the path is not known"),
    (a_row("/c/x{offer_id}"), "'x{offer_id}' is not a whole placeholder"),
    (a_row("/c/{offer_id}.html"), "'{offer_id}.html' is not a whole placeholder"),
    (a_row("/c/}{"), "'}{' is not a whole placeholder"),
    (a_row("/c/%7B%7D"), "{} in the path is not known"),
    (a_row("/%00"), "is not a path"),
    (a_row("/c/{aff_id}/{affiliate_id}"), "has a placeholder twice"),
    (a_row("/x" * MAX_SEGMENTS + "/{offer_id}"), f"more than {MAX_SEGMENTS} segments"),
    (
        a_row("/c", parameters={"pid": "partner"}),
        "parameter 'pid': 'partner' is not one of offer_id, affiliate_id",
    ),
    (a_row("/c", parameters={"pid": ["affiliate_id"]}), "parameter 'pid': ['affiliate_id'] is not one of"),
    (a_row("/c", parameters={"": "offer_id"}), "parameter '': "),
    (a_row("/c", parameters=["pid"]), "parameters: ['pid'] is not an object"),
    (a_row("/c", constants=None), "constants: None is not an object"),
    (a_row("/c", constants={"partner": 1}), "constant 'partner' is not one of offer_id"),
    (a_row("/c", constants={"url": "https://shop.test/"}), "constant 'url' is not one of offer_id"),
    (a_row("/c", constants={"offer_id": 0}), "constant offer_id: 0 is not an id"),
    (a_row("/c", constants={"offer_id": "3 "}), "constant offer_id: '3 ' is not an id"),
    (a_row("/c", constants={"aff_id": True}), "constant aff_id: True is not an id"),
    (a_row("/c", constants={"offer_id": 10**18}), "is not an id"),
    (a_row("/c", constants={"source": None}), "constant source: needs text"),
    (a_row("/c", constants={"source": 1.5}), "constant source: needs text"),
    (a_row("/c", constants={"source": "x" * 501}), "constant source: needs text of at most 500 characters"),
    (a_row("/c", constants={"source": "a\0"}), "constant source: needs text"),
    (a_row("/c", host="http://go.test"), "'http://go.test' is not a host"),
    (a_row("/c", host=""), "'' is not a host"),
    (a_row("/c", host="*.go.test"), "'*.go.test' is not a host"),
    (a_row("/c", parameters={"offer_id": "aff_sub"}), "it can never give an offer_id"),
    (
        a_row("/c", parameters={"affiliate_id": "source", "aff_id": "aff_sub"}),
        "it can never give an affiliate_id",
    ),
]


@pytest.mark.parametrize(("row", "complaint"), WRONG)
def test_wrong_row_is_reported_and_not_used(row: dict[str, Any], complaint: str) -> None:
    forms = forms_of(OPAQUE)
    with pytest.raises(ValueError, match=re.escape(complaint)):
        forms.put(1, row)
    assert not forms.claims("/x7Yz")


def test_link_form_is_replaced_and_removed() -> None:
    forms = forms_of(OPAQUE)
    forms.put(1, IN_PATH)
    assert not forms.claims("/x7Yz")
    assert forms.claims("/c/3/513")
    forms.put(1, None)
    forms.put(2, None)
    assert not forms.claims("/c/3/513")


def test_link_form_with_a_host_and_more_fixed_segments_comes_first() -> None:
    rows = [
        a_row("/{aff_sub}/{aff_sub2}", constants=BOTH),
        a_row("/a/{aff_sub2}", constants=BOTH),
        a_row("/a/b", constants=BOTH),
        a_row("/{aff_sub}/b", host="go.test", constants=BOTH),
    ]
    forms = forms_of(*rows)
    for host, path, id_ in [
        ("any.test", "/a/b", 3),
        ("any.test", "/a/c", 2),
        ("any.test", "/c/d", 1),
        ("go.test", "/a/b", 4),
        ("go.test", "/a/c", 2),
    ]:
        form = forms.find(host, path)
        assert form is not None
        assert form.id == id_, (host, path)


def test_link_form_keeps_the_place_of_a_removed_one() -> None:
    """A row replaced by another in one transaction. Edges get both changes in any order."""
    forms = forms_of(OPAQUE, OPAQUE)
    forms.put(1, None)
    form = forms.find("any.test", "/x7Yz")
    assert form is not None
    assert form.id == 2
    forms.put(2, None)
    assert not forms.claims("/x7Yz")


@given(st.text(max_size=20), st.text(max_size=50), st.binary(max_size=200))
def test_link_form_reads_any_request(host: str, path: str, query: bytes) -> None:
    for hostile in (path, "/" + path, "/c/" + path, "/go/" + path + "/now"):
        link = read(FORMS, host, hostile, query)
        assert link is None or all(len(text) <= MAX_VALUE for text in link.aff_subs)


def test_signature_goes_on_to_no_page_whatever_a_form_calls_it() -> None:
    forms = forms_of(a_row("/aff_c", parameters={"preview": "test"}))
    for name in ("preview", "pre%76iew", "amp;preview", "test"):
        link = forms.link("go.test", "/aff_c", f"offer_id=3&{name}=17.sig&utm_a=b&aff_id=513".encode())
        assert (link.test, link.query) == ("17.sig", "offer_id=3&utm_a=b&aff_id=513"), name
    link = forms.link("go.test", "/aff_c", b"offer_id=3&preview=&utm_a=b")
    assert (link.test, link.query) == ("", "offer_id=3&preview=&utm_a=b")
