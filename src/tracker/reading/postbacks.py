"""The logs of postbacks: those of advertisers, and those to affiliates."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from functools import partial

from pydantic import Field

from tracker.domain.postback import PLAIN_PARAMETERS, Result
from tracker.parameters import Hash, Id, Ident, Text, about, choice
from tracker.reading.deliveries import LogQuery, RequestQuery
from tracker.reading.listing import Walk
from tracker.reading.query import PartQuery, SpanQuery
from tracker.store.conversions import postbacks as postback_log
from tracker.store.conversions.postbacks import FILTERS, REPLAYED, PostbackFilter
from tracker.store.db import Pool
from tracker.store.paging import Page, Row

_RESULTS = tuple(Result)
_OF_AMOUNT = re.compile(r"[0-9]|\b[A-Z]{3}\b")
_UNTOLD = "about an amount"
"""Replaces a part of a reason."""


class PostbackFilterQuery(SpanQuery):
    """Which postbacks."""

    hash: Hash = about("The postback with this hash. A conversion has the hash of the postback that made it.")
    result: choice(*_RESULTS) = about("Postbacks with this result.")  # type: ignore[valid-type]
    source: choice("postback", "pixel", "api", "import") = about("Postbacks from this source.")  # type: ignore[valid-type]
    advertiser_id: Id = about("Postbacks with a secret of this advertiser, and refused ones for its clicks.")
    click_id: Ident = about("Postbacks with this click id. Surrounding white space is ignored.")
    form: Text = about("Postbacks in the postback form with this name.")
    conversion_id: Id = about("Postbacks that made or changed this conversion.")

    def postbacks(self, network_zone: str) -> PostbackFilter:
        """The filter that is meant.

        Raises:
            ParameterError: two parameters contradict each other.
        """
        equals = tuple((name, value) for name in FILTERS if (value := getattr(self, name)) is not None)
        return PostbackFilter(self.span(network_zone), equals)


class PostbackLogQuery(PostbackFilterQuery, PartQuery):
    """Which postbacks, in which order, and which part of them."""


class ReplayQuery(PostbackFilterQuery):
    """Which postbacks to apply once more."""

    result: choice(*REPLAYED) = about("Postbacks with this result. Default: all three.")  # type: ignore[valid-type]


def walk(pool: Pool, query: PostbackLogQuery, network_zone: str, *, hides_money: bool) -> Walk:
    """The list of advertisers' postbacks.

    Raises:
        ParameterError: two parameters contradict each other.
    """
    postbacks, order = query.postbacks(network_zone), query.order(network_zone)
    shown = _without_money if hides_money else lambda read: read
    return Walk(
        shown(partial(postback_log.page, pool, postbacks, order)),
        shown(partial(postback_log.page_after, pool, postbacks, order)),
        postbacks,
        order.newest_first,
    )


def _without_money(read: Callable[..., Awaitable[Page]]) -> Callable[..., Awaitable[Page]]:
    async def shown(*wanted: object) -> Page:
        page = await read(*wanted)
        return page._replace(rows=[plain_postback(row) for row in page.rows])

    return shown


def plain_postback(row: Row) -> Row:
    """A postback without what may carry amounts. Only what never does is known.

    In a form any name, and a segment of the path, may be that of an amount. So only what the form made of
    them is shown.
    """
    shown = row | {name: _plain_parameters(row[name]) for name in ("parameters", "read_as")}
    if row["form"] is not None:
        shown |= {"parameters": {}, "request": ""}
    if row["result"] != Result.REFUSED:  # the edge's reasons name no amount
        shown["reason"] = "; ".join(
            _UNTOLD if _OF_AMOUNT.search(part) else part for part in str(row["reason"]).split("; ")
        )
    return shown


def _plain_parameters(parameters: object) -> dict[str, object] | None:
    if parameters is None:
        return None
    assert isinstance(parameters, dict)
    return {name: value for name, value in parameters.items() if name in PLAIN_PARAMETERS}


class SentFilterQuery(RequestQuery):
    """Which postbacks."""

    affiliate_id: Id = about("Postbacks to this affiliate.")
    affiliate_postback_id: Id = about("Postbacks by this affiliate postback (the configured URL).")
    conversion_id: Id = about("Postbacks of this conversion.")
    state: choice("waiting", "sent", "failed", "held") = about("Postbacks in this state.")  # type: ignore[valid-type]
    host: Text = about("Postbacks to this host.")


class SentPostbackQuery(SentFilterQuery, LogQuery):
    """Which postbacks, and which part of them."""


class RefireQuery(SentFilterQuery):
    """Which postbacks to send once more."""

    state: choice("waiting", "sent", "failed", "held") = Field(  # type: ignore[valid-type]
        "failed", description="Postbacks in this state."
    )
