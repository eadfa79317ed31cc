"""A test of an offer step by step: what is done, what is missing, and what to do about it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final, Literal, NamedTuple

from tracker.domain.conversion import NO_PRICE, Refusal
from tracker.domain.model import Reason
from tracker.domain.postback import Result
from tracker.store.conversions.affiliate_postbacks import Preview
from tracker.store.paging import Row
from tracker.store.test_runs import Run, Traces

State = Literal["waiting", "done", "failed"]

_LAG: Final = timedelta(seconds=30)
_OF_CLICK: Final[Mapping[int, str]] = {
    Reason.AFFILIATE_BLOCKED: "The affiliate is blocked. Set its status to active.",
    Reason.OFFER_HAS_NO_URL: "The offer has no active URL. Add one, or set one to active.",
    Reason.LOCATION_UNSENDABLE: "The filled URL cannot be sent. Look at its macros and its length.",
    Reason.OFFER_MISCONFIGURED: "The offer cannot be served as it is saved. `tracker doctor` says why.",
}
_OF_REASON: Final[Mapping[str, str]] = {
    Refusal.UNKNOWN_CLICK: "The click id is not that of this click. Look at the advertiser's macro.",
    Refusal.NOT_KEPT: "Open the link again: this click is too old.",
    Refusal.UNKNOWN_GOAL: "Add a goal with this code or name, or correct the postback. Then replay it.",
    Refusal.AMBIGUOUS_GOAL: "Send goal_id, or give the goals different codes.",
    Refusal.UNKNOWN_STATUS: "Add the status word of the advertiser. Then the postback counts by itself.",
    Refusal.OTHER_OFFER: "Send the goal of this offer.",
    Refusal.UNPROVEN: "Send the advertiser's secret as token, or note the address of its server.",
    Refusal.OTHER_ADVERTISER: "Send the secret of the advertiser of this offer.",
    Refusal.OTHER_FORM: "Use the form of the advertiser of this offer.",
    Refusal.NO_PIXEL: "Allow the pixel in the goal, or send a postback from a server.",
    Refusal.ARCHIVED_GOAL: "Restore the goal, or send another one.",
    Refusal.PAUSED_GOAL: "Set the goal to active. Then replay the postback.",
    Refusal.NO_PARENT: "Send the postback of the parent goal first.",
    Refusal.LATE: "Raise the click_window of the goal. Then replay the postback.",
    Refusal.OTHER_CLICK: "Send another order_id for each conversion.",
    Refusal.SECOND: "The goal takes one conversion of a click. Open the link again, or set multiple.",
    Refusal.TOO_MUCH: "Correct the amount or the percentage.",
    "its click is not stored yet": "Wait a moment.",
}
_FORBIDDEN = "403: "


class Step(NamedTuple):
    """One step of a test."""

    name: str
    title: str
    state: State
    text: str  # what was seen
    advice: str = ""  # what to do
    at: str | None = None  # local time


def steps(
    run: Run, traces: Traces | None, complete_until: int | None, now: datetime | None = None
) -> list[Step]:
    """The steps of a test, in their order. `traces`: None without a click.

    `complete_until`: Unix milliseconds. None: it is not known.
    """
    click = traces.click if traces else None
    if traces is None or click is None:
        is_late = _is_late(complete_until, now or datetime.now(UTC))
        return [_unopened(run, is_late, now or datetime.now(UTC)), *_LATER_STEPS]
    return [
        _opened(click),
        _handed_on(click),
        _received(traces.postbacks),
        _made(traces.conversions),
        _told(traces),
    ]


_TITLES: Final = {
    "link_opened": "The link was opened",
    "click_id_handed_on": "The advertiser got the click id",
    "postback_received": "The postback came",
    "conversion_made": "A conversion was made",
    "affiliate_told": "The affiliate would be told",
}


def _step(name: str, state: State, text: str, advice: str = "", at: object = None) -> Step:
    return Step(name, _TITLES[name], state, text, advice, None if at is None else str(at))


_LATER_STEPS: Final = tuple(
    _step(name, "waiting", "Nothing yet.") for name in list(_TITLES) if name != "link_opened"
)


def _is_late(complete_until: int | None, now: datetime) -> bool:
    return complete_until is None or datetime.fromtimestamp(complete_until / 1000, UTC) < now - _LAG


def _unopened(run: Run, is_late: bool, now: datetime) -> Step:
    if now > run.expires_at:
        return _step("link_opened", "failed", "The link has expired unopened.", "Make another test.")
    advice = "Open the link in a browser."
    if is_late:
        advice += (
            " Clicks are stored with a delay at the moment: see the page Operations, or `tracker doctor`."
        )
    return _step("link_opened", "waiting", "No click of the link is stored yet.", advice)


def _opened(click: Row) -> Step:
    name, at = "link_opened", click["created_at"]
    if click["status"] == "rejected":
        reason = int(str(click["reason"]))
        advice = _OF_CLICK.get(reason, "Explain the link: it says rule by rule what happened.")
        return _step(name, "failed", f"The click was refused with reason {reason}.", advice, at)
    return _step(name, "done", f"Click {click['hash']} was led to the offer.", at=at)


def _handed_on(click: Row) -> Step:
    name, target = "click_id_handed_on", str(click["redirected_link"] or "")
    if not target:
        return _step(name, "waiting", "The click was led nowhere.")
    if str(click["hash"]) in target:
        return _step(name, "done", "The address that the visitor was sent to carries the click id.")
    advice = "Put {click_id} into the offer's URL: else the advertiser cannot name the click in its postback."
    return _step(name, "failed", "The address that the visitor was sent to carries no click id.", advice)


def _received(postbacks: Sequence[Row]) -> Step:
    name = "postback_received"
    if not postbacks:
        advice = "Fire it here, or complete an order at the advertiser, who calls the URL below."
        return _step(name, "waiting", "No postback has named the click yet.", advice)
    newest = postbacks[0]
    result, reason, at = str(newest["result"]), str(newest["reason"]), newest["created_at"]
    text = f"{result}: {reason}" if reason else f"{result}."
    if result in (Result.STORED, Result.UPDATED, Result.UNCHANGED):
        return _step(name, "done", text, _advice([reason]) if NO_PRICE in reason else "", at)
    state: State = "waiting" if result == Result.PARKED else "failed"
    return _step(name, state, text, _advice([reason]), at)


def _advice(reasons: Iterable[str]) -> str:
    for reason in reasons:
        if NO_PRICE in reason:
            return "Set the price of the goal. 0 is a price."
        if reason.startswith(_FORBIDDEN):
            return "The secret is wrong or has expired. Give the advertiser a valid one."
        if reason in _OF_REASON:
            return _OF_REASON[reason]
    return "The reference of postbacks explains the reason."


def _made(conversions: Sequence[Row]) -> Step:
    name = "conversion_made"
    if not conversions:
        return _step(name, "waiting", "There is no conversion of the click yet.")
    newest = conversions[0]
    text = f"Conversion {newest['id']} is {newest['status']}. It is a test, so no book and no cap counts it."
    return _step(name, "done", text, at=newest["created_at"])


def _told(traces: Traces) -> Step:
    name = "affiliate_told"
    if not traces.conversions:
        return _step(name, "waiting", "Nothing yet.")
    if not traces.told:
        advice = "Add a postback URL to the affiliate, if it wants to be told of this status."
        return _step(name, "done", "No URL of the affiliate wants this status, goal and offer.", advice)
    faulty = [one for one in traces.told if one.error]
    if faulty:
        text = f"URL {faulty[0].affiliate_postback_id} cannot be filled: {faulty[0].error}."
        return _step(name, "failed", text, "Correct the URL of the affiliate.")
    if any(one.state == "held" for one in traces.told):
        text = "The affiliate is blocked or archived, so its postbacks are held."
        return _step(name, "failed", text, "Set the affiliate to active.")
    return _step(name, "done", _called(traces.told))


def _called(told: Sequence[Preview]) -> str:
    number = f"{len(told)} URLs" if len(told) > 1 else "1 URL"
    return f"{number} of the affiliate would be called. Of a test none is."
