from collections import Counter
from random import Random
from typing import Any

import pytest

from tests.factories.clicks import a_click, an_affiliate, an_offer
from tracker.domain import rules, targeting
from tracker.domain.model import NO_TERMS, Choice, Click, Offer, OfferUrl, Reason, Standing, Terms

NOW = 1_800_000_000_000


def a_url(id_: int, weight: int = 1, *, offer_id: int = 3, **targeting_: Any) -> OfferUrl:
    compiled, unique_only = rules.compile(targeting_, "UTC")
    salt = targeting.salt(offer_id, id_)
    return OfferUrl(id_, f"page {id_}", ("https://x.test/",), weight, compiled, unique_only, salt=salt)


def chosen(offer: Offer, click: Click | None = None, *, is_new: bool = True, **changes: Any) -> int | Reason:
    click = (click or a_click(offer=offer))._replace(**changes)
    choice = targeting.choose(click, offer, NO_TERMS, is_new=is_new)
    return choice.url.id if isinstance(choice, Choice) else choice


REFUSALS: list[tuple[str, dict[str, Any], dict[str, Any], Terms, Reason]] = [
    ("nothing in the way", {}, {}, NO_TERMS, Reason.NONE),
    ("paused", {"is_active": False}, {}, NO_TERMS, Reason.OFFER_PAUSED),
    ("not started", {"starts": NOW + 1}, {}, NO_TERMS, Reason.OFFER_NOT_STARTED),
    ("just started", {"starts": NOW}, {}, NO_TERMS, Reason.NONE),
    ("not yet expired", {"ends": NOW + 1}, {}, NO_TERMS, Reason.NONE),
    ("just expired", {"ends": NOW}, {}, NO_TERMS, Reason.OFFER_EXPIRED),
    ("closed", {"closed_until": NOW + 1}, {}, NO_TERMS, Reason.OFFER_CLOSED),
    ("opened again", {"closed_until": NOW}, {}, NO_TERMS, Reason.NONE),
    ("closed to the affiliate", {}, {}, Terms(True, NOW + 1, (), ()), Reason.OFFER_CLOSED),
    ("cannot be served", {"problem": "no such zone"}, {}, NO_TERMS, Reason.OFFER_MISCONFIGURED),
    ("approval wanting", {"needs_approval": True}, {}, NO_TERMS, Reason.AFFILIATE_NOT_APPROVED),
    ("approved", {"needs_approval": True}, {}, Terms(True, 0, (), ()), Reason.NONE),
    ("pending affiliate", {}, {"status": Standing.PENDING}, NO_TERMS, Reason.AFFILIATE_PENDING),
    ("blocked affiliate", {}, {"status": Standing.BLOCKED}, NO_TERMS, Reason.AFFILIATE_BLOCKED),
    (
        "blocked goes before all",
        {"is_active": False, "problem": "x"},
        {"status": Standing.BLOCKED},
        NO_TERMS,
        Reason.AFFILIATE_BLOCKED,
    ),
]


@pytest.mark.parametrize(("offer", "affiliate", "terms", "reason"), [case[1:] for case in REFUSALS])
def test_refusals(offer: dict[str, Any], affiliate: dict[str, Any], terms: Terms, reason: Reason) -> None:
    click = a_click(millis=NOW, affiliate=an_affiliate(**affiliate))
    assert targeting.refusal(click, an_offer(**offer), terms) is reason


BY_TEST_CLICKS = [case for case in REFUSALS if case[4] is not Reason.NONE]


@pytest.mark.parametrize(("offer", "affiliate", "terms", "reason"), [case[1:] for case in BY_TEST_CLICKS])
def test_test_clicks_are_refused_only_where_they_cannot_be_served(
    offer: dict[str, Any], affiliate: dict[str, Any], terms: Terms, reason: Reason
) -> None:
    click = a_click(millis=NOW, affiliate=an_affiliate(**affiliate), is_test=True)
    always = (Reason.AFFILIATE_BLOCKED, Reason.OFFER_MISCONFIGURED)
    assert targeting.refusal(click, an_offer(**offer), terms) is (reason if reason in always else Reason.NONE)


NL, DE = {"country": ["NL"]}, {"country": ["DE"]}  # a_click is from the Netherlands
CHOICES: list[tuple[str, list[OfferUrl], int | None, int | Reason]] = [
    ("the only one", [a_url(1)], None, 1),
    ("none", [], None, Reason.OFFER_HAS_NO_URL),
    ("only by url_id", [a_url(1, weight=0)], None, Reason.OFFER_HAS_NO_URL),
    ("asked for", [a_url(1), a_url(2, weight=0)], 2, 2),
    ("asked for in vain", [a_url(1), a_url(2, weight=0)], 3, 1),
    ("asked for: its rules do not count", [a_url(1), a_url(2, **DE)], 2, 2),
    ("the one whose rule holds", [a_url(1, **DE), a_url(2, **NL)], None, 2),
    ("weight does not beat a rule", [a_url(1, weight=1_000_000, **DE), a_url(2, **NL)], None, 2),
    ("no rule holds", [a_url(1, **DE)], None, Reason.OFF_TARGET),
]


@pytest.mark.parametrize(("urls", "url_id", "expected"), [case[1:] for case in CHOICES])
def test_offer_url_is_chosen_by_weight_and_rules(
    urls: list[OfferUrl], url_id: int | None, expected: int | Reason
) -> None:
    offer = an_offer(urls=tuple(urls))
    click = a_click(offer=offer)
    assert chosen(offer, click, link=click.link._replace(url_id=url_id)) == expected


def test_offers_own_rules_come_first() -> None:
    offer = an_offer(urls=(a_url(1),), rules=rules.compile(DE, "UTC")[0])
    click = a_click(offer=offer)
    assert chosen(offer) is Reason.OFF_TARGET
    assert chosen(offer, link=click.link._replace(url_id=1)) is Reason.OFF_TARGET
    assert chosen(offer, is_test=True) == 1


def test_urls_for_first_clicks_refuse_duplicates() -> None:
    offer = an_offer(urls=(a_url(1, unique=True),))
    assert chosen(offer) == 1
    assert chosen(offer, is_new=False) is Reason.OFF_TARGET
    assert chosen(offer, is_new=False, is_test=True) == 1
    assert targeting.wants_uniques(offer)
    assert not targeting.wants_uniques(an_offer(urls=(a_url(1),)))


def visitors(count: int, seed: int = 7) -> list[int]:
    random = Random(seed)
    return [random.getrandbits(64) for _ in range(count)]


@pytest.mark.parametrize("weights", [(1, 1), (5, 3, 2), (1, 99), (1, 1, 1, 1, 1, 1, 1)])
def test_weights_split_a_hundred_thousand_visitors_fairly(weights: tuple[int, ...]) -> None:
    offer = an_offer(urls=tuple(a_url(n, weight) for n, weight in enumerate(weights, 101)))
    click, total = a_click(offer=offer), 100_000
    seen = Counter(chosen(offer, click, visitor_key=key) for key in visitors(total))
    expected = [total * weight / sum(weights) for weight in weights]
    chi_square = sum((seen[n] - wanted) ** 2 / wanted for n, wanted in enumerate(expected, 101))
    # The 99.99 % quantiles for one to six degrees of freedom. The visitors are the same each run.
    assert chi_square < {1: 15.1, 2: 18.4, 6: 27.9}[len(weights) - 1]


def test_offers_split_the_same_visitors_independently() -> None:
    one, other = (an_offer(id=id_, urls=(a_url(1, offer_id=id_), a_url(2, offer_id=id_))) for id_ in (3, 4))
    click = a_click()
    alike = sum(
        chosen(one, click, visitor_key=key) == chosen(other, click, visitor_key=key)
        for key in visitors(10_000)
    )
    assert 4_700 < alike < 5_300


def test_visitor_keeps_its_url_when_others_come_and_go() -> None:
    urls = tuple(a_url(n, n) for n in range(1, 6))
    click = a_click()
    for key in visitors(500):
        at_first = chosen(an_offer(urls=urls), click, visitor_key=key)
        without = tuple(url for url in urls if url.id == at_first or url.id % 2)
        assert chosen(an_offer(urls=without), click, visitor_key=key) == at_first
        assert chosen(an_offer(urls=urls), click, visitor_key=key) == at_first
