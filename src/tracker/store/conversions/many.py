"""One status for many conversions, chosen by their ids or by a filter."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from typing import Final, NamedTuple

from tracker.domain.postback import ConversionStatus, Source
from tracker.store.conversions import manual
from tracker.store.conversions import status as conversion_status
from tracker.store.conversions.list import ConversionFilter, where
from tracker.store.conversions.status import Changed
from tracker.store.db import Connection, Pool

MOST: Final = 10_000
"""Most conversions of one change."""

_CHOSEN = "SELECT id FROM conversion WHERE {} ORDER BY id LIMIT {}"
_AMOUNTS = """
SELECT currency, sum(amount)
FROM conversion CROSS JOIN LATERAL (
    VALUES ('payout', payout_currency, payout), ('revenue', revenue_currency, revenue)
) AS told (side, currency, amount)
WHERE conversion.id = ANY ($1) AND side = $2 AND NOT is_test GROUP BY 1 ORDER BY 1
"""


class TooManyError(ValueError):
    """More than MOST conversions are meant."""


class OtherNumberError(ValueError):
    """Another number of conversions is meant than somebody has seen."""


class Chosen(NamedTuple):
    """The conversions that are meant: those of a filter, and of them only some ids if these are given."""

    conversions: ConversionFilter
    ids: Sequence[int] | None = None
    expected: int | None = None  # how many somebody has seen. None: any number


class Outcome(NamedTuple):
    """What became, or would become, of the chosen conversions."""

    changes: list[Changed]  # in the order of ids
    missing: list[int]  # ids that are none of the chosen conversions
    payouts: Mapping[str, Decimal]  # of those that changed, by currency
    revenues: Mapping[str, Decimal]


async def set_status(
    pool: Pool,
    chosen: Chosen,
    status: ConversionStatus,
    author: str,
    *,
    sale_status: str | None = None,
    dry_run: bool,
) -> Outcome:
    """Set a status in one transaction. A dry run rolls it back.

    Raises:
        TooManyError: they are too many. OtherNumberError: they are not as many as expected.
    """
    async with manual.changing(pool, is_trial=dry_run, is_long=True) as connection:
        ids = await _ids(connection, chosen)
        said = {} if sale_status is None else dict.fromkeys(ids, sale_status)
        changes = await conversion_status.set_status(
            connection, ids, status, source=Source.API, author=author, sale_statuses=said
        )
        moved = [each.id for each in changes if each.before is not each.after]
        payouts, revenues = [await _amounts(connection, moved, side) for side in ("payout", "revenue")]
        return Outcome(changes, _missing(chosen, ids), payouts, revenues)


async def _ids(connection: Connection, chosen: Chosen) -> list[int]:
    condition, values = where(chosen.conversions)
    if chosen.ids is not None:
        values.append(list(chosen.ids))
        condition += f" AND id = ANY (${len(values)}::bigint[])"
    ids = [id_ for (id_,) in await connection.fetch(_CHOSEN.format(condition, MOST + 1), *values)]
    if len(ids) > MOST:
        raise TooManyError(f"matches more than {MOST:,} conversions")
    if chosen.expected not in (None, len(ids)):
        raise OtherNumberError(f"matches {len(ids):,} conversions by now, and not {chosen.expected:,}")
    return ids


async def _amounts(connection: Connection, ids: list[int], side: str) -> dict[str, Decimal]:
    return dict(await connection.fetch(_AMOUNTS, ids, side))


def _missing(chosen: Chosen, ids: Iterable[int]) -> list[int]:
    return sorted(set(chosen.ids or ()).difference(ids))
