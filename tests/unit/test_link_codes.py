"""Links that name their offer and affiliate by codes."""

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.test_link_forms import a_row
from tracker.domain.model import Link
from tracker.edge.catalogue.link_codes import MAX_CODE
from tracker.edge.catalogue.link_forms import LinkForms

LONG = "x" * MAX_CODE


def a_code(kind: str, code: str, id_: int, **changes: Any) -> dict[str, Any]:
    ids = {"offer_id": None, "offer_url_id": None, "affiliate_id": None, f"{kind}_id": id_}
    return {"kind": kind, "code": code, "host": None} | ids | changes


CODES = [
    a_code("affiliate", "28KL6", 513),
    a_code("offer", "2CTPL", 3),
    a_code("offer", "28KL6", 4),  # the same text is something else as an offer
    a_code("offer", "2ctpl", 5),
    a_code("offer", "URL", 3, offer_url_id=133),
    a_code("affiliate", "28KL6", 599, host="Old.test"),
    a_code("affiliate", "only", 501, host="old.test"),
    a_code("offer", LONG, 6),
    a_code("offer", "a/b ü", 7),
]
FORMS = [
    a_row("/{affiliate_code}/{offer_code}", parameters={"uid": "url_id"}),
    a_row("/rd", parameters={"a": "affiliate_code", "o": "offer_code"}),
    a_row("/in/{affiliate_code}", constants={"offer_code": "2CTPL"}),
    a_row("/mixed/{offer_id}", parameters={"a": "affiliate_code"}),
    a_row("/fixed/{offer_code}", constants={"offer_id": 9, "affiliate_id": 513}),
    a_row("/legal/{offer_id}", constants={"affiliate_id": 513}),
]


def forms_of(*rows: dict[str, Any], codes: list[dict[str, Any]] = CODES) -> LinkForms:
    forms = LinkForms()
    for id_, row in enumerate(rows or FORMS, 1):
        forms.put(id_, row)
    for id_, row in enumerate(codes, 1):
        forms.codes.put(id_, row)
    return forms


def read(path: str, query: str = "", host: str = "t.test") -> Link:
    return forms_of().link(host, path, query.encode())


LINKS = [
    ("/28KL6/2CTPL/", "sub1=a", (3, 513, None), "affiliate first, then offer"),
    ("/28KL6/2CTPL", "", (3, 513, None), "without the slash"),
    ("/28KL6/28KL6", "", (4, 513, None), "offers and affiliates have codes of their own"),
    ("/28KL6/2ctpl", "", (5, 513, None), "case counts"),
    ("/28kl6/2CTPL", "", (3, 0, None), "so this is no affiliate"),
    ("/28KL6/URL", "", (3, 513, 133), "an offer's URL"),
    ("/28KL6/URL", "uid=7", (3, 513, 133), "which the query cannot change"),
    ("/28KL6/2CTPL", "uid=7", (3, 513, 7), "a code without a URL lets the query choose"),
    ("/28KL6/2CTPL", "offer_id=9&affiliate_id=9&aff_id=9", (3, 513, None), "nor can it change the rest"),
    ("/28KL6/2CTPL", "offer_code=2ctpl", (3, 513, None), "by a code neither"),
    ("/rd", "a=28KL6&o=2CTPL", (3, 513, None), "in the query"),
    ("/rd", "o=2CTPL&a=28KL6&o=2ctpl", (3, 513, None), "the first of repeated ones"),
    ("/rd", "a=28KL6&amp;o=2CTPL", (3, 513, None), "after a page's mark"),
    ("/rd", "a=28KL6&o=%32CTPL", (3, 513, None), "percent-encoded"),
    ("/rd", "a=28KL6&o=a%2Fb+%C3%BC", (7, 513, None), "any text may be a code"),
    ("/rd", f"a=28KL6&o={LONG}", (6, 513, None), "the longest one"),
    ("/rd", f"a=28KL6&o={LONG}x", (0, 513, None), "nothing is cut to a code"),
    ("/rd", f"a=28KL6&o={LONG}{LONG}", (0, 513, None), "nothing is cut to a code"),
    ("/rd", "a=28KL6&offer_id=4&o=2CTPL", (4, 513, None), "an id goes before a code"),
    ("/rd", "a=28KL6&o=", (0, 513, None), "no code"),
    ("/in/28KL6", "offer_id=9", (3, 513, None), "a code as a constant"),
    ("/mixed/4", "a=28KL6", (4, 513, None), "an id in the path, a code in the query"),
    ("/fixed/2CTPL", "", (3, 513, None), "the path goes before a constant"),
    ("/fixed/nonsense", "", (0, 513, None), "also where its code means nothing"),
]


@pytest.mark.parametrize(("path", "query", "ids", "reason"), LINKS)
def test_link_by_codes_is_read(path: str, query: str, ids: tuple[int, int, int | None], reason: str) -> None:
    link = read(path, query)
    assert (link.offer_id, link.affiliate_id, link.url_id) == ids, reason
    assert forms_of().claims(path)


def test_code_of_a_host_wins_on_this_host() -> None:
    assert read("/28KL6/2CTPL", host="OLD.test:443").affiliate_id == 599
    assert read("/28KL6/2CTPL", host="other.test").affiliate_id == 513
    assert (read("/only/2CTPL", host="old.test").affiliate_id, read("/only/2CTPL").affiliate_id) == (501, 0)


@pytest.mark.parametrize(
    ("path", "is_claimed"),
    [
        ("/28KL6/nonsense", True),
        ("/nonsense/2CTPL", True),
        ("/nonsense/nonsense", False),
        ("/2CTPL/28KL", False),  # each in the other's place
        ("/favicon.ico", False),
        ("/.well-known/security.txt", False),
        ("/28KL6/2CTPL/x", False),
        ("/28KL6//", False),
        ("/health/2CTPL", False),
        ("/postback/2CTPL", False),
        ("/api/2CTPL", False),
        ("/legal/2CTPL", True),  # of the form with a fixed segment
        ("/in/nonsense", True),
    ],
)
def test_form_without_a_fixed_segment_takes_known_codes_only(path: str, is_claimed: bool) -> None:
    assert forms_of().claims(path) == is_claimed
    assert (forms_of().find("t.test", path) is not None) == is_claimed


def test_more_fixed_segments_go_first() -> None:
    codes = [*CODES, a_code("affiliate", "legal", 599)]
    form = forms_of(codes=codes).find("t.test", "/legal/2CTPL")
    assert form is not None
    assert not form.reads_codes


def test_link_by_an_unknown_code_names_it() -> None:
    unknown = forms_of().unknown_codes
    assert unknown("t.test", "/28KL6/2CTPL", b"") == []
    assert unknown("t.test", "/28KL6/DEF45", b"") == ["offer code DEF45"]
    assert unknown("t.test", "/rd", b"a=b&o=c") == ["offer code c", "affiliate code b"]
    assert unknown("t.test", "/legal/x", b"") == unknown("t.test", "/nothing", b"") == []


def test_replaced_and_removed_codes_are_forgotten() -> None:
    forms = forms_of()
    forms.codes.put(2, a_code("offer", "NEW", 8))  # was 2CTPL
    assert (forms.link("", "/28KL6/NEW", b"").offer_id, forms.link("", "/28KL6/2CTPL", b"").offer_id) == (
        8,
        0,
    )
    forms.codes.put(4, a_code("offer", "NEW", 9))  # as when two rows change their codes
    forms.codes.put(2, a_code("offer", "2ctpl", 8))
    assert forms.link("", "/28KL6/NEW", b"").offer_id == 9
    for id_ in range(1, len(CODES) + 1):
        forms.codes.put(id_, None)
    assert not forms.claims("/28KL6/NEW")
    assert forms.unknown_codes("", "/rd", b"a=28KL6&o=NEW") == ["offer code NEW", "affiliate code 28KL6"]


WRONG = [
    (a_row("/{offer_code}/{offer_id}"), "one thing by id and by code"),
    (a_row("/{offer_code}/{offer_code}"), "a placeholder twice"),
    (a_row("/c", constants={"offer_id": 3, "offer_code": "x", "affiliate_id": 5}), "by id and by code"),
    (a_row("/{affiliate_code}", parameters={"offer_id": "source"}), "never give an offer_id"),
    (a_row("/c", parameters={"o": "offer_codes"}), "offer_code, affiliate_code"),
    (a_row("/c", constants={"offer_code": 1.5, "affiliate_id": 5}), "needs text"),
]


@pytest.mark.parametrize(("row", "rule"), WRONG)
def test_wrong_form_is_refused(row: dict[str, Any], rule: str) -> None:
    with pytest.raises(ValueError, match=rule):
        LinkForms().put(1, row)


def test_code_of_a_wrong_host_is_refused() -> None:
    with pytest.raises(ValueError, match="is not a host"):
        LinkForms().codes.put(1, a_code("offer", "x", 3, host="a b"))
