"""The clicks and conversions of the made-up network: one after the other, and the same for the same seed."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from decimal import Decimal
from itertools import accumulate
from random import Random
from typing import Any, NamedTuple

from tracker.domain.click_id import legacy_hash
from tracker.domain.model import Reason
from tracker.domain.money import of_percent, show
from tracker.domain.normalise import amount
from tracker.importing.demo import visitors
from tracker.importing.demo.campaigns import CAMPAIGNS, Campaign, weights
from tracker.importing.demo.visitors import Visitor

Row = dict[str, Any]
"""A row of a file to import."""

SOURCE = "demo"
"""The name under which the history is imported: `tracker import undo --source demo` takes it back."""
_HOST = "go.demo.example"
_HOUR_MILLIS = 3_600_000
_DAY_SECONDS = 86_400
_REFUNDS = amount("25"), amount("50")  # per cent of the sale
_REMEMBERED = 500  # visitors who may come again


class Goal(NamedTuple):
    """A goal as the catalogue has it."""

    id: int
    name: str
    is_percent: bool  # payout and revenue are per cent of the sale
    payout: Decimal
    revenue: Decimal
    currency: str


class Url(NamedTuple):
    id: int
    template: str  # with {hash}, {affiliate_id} and {affiliate_source}
    weight: int


class Offer(NamedTuple):
    id: int
    urls: tuple[Url, ...]
    goals: Mapping[str, Goal]  # by name


class Network(NamedTuple):
    """The catalogue's objects by their external ids."""

    offers: Mapping[str, Offer]
    affiliates: Mapping[str, int]


class Span(NamedTuple):
    """Which history."""

    until: datetime  # its end, exclusive, of a whole second
    days: int
    clicks: int
    seed: int

    @property
    def begin(self) -> datetime:
        return self.until - timedelta(days=self.days)


class _Visit(NamedTuple):
    """What a click that comes again repeats."""

    campaign: Campaign
    visitor: Visitor
    links: Mapping[str, str]  # source and sub ids
    visitor_key: str
    group_hash: str


class Event(NamedTuple):
    """A click, and what came of it before the end of the history."""

    click: Row
    conversions: list[Row]


def events(network: Network, span: Span) -> Iterator[Event]:
    """The history, by the time of the clicks. It is made while it is read, so its length costs no memory.

    `network`: as network.yaml makes it.
    """
    rng = Random(f"{span.seed} {span.days} {span.clicks}")  # noqa: S311 - nothing is secret
    story = _Story(network, span, rng)
    for number, at in enumerate(_times(span, rng)):
        yield story.event(number, *at)


def _times(span: Span, rng: Random) -> Iterator[tuple[int, list[float]]]:
    """The time of each click in Unix milliseconds, and the weights of the campaigns in its hour, added up.

    Each click has an equal share of the history's weight to itself, so the times rise by themselves.
    """
    number = span.days * 24
    hours = [
        list(accumulate(weights(span.begin + timedelta(hours=hour), hour / number))) for hour in range(number)
    ]
    total = sum(hour[-1] for hour in hours)
    begin = int(span.begin.timestamp()) * 1000
    hour, before = 0, 0.0
    for number in range(span.clicks):
        place = (number + rng.random()) / span.clicks * total
        while place >= before + hours[hour][-1] and hour + 1 < len(hours):
            before += hours[hour][-1]
            hour += 1
        part = min((place - before) / hours[hour][-1], 0.999_999)
        yield begin + int((hour + part) * _HOUR_MILLIS), hours[hour]


class _Story:
    """The history so far: the last visitors, who may come again."""

    def __init__(self, network: Network, span: Span, rng: Random) -> None:
        self._network = network
        self._span = span
        self._rng = rng
        self._end = int(span.until.timestamp()) * 1000
        self._recent: deque[_Visit] = deque(maxlen=_REMEMBERED)

    def event(self, number: int, millis: int, shares: list[float]) -> Event:
        # With its end: what an undo leaves of an earlier history has other ids.
        legacy_id = f"{self._span.seed}-{self._end // 1000:x}-{number}"
        hash_ = legacy_hash(millis, SOURCE, legacy_id)
        comes_again = self._recent and self._rng.random() < 0.1
        visit = self._rng.choice(self._recent) if comes_again else self._new_visit(shares, hash_)
        verdict = self._verdict(visit, millis, is_again=bool(comes_again))
        click = self._click(visit, hash_, verdict) | {"legacy_id": legacy_id, "created_at": millis}
        counts = click["status"] == "accepted" and not click["is_bot"]
        if counts and not comes_again:
            self._recent.append(visit)
        made = self._conversions(visit, click, millis) if counts and click["is_unique"] else []
        return Event(click, made)

    def _new_visit(self, shares: list[float], hash_: str) -> _Visit:
        (campaign,) = self._rng.choices(CAMPAIGNS, cum_weights=shares)
        sender = campaign.sender
        visitor = (
            visitors.machine(self._rng, campaign.place)
            if sender.is_bad
            else visitors.person(self._rng, campaign.place, sender.phones)
        )
        sub = self._rng.choice(sender.subs).format(self._rng.randrange(1, 25))
        links = {"affiliate_source": self._rng.choice(sender.sources), "aff_sub": sub}
        if self._rng.random() < 0.3:
            links["aff_sub2"] = self._rng.choice(("a", "b", "c"))
        return _Visit(campaign, visitor, links, hash_[16:], hash_)

    def _verdict(self, visit: _Visit, millis: int, *, is_again: bool) -> Reason:
        """Why the tracker would have refused a click. Reason.NONE: it would not."""
        appeal = visit.campaign.appeal
        history = self._span.days * _DAY_SECONDS * 1000
        if appeal.paused and self._end - millis < appeal.paused * history:
            return Reason.OFFER_PAUSED
        if visit.campaign.sender.is_bad and visit.links["affiliate_source"] == "zone-1187":
            return Reason.SOURCE_BLOCKED
        if is_again and appeal.blocks_duplicates:
            return Reason.DUPLICATE
        is_off_target = visit.visitor.device.type == "desktop" and not appeal.takes_desktops
        return Reason.OFF_TARGET if is_off_target else Reason.NONE

    def _click(self, visit: _Visit, hash_: str, verdict: Reason) -> Row:
        offer = self._network.offers[visit.campaign.offer]
        affiliate_id = self._network.affiliates[visit.campaign.sender.affiliate]
        visitor, device, bot_reason = visit.visitor, visit.visitor.device, visit.visitor.bot_reason
        is_first = visit.group_hash == hash_
        subs = "".join(f"&{_PARAMETERS[name]}={text}" for name, text in visit.links.items() if text)
        return {
            "offer_id": offer.id,
            "affiliate_id": affiliate_id,
            "group_hash": "" if is_first else visit.group_hash,
            "is_unique": is_first and verdict is Reason.NONE and bot_reason is None,
            "is_bot": bot_reason is not None,
            "bot_reason": bot_reason or "",
            **visit.links,
            "country_code": visitor.place.country,
            "region_code": visitor.region,
            "mobile_carrier": visitor.carrier,
            "isp": visitor.carrier or ("Nimbus Hosting" if visit.campaign.sender.is_bad else ""),
            "ip": visitor.ip,
            "user_agent": visitor.user_agent,
            "visitor_key": visit.visitor_key,
            "device_type": device.type,
            "device_os": device.os,
            "device_os_version": device.os_version,
            "device_brand": device.brand,
            "device_model": device.model,
            "platform": device.platform,
            "browser": device.browser,
            "browser_version": device.browser_version,
            "host": _HOST,
            "requested_link": f"https://{_HOST}/offer/{offer.id}?affiliate_id={affiliate_id}{subs}",
            **self._outcome(offer, visit, hash_, verdict, affiliate_id),
        }

    def _outcome(
        self, offer: Offer, visit: _Visit, hash_: str, verdict: Reason, affiliate_id: int
    ) -> Mapping[str, Any]:
        if verdict is not Reason.NONE:
            return {"status": "rejected", "reason": verdict.value}
        url = self._rng.choices(offer.urls, [url.weight for url in offer.urls])[0]
        location = url.template.format(
            hash=hash_, affiliate_id=affiliate_id, affiliate_source=visit.links["affiliate_source"]
        )
        return {"status": "accepted", "reason": 0, "offer_url_id": url.id, "redirected_link": location}

    def _conversions(self, visit: _Visit, click: Row, millis: int) -> list[Row]:
        """The goals that a visitor reached one after the other, until one was missed or is yet to come."""
        appeal, sender = visit.campaign.appeal, visit.campaign.sender
        goals = self._network.offers[visit.campaign.offer].goals
        made: list[Row] = []
        at = millis
        for place, (name, rate) in enumerate(appeal.rates.items()):
            if self._rng.random() >= rate * (1.0 if place else sender.quality):
                break
            # Nobody fills a form in three seconds. The bad affiliate's machines do.
            seconds = (
                1 + 2 * self._rng.random() if sender.is_bad else self._wait(appeal.hours * (1 + 9 * place))
            )
            at += int(seconds * 1000)
            if at >= self._end:
                break
            made.append(self._conversion(goals[name], click, at, is_bad=sender.is_bad))
        return made

    def _wait(self, hours: float) -> float:
        """Seconds from a click to its goal: mostly minutes, for some days."""
        return 25 + min(self._rng.lognormvariate(0.0, 1.3) * hours * 1200, 20 * _DAY_SECONDS)

    def _conversion(self, goal: Goal, click: Row, at: int, *, is_bad: bool) -> Row:
        status = self._status((self._end - at) / 1000 / _DAY_SECONDS, is_bad=is_bad)
        sale = amount(f"{self._rng.lognormvariate(3.9, 0.6):.2f}") if goal.is_percent else None
        is_refunded = sale is not None and status == "approved" and self._rng.random() < 0.07
        refunded = (
            of_percent(self._rng.choice(_REFUNDS), sale, goal.currency) if sale and is_refunded else None
        )
        payout, revenue = goal.payout, goal.revenue
        if sale is not None:
            rest = sale - (refunded or 0)
            payout, revenue = (of_percent(part, rest, goal.currency) for part in (payout, revenue))
        own = f"{click['legacy_id']}-{goal.id}"
        return {
            "click_hash": click["legacy_id"],
            "legacy_id": own,
            "order_id": f"D{own}",
            "goal_id": goal.id,
            "status": status,
            "created_at": at,
            "currency": goal.currency,
            "payout": show(payout),
            "revenue": show(revenue),
            "sale_amount": "" if sale is None else show(sale),
            "refunded": "" if refunded is None else show(refunded),
        }

    def _status(self, age: float, *, is_bad: bool) -> str:
        """A conversion's status by its age in days: advertisers decide within a week or so."""
        if is_bad:
            return "rejected" if age > 1 else "hold"
        if self._rng.random() * 9 > age:
            return self._rng.choices(("pending", "hold", "approved"), (6, 2, 5))[0]
        return self._rng.choices(("approved", "rejected", "hold"), (87, 11, 2))[0]


_PARAMETERS = {"affiliate_source": "source", "aff_sub": "aff_sub", "aff_sub2": "aff_sub2"}
