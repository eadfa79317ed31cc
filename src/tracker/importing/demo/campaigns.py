"""Who sends whom where in the made-up network: affiliates, their offers, and their visitors."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import NamedTuple

from tracker.importing.demo import visitors
from tracker.importing.demo.visitors import PLACES, Place

_Weights = Mapping[str, int]
_TIRELESS = 30.0
"""How many clicks machines make at any hour, beside people's visitors.wakefulness."""


class Appeal(NamedTuple):
    """How visitors take to an offer."""

    rates: Mapping[str, float]
    """By the name of the goal: the share of visitors who reach it. Of a later goal: of those before."""
    hours: float  # from the click to the first goal, for most less
    weekend: float = 1.0  # clicks on a day of a weekend, relative to other days
    paused: float = 0.0  # the last share of the history in which the offer is paused
    blocks_duplicates: bool = False
    takes_desktops: bool = True


APPEALS = {
    "demo-vpn": Appeal({"Subscription": 0.021, "Renewal": 0.12}, 5.0),
    "demo-town": Appeal({"Install": 0.085, "Level 10": 0.22}, 1.2, weekend=1.35, takes_desktops=False),
    "demo-fleet": Appeal({"Sign-up": 0.06}, 0.4, weekend=1.3, paused=0.35),
    "demo-shop": Appeal({"Sale": 0.034}, 14.0, weekend=1.2),
    "demo-switch": Appeal({"Lead": 0.045, "Contract": 0.3}, 0.7, weekend=0.6, blocks_duplicates=True),
    "demo-solar": Appeal({"Quote": 0.018}, 2.5, weekend=0.7),
    "demo-coffee": Appeal({"Order": 0.025}, 8.0, paused=0.6),
}
"""By the external id of the offer in network.yaml."""


class Sender(NamedTuple):
    """How an affiliate sends visitors."""

    affiliate: str  # its external id in network.yaml
    weight: int
    offers: _Weights
    countries: _Weights
    sources: tuple[str, ...]
    subs: tuple[str, ...]  # aff_sub, {} is a number
    quality: float  # how many of its visitors reach a goal, relative to other affiliates
    phones: float  # the share of phones and tablets
    growth: float = 0.0  # of its clicks, from the begin to the end of the history
    is_bad: bool = False  # its visitors are machines of one data centre


_SENDERS = (
    Sender(
        "demo-reviews",
        14,
        {"demo-vpn": 1},
        {"DE": 4, "GB": 5, "US": 6, "CA": 2, "FR": 2},
        sources=("review", "top-10", "guide"),
        subs=("kestrel-review", "vpn-for-travel", "vpn-test-{}"),
        quality=1.6,
        phones=0.38,
        growth=0.1,
    ),
    Sender(
        "demo-coupons",
        16,
        {"demo-shop": 5, "demo-vpn": 1, "demo-coffee": 2},
        {"US": 8, "GB": 4, "CA": 3, "DE": 2},
        sources=("coupon-page", "browser-button", "weekly"),
        subs=("code-{}",),
        quality=1.5,
        phones=0.55,
    ),
    Sender(
        "demo-mails",
        9,
        {"demo-solar": 4, "demo-switch": 3, "demo-shop": 1},
        {"ES": 5, "IT": 4, "DE": 4, "PT": 1},
        sources=("morning", "weekend-issue"),
        subs=("issue-{}", "issue-{}-b"),
        quality=1.1,
        phones=0.5,
        growth=-0.2,
    ),
    Sender(
        "demo-social",
        15,
        {"demo-town": 4, "demo-shop": 3, "demo-fleet": 2},
        {"US": 6, "BR": 5, "GB": 3, "IN": 4},
        sources=("stories", "reels", "feed"),
        subs=("creator_{}", "adset-{}"),
        quality=0.9,
        phones=0.92,
        growth=0.3,
    ),
    Sender(
        "demo-push",
        17,
        {"demo-town": 5, "demo-fleet": 2, "demo-vpn": 1},
        {"BR": 6, "IN": 8, "US": 2, "ES": 2},
        sources=("zone-2041", "zone-2077", "zone-3310"),
        subs=("push-{}",),
        quality=0.45,
        phones=0.88,
    ),
    Sender(
        "demo-native",
        12,
        {"demo-solar": 3, "demo-switch": 3, "demo-vpn": 2},
        {"ES": 4, "IT": 3, "DE": 4, "FR": 1},
        sources=("widget-below", "widget-side"),
        subs=("headline-{}",),
        quality=0.8,
        phones=0.62,
        growth=0.2,
    ),
    Sender(
        "demo-games",
        8,
        {"demo-town": 6, "demo-fleet": 2},
        {"US": 4, "JP": 4, "GB": 2, "DE": 2},
        sources=("guide", "tier-list", "video"),
        subs=("harbor-wiki", "ep-{}"),
        quality=1.7,
        phones=0.75,
        growth=0.15,
    ),
    Sender(
        "demo-compare",
        8,
        {"demo-switch": 1},
        {"DE": 6, "AT": 2},
        sources=("calculator", "table"),
        subs=("power-{}", "gas-{}"),
        quality=1.9,
        phones=0.45,
        growth=0.05,
    ),
    Sender(
        "demo-forum",
        4,
        {"demo-shop": 4, "demo-coffee": 3},
        {"US": 3, "GB": 2, "CA": 1},
        sources=("", "thread"),
        subs=("", "t{}"),
        quality=1.3,
        phones=0.5,
    ),
    Sender(
        "demo-bad",
        11,
        {"demo-town": 3, "demo-vpn": 4, "demo-shop": 3},
        {"US": 5, "GB": 3, "DE": 2},
        sources=("zone-1187", "zone-1188", "zone-1190"),
        subs=("{}",),
        quality=0.15,
        phones=0.0,
        growth=1.5,
        is_bad=True,
    ),
)


class Campaign(NamedTuple):
    """One affiliate's visitors of one country for one offer."""

    sender: Sender
    offer: str
    place: Place
    weight: float

    @property
    def appeal(self) -> Appeal:
        return APPEALS[self.offer]


def _campaigns() -> Iterator[Campaign]:
    for sender in _SENDERS:
        shares = sum(sender.offers.values()) * sum(sender.countries.values())
        for offer, of_offer in sender.offers.items():
            for country, of_country in sender.countries.items():
                weight = sender.weight * of_offer * of_country / shares
                yield Campaign(sender, offer, PLACES[country], weight)


CAMPAIGNS = tuple(_campaigns())


def weights(at: datetime, part: float) -> list[float]:
    """How many clicks each campaign has in an hour, relative to other hours and campaigns.

    `part`: how much of the history is over by then, from 0 to 1.
    """
    awake = {country: visitors.wakefulness(place, at) for country, place in PLACES.items()}
    rests = {country: visitors.is_weekend(place, at) for country, place in PLACES.items()}
    return [
        campaign.weight
        * (_TIRELESS if campaign.sender.is_bad else awake[campaign.place.country])
        * (campaign.appeal.weekend if rests[campaign.place.country] else 1.0)
        * (1 + campaign.sender.growth * part)
        for campaign in CAMPAIGNS
    ]
