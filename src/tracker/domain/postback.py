"""Reads postbacks: the parameters, the sender, and the status."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from enum import StrEnum
from typing import Any, NamedTuple

from tracker.domain.click_fields import ADV_SUBS
from tracker.domain.click_id import is_click_hash, millis_of
from tracker.domain.money import read_currency
from tracker.domain.normalise import amount, given, hash_, word

FUTURE_MILLIS = 300_000
"""How far ahead of a postback its click may be minted, because an edge's clock may be ahead."""

CLICK_IDS = ("hash", "click_id", "clickid")
"""Parameters for the click, in order. transaction_id is used without any of them."""
ORDER_IDS = ("order_id", "tid", "action_id", "conversion_unique_id")
"""Parameters for the order, in order. transaction_id is used if another parameter names the click."""
GOALS = ("goal_id", "goal", "goal_name", "goal_code", "event", "event_name")
"""Parameters for the goal, in order: by its id, its code or its name."""
IDS = frozenset((*CLICK_IDS, *ORDER_IDS, "transaction_id", "refund_id"))
PLAIN_PARAMETERS = frozenset((*IDS, *GOALS, *ADV_SUBS, "status", "sale_status", "external_id"))
"""The parameters that are no amounts."""
PARAMETERS = PLAIN_PARAMETERS | {"payout", "revenue", "sale_amount", "currency", "refund_amount"}
"""The parameters of a postback besides its secret."""

_LONGEST_ID = 18  # digits
AMOUNT_LIMIT = Decimal(10**14)
NOTHING = Decimal(0)
MICRO = Decimal("0.000001")
MAPPED_PREFIX = 96  # of IPv4 in IPv6 (RFC 4291, section 2.5.5.2)


class ConversionStatus(StrEnum):
    PENDING = "pending"
    HOLD = "hold"
    APPROVED = "approved"
    REJECTED = "rejected"


STATUSES = frozenset(ConversionStatus)


class Source(StrEnum):
    """The sender that creates or changes a conversion."""

    POSTBACK = "postback"  # an advertiser's server
    PIXEL = "pixel"  # a visitor's browser
    API = "api"
    UPLOAD = "upload"  # a file of statuses, which creates no conversions
    IMPORT = "import"


DEFAULT_WORDS: Mapping[str, ConversionStatus] = {
    **{status.value: status for status in ConversionStatus},
    **dict.fromkeys(("confirmed", "accepted", "paid", "sale"), ConversionStatus.APPROVED),
    **dict.fromkeys(("declined", "cancelled", "canceled"), ConversionStatus.REJECTED),
    **dict.fromkeys(("chargeback", "refunded", "reversed", "void", "trash"), ConversionStatus.REJECTED),
    **dict.fromkeys(("new", "open"), ConversionStatus.PENDING),
}
"""Words with one meaning only: `lead` and numbers mean different things on other platforms."""

StatusWords = Mapping[tuple[int | None, str], ConversionStatus]
"""The statuses of words, by advertiser and word. None: every advertiser without an own entry."""

UNDECIDED = {ConversionStatus.PENDING, ConversionStatus.HOLD}


class Result(StrEnum):
    """The result of a postback."""

    STORED = "stored"
    UPDATED = "updated"
    UNCHANGED = "unchanged"
    PARKED = "parked"  # its click may still arrive
    WAITING = "waiting"  # its click may be a dead letter
    HELD = "held"  # its goal, its status word or the approval of its refunded order may still come
    REJECTED = "rejected"
    REFUSED = "refused"  # by an edge: nothing was done, and the sender got an error


class Unreadable(ValueError):  # noqa: N818 - the name is clear
    """A required parameter is missing. The message says which."""

    def __init__(self, field: str, why: str) -> None:
        super().__init__(why)
        self.field = field


class OfForm(NamedTuple):
    """The form of a postback that came as another tracker's."""

    id: int
    name: str
    advertiser_id: int | None  # the only one whose clicks it may name. None: any
    source: str  # the earlier tracker whose click ids come. "": any
    status: ConversionStatus | None  # if the form decides it
    path: str  # as it came, without secrets
    sent: Mapping[str, str]  # the parameters as they came, without secrets


class Postback(NamedTuple):
    """The content of a postback about one click. Absent values are None or ""."""

    hash: str  # minted at arrival, and used for a conversion that it creates
    source: Source
    ip: str
    advertiser_id: int | None  # the advertiser whose secret it carried
    parameters: Mapping[str, str]  # as they came, without the secret: the fields below come from them
    click_id: str
    click_text: str  # the same as it was written
    goal: str  # id, code or name
    order_id: str | None
    order_text: str  # the same as it was written, "" without one
    word: str  # for the status
    status: ConversionStatus | None  # the status that the word means
    sale_status: str
    payout: Decimal | None
    revenue: Decimal | None
    sale_amount: Decimal | None
    currency: str | None
    external_id: str
    adv_subs: tuple[str, ...]
    faults: tuple[tuple[str, str], ...]  # amounts and currency that cannot be read, with the reason
    refund_amount: Decimal | None = (
        None  # the total refund of the order, or with a refund_id the amount of that refund
    )
    refund_id: str | None = None
    is_order_sent: bool = False  # by any of its names, also without a value
    form: OfForm | None = None

    @property
    def is_refund(self) -> bool:
        """Whether it refunds a part of a sale. Browsers cannot refund."""
        return self.refund_amount is not None and self.source is not Source.PIXEL

    @property
    def millis(self) -> int:
        """Time of arrival, Unix milliseconds."""
        return millis_of(self.hash)

    @property
    def click_hash(self) -> str | None:
        """The hash in its click id. None if it may be an earlier tracker's id."""
        text = hash_(self.click_id)
        return text if is_click_hash(text) else None

    @property
    def click_source(self) -> str:
        """The earlier tracker whose id the click id is. "": any.

        A form says it, or the operator. No parameter of a sender does.
        """
        if self.form is not None:
            return self.form.source
        return given(self.parameters.get("source", "")) if self.source is Source.API else ""

    @property
    def click_advertiser_id(self) -> int | None:
        """The only advertiser whose clicks are meant, if it is known."""
        return self.advertiser_id or (self.form.advertiser_id if self.form else None)

    @property
    def is_order_absent(self) -> bool:
        """Whether an order id was sent that is empty, an unfilled macro, or a word for nothing."""
        return self.order_id is None and self.is_order_sent

    @property
    def order_texts(self) -> list[str]:
        """The texts for the lookup of a conversion's order id: as it was written, then in normal form."""
        return list(dict.fromkeys(filter(None, (self.order_text, self.order_id))))

    @property
    def goal_id(self) -> int | None:
        """The goal's id, if it is in the parameter for ids."""
        text = given(self.parameters.get("goal_id", ""))
        is_number = text.isascii() and text.isdigit() and len(text) <= _LONGEST_ID
        return int(text) if is_number and text == self.goal else None

    def without_faults(self) -> Postback:
        """The postback without its unreadable values. A sale_amount without a currency is dropped too."""
        return self._replace(sale_amount=None) if "currency" in dict(self.faults) else self


class RefusedPostback(NamedTuple):
    """A refused request without secrets, and the reason. Every text is cut."""

    hash: str  # minted at arrival
    source: str
    ip: str
    advertiser_id: int | None  # the advertiser whose secret it carried
    click_id: str
    request: str  # method and path
    parameters: Mapping[str, str]
    reason: str
    form: str = ""  # the name of its form


def read_postback(
    hash_: str,
    source: Source,
    ip: str,
    advertiser_id: int | None,
    parameters: Mapping[str, str],
    form: OfForm | None = None,
) -> Postback:
    """A postback from its parameters, which are all in PARAMETERS.

    Raises:
        Unreadable: it names no click.
    """
    click_id, click_text = _read_name(parameters, CLICK_IDS)
    orders = (*ORDER_IDS, "transaction_id") if click_id else ORDER_IDS
    order_id, order_text = _read_name(parameters, orders)
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
        (form and form.status) or DEFAULT_WORDS.get(status_word),
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
        not parameters.keys().isdisjoint(orders),
        form,
    )


def read_form(fields: Mapping[str, Any] | None) -> OfForm | None:
    """A form as it was written by OfForm._asdict.

    Raises:
        TypeError, ValueError: they are not those of a form.
    """
    if fields is None:
        return None
    form = OfForm(**fields)
    return form._replace(status=form.status and ConversionStatus(form.status))


def meaning(status_word: str, advertiser_id: int | None, words: StatusWords) -> ConversionStatus | None:
    """The status of an advertiser's word: from its own table, the network's, or the defaults."""
    own = words.get((advertiser_id, status_word)) or words.get((None, status_word))
    return own or DEFAULT_WORDS.get(status_word)


def no_status() -> str:
    """The error of a word that is in no table."""
    return f"must be one of {', '.join(DEFAULT_WORDS)}, or a word of status-words"


def _read_name(parameters: Mapping[str, str], names: Sequence[str]) -> tuple[str, str]:
    """The first value that is not absent, and its original text. Otherwise ("", the original text)."""
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
