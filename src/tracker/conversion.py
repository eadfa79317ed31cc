"""What advertisers say of clicks, and what may become of it: statuses, amounts, refusals."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from enum import StrEnum
from ipaddress import IPv6Address, ip_address, ip_network
from typing import NamedTuple, Protocol, TypeVar

from tracker.clickhash import is_click_hash, millis_of
from tracker.domain.normalise import amount, given, hash_, name_key, word
from tracker.model import Status
from tracker.money import of_percent, read_currency, unit

FUTURE_MILLIS = 300_000
"""How far ahead of a postback its click may be minted, by an edge whose clock is ahead."""

CLICK_IDS = ("hash", "click_id", "clickid")
"""Parameters that name the click, the first first; transaction_id where none of them is given."""
ORDER_IDS = ("order_id", "tid", "action_id", "conversion_unique_id")
"""Parameters that name the order, the first first; transaction_id where another one names the click."""
GOALS = ("goal_id", "goal", "goal_name", "goal_code", "event", "event_name")
"""Parameters that name the goal, the first first: by its id, its code or its name."""
ADV_SUBS = ("adv_sub", "adv_sub2", "adv_sub3", "adv_sub4", "adv_sub5")
IDS = frozenset((*CLICK_IDS, *ORDER_IDS, "transaction_id", "refund_id"))
PARAMETERS = frozenset(
    (
        *IDS,
        *GOALS,
        *ADV_SUBS,
        "status",
        "sale_status",
        "payout",
        "revenue",
        "sale_amount",
        "currency",
        "external_id",
        "refund_amount",
    )
)
"""What a postback may say, beside its secret."""

_LONGEST_ID = 18  # digits
_TOO_MUCH = Decimal(10**14)
_NOTHING = Decimal(0)
_MICRO = Decimal("0.000001")
_MAPPED_PREFIX = 96  # of IPv4 in IPv6 (RFC 4291, section 2.5.5.2)


class ConversionStatus(StrEnum):
    PENDING = "pending"
    HOLD = "hold"
    APPROVED = "approved"
    REJECTED = "rejected"


STATUSES = frozenset(ConversionStatus)


class Source(StrEnum):
    """Who tells of a conversion, or changes it."""

    POSTBACK = "postback"  # an advertiser's server
    PIXEL = "pixel"  # a visitor's browser
    API = "api"
    UPLOAD = "upload"  # a file of statuses; makes no conversions
    IMPORT = "import"


DEFAULT_WORDS: Mapping[str, ConversionStatus] = {
    **{status.value: status for status in ConversionStatus},
    **dict.fromkeys(("confirmed", "accepted", "paid", "sale"), ConversionStatus.APPROVED),
    **dict.fromkeys(("declined", "cancelled", "canceled"), ConversionStatus.REJECTED),
    **dict.fromkeys(("chargeback", "refunded", "reversed", "void", "trash"), ConversionStatus.REJECTED),
    **dict.fromkeys(("new", "open"), ConversionStatus.PENDING),
}
"""Words of one meaning only: `lead` and numbers mean something else on each platform."""

StatusWords = Mapping[tuple[int | None, str], ConversionStatus]
"""What words mean, by advertiser and word; None: of every advertiser that says nothing else."""

_UNDECIDED = {ConversionStatus.PENDING, ConversionStatus.HOLD}


class Unreadable(ValueError):  # noqa: N818 - says what it is
    """A parameter without which a postback says nothing; the message says why."""

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
    click_text: str  # the same as it was written
    goal: str  # id, code or name
    order_id: str | None
    order_text: str  # the same as it was written; "" if none was sent
    word: str  # for the status
    status: ConversionStatus | None  # what the word means
    sale_status: str
    payout: Decimal | None
    revenue: Decimal | None
    sale_amount: Decimal | None
    currency: str | None
    external_id: str
    adv_subs: tuple[str, ...]
    faults: tuple[tuple[str, str], ...]  # amounts and currency that cannot be read, and why
    refund_amount: Decimal | None = None  # refunded of the order so far; with a refund_id by that refund
    refund_id: str | None = None

    @property
    def is_refund(self) -> bool:
        """Whether it refunds a part of a sale. A browser refunds nothing."""
        return self.refund_amount is not None and self.source is not Source.PIXEL

    @property
    def millis(self) -> int:
        """When it came in, Unix milliseconds."""
        return millis_of(self.hash)

    @property
    def click_hash(self) -> str | None:
        """The hash that its click id is; None where it may be an earlier tracker's id."""
        text = hash_(self.click_id)
        return text if is_click_hash(text) else None

    @property
    def is_order_absent(self) -> bool:
        """Whether an order id was sent that is a macro nobody filled, or a word for nothing."""
        return self.order_id is None and self.order_text != ""

    @property
    def order_texts(self) -> list[str]:
        """What a conversion's order id is looked for by: as it was written, then in its normal form."""
        return list(dict.fromkeys(filter(None, (self.order_text, self.order_id))))

    @property
    def goal_id(self) -> int | None:
        """The goal's id, if the parameter for ids names it."""
        text = given(self.parameters.get("goal_id", ""))
        is_number = text.isascii() and text.isdigit() and len(text) <= _LONGEST_ID
        return int(text) if is_number and text == self.goal else None

    def without_faults(self) -> Postback:
        """As if what cannot be read had not been said. Without a currency the sale_amount says nothing."""
        return self._replace(sale_amount=None) if "currency" in dict(self.faults) else self


class RefusedPostback(NamedTuple):
    """What was called, without secrets, and why it was refused. Every text is cut."""

    hash: str  # minted when it came in
    source: str
    ip: str
    advertiser_id: int | None  # whose secret it carried
    click_id: str
    request: str  # method and path
    parameters: Mapping[str, str]
    reason: str


def read_postback(
    hash_: str, source: Source, ip: str, advertiser_id: int | None, parameters: Mapping[str, str]
) -> Postback:
    """A postback out of its parameters, all of which are in PARAMETERS.

    Raises:
        Unreadable: no click is named.
    """
    click_id, click_text = _read_name(parameters, CLICK_IDS)
    order_id, order_text = _read_name(parameters, (*ORDER_IDS, "transaction_id") if click_id else ORDER_IDS)
    if not click_id:
        click_id, click_text = _read_name(parameters, ("transaction_id",))
    if not click_id:
        raise Unreadable("click_id", f"is missing: give {', '.join(CLICK_IDS)} or transaction_id")
    status_word = word(given(parameters.get("status", "")))
    faults: dict[str, str] = {}
    payout, revenue, sale_amount, refund_amount = (
        _read_amount(parameters, name, faults)
        for name in ("payout", "revenue", "sale_amount", "refund_amount")
    )
    return Postback(
        hash_,
        source,
        ip,
        advertiser_id,
        parameters,
        click_id,
        click_text,
        _read_name(parameters, GOALS)[0],
        order_id or None,
        order_text,
        status_word,
        DEFAULT_WORDS.get(status_word),
        parameters.get("sale_status", ""),
        payout,
        revenue,
        sale_amount,
        _read_currency(parameters, faults),
        parameters.get("external_id", ""),
        tuple(parameters.get(name, "") for name in ADV_SUBS),
        tuple(faults.items()),
        refund_amount,
        given(parameters.get("refund_id", "")) or None,
    )


def meaning(status_word: str, advertiser_id: int | None, words: StatusWords) -> ConversionStatus | None:
    """What an advertiser calls something by a word: its own table, the network's, then the defaults."""
    own = words.get((advertiser_id, status_word)) or words.get((None, status_word))
    return own or DEFAULT_WORDS.get(status_word)


def no_status() -> str:
    """What is wrong with a word that no table knows."""
    return f"must be one of {', '.join(DEFAULT_WORDS)}, or a word of status-words"


def _read_name(parameters: Mapping[str, str], names: Sequence[str]) -> tuple[str, str]:
    """The first that is given, and the same as it was written; ("", what was sent) if none is."""
    sent = [text for name in names if (text := parameters.get(name, ""))]
    first = next(((plain, text) for text in sent if (plain := given(text))), None)
    return first or ("", sent[0] if sent else "")


def _read_amount(parameters: Mapping[str, str], name: str, faults: dict[str, str]) -> Decimal | None:
    text = given(parameters.get(name, ""))
    try:
        return amount(text) if text else None
    except ValueError as error:
        faults[name] = str(error)
        return None


def _read_currency(parameters: Mapping[str, str], faults: dict[str, str]) -> str | None:
    text = given(parameters.get("currency", ""))
    try:
        return read_currency(text) if text else None
    except ValueError as error:
        faults["currency"] = str(error)
        return None


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
    currency: str = "USD"
    name: str = ""
    code: str | None = None  # the advertiser's own name of it


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
    """Those of an offer's goals that a text names: by id, else by code, else by name.

    Case and white space around codes and names do not count. An archived goal is named if no other one is.
    """
    goals, key = list(goals), name_key(text)
    for is_archived in (False, True):
        some = [goal for goal in goals if goal.is_archived is is_archived]
        found = (
            [goal for goal in some if str(goal.id) == text]
            or [goal for goal in some if goal.code and name_key(goal.code) == key]
            or [goal for goal in some if name_key(goal.name) == key]
        )
        if found:
            return found
    return []


BROWSERS_SALE = "a percentage of a sale_amount that only a browser told"
"""Why a conversion is on hold until the advertiser or the operator names its sale_amount."""
NO_SALE = "a percentage of no sale_amount"
NO_PRICE = "no price"
"""Why a conversion is on hold until somebody sets what its goal pays. 0 is a price."""


Named = tuple[Decimal | None, Decimal | None]
"""Payout and revenue that a postback says itself, as far as they count."""


class Price(NamedTuple):
    """What a goal paid when a click was followed."""

    payout_type: str  # fixed or percent
    payout: Decimal
    revenue_type: str
    revenue: Decimal
    currency: str  # of fixed amounts
    is_set: bool = True  # by somebody; 0 counts

    @property
    def is_of_sale(self) -> bool:
        """Whether any of it is a percentage of the sale."""
        sides = ((self.payout_type, self.payout), (self.revenue_type, self.revenue))
        return any(kind == "percent" and agreed > 0 for kind, agreed in sides)

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
            return NO_SALE if is_unsold else ""
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
    AMBIGUOUS_GOAL = "several goals of the offer have this code or name"
    UNKNOWN_STATUS = "unknown status"
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
    """Why a postback has no say in conversions of a click and goal; None for a goal that is not known yet."""
    if click.status == Status.REJECTED:
        return Refusal.REJECTED_CLICK
    if goal is not None and goal.offer_id != click.offer_id:
        return Refusal.OTHER_OFFER
    if postback.source is Source.PIXEL:
        return None if goal is None or goal.pixel else Refusal.NO_PIXEL
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
    """Why a postback that has a say makes no new conversion. A goal's window counts from the click."""
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
    """The money of a conversion, or what becomes of what it was `before`.

    A browser's currency is that of its own sale_amount alone, and of no amount that others name. Where it was
    `is_unpriced`, the price counts for each amount that nobody named.
    """
    known_currency = before and not before.sale_by_browser and before.sale_currency
    currency = postback.currency or known_currency or price.currency
    sale = _sale(postback, currency, before)
    is_same_sale = before is not None and sale[:2] == (before.sale_amount, before.sale_currency)

    def one(told: Decimal | None, side: _Side, known: _Money | None) -> _Money:
        if told is not None:
            return told, currency
        if known is not None and (side.kind != "percent" or is_same_sale):
            # Perhaps told by the network itself: a mere status takes nothing of it away.
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
    """The money of a conversion as it is approved by its status alone."""
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
    """Amount and currency of the sale, and whether only a browser told them."""
    if postback.sale_amount is not None:
        return postback.sale_amount, currency, postback.source is Source.PIXEL
    if before is None or before.sale_amount is None:
        return None, None, False
    return before.sale_amount, postback.currency or before.sale_currency, before.sale_by_browser


def refunded(money: Amounts, price: Price, before: Decimal, total: Decimal) -> Amounts:
    """The money of an approved conversion once `total` of its sale is refunded, `before` of it earlier.

    What is a percentage of the sale is a percentage of what is left of it. What is fixed, or was named by
    somebody, stays: it was agreed for the order.
    """
    assert money.sale_amount is not None
    was, now = money.sale_amount - before, money.sale_amount - total
    of_payout, of_revenue = _sides(price)
    return money._replace(
        payout=of_payout.after(money.payout, money.payout_currency, was, now),
        revenue=of_revenue.after(money.revenue, money.revenue_currency, was, now),
    )


_Money = tuple[Decimal, str]


class _Side(NamedTuple):
    """What is paid to the affiliate, or by the advertiser."""

    kind: str  # fixed or percent
    agreed: Decimal
    currency: str  # of a fixed amount

    def of(self, sale: Decimal | None, currency: str) -> _Money:
        """What a sale comes to."""
        if self.kind == "percent":
            return of_percent(self.agreed, sale or _NOTHING, currency), currency
        return self.agreed, self.currency

    def settled(self, known: _Money, sale: Decimal | None, currency: str, *, is_unpriced: bool) -> _Money:
        """What a known amount is once it is booked. A product may be from before products were rounded."""
        if is_unpriced and not known[0]:
            return self.of(sale, currency)
        is_product = self.kind == "percent" and abs(known[0] - self._product(sale)) < _MICRO
        return self.of(sale, known[1]) if is_product else known

    def after(self, amount: Decimal, currency: str, was: Decimal, now: Decimal) -> Decimal:
        """What becomes of an amount when its sale was one and is another now."""
        is_product = self.kind == "percent" and abs(amount - self._product(was)) <= unit(currency)
        return self.of(now, currency)[0] if is_product else amount

    def _product(self, sale: Decimal | None) -> Decimal:
        return (sale or _NOTHING) * self.agreed / 100


def _sides(price: Price) -> tuple[_Side, _Side]:
    return (
        _Side(price.payout_type, price.payout, price.currency),
        _Side(price.revenue_type, price.revenue, price.currency),
    )


def counting(postback: Postback, goal: Goal) -> Named:
    """Payout and revenue as told by who may: the network itself, and advertisers where the goal lets them."""
    if postback.source in (Source.API, Source.IMPORT):
        return postback.payout, postback.revenue
    is_server = postback.source is Source.POSTBACK
    return (
        postback.payout if is_server and goal.takes_payout else None,
        postback.revenue if is_server and goal.takes_revenue else None,
    )


def unreadable(postback: Postback, goal: Goal, price: Price, *, is_unpaid: bool) -> str:
    """What cannot be read and would count; "" if there is nothing.

    What would be ignored if it were well-formed is ignored: amounts that the goal or the sender's kind does
    not let count, a sale_amount that nothing is a percentage of, and all of them where nothing is paid for
    it: the conversion is rejected by it, or its money is settled.
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
    """What cannot be read of a refund: a part of an order is not taken for the whole of it."""
    faults = dict(postback.faults)
    if postback.source is Source.PIXEL or not (postback.is_refund or "refund_amount" in faults):
        return ""
    return told_faults((name, faults[name]) for name in ("refund_amount", "currency") if name in faults)


def told_faults(faults: Iterable[tuple[str, str]]) -> str:
    return "; ".join(f"{name} {why}" for name, why in faults)
