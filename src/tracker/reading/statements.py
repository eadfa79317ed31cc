"""Statements: their parameters, and their rows as they are shown."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import AsyncGenerator, Iterable, Iterator, Sequence
from contextlib import aclosing
from datetime import MAXYEAR, UTC, datetime, tzinfo
from decimal import Decimal
from typing import Annotated, Any, NamedTuple

from pydantic import BeforeValidator, Field, WithJsonSchema

from tracker.domain.local_time import first_second, last_second, offsets, read_day
from tracker.domain.money import in_unit
from tracker.domain.statement import Balance, ManualKind, Party
from tracker.parameters import Id, PageNumber, ParameterError, PerPage, Query, about, choice
from tracker.reading.query import EXCEL, FileQuery, SeparatorQuery, ZoneQuery
from tracker.store.books import statements
from tracker.store.books.statements import GROUPS, LINE_KEYS, MOST_GROUPS, Statement, StatementRequest
from tracker.store.catalogue import edit
from tracker.store.clicks.columns import local_second
from tracker.store.db import Pool
from tracker.store.json_chunks import Block, blocks_of
from tracker.store.paging import Page, Row, TooDeepError
from tracker.store.time_span import Span
from tracker.store.token_owner import Owner

_MOST_DAYS = 20 * 366
_LATEST = int(datetime(MAXYEAR, 1, 1, tzinfo=UTC).timestamp())  # local times of later seconds may not exist
_ALL_OF_THE_BOOK = Span(0, _LATEST * 1000)  # nothing is booked in the future
_BALANCE = (*Balance._fields, "closing")
_HIDDEN = {"affiliate": ("order_id", "author"), "advertiser": ("author",)}
"""Keys of lines that partners do not see."""


def _day(*, is_end: bool, example: str) -> Any:
    return Annotated[
        datetime | None,
        BeforeValidator(lambda text: read_day(text, is_end=is_end)),
        WithJsonSchema({"type": "string", "examples": [example]}),
    ]


class UnknownPartyError(ParameterError):
    """The statement of one party is asked for, and there is no such party."""

    def __init__(self, party: Party, id_: int) -> None:
        super().__init__({f"{party}_id": [f"{id_} is not known"]})
        self.line = f"{party} {id_} is not known"


class PartyQuery(Query):
    """Whose money."""

    party: choice("affiliate", "advertiser") = Field(  # type: ignore[valid-type]
        description="affiliate: what the network owes them. advertiser: what they owe the network."
    )
    affiliate_id: Id = about("This affiliate alone.")
    advertiser_id: Id = about("This advertiser alone.")

    def of_span(self, span: Span, owner: Owner | None) -> StatementRequest:
        """The store's request for the statements of a span that the network or an owner sees.

        Raises:
            ParameterError: parameters contradict each other, or an owner names somebody else.
        """
        if owner is not None:
            return StatementRequest(Party(owner.kind), span, self._own_ids(owner), owner)
        ids = {Party.AFFILIATE: self.affiliate_id, Party.ADVERTISER: self.advertiser_id}
        party = Party(self.party)
        for other, id_ in ids.items():
            if id_ is not None and other is not party:
                raise ParameterError({f"{other}_id": [f"needs party={other}"]})
        one = ids[party]
        return StatementRequest(party, span, None if one is None else (one,))

    def _own_ids(self, owner: Owner) -> tuple[int, ...]:
        """The ids of an owner that the query names. One of somebody else is as unknown as any other."""
        one = getattr(self, owner.column)
        if one is None:
            return owner.ids
        if one not in owner.ids:
            raise UnknownPartyError(Party(owner.kind), one)
        return (one,)


class BalanceQuery(PartyQuery):
    """Whose balances."""


class StatementSpanQuery(PartyQuery, ZoneQuery):
    """Which statements."""

    from_: _day(is_end=False, example="2026-10-01") = Field(  # type: ignore[valid-type]
        alias="from", description="The first day, in the time zone of the request. A month is its first day."
    )
    to: _day(is_end=True, example="2026-10-31") = about(  # type: ignore[valid-type]
        "The last day, inclusive. A month is its last day. Needed unless there is `until`."
    )
    until: _day(is_end=False, example="2026-11-01") = about(  # type: ignore[valid-type]
        "The day after the last one, as closes of periods have it. It cannot be combined with `to`."
    )

    def request(self, network_zone: str, owner: Owner | None = None) -> StatementRequest:
        """The store's request for the statements that the network or an owner sees.

        Raises:
            ParameterError: parameters are missing, or contradict each other.
        """
        return self.of_span(self._span(self.zone(network_zone)), owner)

    def _span(self, zone: tzinfo) -> Span:
        if (self.to is None) == (self.until is None):
            why = "is missing, and so is until" if self.to is None else "cannot be combined with until"
            raise ParameterError({"to": [why]})
        low = first_second(self.from_, zone)
        if self.to is not None:
            name, high = "to", last_second(self.to, zone) + 1
        else:
            name, high = "until", first_second(self.until, zone)
        if high > _LATEST:
            raise ParameterError({name: ["is after the year 9998"]})
        if high <= low:
            raise ParameterError({name: ["is before from" if name == "to" else "is not after from"]})
        if high - low > _MOST_DAYS * 86_400:
            raise ParameterError({"from": [f"leaves more than {_MOST_DAYS:,} days"]})
        return Span(max(low, 0) * 1000, max(high, 0) * 1000)


class StatementQuery(StatementSpanQuery, SeparatorQuery):
    """Which statements, and in which format."""

    group_by: choice(*GROUPS) = about(  # type: ignore[valid-type]
        "Splits what is booked into groups. A file then has a row for each group, and no balances."
    )
    format: choice("json", "csv", "excel") = Field(  # type: ignore[valid-type]
        default="json", description=f"json, or csv: CSV with a header. {EXCEL}"
    )


class StatementLinesQuery(StatementSpanQuery, FileQuery):
    """Which statements' lines, and in which format."""


class StatementEntriesQuery(StatementSpanQuery):
    """Which statements' entries."""

    per_page: PerPage = Field(default=200, description="Entries per page.")
    page: PageNumber = Field(default=1, description="Page number, from 1.")


class Answer(NamedTuple):
    """Statements as they are shown."""

    asked: StatementRequest
    statements: Sequence[Statement]
    is_final: bool
    group: str
    zone: tzinfo

    @property
    def facts(self) -> Row:
        """What the statements are about, without them."""
        low, high = self.asked.span
        return {
            "party": self.asked.party,
            "from": local_second(low // 1000, self.zone)[:10],
            "to": local_second(high // 1000 - 1, self.zone)[:10],
            "tz": str(self.zone),
            "is_final": self.is_final,
        }

    @property
    def rows(self) -> Iterator[Row]:
        """The statements with all their parts."""
        for statement in self.statements:
            row = _who(self.asked.party, statement) | _shown(statement.balance, statement.currency)
            row["adjusted"] = [
                {
                    "from": _local(since, self.zone),
                    "until": _local(until, self.zone),
                    "entries": entries,
                    "amount": in_unit(amount, statement.currency),
                }
                for since, until, entries, amount in statement.adjusted
            ]
            if self.group:
                row["groups"] = list(_groups(statement))
            yield row

    @property
    def totals(self) -> list[Row]:
        """The sums of all statements, by currency."""
        return [
            {"currency": currency} | _shown(balance, currency)
            for currency, balance in _summed(self.statements).items()
        ]

    @property
    def table(self) -> tuple[Sequence[str], list[Row]]:
        """The columns and rows of a file: the balances, or what is booked by group."""
        who = (f"{self.asked.party}_id", f"{self.asked.party}_name", "currency")
        if not self.group:
            rows = [
                _who(self.asked.party, each) | _shown(each.balance, each.currency) for each in self.statements
            ]
            return (*who, *_BALANCE), rows
        rows = [_who(self.asked.party, each) | group for each in self.statements for group in _groups(each)]
        return (*who, *GROUPS[self.group][1], "entries", "amount"), rows


async def request_of(
    pool: Pool, query: StatementSpanQuery, network_zone: str, owner: Owner | None = None
) -> StatementRequest:
    """The store's request for the statements that the network or an owner sees.

    Raises:
        ParameterError: parameters are missing or contradict each other, or the party is unknown.
    """
    asked = query.request(network_zone, owner)
    await _check_known(pool, asked)
    return asked


async def _check_known(pool: Pool, asked: StatementRequest) -> None:
    for id_ in asked.party_ids or ():
        if asked.owner is None and not await edit.exists(pool, asked.party, id_, or_archived=True):
            raise UnknownPartyError(asked.party, id_)


async def balances(pool: Pool, query: BalanceQuery, owner: Owner | None = None) -> Row:
    """What is owed now, by party and currency, and what it is made of, with the sums of all by currency.

    Raises:
        ParameterError: parameters contradict each other, or the party is unknown.
    """
    asked = query.of_span(_ALL_OF_THE_BOOK, owner)
    await _check_known(pool, asked)
    found = await statements.owed(pool, asked)
    rows = [_who(asked.party, each) | _owed(each.balance, each.currency) for each in found]
    sums = _summed(found).items()
    totals = [{"currency": currency} | _owed(balance, currency) for currency, balance in sums]
    return {"data": rows, "totals": totals}


async def balance_of(pool: Pool, party: Party, party_id: int, currency: str) -> Decimal:
    """What one party is owed or owes now, in one currency."""
    found = await statements.owed(pool, StatementRequest(party, _ALL_OF_THE_BOOK, (party_id,)))
    owed = (each.balance.closing for each in found if each.currency == currency)
    return sum(owed, start=Balance().closing)


async def read(pool: Pool, query: StatementQuery, network_zone: str, owner: Owner | None = None) -> Answer:
    """The statements of a query.

    Raises:
        ParameterError: parameters are missing or contradict each other, the party is unknown, or there are
            too many groups.
    """
    zone, group = query.zone(network_zone), query.group_by or ""
    asked = await request_of(pool, query, network_zone, owner)
    low, high = asked.span
    try:
        found = await statements.read(pool, asked, group, offsets(low // 1000, high // 1000, zone))
    except statements.TooManyGroupsError:
        why = f"makes more than {MOST_GROUPS:,} groups: ask for one party, or for fewer days"
        raise ParameterError({"group_by": [why]}) from None
    return Answer(asked, found.statements, found.is_final, group, zone)


async def entries(
    pool: Pool, query: StatementEntriesQuery, network_zone: str, owner: Owner | None = None
) -> Page:
    """A page of the lines of statements.

    Raises:
        ParameterError: parameters are missing or contradict each other, the party is unknown, or the page is
            too deep.
    """
    asked = await request_of(pool, query, network_zone, owner)
    keys, zone = line_keys(asked), query.zone(network_zone)
    try:
        page = await statements.line_page(pool, asked, query.page or 1, query.per_page)
    except TooDeepError as error:
        raise ParameterError({"page": [f"{error}: ask for one party, or for fewer days"]}) from None
    lines = (_line(row, asked.party, zone) for row in page.rows)
    return page._replace(rows=[{key: line[key] for key in keys} for line in lines])


def line_keys(asked: StatementRequest) -> tuple[str, ...]:
    """The columns of lines."""
    names = (f"{asked.party}_id", f"{asked.party}_name")
    hidden = () if asked.owner is None else _HIDDEN[asked.owner.kind]
    return (*LINE_KEYS[:2], *names, *(key for key in LINE_KEYS[2:] if key not in hidden))


async def lines(pool: Pool, asked: StatementRequest, zone: tzinfo) -> AsyncGenerator[Iterable[Block], None]:
    """The lines of statements, in chunks of an export."""
    keys = line_keys(asked)
    async with aclosing(statements.lines(pool, asked)) as chunks:
        async for chunk in chunks:
            yield blocks_of([_line(line, asked.party, zone) for line in chunk], keys)


def _line(line: dict[str, Any], party: Party, zone: tzinfo) -> Row:
    times = {name: line[name] for name in ("booked_at", "conversion_at", "period_until")}
    return {
        **line,
        **{name: _local(time, zone) for name, time in times.items()},
        f"{party}_id": line["party_id"],
        f"{party}_name": line["party_name"],
        "amount": in_unit(line["amount"], line["currency"]),
    }


def _who(party: Party, statement: Statement) -> Row:
    return {
        f"{party}_id": statement.party_id,
        f"{party}_name": statement.name,
        "currency": statement.currency,
    }


def _summed(statements: Sequence[Statement]) -> dict[str, Balance]:
    """The sums of balances, by currency."""
    of_currency: defaultdict[str, list[Balance]] = defaultdict(list)
    for each in statements:
        of_currency[each.currency].append(each.balance)
    return {
        currency: Balance._make(sum(part, start=Balance().closing) for part in zip(*parts, strict=True))
        for currency, parts in sorted(of_currency.items())
    }


def _owed(balance: Balance, currency: str) -> Row:
    """The parts of a balance of all times."""
    by_hand: dict[str, Decimal] = {str(kind): getattr(balance, kind) for kind in ManualKind}
    approved = balance.closing - sum(by_hand.values())
    amounts = {"approved": approved, **by_hand, "balance": balance.closing}
    return {name: in_unit(amount, currency) for name, amount in amounts.items()}


def _shown(balance: Balance, currency: str) -> Row:
    amounts = zip(_BALANCE, (*balance, balance.closing), strict=True)
    return {name: in_unit(amount, currency) for name, amount in amounts}


def _groups(statement: Statement) -> Iterator[Row]:
    for keys, entries, amount in statement.groups:
        yield {**keys, "entries": entries, "amount": in_unit(amount, statement.currency)}


def _local(time: datetime | None, zone: tzinfo) -> str | None:
    return None if time is None else local_second(time.timestamp(), zone)
