"""What the log of postbacks tells senders and operators about a result."""

from __future__ import annotations

from decimal import Decimal

from tracker.domain.conversion import Named, told_faults
from tracker.domain.money import show
from tracker.domain.postback import ConversionStatus, Postback
from tracker.store.conversions.lookups import Existing


def of_update(
    requested: ConversionStatus | None, existing: Existing, after: Existing, doubt: str, *, is_held: bool
) -> str:
    """What the sender of an update should know, or ""."""
    if requested in (None, after.status):
        return doubt if after.is_over_cap and not existing.is_over_cap else ""
    if not is_held:
        return f"it stays {after.status}"
    return held(existing.status, after.status, doubt)


def held(before: ConversionStatus, after: ConversionStatus, doubt: str) -> str:
    """The result of a doubtful approval, with the reason."""
    return f"it stays {after}: {doubt}" if after is before else f"it is on hold: {doubt}"


def too_late(postback: Postback, named: Named, existing: Existing) -> str:
    """The amounts of a postback that come after the decision, or ""."""
    money = existing.amounts
    sides = (
        ("sale_amount", postback.sale_amount, money.sale_amount, money.sale_currency),
        ("payout", named[0], money.payout, money.payout_currency),
        ("revenue", named[1], money.revenue, money.revenue_currency),
    )
    late = [
        f"{name} {show(sent)} {postback.currency or currency or ''}".rstrip()
        + f" changes nothing: it is {existing.status} with {'none' if known is None else show(known)}"
        + (f" {currency}" if currency else "")
        for name, sent, known, currency in sides
        if sent is not None and (sent, postback.currency or currency) != (known, currency)
    ]
    return "; ".join(late)


def of_held_refund(postback: Postback, existing: Existing, total: Decimal) -> str:
    """Why a refund cannot be applied yet, or ""."""
    sale, currency = existing.amounts.sale_amount, existing.amounts.sale_currency
    if existing.status is not ConversionStatus.APPROVED:
        return f"its order is not approved: it is {existing.status}"
    if sale is None:
        return "its order has no sale_amount"
    if postback.currency not in (None, currency):
        return f"the refund is in {postback.currency}, its order in {currency}"
    return f"{show(total)} {currency} is more than its order of {show(sale)}" if total > sale else ""


def left_out(postback: Postback) -> str:
    """The unreadable values of a postback that did not count, or ""."""
    return told_faults((name, f"is left out: {why}") for name, why in postback.faults)


def joined(*reasons: str) -> str:
    return "; ".join(filter(None, reasons))
