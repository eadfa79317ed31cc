"""Turns rows of the catalogue into the objects of the hot path.

A wrong part is left out and reported, and the rest serves. If leaving it out would send clicks where the
operator does not want them, the whole offer is refused instead (Offer.problem).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from tracker.domain import deep_links, macros, rules, targeting
from tracker.domain.model import (
    FOREVER,
    NO_URL_ID,
    Affiliate,
    Cap,
    DuplicatePolicy,
    Fallback,
    FormerUniqueness,
    Offer,
    OfferUrl,
    PassThrough,
    Period,
    Rules,
    Standing,
    Terms,
)
from tracker.edge import pass_through

Row = dict[str, Any]
"""An object of the catalogue, as store.catalogue.read reads it."""

Complain = Callable[[str], None]


def affiliate(row: Row) -> Affiliate:
    return Affiliate(row["id"], row["name"], row["group_id"], Standing(row["status"]), row["is_test"])


def terms(row: Row, complain: Complain) -> Terms:
    return Terms(
        row["status"] == "approved",
        row["closed_until"] or 0,
        _caps(row["caps"]),
        _free(row["free"], complain),
    )


def fallback(row: Row, complain: Complain) -> Fallback | None:
    """The fallback of a row with fallback_url and fallback_offer_id. None if it has neither."""
    if row["fallback_url"]:
        try:
            template = macros.compile(row["fallback_url"])
        except macros.TemplateError as error:
            complain(f"its fallback URL is left out: {error}")
            return None
        return Fallback(OfferUrl(NO_URL_ID, "fallback", template, 0), None)
    return Fallback(None, row["fallback_offer_id"]) if row["fallback_offer_id"] else None


def offer(row: Row, complain: Complain) -> Offer:
    problem = _problem(row)
    if problem:
        complain(f"it is refused: {problem}")
    zone = "UTC" if problem else row["time_zone"]
    urls = (
        () if problem else tuple(filter(None, (_url(row["id"], url, zone, complain) for url in row["urls"])))
    )
    return Offer(
        id=row["id"],
        name=row["name"],
        advertiser_id=row["advertiser_id"],
        brand_id=row["brand_id"],
        is_active=row["status"] == "active",
        problem=problem,
        starts=row["starts"] or 0,
        ends=FOREVER if row["ends"] is None else row["ends"],
        closed_until=row["closed_until"] or 0,
        needs_approval=row["visibility"] != "public",
        time_zone=zone,
        rules=() if problem else rules.compile(row["targeting"], zone)[0],
        urls=urls,
        fallback=fallback(row, complain),
        caps=_caps(row["caps"]),
        unique_window=row["unique_window"],
        unique_per_affiliate=row["unique_scope"] == "offer_affiliate",
        visitor_cookie=row["visitor_cookie"],
        duplicates=DuplicatePolicy(row["duplicates"]),
        duplicates_forced=row["duplicates_forced"],
        redirect_status=row["redirect_status"],
        referrer_policy=row["referrer_policy"],
        deep_link_hosts=_deep_link_hosts(row["deep_link_hosts"], complain),
        free=_free(row["free"], complain),
        is_draft=row["status"] == "draft",
        former_uniqueness=_former_uniqueness(row),
        pass_through=_pass_through(row.get("pass_through", ()), complain),  # an old snapshot has none
    )


def _former_uniqueness(row: Row) -> tuple[FormerUniqueness, ...]:
    return tuple(
        FormerUniqueness(former["window"], former["scope"] == "offer_affiliate", former["until"])
        for former in row.get("former_uniqueness", ())  # an old snapshot has none
    )


def _problem(row: Row) -> str:
    """The reason why an offer is refused as a whole: clicks would go where they are not wanted."""
    try:
        ZoneInfo(row["time_zone"])
    except (ValueError, OSError, ZoneInfoNotFoundError):
        return f"{row['time_zone'][:100]!r} is not a time zone such as Europe/Berlin"
    try:
        _, unique = rules.compile(row["targeting"], row["time_zone"])
    except rules.RuleError as error:
        return f"targeting: {error}"
    return "targeting: unique is a rule of offer URLs" if unique else ""


def _url(offer_id: int, row: Row, zone: str, complain: Complain) -> OfferUrl | None:
    def complain_of_it(why: str) -> None:
        complain(f"its URL {row['id']}: {why}")

    try:
        template = macros.compile(row["url"])
        url_rules, unique_only = _url_rules(row["targeting"], zone)
    except (macros.TemplateError, rules.RuleError) as error:
        complain_of_it(f"it is left out: {error}")
        return None
    return OfferUrl(
        row["id"],
        row["name"],
        template,
        row["weight"],
        url_rules,
        unique_only,
        fallback(row, complain_of_it),
        targeting.salt(offer_id, row["id"]),
    )


def _url_rules(targeting: Mapping[str, Any], zone: str) -> tuple[Rules, bool]:
    return rules.compile(targeting, zone) if targeting else ((), False)


def _caps(rows: Sequence[Row]) -> tuple[Cap, ...]:
    return tuple(
        Cap(
            row["affiliate_id"],
            row["counts"] == "uniques",
            Period(row["period"]),
            row["amount"],
            row.get("series", 0),  # an old snapshot has none
        )
        for row in rows
    )


def _deep_link_hosts(texts: Sequence[str], complain: Complain) -> frozenset[str]:
    try:
        return deep_links.hosts(texts) if texts else frozenset()
    except ValueError as error:
        complain(f"its deep links are off: {error}")
        return frozenset()


def _pass_through(texts: Sequence[str], complain: Complain) -> PassThrough | None:
    try:
        return pass_through.compile(texts) if texts else None
    except ValueError as error:
        complain(f"it passes no parameters on: {error}")
        return None


def _free(texts: Sequence[str], complain: Complain) -> tuple[str, ...]:
    try:
        return tuple(map(macros.free_text, texts)) if any(texts) else _NO_FREE
    except macros.TemplateError as error:
        complain(f"its free texts are left out: {error}")
        return _NO_FREE


_NO_FREE = ("",) * 10
