"""The outcome of a click: a case for each reason, and the chain of fallbacks."""

from typing import Any

import pytest

from tests.factories.clicks import HASH, a_click
from tests.factories.rows import affiliate_row, block_row, cap_row, offer_row, terms_row, url_row
from tracker.domain import caps
from tracker.domain.click_id import millis_of
from tracker.domain.model import NO_TERMS, Click, Outcome, Reason, Status
from tracker.edge.catalogue.catalogue import Catalogue
from tracker.edge.outcome import prepare_outcomes

NOW = millis_of(HASH)
NOWHERE = {"country": ["XK"]}
OTHER = "https://other.test/?c={hash}&o={offer_id}&u={offer_url_id}"
SENT_ON = f"https://other.test/?c={HASH}&o=3&u="


def catalogue_of(**offers: Any) -> Catalogue:
    """Offer 3 with these changes, offer 4 beside it, and affiliate 513."""
    catalogue = Catalogue()
    catalogue.put("offer", "3", offer_row(3, **offers))
    catalogue.put("offer", "4", offer_row(4))
    catalogue.put("affiliate", "513", affiliate_row())
    return catalogue


def click_on(catalogue: Catalogue, **changes: Any) -> Click:
    offer, affiliate = catalogue.offers[3], catalogue.affiliates[513]
    terms = catalogue.terms.get((3, 513), NO_TERMS)
    click = a_click(offer=offer, affiliate=affiliate, terms=terms, millis=NOW)
    link = click.link._replace(
        **{name: changes.pop(name) for name in list(changes) if name in click.link._fields}
    )
    counters = caps.counters(offer, terms, 513, NOW)
    return click._replace(link=link, counters=counters)._replace(**changes)


def told(outcome: Outcome) -> tuple[str, int, int, int | None, str]:
    return outcome.status.value, outcome.reason, outcome.offer_id, outcome.offer_url_id, outcome.location


REASONS: list[tuple[Reason, dict[str, Any], dict[str, Any]]] = [
    (Reason.OFFER_PAUSED, {"status": "paused"}, {}),
    (Reason.OFFER_HAS_NO_URL, {"urls": []}, {}),
    (
        Reason.LOCATION_UNSENDABLE,
        {"urls": [url_row(30, "https://x.test/{aff_sub}/y")]},
        {"aff_subs": ("..",) * 20},
    ),
    (
        Reason.LOCATION_UNSENDABLE,
        {"urls": [url_row(30, "https://x.test/?" + "{aff_sub}" * 6)]},
        {"aff_subs": ("日" * 500,) * 20},
    ),
    (Reason.OFFER_MISCONFIGURED, {"time_zone": "Mars/Base"}, {}),
    (Reason.OFFER_MISCONFIGURED, {"targeting": {"planet": ["earth"]}}, {}),
    (Reason.OFFER_EXPIRED, {"ends": NOW}, {}),
    (Reason.OFFER_NOT_STARTED, {"starts": NOW + 1}, {}),
    (Reason.OFFER_CLOSED, {"closed_until": NOW + 1}, {}),
    (Reason.AFFILIATE_NOT_APPROVED, {"visibility": "approval"}, {}),
    (Reason.AFFILIATE_NOT_APPROVED, {"visibility": "private"}, {}),
    (Reason.OFF_TARGET, {"targeting": NOWHERE}, {}),
    (Reason.OFF_TARGET, {"urls": [url_row(30, targeting=NOWHERE)]}, {}),
]


@pytest.mark.parametrize(("reason", "offer", "changes"), REASONS)
def test_reasons_are_rejected_without_a_fallback(
    reason: Reason, offer: dict[str, Any], changes: dict[str, Any]
) -> None:
    catalogue = catalogue_of(**offer)
    outcomes = prepare_outcomes(click_on(catalogue, **changes), catalogue)
    assert told(outcomes.unique) == ("rejected", reason, 3, None, "")
    assert outcomes.unique is outcomes.duplicate is outcomes.capped


@pytest.mark.parametrize(("reason", "offer", "changes"), REASONS)
def test_reasons_are_forwarded_if_the_offer_has_a_fallback(
    reason: Reason, offer: dict[str, Any], changes: dict[str, Any]
) -> None:
    catalogue = catalogue_of(fallback_url=OTHER, **offer)
    assert told(prepare_outcomes(click_on(catalogue, **changes), catalogue).unique) == (
        "forwarded",
        reason,
        3,
        None,
        SENT_ON,
    )


BLOCKS: list[tuple[dict[str, Any], dict[str, Any], Reason]] = [
    (block_row(1, "source", "spam"), {"source": "spam"}, Reason.SOURCE_BLOCKED),
    (block_row(1, "source", "spam"), {"source": "Spam"}, Reason.NONE),
    (block_row(1, "aff_sub", "x"), {"aff_subs": ("x", *[""] * 19)}, Reason.SUB_BLOCKED),
    (block_row(1, "aff_sub2", "x"), {"aff_subs": ("x", *[""] * 19)}, Reason.NONE),
    (block_row(1, "aff_sub20", "x"), {"aff_subs": (*[""] * 19, "x")}, Reason.SUB_BLOCKED),
    (block_row(1, "ip", "192.0.2.0/24"), {}, Reason.IP_BLOCKED),
    (block_row(1, "ip", "192.0.2.7"), {}, Reason.IP_BLOCKED),
    (block_row(1, "ip", "198.51.100.0/24"), {}, Reason.NONE),
    (block_row(1, "source", "spam", offer_id=3), {"source": "spam"}, Reason.SOURCE_BLOCKED),
    (block_row(1, "source", "spam", offer_id=4), {"source": "spam"}, Reason.NONE),
    (block_row(1, "source", "spam", affiliate_id=513), {"source": "spam"}, Reason.SOURCE_BLOCKED),
    (block_row(1, "source", "spam", affiliate_id=514), {"source": "spam"}, Reason.NONE),
    (block_row(1, "source", "spam", offer_id=3, affiliate_id=513), {"source": "spam"}, Reason.SOURCE_BLOCKED),
    (block_row(1, "source", "spam", offer_id=3, affiliate_id=514), {"source": "spam"}, Reason.NONE),
]


@pytest.mark.parametrize(("block", "changes", "reason"), BLOCKS)
def test_block_lists(block: dict[str, Any], changes: dict[str, Any], reason: Reason) -> None:
    catalogue = catalogue_of()
    catalogue.put("block", "1", block)
    click = click_on(catalogue, **changes)
    assert prepare_outcomes(click, catalogue).unique.reason is reason
    assert prepare_outcomes(click._replace(is_test=True), catalogue).unique.reason is Reason.NONE
    catalogue.put("block", "1", None)
    assert prepare_outcomes(click, catalogue).unique.reason is Reason.NONE


def test_block_remains_until_both_of_its_rows_are_removed() -> None:
    catalogue = catalogue_of()
    for id_ in (1, 2):
        catalogue.put("block", str(id_), block_row(id_, "source", "spam"))
    catalogue.put("block", "1", None)
    assert (
        prepare_outcomes(click_on(catalogue, source="spam"), catalogue).unique.reason is Reason.SOURCE_BLOCKED
    )


def test_unreadable_block_is_reported_and_left_out() -> None:
    catalogue = catalogue_of()
    catalogue.put("block", "1", block_row(1, "ip", "nonsense"))
    assert "nonsense" in catalogue.problems["block", "1"][0]
    assert prepare_outcomes(click_on(catalogue), catalogue).unique.status is Status.ACCEPTED


@pytest.mark.parametrize(("status", "reason"), [("blocked", 20), ("pending", 21)])
def test_affiliates_status(status: str, reason: int) -> None:
    catalogue = catalogue_of(fallback_url=OTHER)
    catalogue.put("affiliate", "513", affiliate_row(status=status))
    outcome = prepare_outcomes(click_on(catalogue), catalogue).unique
    # A blocked affiliate's clicks use no fallback.
    assert told(outcome)[:2] == ("rejected" if status == "blocked" else "forwarded", reason)


def test_terms_approve_and_close() -> None:
    catalogue = catalogue_of(visibility="approval")
    catalogue.put("terms", "3:513", terms_row())
    assert prepare_outcomes(click_on(catalogue), catalogue).unique.status is Status.ACCEPTED
    for status in ("pending", "rejected", None):
        catalogue.put("terms", "3:513", terms_row(status=status))
        assert prepare_outcomes(click_on(catalogue), catalogue).unique.reason is Reason.AFFILIATE_NOT_APPROVED
    catalogue.put("terms", "3:513", terms_row(closed_until=NOW + 1))
    assert prepare_outcomes(click_on(catalogue), catalogue).unique.reason is Reason.OFFER_CLOSED


CHAINS: list[tuple[str, dict[str, Any], dict[str, Any], dict[str, Any], tuple[str, int, int | None, str]]] = [
    (
        "the URL's fallback goes first",
        {
            "fallback_url": "https://offer.test/",
            "caps": [cap_row(0)],
            "urls": [url_row(30, fallback_url=OTHER)],
        },
        {},
        {"fallback_url": "https://network.test/"},
        ("forwarded", 3, None, SENT_ON),
    ),
    (
        "then the offer's",
        {"fallback_url": OTHER, "caps": [cap_row(0)]},
        {},
        {"fallback_url": "https://network.test/"},
        ("forwarded", 3, None, SENT_ON),
    ),
    (
        "then the network's",
        {"caps": [cap_row(0)]},
        {},
        {"fallback_url": OTHER},
        ("forwarded", 3, None, SENT_ON),
    ),
    (
        "an offer",
        {"fallback_offer_id": 4, "caps": [cap_row(0)]},
        {},
        {"fallback_url": OTHER},
        ("forwarded", 4, 40, f"https://offer4.test/?c={HASH}"),
    ),
    (
        "an offer that is refused itself is passed over",
        {"fallback_offer_id": 4, "caps": [cap_row(0)]},
        {"status": "paused"},
        {"fallback_url": OTHER},
        ("forwarded", 3, None, SENT_ON),
    ),
    (
        "a refused offer's own fallback does not count: no loop",
        {"fallback_offer_id": 4, "caps": [cap_row(0)]},
        {"status": "paused", "fallback_offer_id": 3},
        {},
        ("rejected", 3, None, ""),
    ),
    (
        "an offer off target is passed over",
        {"fallback_offer_id": 4, "caps": [cap_row(0)]},
        {"targeting": NOWHERE},
        {},
        ("rejected", 3, None, ""),
    ),
    (
        "the network's fallback is the offer itself",
        {"caps": [cap_row(0)]},
        {},
        {"fallback_offer_id": 3},
        ("rejected", 3, None, ""),
    ),
    (
        "an offer that is not there",
        {"fallback_offer_id": 99, "caps": [cap_row(0)]},
        {},
        {},
        ("rejected", 3, None, ""),
    ),
]


@pytest.mark.parametrize(("offer", "other", "network", "expected"), [case[1:] for case in CHAINS])
def test_fallbacks_form_a_chain(
    offer: dict[str, Any], other: dict[str, Any], network: dict[str, Any], expected: tuple[Any, ...]
) -> None:
    catalogue = catalogue_of(**offer)
    catalogue.put("offer", "4", offer_row(4, **other))
    catalogue.put("network", "true", {"fallback_url": None, "fallback_offer_id": None} | network)
    status, _, offer_id, url_id, location = told(prepare_outcomes(click_on(catalogue), catalogue).capped)
    assert (status, offer_id, url_id, location) == expected


def test_requested_url_has_its_fallback_if_the_offer_is_refused() -> None:
    catalogue = catalogue_of(status="paused", urls=[url_row(30), url_row(31, fallback_url=OTHER)])
    assert prepare_outcomes(click_on(catalogue, url_id=31), catalogue).unique.location == SENT_ON
    assert prepare_outcomes(click_on(catalogue, url_id=30), catalogue).unique.status is Status.REJECTED


DUPLICATES: list[tuple[dict[str, Any], bool, tuple[str, int]]] = [
    ({}, True, ("accepted", 0)),
    ({"duplicates": "block"}, True, ("rejected", 40)),
    ({"duplicates": "block"}, False, ("accepted", 0)),  # address and agent alone may be thousands
    ({"duplicates": "block", "duplicates_forced": True}, False, ("rejected", 40)),
    ({"duplicates": "block", "fallback_url": OTHER}, True, ("rejected", 40)),
    ({"duplicates": "fallback", "fallback_url": OTHER}, True, ("forwarded", 40)),
    ({"duplicates": "fallback", "fallback_url": OTHER}, False, ("accepted", 0)),
    ({"duplicates": "fallback"}, True, ("rejected", 40)),
]


@pytest.mark.parametrize(("offer", "is_certain", "expected"), DUPLICATES)
def test_duplicate_policy_and_its_certainty(
    offer: dict[str, Any], is_certain: bool, expected: tuple[str, int]
) -> None:
    catalogue = catalogue_of(**offer)
    outcomes = prepare_outcomes(click_on(catalogue, is_certain=is_certain), catalogue)
    assert told(outcomes.unique)[:2] == ("accepted", 0)
    assert told(outcomes.duplicate)[:2] == expected


def test_url_for_first_clicks_only_leaves_duplicates_to_the_others() -> None:
    catalogue = catalogue_of(urls=[url_row(30, targeting={"unique": True}, weight=10**6), url_row(31)])
    unique, duplicate, _ = prepare_outcomes(click_on(catalogue, visitor_key=1), catalogue)
    assert (unique.offer_url_id, duplicate.offer_url_id) == (30, 31)


def test_capped_outcome_needs_a_cap() -> None:
    plain, capped = catalogue_of(), catalogue_of(caps=[cap_row(5)])
    unique, _, same = prepare_outcomes(click_on(plain), plain)
    assert unique is same
    assert told(prepare_outcomes(click_on(capped), capped).capped)[:2] == ("rejected", Reason.CAPPED)
    for changes in ({"is_test": True}, {"bot_reason": "crawler: X"}):
        outcomes = prepare_outcomes(click_on(capped, **changes), capped)
        assert outcomes.capped is outcomes.unique, "neither counts"


def test_deep_links_go_to_the_offers_hosts_only() -> None:
    catalogue = catalogue_of(deep_link_hosts=["shop.test"], urls=[url_row(30, "https://shop.test/?c={hash}")])
    asked = click_on(catalogue, deep_link="https://shop.test/shoes?color=red#top")
    assert (
        prepare_outcomes(asked, catalogue).unique.location
        == f"https://shop.test/shoes?color=red&c={HASH}#top"
    )
    for evil in ("https://evil.test/", "http://shop.test/", "https://shop.test@evil.test/", "//evil.test"):
        outcome = prepare_outcomes(click_on(catalogue, deep_link=evil), catalogue).unique
        assert outcome.location == f"https://shop.test/?c={HASH}"
    closed = catalogue_of()
    assert (
        "shoes"
        not in prepare_outcomes(
            click_on(closed, deep_link="https://offer3.test/shoes"), closed
        ).unique.location
    )


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"urls": [url_row(30, "ftp://x.test/"), url_row(31)]}, "its URL 30: it is left out"),
    ({"urls": [url_row(30, targeting={"os": 7}), url_row(31)]}, "its URL 30: it is left out"),
    (
        {"urls": [url_row(30, fallback_url="nonsense"), url_row(31)]},
        "its URL 30: its fallback URL is left out",
    ),
    ({"fallback_url": "https://{hash}.test/"}, "its fallback URL is left out"),
    ({"deep_link_hosts": ["not a host"]}, "its deep links are off"),
    ({"free": ["a b", *[""] * 9]}, "its free texts are left out"),
]


@pytest.mark.parametrize(("changes", "complaint"), WRONG)
def test_wrong_part_is_reported_and_the_rest_serves(changes: dict[str, Any], complaint: str) -> None:
    catalogue = catalogue_of(**changes)
    (why,) = catalogue.problems["offer", "3"]
    assert why.startswith(complaint)
    assert prepare_outcomes(click_on(catalogue), catalogue).unique.status is Status.ACCEPTED
    catalogue.put("offer", "3", offer_row(3))
    assert not catalogue.problems


def test_unservable_offer_names_the_reason() -> None:
    catalogue = catalogue_of(targeting={"unique": True})
    assert catalogue.offers[3].problem == "targeting: unique is a rule of offer URLs"
    assert catalogue.problems["offer", "3"]
