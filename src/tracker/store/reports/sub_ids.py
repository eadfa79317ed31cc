"""An affiliate's clicks by a sub id, from pieces: sums per hour and per day (UTC) that a worker has made.

A piece is true while no click of its hours came, went or changed since it was made. Only true ones are read.
The rest of a span is left to the reader of clicks. `store.reports.sub_id_pieces` makes the pieces.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import Final, NamedTuple

from tracker.domain.click_fields import AFF_SUBS
from tracker.store.clicks.counts import REPORT_COUNTS
from tracker.store.db import Connection
from tracker.store.time_span import SLOT_MILLIS, SLOTS_A_DAY, Span

FIELDS: Final = (*AFF_SUBS, "affiliate_source")
"""The columns of clicks that pieces have."""

HOUR, DAY = 1, 24
"""The hours of a piece."""

MEASURES: Final = ("gross", "clicks", "uniques")
"""The sums of a piece, as in report_count."""

SLOTS_AN_HOUR = 4
_SLOT_SECONDS = SLOT_MILLIS // 1000


# The null is the last one.
_IS_CUT = """
SELECT EXISTS (
    SELECT FROM unnest($3::integer[], $4::smallint[]) AS piece (slot, hours)
    JOIN sub_id_count USING (slot, hours)
    WHERE affiliate_id = $1 AND field = $2 AND keys[cardinality(keys)] IS NULL
)
"""


_LARGEST = """
SELECT affiliate_id FROM sub_id_piece
WHERE affiliate_id = ANY ($1::bigint[]) AND slot >= $2 AND slot < $3
GROUP BY affiliate_id ORDER BY sum(counted) DESC, affiliate_id LIMIT $4
"""


class Piece(NamedTuple):
    """An hour or a day (UTC) of an affiliate's clicks."""

    slot: int  # its first quarter-hour
    hours: int  # HOUR or DAY

    @property
    def slots(self) -> range:
        return range(self.slot, self.slot + self.hours * SLOTS_AN_HOUR)

    @property
    def span(self) -> Span:
        return Span(self.slots.start * SLOT_MILLIS, self.slots.stop * SLOT_MILLIS)


class Cover(NamedTuple):
    """The pieces that cover a span, and the spans between them."""

    pieces: Sequence[Piece]
    gaps: Sequence[Span]


def counted(affiliate: str, low: int | str, high: int | str) -> str:
    """A query of an affiliate's clicks by piece, hours and days, from the quarter-hours of report_count.

    A piece at an end of the range may be incomplete.
    """
    return f"""
    SELECT slot / size * size AS slot, hours, sum(gross)::bigint AS counted
    FROM (
        SELECT slot, sum(gross) AS gross FROM {REPORT_COUNTS}
        WHERE quarters = 1 AND dimension = 'affiliate' AND key = {affiliate}
            AND slot >= {low} AND slot < {high}
        GROUP BY slot
    ) AS quarter
    CROSS JOIN (VALUES ({HOUR}, {SLOTS_AN_HOUR}), ({DAY}, {SLOTS_A_DAY})) AS piece (hours, size)
    GROUP BY 1, 2"""  # noqa: S608


async def cover(
    connection: Connection, affiliate_id: int, span: Span, hours: Collection[int] = (HOUR, DAY)
) -> Cover:
    """Cover a span with the true pieces of some lengths.

    Read them in the same snapshot: they may be replaced meanwhile.
    """
    return _fitted(span, await true_pieces(connection, affiliate_id, span, hours))


async def true_pieces(
    connection: Connection, affiliate_id: int, span: Span, hours: Collection[int] = (HOUR, DAY)
) -> set[Piece]:
    """The pieces within a span that have exactly the clicks of their time."""
    low, high = -(-span.low // SLOT_MILLIS), span.high // SLOT_MILLIS
    statement = f"""
    SELECT slot, hours FROM sub_id_piece JOIN ({counted("$1::bigint::text", low, high)}) AS now
        USING (slot, hours, counted)
    WHERE affiliate_id = $1 AND hours = ANY ($2::smallint[])
        AND slot >= {low} AND slot + hours * {SLOTS_AN_HOUR} <= {high}
        AND NOT EXISTS (
            SELECT FROM sub_id_change AS change
            WHERE change.affiliate_id = $1 AND change.slot >= sub_id_piece.slot
                AND change.slot < sub_id_piece.slot + hours * {SLOTS_AN_HOUR}
        )"""  # noqa: S608
    return {Piece(*row) for row in await connection.fetch(statement, affiliate_id, list(hours))}


async def largest(connection: Connection, affiliate_ids: Collection[int], span: Span, most: int) -> list[int]:
    """Those of some affiliates that have pieces in a span, the ones with the most clicks, at most so many."""
    slots = (span.low // SLOT_MILLIS, span.high // SLOT_MILLIS)
    return [id_ for (id_,) in await connection.fetch(_LARGEST, list(affiliate_ids), *slots, most)]


async def is_cut(connection: Connection, affiliate_id: int, field: str, pieces: Sequence[Piece]) -> bool:
    """Whether some values of a field in some pieces are not kept."""
    if not pieces:
        return False
    slots, hours = zip(*pieces, strict=True)
    return bool(await connection.fetchval(_IS_CUT, affiliate_id, field, slots, hours))


def _fitted(span: Span, true: Collection[Piece]) -> Cover:
    """Days, and the hours of other days."""
    days = {piece.slot for piece in true if piece.hours == DAY}
    pieces = sorted(
        piece for piece in true if piece.hours == DAY or piece.slot // SLOTS_A_DAY * SLOTS_A_DAY not in days
    )
    ends = [span.low, *(piece.span.high for piece in pieces)]
    starts = [*(piece.span.low for piece in pieces), span.high]
    return Cover(pieces, [Span(low, high) for low, high in zip(ends, starts, strict=True) if low < high])


def part(affiliate_id: int, fields: Sequence[str], pieces: Iterable[Piece]) -> str:
    """A query of the clicks of pieces: field, key, second, gross, clicks, uniques.

    The key is null for values that are not kept.
    """
    places = [f"({piece.slot}, {piece.hours})" for piece in pieces] or ["(NULL::integer, NULL::integer)"]
    wanted = f"(VALUES {', '.join(places)}) AS wanted (slot, hours)"
    named = f"(VALUES ({'), ('.join(repr(field) for field in fields)})) AS of (field)"
    each = ", ".join(f"each.{name}" for name in MEASURES)
    # Two queries, because the planner knows how long arrays are only if they are plain columns.
    return f"""
    SELECT field, each.key, slot * {_SLOT_SECONDS}::bigint AS second, {each}
    FROM {wanted} JOIN sub_id_count AS kept USING (slot, hours) JOIN {named} USING (field)
    CROSS JOIN LATERAL unnest({", ".join(f"kept.{name}" for name in ("keys", *MEASURES))})
        AS each (key, {", ".join(MEASURES)})
    WHERE affiliate_id = {int(affiliate_id)}
    UNION ALL
    SELECT field, '', slot * {_SLOT_SECONDS}::bigint, {", ".join(f"{name}::integer" for name in MEASURES)}
    FROM {wanted} JOIN sub_id_piece AS piece USING (slot, hours) CROSS JOIN {named}
    WHERE affiliate_id = {int(affiliate_id)} AND NOT EXISTS (
        SELECT FROM sub_id_count AS kept
        WHERE (kept.affiliate_id, kept.slot, kept.hours, kept.field)
            = (piece.affiliate_id, piece.slot, piece.hours, of.field)
    )"""  # noqa: S608
