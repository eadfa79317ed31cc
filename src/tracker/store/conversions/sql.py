"""The statements with which postbacks change conversions."""

from __future__ import annotations

from tracker.domain.click_fields import ADV_SUBS
from tracker.domain.conversion import Amounts, ConvertedClick, Goal

_FROM_CLICK = ConvertedClick._fields[3:]  # after hash, id and status
_OWN = ("advertiser_external_id", *ADV_SUBS)
_COLUMNS = (
    *("hash", "click_hash", "click_id", "click_status"),
    *("goal_id", "order_id", "order_absent", "is_repeatable", "status"),
    *("is_over_cap", "told_by_browser", "is_unpriced", "is_unproven"),
    *("sale_status", "created_at", "updated_at"),
    *Amounts._fields,
    *_OWN,
    *_FROM_CLICK,
)
AMENDED = (
    *("order_id", "status", "is_over_cap", "told_by_browser", "is_unpriced", "is_unproven", "sale_status"),
    *Amounts._fields,
    *_OWN,
)
KNOWN = "SELECT arrival, hash, result, reason, conversion_id FROM postback WHERE hash = ANY ($1::uuid[])"
CLICKS = f"""
SELECT encode(uuid_send(hash), 'hex') AS hash, id, status, {", ".join(_FROM_CLICK)}
FROM click WHERE hash = ANY ($1::uuid[])
"""  # noqa: S608
# What the latest conversion of a click has of it. It is the same in all of them.
CLICKS_OF_CONVERSIONS = f"""
SELECT DISTINCT ON (click_hash) encode(uuid_send(click_hash), 'hex'), click_id, click_status,
    {", ".join(_FROM_CLICK)}
FROM conversion WHERE click_hash = ANY ($1::uuid[]) AND click_status IS NOT NULL ORDER BY click_hash, id DESC
"""  # noqa: S608
GOALS = f"""
SELECT {", ".join("status = 'active'" if name == "is_active" else name for name in Goal._fields)}, is_base
FROM goal WHERE id = ANY ($1) OR offer_id = ANY ($2)
"""  # noqa: S608
# Read first: later additions have a higher version, and held postbacks are tried with them.
VERSION = """
SELECT greatest((SELECT max(version) FROM goal), (SELECT max(version) FROM status_word), 0)
"""
TRUST = """
SELECT id, postback_check = 'required', postback_addresses, accepts_unproven
FROM advertiser WHERE id = ANY ($1)
"""

_EXISTING = ("id", "click_hash", "created_at", "refunded", "corrected", *AMENDED)
# By its order id, as it was written or in normal form. Otherwise the one conversion of click and goal, or the
# one whose order id was absent. An id that was written for an absent one ($6) matches only this click's.
# A part that a parameter rules out is not read: a click may have thousands of conversions, and with OR a plan
# for all parameters reads each of them.
FOUND = f"""
SELECT * FROM (
    SELECT {", ".join(_EXISTING)} FROM conversion
    WHERE (advertiser_id, goal_id) = ($1, $2) AND order_id = ANY ($3::text[])
        AND (click_hash = $4 OR NOT $6::boolean)
    UNION ALL
    SELECT {", ".join(_EXISTING)} FROM conversion WHERE (click_hash, goal_id) = ($4, $2) AND NOT $5::boolean
    UNION ALL
    SELECT {", ".join(_EXISTING)} FROM conversion
    WHERE (click_hash, goal_id) = ($4, $2) AND order_absent AND $6::boolean
) AS found
ORDER BY array_position($3::text[], order_id), id LIMIT 1
"""  # noqa: S608
ONE = f"SELECT {', '.join(_EXISTING)} FROM conversion WHERE id = $1"  # noqa: S608
GIVE_UP_ORDER = "UPDATE conversion SET order_id = NULL, updated_at = clock_timestamp() WHERE id = $1"
HAS_CONVERSION = """
SELECT EXISTS (SELECT FROM conversion WHERE click_hash = $1 AND goal_id = $2 AND status <> 'rejected')
"""

CREATE = f"""
INSERT INTO conversion ({", ".join(_COLUMNS)})
VALUES ({", ".join(f"${n}" for n in range(1, len(_COLUMNS) + 1))}) RETURNING id
"""  # noqa: S608
AMEND = f"""
UPDATE conversion SET ({", ".join(AMENDED)}, updated_at)
    = ({", ".join(f"${n}" for n in range(2, len(AMENDED) + 2))}, clock_timestamp())
WHERE id = $1
"""  # noqa: S608
REFUND = """
UPDATE conversion
SET refunded = $2, status = $3, payout = $4, revenue = $5, updated_at = clock_timestamp()
WHERE id = $1
"""
NOTE_REFUND = """
INSERT INTO conversion_refund (conversion_id, refund_id, amount, postback_hash) VALUES ($1, $2, $3, $4)
"""
IS_REFUNDED = "SELECT EXISTS (SELECT FROM conversion_refund WHERE (conversion_id, refund_id) = ($1, $2))"
LOG = """
INSERT INTO postback
    (hash, source, ip, advertiser_id, parameters, click, result, reason, conversion_id, held_at, click_hash,
     order_id, waits_until, form)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)
ON CONFLICT (hash) DO UPDATE
    SET (result, reason, conversion_id, held_at, click_hash, waits_until)
        = (excluded.result, excluded.reason, excluded.conversion_id, excluded.held_at, excluded.click_hash,
           excluded.waits_until)
    WHERE excluded.result <> 'parked'
"""
