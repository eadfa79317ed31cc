"""What needs the operator's attention. Doctor, metrics, audit trail and webhooks show what is found here.

Each search reads a bounded part of the tables, and names at most MOST_OF_KIND.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from tracker.domain.click_id import first_hash_at
from tracker.domain.webhooks import ALERT_CLEARED, ALERT_RAISED
from tracker.store import retention
from tracker.store.catalogue import edit
from tracker.store.catalogue.edit import Author, Table
from tracker.store.conversions.cap_marks import FOR_GOOD
from tracker.store.db import Connection, Pool
from tracker.store.locks import Lock
from tracker.store.people import guesses
from tracker.store.webhooks import events

MOST_OF_KIND = 100
_DAY_MILLIS = 86_400_000
_AUTHOR = Author(None, "alerts")
_TABLE = Table("alert", ("kind", "subject", "text"))

# One that has expired is named for two weeks, or as long as its advertiser has not another one.
_SECRETS = """
SELECT secret.id, advertiser_id, advertiser.name, expires_at, expires_at <= now() AS is_expired
FROM advertiser_secret AS secret JOIN advertiser ON advertiser.id = advertiser_id
WHERE NOT advertiser.is_archived AND postback_check = 'required' AND expires_at < now() + interval '14 days'
    AND (expires_at > now() - interval '14 days' OR NOT EXISTS (
        SELECT FROM advertiser_secret AS other
        WHERE other.advertiser_id = secret.advertiser_id AND coalesce(other.expires_at > now(), true)))
ORDER BY expires_at, secret.id LIMIT $1
"""
# Of its last 100 conversions within 30 days. Without clicks nothing can be said. The newest conversion alone
# leaves few advertisers over.
_SILENT = """
WITH quiet AS MATERIALIZED (
    SELECT advertiser.id, advertiser.name FROM advertiser JOIN offer ON offer.advertiser_id = advertiser.id
    CROSS JOIN LATERAL (
        SELECT created_at FROM conversion WHERE offer_id = offer.id AND NOT is_test
        ORDER BY created_at DESC LIMIT 1
    ) AS newest
    WHERE NOT advertiser.is_archived GROUP BY advertiser.id
    HAVING max(created_at) BETWEEN now() - interval '30 days' AND now() - interval '1 day'
)
SELECT quiet.id, quiet.name, newest FROM quiet CROSS JOIN LATERAL (
    SELECT count(*) AS number, max(created_at) AS newest, min(created_at) AS oldest FROM (
        SELECT created_at FROM offer CROSS JOIN LATERAL (
            SELECT created_at FROM conversion
            WHERE offer_id = offer.id AND created_at > now() - interval '30 days' AND NOT is_test
            ORDER BY created_at DESC LIMIT 100
        ) AS of_offer
        WHERE offer.advertiser_id = quiet.id ORDER BY created_at DESC LIMIT 100
    ) AS latest
) AS told
WHERE number >= 20 AND now() - newest > 10 * (newest - oldest) / (number - 1)
    AND EXISTS (
        SELECT FROM offer JOIN report_count ON quarters = 96 AND dimension = 'offer' AND key = offer.id::text
            AND slot IN ($2, $2 - 96) AND clicks > 0
        WHERE offer.advertiser_id = quiet.id)
ORDER BY newest, quiet.id LIMIT $1
"""
_REFUSED = """
SELECT advertiser.id, advertiser.name, number, bad FROM advertiser CROSS JOIN LATERAL (
    SELECT count(*) AS number, count(*) FILTER (WHERE result IN ('refused', 'rejected', 'held')) AS bad FROM (
        SELECT result FROM postback WHERE advertiser_id = advertiser.id AND hash >= $2::uuid
        ORDER BY hash DESC LIMIT 1000
    ) AS latest
) AS told
WHERE NOT is_archived AND number >= 10 AND bad * 2 >= number ORDER BY bad DESC, advertiser.id LIMIT $1
"""
_FAILING = """
SELECT affiliate_id, affiliate.name, number FROM (
    SELECT affiliate_id, count(*) AS number FROM sent_postback
    WHERE (state = 'failed' AND coalesce(last_attempt_at, created_at) > now() - interval '1 day')
        OR (state = 'waiting' AND attempts > 0)
    GROUP BY affiliate_id HAVING count(*) >= 5
) AS unsent JOIN affiliate ON affiliate.id = affiliate_id
WHERE NOT affiliate.is_archived AND affiliate.status <> 'blocked' AND NOT EXISTS (
    SELECT FROM (
        SELECT state, last_attempt_at FROM sent_postback AS sent WHERE sent.affiliate_id = unsent.affiliate_id
        ORDER BY id DESC LIMIT 1000
    ) AS latest
    WHERE state = 'sent' AND last_attempt_at > now() - interval '1 day')
ORDER BY number DESC, affiliate_id LIMIT $1
"""
# Caps on clicks close by their count, others by the time at the offer or at the affiliate's terms.
# Another amount opens an offer at once if the stream counts the cap, and so does its end. Otherwise the
# closed_until stands, even if the cap is gone.
_CLOSED = """
SELECT DISTINCT ON (mark.offer_id, mark.affiliate_id)
    mark.offer_id, offer.name, mark.affiliate_id, mark.ends_at
FROM cap_mark AS mark JOIN offer ON offer.id = mark.offer_id
LEFT JOIN offer_affiliate AS terms
    ON (terms.offer_id, terms.affiliate_id) = (mark.offer_id, mark.affiliate_id)
WHERE percent = 100 AND closes AND mark.ends_at > now() AND NOT offer.is_archived AND CASE
    WHEN mark.counts IN ('clicks', 'uniques') THEN EXISTS (
        SELECT FROM cap WHERE (id, amount, cap.counts, cap.period)
            = (mark.cap_id, mark.amount, mark.counts, mark.period))
    WHEN mark.affiliate_id = 0 THEN offer.closed_until > now()
    ELSE terms.closed_until > now() END
ORDER BY mark.offer_id, mark.affiliate_id, mark.ends_at DESC LIMIT $1
"""
_TRY_TO_LOCK = "SELECT pg_try_advisory_xact_lock($1)"
_LOCK_AUDIT = "SELECT pg_advisory_xact_lock($1)"
_KNOWN = "SELECT kind, subject, text FROM alert"
_RAISE = """
INSERT INTO alert (kind, subject, text) VALUES ($1, $2, $3)
ON CONFLICT (kind, subject) DO UPDATE SET text = excluded.text
"""
_CLEAR = "DELETE FROM alert WHERE (kind, subject) = ($1, $2)"
_COUNT = "SELECT kind, count(*) FROM alert GROUP BY kind"


class Alert(NamedTuple):
    """Something that needs attention."""

    kind: str
    subject: str  # path of the object, as in the API
    text: str


Find = Callable[[Connection], Awaitable[list[Alert]]]


async def _secrets(connection: Connection) -> list[Alert]:
    return [
        Alert(
            "secret_expired" if is_expired else "secret_expires",
            f"advertisers/{advertiser_id}/postback-secrets/{id_}",
            f"postback secret {id_} of advertiser {advertiser_id} ({name}) "
            f"{'has expired' if is_expired else 'expires'} at {_minute(expires_at)}",
        )
        for id_, advertiser_id, name, expires_at, is_expired in await connection.fetch(_SECRETS, MOST_OF_KIND)
    ]


async def _silent(connection: Connection) -> list[Alert]:
    today = int(time.time()) // 86_400 * 96
    return [
        Alert(
            "advertiser_silent",
            f"advertisers/{id_}",
            f"advertiser {id_} ({name}) has sent no conversion since {_minute(newest)}, but gets clicks",
        )
        for id_, name, newest in await connection.fetch(_SILENT, MOST_OF_KIND, today)
    ]


async def _refused(connection: Connection) -> list[Alert]:
    yesterday = first_hash_at(int(time.time() * 1000) - _DAY_MILLIS)
    return [
        Alert(
            "advertiser_refused",
            f"advertisers/{id_}",
            f"of advertiser {id_} ({name}) {bad} of the last {number} postbacks were refused or held",
        )
        for id_, name, number, bad in await connection.fetch(_REFUSED, MOST_OF_KIND, yesterday)
    ]


async def _failing(connection: Connection) -> list[Alert]:
    return [
        Alert(
            "affiliate_failing",
            f"affiliates/{id_}",
            f"affiliate {id_} ({name}) has taken no postback within a day, and {number} have failed so far",
        )
        for id_, name, number in await connection.fetch(_FAILING, MOST_OF_KIND)
    ]


async def _closed(connection: Connection) -> list[Alert]:
    return [
        Alert(
            "offer_closed_by_cap",
            f"offers/{id_}" + (f"/affiliates/{affiliate_id}" if affiliate_id else ""),
            f"offer {id_} ({name}) is closed by a cap"
            + (f" for affiliate {affiliate_id}" if affiliate_id else "")
            + (f" until {_minute(ends_at)}" if ends_at != FOR_GOOD else " for good"),
        )
        for id_, name, affiliate_id, ends_at in await connection.fetch(_CLOSED, MOST_OF_KIND)
    ]


async def _guessed(connection: Connection) -> list[Alert]:
    return [
        Alert(
            "codes_guessed",
            f"users/{id_}",
            f"user {id_} ({email}) got {codes} wrong codes of the second factor from {addresses} "
            f"{'address' if addresses == 1 else 'addresses'} since {_minute(since)}",
        )
        for id_, email, codes, addresses, since in await guesses.find(connection, MOST_OF_KIND)
    ]


async def _held(connection: Connection) -> list[Alert]:
    found = await retention.held(connection)
    if found is None or not found.needs_operator:
        return []
    text = f"clicks of {found.day} and of later days cannot be dropped: {found.why}"
    return [Alert("days_held", f"dropped-days/{found.day}", text)]


_FINDERS: Iterable[Find] = (_secrets, _silent, _refused, _failing, _closed, _guessed, _held)

KINDS: Mapping[str, str] = {
    "secret_expires": "create another one and give it to the advertiser: tracker postback-secrets add",
    "secret_expired": "its postbacks are refused: create another one and give it to the advertiser",
    "advertiser_silent": "ask the advertiser, and see tracker postbacks",
    "advertiser_refused": "see GET …/users/postbacks?advertiser_id=…, with the reason of each",
    "affiliate_failing": "see GET …/users/sent-postbacks?affiliate_id=…, and tell the affiliate",
    "offer_closed_by_cap": "wait for the end of its period. Or raise the cap, and set closed_until=null by "
    "tracker offers set, or by tracker offer-affiliates set if it is closed for one affiliate",
    "clicks_lost": "keep the files of the old stream server and the logs of the edges. See tracker ledger, "
    "and what to do in docs/operations/ledger.md",
    "codes_guessed": "ask the user for a new password, or run tracker users reset EMAIL: if the codes were "
    "not the user's own, somebody knows the password",
    "days_held": "correct its counts with tracker rebuild-stats, or end what needs the day. See "
    "docs/operations/retention.md",
}
"""The kinds of alerts, and what to do."""
OF_STREAM = frozenset({"clicks_lost"})
"""The kinds that only the stream server knows of."""


async def find(connection: Connection) -> list[Alert]:
    """All alerts of this moment that the database knows of."""
    return [alert for finder in _FINDERS for alert in await finder(connection)]


async def note(connection: Connection, of_stream: Sequence[Alert] | None) -> None:
    """Note the alerts that are new, and those that have ended, in the audit trail and for webhooks.

    `of_stream`: those of the kinds OF_STREAM. None while the server is away: the noted ones then stay. Does
    nothing while another process does it.
    """
    async with connection.transaction():
        if not await connection.fetchval(_TRY_TO_LOCK, Lock.ALERTS):
            return
        known = {alert[:2]: alert for alert in (Alert(*row) for row in await connection.fetch(_KNOWN))}
        if of_stream is None:
            of_stream = [alert for alert in known.values() if alert.kind in OF_STREAM]
        found = {alert[:2]: alert for alert in [*await find(connection), *of_stream]}
        if found.keys() != known.keys():  # the audit trail is in the order of commits
            await connection.execute(_LOCK_AUDIT, Lock.CATALOGUE)
        for alert in found.values():
            if known.get(alert[:2]) != alert:
                await connection.execute(_RAISE, *alert)
        for key in found.keys() - known.keys():
            await _tell(connection, found[key], None, found[key]._asdict(), ALERT_RAISED)
        for key in known.keys() - found.keys():
            await connection.execute(_CLEAR, *key)
            await _tell(connection, known[key], known[key]._asdict(), None, ALERT_CLEARED)


async def counts(pool: Pool) -> dict[str, int]:
    """The number of noted alerts of each kind."""
    return dict.fromkeys(KINDS, 0) | {kind: int(number) for kind, number in await pool.fetch(_COUNT)}


async def _tell(
    connection: Connection,
    alert: Alert,
    before: dict[str, Any] | None,
    after: dict[str, Any] | None,
    type_: str,
) -> None:
    path = f"alerts/{alert.kind}/{alert.subject}"
    await edit.note(connection, _AUTHOR, _TABLE, path, before, after)
    await events.note(connection, type_, path, alert._asdict())


def _minute(at: datetime) -> str:
    return f"{at:%Y-%m-%d %H:%M} UTC"
