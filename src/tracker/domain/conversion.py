"""Postbacks and conversions: goals, statuses, amounts and refusals."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from decimal import Decimal
from enum import StrEnum
from ipaddress import IPv6Address, ip_address, ip_network
from typing import NamedTuple, Protocol, TypeVar

from tracker.domain.click_id import millis_of
from tracker.domain.model import Status
from tracker.domain.money import of_percent, unit
from tracker.domain.normalise import name_key
from tracker.domain.postback import (
    AMOUNT_LIMIT,
    MAPPED_PREFIX,
    MICRO,
    NOTHING,
    UNDECIDED,
    ConversionStatus,
    Postback,
    Source,
)


def next_status(
    before: ConversionStatus, requested: ConversionStatus, *, by_operator: bool
) -> ConversionStatus:
    """The next status of a conversion. A source without the right to set it leaves the old one."""
    is_reversal = (before, requested) == (ConversionStatus.APPROVED, ConversionStatus.REJECTED)
    is_revival = (before, requested) == (ConversionStatus.REJECTED, ConversionStatus.APPROVED)
    return requested if before in UNDECIDED or is_reversal or (is_revival and by_operator) else before


class Goal(NamedTuple):
    """A goal of an offer."""

    id: int
    offer_id: int
    is_active: bool
    is_archived: bool
    parent_goal_id: int | None
    multiple: bool
    click_window: int | None  # seconds
    initial_status: ConversionStatus
    takes_payout: bool
    takes_revenue: bool
    pixel: bool
    currency: str = "USD"
    name: str = ""
    code: str | None = None  # the advertiser's own name for it


class _NamedGoal(Protocol):
    @property
    def id(self) -> int: ...
    @property
    def name(self) -> str: ...
    @property
    def code(self) -> str | None: ...
    @property
    def is_archived(self) -> bool: ...


_SomeGoal = TypeVar("_SomeGoal", bound=_NamedGoal)


def goals_named(text: str, goals: Iterable[_SomeGoal]) -> list[_SomeGoal]:
    """The offer's goals that match a text: by id, or else by code, or else by name.

    Case and white space around codes and names do not count. An archived goal matches only if no other goal
    does.
    """
    goals, key = list(goals), name_key(text)
    for is_archived in (False, True):
        some = [goal for goal in goals if goal.is_archived is is_archived]
        matches = (
            [goal for goal in some if str(goal.id) == text]
            or [goal for goal in some if goal.code and name_key(goal.code) == key]
            or [goal for goal in some if name_key(goal.name) == key]
        )
        if matches:
            return matches
    return []


BROWSERS_SALE = "a percentage of a sale_amount that nobody has proven"
"""Why a conversion is on hold until the advertiser or the operator gives its sale_amount."""
UNPROVEN = "unproven"
"""Why a conversion is on hold until a postback with a proof, or the operator, decides."""
NO_SALE = "a percentage of no sale_amount"
NO_PRICE = "no price"
"""Why a conversion is on hold until its goal has a price. 0 is a price."""


Named = tuple[Decimal | None, Decimal | None]
"""The payout and revenue of a postback, if they count."""


class Price(NamedTuple):
    """The price of a goal at the time of the click."""

    payout_type: str  # fixed or percent
    payout: Decimal
    revenue_type: str
    revenue: Decimal
    currency: str  # of fixed amounts
    is_set: bool = True  # somebody has set the price, 0 included

    @property
    def is_of_sale(self) -> bool:
        """Whether any part of it is a percentage of the sale."""
        sides = ((self.payout_type, self.payout), (self.revenue_type, self.revenue))
        return any(kind == "percent" and agreed > 0 for kind, agreed in sides)

    def doubt(self, money: Amounts, named: Named = (None, None)) -> str:
        """Why a payout or revenue needs a review before it is paid, or "".

        A percentage of the sale needs a sale_amount from the advertiser or the operator. An approval with its
        own `named` needs no review.
        """
        sides = (
            (self.payout_type, self.payout, money.payout),
            (self.revenue_type, self.revenue, money.revenue),
        )
        is_open = [kind == "percent" and agreed > 0 for kind, agreed, _ in sides]
        if money.sale_amount is None:
            is_unsold = any(is_ and not amount for is_, (*_, amount) in zip(is_open, sides, strict=True))
            return NO_SALE if is_unsold else ""
        is_browsers = any(is_ and amount is None for is_, amount in zip(is_open, named, strict=True))
        return BROWSERS_SALE if is_browsers and money.sale_by_browser else ""


class Amounts(NamedTuple):
    """The money of a conversion."""

    sale_amount: Decimal | None
    sale_currency: str | None
    sale_by_browser: bool  # and only a browser, or a postback without proof
    payout: Decimal
    payout_currency: str
    revenue: Decimal
    revenue_currency: str

    @property
    def is_too_much(self) -> bool:
        """Whether a column cannot hold it: a percentage of a large amount."""
        return max(self.payout, self.revenue) >= AMOUNT_LIMIT


class ConvertedClick(NamedTuple):
    """The columns that a conversion copies from its click."""

    hash: str
    id: int
    status: str
    offer_id: int
    offer_url_id: int | None
    advertiser_id: int
    affiliate_id: int
    country_code: str | None
    device_type: str
    device_os: str
    browser: str
    affiliate_source: str
    is_unique: bool
    is_bot: bool
    is_test: bool
    requested_offer_id: int = 0
    aff_group_id: int | None = None
    brand_id: int | None = None
    aff_sub: str = ""
    aff_sub2: str = ""
    aff_sub3: str = ""
    aff_sub4: str = ""
    aff_sub5: str = ""
    aff_sub6: str = ""
    aff_sub7: str = ""
    aff_sub8: str = ""
    aff_sub9: str = ""
    aff_sub10: str = ""
    aff_sub11: str = ""
    aff_sub12: str = ""
    aff_sub13: str = ""
    aff_sub14: str = ""
    aff_sub15: str = ""
    aff_sub16: str = ""
    aff_sub17: str = ""
    aff_sub18: str = ""
    aff_sub19: str = ""
    aff_sub20: str = ""
    external_id: str = ""
    region_code: str | None = None
    city: str | None = None
    device_brand: str = ""
    device_model: str = ""
    ip: str = ""
    referrer: str = ""


class Trust(NamedTuple):
    """The senders that an advertiser trusts."""

    is_required: bool  # a secret of its own or one of its addresses
    addresses: Sequence[str]  # addresses and CIDRs that need no secret
    accepts_unproven: bool = False  # postbacks in forms without both make conversions on hold


class Refusal(StrEnum):
    """Why a postback creates and changes no conversion. The texts are stored and shown."""

    UNKNOWN_CLICK = "unknown click"
    NOT_KEPT = "clicks of that day are not kept any more"
    AMBIGUOUS_CLICK = "several earlier trackers have this click id"
    TOO_MANY_WAIT = "too many postbacks wait for dead letters"
    REJECTED_CLICK = "the click was rejected"
    UNKNOWN_GOAL = "unknown goal"
    AMBIGUOUS_GOAL = "several goals of the offer have this code or name"
    UNKNOWN_STATUS = "unknown status"
    OTHER_OFFER = "the goal is of another offer"
    UNPROVEN = "neither a secret nor an address of the advertiser"
    OTHER_ADVERTISER = "the secret is of another advertiser"
    OTHER_FORM = "the form is of another advertiser"
    NO_PIXEL = "the goal takes no pixel"
    ARCHIVED_GOAL = "the goal is archived"
    PAUSED_GOAL = "the goal is paused"
    NO_PARENT = "no conversion of the parent goal"
    LATE = "after the goal's window"
    OTHER_CLICK = "the order id is of another click"
    SECOND = "the goal takes one conversion a click"
    TOO_MUCH = "an amount is beyond all bounds"


def refusal(postback: Postback, click: ConvertedClick, goal: Goal | None, trust: Trust) -> Refusal | None:
    """Why a postback may not affect the conversions of a click and goal.

    The goal is None if it is unknown yet.
    """
    if click.status == Status.REJECTED:
        return Refusal.REJECTED_CLICK
    if goal is not None and goal.offer_id != click.offer_id:
        return Refusal.OTHER_OFFER
    if postback.source is Source.PIXEL:
        return None if goal is None or goal.pixel else Refusal.NO_PIXEL
    if postback.source is not Source.POSTBACK or is_unproven(postback, click, trust):
        return None
    return _distrust(postback, click, trust)


def is_unproven(postback: Postback, click: ConvertedClick, trust: Trust) -> bool:
    """Whether an advertiser accepts a postback that it has not proven. Only one in a form may be so."""
    return (
        trust.accepts_unproven
        and postback.form is not None
        and postback.source is Source.POSTBACK
        and _distrust(postback, click, trust) is Refusal.UNPROVEN
    )


def _distrust(postback: Postback, click: ConvertedClick, trust: Trust) -> Refusal | None:
    form = postback.form
    if form and form.advertiser_id not in (None, click.advertiser_id):
        return Refusal.OTHER_FORM
    if postback.advertiser_id is not None:
        return None if postback.advertiser_id == click.advertiser_id else Refusal.OTHER_ADVERTISER
    is_known = not trust.is_required or is_among(postback.ip, trust.addresses)
    return None if is_known else Refusal.UNPROVEN


def is_among(ip: str, addresses: Iterable[str]) -> bool:
    """Whether addresses and CIDRs contain an address."""
    return any(_holds(cidr, ip) for cidr in addresses)


def _holds(cidr: str, ip: str) -> bool:
    try:
        address, network = ip_address(ip), ip_network(cidr, strict=False)
    except ValueError:  # saved by hand: it matches no address
        return False
    if address.version == 4 and network.version == 6 and network.prefixlen >= MAPPED_PREFIX:
        address = IPv6Address(f"::ffff:{ip}")  # as IPv4 addresses are written there
    return address in network


def refusal_of_new(
    postback: Postback, click: ConvertedClick, goal: Goal, *, has_parent: bool
) -> Refusal | None:
    """Why an accepted postback creates no new conversion. A goal's window counts from the click."""
    if goal.is_archived:
        return Refusal.ARCHIVED_GOAL
    if not goal.is_active:
        return Refusal.PAUSED_GOAL
    if goal.parent_goal_id is not None and not has_parent:
        return Refusal.NO_PARENT
    is_late = (
        goal.click_window is not None and postback.millis > millis_of(click.hash) + goal.click_window * 1000
    )
    return Refusal.LATE if is_late else None


def amounts(
    postback: Postback,
    goal: Goal,
    price: Price,
    before: Amounts | None = None,
    *,
    is_unpriced: bool = False,
) -> Amounts:
    """The money of a conversion after a postback. The status before was `before`.

    A browser's currency applies to its own sale_amount only. If the status was `is_unpriced`, the price
    applies to each amount that nobody has set.
    """
    known_currency = before and not before.sale_by_browser and before.sale_currency
    currency = postback.currency or known_currency or price.currency
    sale = _sale(postback, currency, before)
    is_same_sale = before is not None and sale[:2] == (before.sale_amount, before.sale_currency)

    def one(amount: Decimal | None, side: _Side, known: _Money | None) -> _Money:
        if amount is not None:
            return amount, currency
        if known is not None and (side.kind != "percent" or is_same_sale):
            # The network may have set it: a postback with only a status keeps it.
            return side.settled(known, sale[0], currency, is_unpriced=is_unpriced)
        return side.of(sale[0], sale[1] or currency)

    of_payout, of_revenue = _sides(price)
    payout, revenue = counting(postback, goal)
    return Amounts(
        *sale,
        *one(payout, of_payout, before and (before.payout, before.payout_currency)),
        *one(revenue, of_revenue, before and (before.revenue, before.revenue_currency)),
    )


def settled(money: Amounts, price: Price, *, is_unpriced: bool) -> Amounts:
    """The money of a conversion that only its status approves."""
    of_payout, of_revenue = _sides(price)
    sale, currency = money.sale_amount, money.sale_currency or price.currency
    payout, revenue = (money.payout, money.payout_currency), (money.revenue, money.revenue_currency)
    return Amounts(
        *money[:3],
        *of_payout.settled(payout, sale, currency, is_unpriced=is_unpriced),
        *of_revenue.settled(revenue, sale, currency, is_unpriced=is_unpriced),
    )


def _sale(
    postback: Postback, currency: str, before: Amounts | None
) -> tuple[Decimal | None, str | None, bool]:
    """Amount and currency of the sale, and whether they come from a browser alone."""
    if postback.sale_amount is not None:
        return postback.sale_amount, currency, postback.source is Source.PIXEL
    if before is None or before.sale_amount is None:
        return None, None, False
    return before.sale_amount, postback.currency or before.sale_currency, before.sale_by_browser


def refunded(money: Amounts, price: Price, before: Decimal, total: Decimal) -> Amounts:
    """The money of an approved conversion after a refund: `total` of its sale now, `before` of it earlier.

    A percentage of the sale becomes a percentage of the remaining sale. Fixed or explicit amounts stay,
    because they were agreed for the order.
    """
    assert money.sale_amount is not None
    was, now = money.sale_amount - before, money.sale_amount - total
    of_payout, of_revenue = _sides(price)
    return money._replace(
        payout=of_payout.after(money.payout, money.payout_currency, was, now),
        revenue=of_revenue.after(money.revenue, money.revenue_currency, was, now),
    )


class Correction(NamedTuple):
    """The amounts that the operator sets. None: not this one."""

    payout: Decimal | None
    revenue: Decimal | None
    sale_amount: Decimal | None

    @property
    def names(self) -> frozenset[str]:
        return frozenset(name for name, amount in self._asdict().items() if amount is not None)


def corrected(
    money: Amounts, price: Price, back: Decimal, correction: Correction, before: Collection[str]
) -> Amounts:
    """The money of a conversion after the operator's correction. Its currencies stay.

    With another sale_amount, a percentage of the sale becomes a percentage of the new one, unless the amount
    was corrected itself, now or `before`. `back` is the refunded part of the sale.
    """
    after = money
    if correction.sale_amount is not None and money.sale_amount is not None:
        of_payout, of_revenue = _sides(price)
        was, now = money.sale_amount - back, correction.sale_amount - back
        after = money._replace(
            sale_amount=correction.sale_amount,
            sale_by_browser=False,
            payout=of_payout.after(money.payout, money.payout_currency, was, now),
            revenue=of_revenue.after(money.revenue, money.revenue_currency, was, now),
        )
    after = keeping(after, money, before)
    return after._replace(
        payout=after.payout if correction.payout is None else correction.payout,
        revenue=after.revenue if correction.revenue is None else correction.revenue,
    )


def keeping(after: Amounts, before: Amounts, names: Collection[str]) -> Amounts:
    """Amounts with a corrected payout or revenue as it was."""
    if "payout" in names:
        after = after._replace(payout=before.payout, payout_currency=before.payout_currency)
    if "revenue" in names:
        after = after._replace(revenue=before.revenue, revenue_currency=before.revenue_currency)
    return after


_Money = tuple[Decimal, str]


class _Side(NamedTuple):
    """The price of one side: payout to the affiliate, or revenue from the advertiser."""

    kind: str  # fixed or percent
    agreed: Decimal
    currency: str  # of a fixed amount

    def of(self, sale: Decimal | None, currency: str) -> _Money:
        """The amount for a sale."""
        if self.kind == "percent":
            return of_percent(self.agreed, sale or NOTHING, currency), currency
        return self.agreed, self.currency

    def settled(self, known: _Money, sale: Decimal | None, currency: str, *, is_unpriced: bool) -> _Money:
        """An amount in the form in which it is booked.

        A product may be older than the rounding of products.
        """
        if is_unpriced and not known[0]:
            return self.of(sale, currency)
        is_product = self.kind == "percent" and abs(known[0] - self._product(sale)) < MICRO
        return self.of(sale, known[1]) if is_product else known

    def after(self, amount: Decimal, currency: str, was: Decimal, now: Decimal) -> Decimal:
        """An amount after its sale has changed from one value to another."""
        is_product = self.kind == "percent" and abs(amount - self._product(was)) <= unit(currency)
        return self.of(now, currency)[0] if is_product else amount

    def _product(self, sale: Decimal | None) -> Decimal:
        return (sale or NOTHING) * self.agreed / 100


def _sides(price: Price) -> tuple[_Side, _Side]:
    return (
        _Side(price.payout_type, price.payout, price.currency),
        _Side(price.revenue_type, price.revenue, price.currency),
    )


def counting(postback: Postback, goal: Goal) -> Named:
    """The payout and revenue of a postback, if the network sent it or the goal lets advertisers set them."""
    if postback.source in (Source.API, Source.IMPORT):
        return postback.payout, postback.revenue
    is_server = postback.source is Source.POSTBACK
    return (
        postback.payout if is_server and goal.takes_payout else None,
        postback.revenue if is_server and goal.takes_revenue else None,
    )


def unreadable(postback: Postback, goal: Goal, price: Price, *, is_unpaid: bool) -> str:
    """The fields that are unreadable and would count, or "".

    Unreadable fields that would be ignored anyway are ignored. These are amounts that the goal or the sender
    may not set, a sale_amount without a percentage, and all amounts of a rejected or settled conversion.
    """
    faults = dict(postback.faults)
    if not faults or is_unpaid:
        return ""
    own_word = postback.source in (Source.API, Source.IMPORT)
    is_server = postback.source is Source.POSTBACK
    counts = {
        "payout": own_word or (is_server and goal.takes_payout),
        "revenue": own_word or (is_server and goal.takes_revenue),
        "sale_amount": price.is_of_sale,
        "refund_amount": False,  # see unreadable_refund
    }
    counts["currency"] = price.is_of_sale or any(one is not None for one in counting(postback, goal))
    return told_faults((name, why) for name, why in postback.faults if counts[name])


def unreadable_refund(postback: Postback) -> str:
    """The unreadable fields of a refund, because a partial refund must not be taken for a full one."""
    faults = dict(postback.faults)
    if postback.source is Source.PIXEL or not (postback.is_refund or "refund_amount" in faults):
        return ""
    return told_faults((name, faults[name]) for name in ("refund_amount", "currency") if name in faults)


def told_faults(faults: Iterable[tuple[str, str]]) -> str:
    return "; ".join(f"{name} {why}" for name, why in faults)
