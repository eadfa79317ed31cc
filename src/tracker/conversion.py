"""What advertisers say of clicks, and what may become of it: statuses, amounts, refusals."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from decimal import Context, Decimal
from enum import StrEnum
from ipaddress import IPv6Address, ip_address, ip_network
from typing import NamedTuple, TypeVar

from tracker.clickhash import is_click_hash, millis_of
from tracker.model import Status
from tracker.money import read_amount, read_currency

FUTURE_MILLIS = 300_000
"""How far ahead of a postback its click may be minted, by an edge whose clock is ahead."""

CLICK_IDS = ("hash", "click_id", "clickid")
"""Parameters that name the click, the first first; transaction_id where none of them is given."""
ORDER_IDS = ("order_id", "tid", "action_id", "conversion_unique_id")
"""Parameters that name the order, the first first; transaction_id where another one names the click."""
ADV_SUBS = ("adv_sub", "adv_sub2", "adv_sub3", "adv_sub4", "adv_sub5")
IDS = frozenset((*CLICK_IDS, *ORDER_IDS, "transaction_id"))
PARAMETERS = frozenset(
    (
        *IDS,
        *ADV_SUBS,
        "goal_id",
        "status",
        "sale_status",
        "payout",
        "revenue",
        "sale_amount",
        "currency",
        "external_id",
    )
)
"""What a postback may say, beside its secret."""

_ID = re.compile(r"[1-9][0-9]{0,17}", re.ASCII)
_TOO_MUCH = Decimal(10**14)
_MAPPED_PREFIX = 96  # of IPv4 in IPv6 (RFC 4291, section 2.5.5.2)
_SMALLEST = Decimal("0.000001")
_WIDE = Context(prec=50)  # for any amount times any percentage

_Read = TypeVar("_Read")


class ConversionStatus(StrEnum):
    PENDING = "pending"
    HOLD = "hold"
    APPROVED = "approved"
    REJECTED = "rejected"


class Source(StrEnum):
    """Who tells of a conversion, or changes it."""

    POSTBACK = "postback"  # an advertiser's server
    PIXEL = "pixel"  # a visitor's browser
    API = "api"
    UPLOAD = "upload"  # a file of statuses; makes no conversions
    IMPORT = "import"


_ALIASES = {
    **{status.value: status for status in ConversionStatus},
    **dict.fromkeys(("confirmed", "accepted", "paid"), ConversionStatus.APPROVED),
    **dict.fromkeys(("declined", "cancelled", "canceled"), ConversionStatus.REJECTED),
    **dict.fromkeys(("new", "open"), ConversionStatus.PENDING),
}
_UNDECIDED = {ConversionStatus.PENDING, ConversionStatus.HOLD}


class Unreadable(ValueError):  # noqa: N818 - says what it is
    """A parameter that cannot be read; the message says why."""

    def __init__(self, field: str, why: str) -> None:
        super().__init__(why)
        self.field = field


class Postback(NamedTuple):
    """What was said of one click. What was not said is None, or ""."""

    hash: str  # minted when it came in; a conversion that it makes has the same
    source: Source
    ip: str
    advertiser_id: int | None  # whose secret it carried
    parameters: Mapping[str, str]  # as they came, without the secret: all below is read from them
    click_id: str
    goal_id: int | None
    order_id: str | None
    status: ConversionStatus | None
    sale_status: str
    payout: Decimal | None
    revenue: Decimal | None
    sale_amount: Decimal | None
    currency: str | None
    external_id: str
    adv_subs: tuple[str, ...]

    @property
    def millis(self) -> int:
        """When it came in, Unix milliseconds."""
        return millis_of(self.hash)

    @property
    def click_hash(self) -> str | None:
        """The hash that its click id is; None where it may be an earlier tracker's id."""
        text = self.click_id.replace("-", "").lower()
        return text if is_click_hash(text) else None


def read_postback(
    hash_: str, source: Source, ip: str, advertiser_id: int | None, parameters: Mapping[str, str]
) -> Postback:
    """A postback out of its parameters, all of which are in PARAMETERS.

    Raises:
        Unreadable: one of them says nothing that can be understood, or no click is named.
    """
    click_id = _first(parameters, CLICK_IDS)
    order_id = _first(parameters, ORDER_IDS)
    transaction_id = parameters.get("transaction_id", "")
    if click_id:
        order_id = order_id or transaction_id
    elif not (click_id := transaction_id):
        raise Unreadable("click_id", f"is missing: give {', '.join(CLICK_IDS)} or transaction_id")
    return Postback(
        hash_,
        source,
        ip,
        advertiser_id,
        parameters,
        click_id,
        _optional(parameters, "goal_id", _read_id),
        order_id or None,
        _optional(parameters, "status", read_status),
        parameters.get("sale_status", ""),
        _optional(parameters, "payout", read_amount),
        _optional(parameters, "revenue", read_amount),
        _optional(parameters, "sale_amount", read_amount),
        _optional(parameters, "currency", read_currency),
        parameters.get("external_id", ""),
        tuple(parameters.get(name, "") for name in ADV_SUBS),
    )


def read_status(text: str) -> ConversionStatus:
    """A status by its name, or by one that other platforms have for it.

    Raises:
        ValueError: there is no such status.
    """
    try:
        return _ALIASES[text.lower()]
    except KeyError:
        raise ValueError(f"must be one of {', '.join(_ALIASES)}") from None


def _first(parameters: Mapping[str, str], names: Sequence[str]) -> str:
    return next((parameters[name] for name in names if parameters.get(name)), "")


def _optional(parameters: Mapping[str, str], name: str, read: Callable[[str], _Read]) -> _Read | None:
    text = parameters.get(name, "")
    if not text:
        return None
    try:
        return read(text)
    except ValueError as error:
        raise Unreadable(name, str(error)) from None


def _read_id(text: str) -> int:
    if not _ID.fullmatch(text):
        raise ValueError("must be an id: a whole number from 1 on")
    return int(text)


def next_status(before: ConversionStatus, told: ConversionStatus, *, by_operator: bool) -> ConversionStatus:
    """What a conversion becomes that somebody calls something: what it was, where they have no say."""
    is_reversal = (before, told) == (ConversionStatus.APPROVED, ConversionStatus.REJECTED)
    is_revival = (before, told) == (ConversionStatus.REJECTED, ConversionStatus.APPROVED)
    return told if before in _UNDECIDED or is_reversal or (is_revival and by_operator) else before


class Goal(NamedTuple):
    """What an offer pays for."""

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


BROWSERS_SALE = "a percentage of a sale_amount that only a browser told"
"""Why a conversion is on hold until the advertiser or the operator names its sale_amount."""


Named = tuple[Decimal | None, Decimal | None]
"""Payout and revenue that a postback says itself, as far as they count."""


class Price(NamedTuple):
    """What a goal paid when a click was followed."""

    payout_type: str  # fixed or percent
    payout: Decimal
    revenue_type: str
    revenue: Decimal
    currency: str  # of fixed amounts

    def doubt(self, money: Amounts, named: Named = (None, None)) -> str:
        """Why a payout or revenue is not paid unseen; "" if there is no reason.

        A percentage of the sale needs a sale that the advertiser or the operator has named. What an approval
        itself has `named` needs none.
        """
        sides = (
            (self.payout_type, self.payout, money.payout),
            (self.revenue_type, self.revenue, money.revenue),
        )
        is_open = [kind == "percent" and agreed > 0 for kind, agreed, _ in sides]
        if money.sale_amount is None:
            is_unsold = any(is_ and not amount for is_, (*_, amount) in zip(is_open, sides, strict=True))
            return "a percentage of no sale_amount" if is_unsold else ""
        is_browsers = any(is_ and amount is None for is_, amount in zip(is_open, named, strict=True))
        return BROWSERS_SALE if is_browsers and money.sale_by_browser else ""


class Amounts(NamedTuple):
    """The money of a conversion."""

    sale_amount: Decimal | None
    sale_currency: str | None
    sale_by_browser: bool  # and by nobody else
    payout: Decimal
    payout_currency: str
    revenue: Decimal
    revenue_currency: str

    @property
    def is_too_much(self) -> bool:
        """Whether no column takes it: a percentage of a large amount."""
        return max(self.payout, self.revenue) >= _TOO_MUCH


class ConvertedClick(NamedTuple):
    """What a conversion takes over from its click."""

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
    is_test: bool


class Trust(NamedTuple):
    """Whose postbacks an advertiser's conversions are made by."""

    is_required: bool  # a secret of its own, or one of its addresses
    addresses: Sequence[str]  # addresses and CIDRs that need no secret


class Refusal(StrEnum):
    """Why a postback makes and changes no conversion. The texts are stored and shown."""

    UNKNOWN_CLICK = "unknown click"
    REJECTED_CLICK = "the click was rejected"
    UNKNOWN_GOAL = "unknown goal"
    OTHER_OFFER = "the goal is of another offer"
    UNPROVEN = "neither a secret nor an address of the advertiser"
    OTHER_ADVERTISER = "the secret is of another advertiser"
    NO_PIXEL = "the goal takes no pixel"
    ARCHIVED_GOAL = "the goal is archived"
    PAUSED_GOAL = "the goal is paused"
    NO_PARENT = "no conversion of the parent goal"
    LATE = "after the goal's window"
    OTHER_CLICK = "the order id is of another click"
    SECOND = "the goal takes one conversion a click"
    TOO_MUCH = "an amount is beyond all bounds"


def refusal(postback: Postback, click: ConvertedClick, goal: Goal | None, trust: Trust) -> Refusal | None:
    """Why a postback has no say in conversions of a click and goal."""
    if click.status == Status.REJECTED:
        return Refusal.REJECTED_CLICK
    if goal is None:
        return Refusal.UNKNOWN_GOAL
    if goal.offer_id != click.offer_id:
        return Refusal.OTHER_OFFER
    if postback.source is Source.PIXEL:
        return None if goal.pixel else Refusal.NO_PIXEL
    return _distrust(postback, click, trust) if postback.source is Source.POSTBACK else None


def _distrust(postback: Postback, click: ConvertedClick, trust: Trust) -> Refusal | None:
    if postback.advertiser_id is not None:
        return None if postback.advertiser_id == click.advertiser_id else Refusal.OTHER_ADVERTISER
    is_known = not trust.is_required or any(_holds(cidr, postback.ip) for cidr in trust.addresses)
    return None if is_known else Refusal.UNPROVEN


def _holds(cidr: str, ip: str) -> bool:
    try:
        address, network = ip_address(ip), ip_network(cidr, strict=False)
    except ValueError:  # saved by hand; it lets nobody in
        return False
    if address.version == 4 and network.version == 6 and network.prefixlen >= _MAPPED_PREFIX:
        address = IPv6Address(f"::ffff:{ip}")  # as an address of IPv4 is written there
    return address in network


def refusal_of_new(
    postback: Postback, click: ConvertedClick, goal: Goal, *, has_parent: bool
) -> Refusal | None:
    """Why a postback that has a say makes no new conversion. Goals with a parent have no window."""
    if goal.is_archived:
        return Refusal.ARCHIVED_GOAL
    if not goal.is_active:
        return Refusal.PAUSED_GOAL
    if goal.parent_goal_id is not None:
        return None if has_parent else Refusal.NO_PARENT
    is_late = (
        goal.click_window is not None and postback.millis > millis_of(click.hash) + goal.click_window * 1000
    )
    return Refusal.LATE if is_late else None


def amounts(postback: Postback, goal: Goal, price: Price, before: Amounts | None = None) -> Amounts:
    """The money of a conversion, or what becomes of what it was `before`.

    A browser's currency is that of its own sale_amount alone, and of no amount that others name.
    """
    known_currency = before and not before.sale_by_browser and before.sale_currency
    currency = postback.currency or known_currency or price.currency
    sale = _sale(postback, currency, before)
    is_same_sale = before is not None and sale[:2] == (before.sale_amount, before.sale_currency)

    def one(told: Decimal | None, kind: str, agreed: Decimal, known: tuple[Decimal, str] | None) -> _Money:
        if told is not None:
            return told, currency
        if known is not None and (kind != "percent" or is_same_sale):
            return known  # perhaps told by the network itself: a mere status takes nothing of it away
        if kind == "percent":
            return _percentage(agreed, sale[0]), sale[1] or currency
        return agreed, price.currency

    payout, revenue = counting(postback, goal)
    return Amounts(
        *sale,
        *one(payout, price.payout_type, price.payout, before and (before.payout, before.payout_currency)),
        *one(
            revenue, price.revenue_type, price.revenue, before and (before.revenue, before.revenue_currency)
        ),
    )


def _sale(
    postback: Postback, currency: str, before: Amounts | None
) -> tuple[Decimal | None, str | None, bool]:
    """Amount and currency of the sale, and whether only a browser told them."""
    if postback.sale_amount is not None:
        return postback.sale_amount, currency, postback.source is Source.PIXEL
    if before is None or before.sale_amount is None:
        return None, None, False
    return before.sale_amount, postback.currency or before.sale_currency, before.sale_by_browser


def _percentage(agreed: Decimal, sale: Decimal | None) -> Decimal:
    return ((sale or Decimal(0)) * agreed / 100).quantize(_SMALLEST, context=_WIDE)


_Money = tuple[Decimal, str]


def counting(postback: Postback, goal: Goal) -> Named:
    """Payout and revenue as told by who may: the network itself, and advertisers where the goal lets them."""
    if postback.source in (Source.API, Source.IMPORT):
        return postback.payout, postback.revenue
    is_server = postback.source is Source.POSTBACK
    return (
        postback.payout if is_server and goal.takes_payout else None,
        postback.revenue if is_server and goal.takes_revenue else None,
    )
