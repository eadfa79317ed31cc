"""The search for anything by its id or its name: clicks, conversions, postbacks, and the catalogue.

Each look-up uses an index, or goes through a table of the catalogue. Sub ids are looked for last, in a
limited number of the latest clicks, and only if nothing has the text as its id or its name.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable
from datetime import datetime, time, timedelta, tzinfo
from typing import Any, Final, NamedTuple
from urllib.parse import urlencode

from tracker.catalogue.resources import RESOURCES
from tracker.domain import normalise
from tracker.domain.click_fields import AFF_SUBS
from tracker.domain.local_time import first_second
from tracker.domain.normalise import trim
from tracker.reading.visibility import Visibility
from tracker.store import legacy_clicks
from tracker.store.catalogue import affiliate_offers, edit
from tracker.store.catalogue.edit import Wanted
from tracker.store.clicks import list as click_list
from tracker.store.clicks import text_search
from tracker.store.clicks.list import ClickFilter
from tracker.store.conversions import list as conversion_list
from tracker.store.conversions import postbacks as postback_log
from tracker.store.conversions.list import ConversionFilter
from tracker.store.db import Pool
from tracker.store.paging import Order, Row
from tracker.store.time_span import ALL_TIME

MOST: Final = 20
"""Most results."""
_MOST_OF_A_KIND: Final = 5


class Found(NamedTuple):
    """One result."""

    kind: str
    id: str
    label: str
    detail: str
    is_exact: bool  # the text is its id, or its whole name
    path: str  # in the API, without the beginning: offers/3


class Sight(NamedTuple):
    """What somebody may find."""

    zone: tzinfo  # of the times in details
    clicks: Visibility | None = None  # None: no clicks
    conversions: Visibility | None = None
    has_postbacks: bool = False
    has_catalogue: bool = False
    offers_of: tuple[int, ...] = ()  # the affiliates of which the offers are found


async def search(pool: Pool, text: str, sight: Sight) -> list[Found]:
    """At most MOST results, exact ones first."""
    text = normalise.composed(trim(text))
    if not text:
        return []
    found: dict[tuple[str, str], Found] = {}
    for look in _LOOKS:
        async for one in look(pool, text, sight):
            found.setdefault((one.kind, one.id), one)
    if not any(one.is_exact for one in found.values()):
        async for one in _sub_ids(pool, text, sight):
            found[one.kind, one.id] = one
    return sorted(found.values(), key=lambda one: not one.is_exact)[:MOST]


async def _clicks(pool: Pool, text: str, sight: Sight) -> AsyncIterator[Found]:
    """By hash, id, or id in an earlier tracker."""
    if sight.clicks is None:
        return
    earlier = (await legacy_clicks.find(pool, [text], sight.clicks.owner)).get(text, ())
    hashes = [*_hash(text), *(click.hash for click in earlier[:_MOST_OF_A_KIND])]
    if (id_ := normalise.id_(text)) and (own := await click_list.hash_of(pool, id_)):
        hashes.append(own)
    for hash_ in dict.fromkeys(hashes):
        row = await click_list.one(pool, hash_, sight.zone, sight.clicks.narrow)
        if row is not None:
            yield _of_click(sight.clicks.show([row])[0])


def _of_click(row: Row) -> Found:
    offer = row["offer_name"] or f"offer {row['offer_id']}"
    detail = f"{row['created_at']}, {offer}, {row['status']}"
    return Found("click", str(row["hash"]), f"Click {row['hash']}", detail, True, f"clicks/{row['hash']}")


async def _conversions(pool: Pool, text: str, sight: Sight) -> AsyncIterator[Found]:
    """By hash, id, order id, or id in an earlier tracker."""
    if sight.conversions is None:
        return
    visibility = sight.conversions
    earlier = (await legacy_clicks.find_conversions(pool, [text], visibility.owner)).get(text, ())
    keys: list[tuple[str, str | int]] = [("hash", hash_) for hash_ in _hash(text)]
    keys += [("hash", one.hash) for one in earlier[:_MOST_OF_A_KIND]]
    keys += [("id", id_)] if (id_ := normalise.id_(text)) else []
    keys += [("order_id", text)] if "order_id" in visibility.keys else []
    for key in keys:
        wanted = visibility.narrow(ConversionFilter(equals=(key,)))
        order = Order(newest_first=True, zone=sight.zone)
        page = await conversion_list.page(pool, wanted, order, 1, _MOST_OF_A_KIND)
        for row in visibility.show(page.rows):
            yield _of_conversion(row)


def _of_conversion(row: Row) -> Found:
    order = f", order {row['order_id']}" if row.get("order_id") else ""
    offer = row["offer_name"] or f"offer {row['offer_id']}"
    detail = f"{row['created_at']}, {offer}, {row['status']}{order}"
    id_ = str(row["id"])
    return Found("conversion", id_, f"Conversion {id_}", detail, True, f"conversions/{id_}")


async def _postbacks(pool: Pool, text: str, sight: Sight) -> AsyncIterator[Found]:
    """Those that name a click by this text, known or not."""
    if not sight.has_postbacks:
        return
    page = await postback_log.of_click(pool, [text], [], sight.zone, 1)
    for row in page.rows:
        times = f"{page.total} postback" + ("s" if page.total > 1 else "")
        detail = f"last {row['created_at']}, {row['result']}"
        label = f"{times} about the click id {text}"
        yield Found("postbacks", text, label, detail, False, "postbacks")


async def _catalogue(pool: Pool, text: str, sight: Sight) -> AsyncIterator[Found]:
    """Offers, affiliates and advertisers by id, or by a part of the name or of another searched column."""
    if not sight.has_catalogue:
        return
    for resource in _RESOURCES:
        page = await edit.page(pool, resource.table, Wanted(text=text, sort="name"), 1, _MOST_OF_A_KIND)
        for row in page.rows:
            state = "archived" if row["is_archived"] else str(row.get("status") or "")
            yield _named(resource.table.name, resource.path, row, state, text)


async def _own_offers(pool: Pool, text: str, sight: Sight) -> AsyncIterator[Found]:
    """An affiliate's offers by id, or by a part of the name."""
    if not sight.offers_of:
        return
    page = await affiliate_offers.page(pool, sight.offers_of, text, 1, _MOST_OF_A_KIND)
    for row in page.rows:
        yield _named("offer", "offers", row, str(row["status"]), text)


async def _sub_ids(pool: Pool, text: str, sight: Sight) -> AsyncIterator[Found]:
    """Sub ids, sources and external ids of the latest clicks: the clicks with this one."""
    fields = [] if sight.clicks is None else [name for name in SUB_IDS if name in sight.clicks.keys]
    if sight.clicks is None or not fields:
        return
    day = datetime.now(sight.zone).date() - timedelta(days=SUB_ID_DAYS - 1)
    start = first_second(datetime.combine(day, time()), sight.zone)
    clicks = sight.clicks.narrow(ClickFilter(ALL_TIME._replace(low=start * 1000)))
    for field, number in (await text_search.fields_with(pool, text, clicks, fields)).items():
        noun = "click" if number == 1 else "clicks"
        label = f"{number:,} {noun} with the {SUB_IDS[field]} {text}"
        path = f"clicks?{urlencode({field: text, 'created_from': day.isoformat()})}"
        yield Found("sub_id", field, label, _OF_LATEST, False, path)


def _named(kind: str, path: str, row: Any, detail: str, text: str) -> Found:
    id_ = str(row["id"])
    label = f"{kind.replace('_', ' ').capitalize()} {id_}: {row['name']}"
    return Found(kind, id_, label, detail, _is_named(row, text), f"{path}/{id_}")


def _is_named(row: Any, text: str) -> bool:
    """Whether a text is the id or the name of a row."""
    return text == str(row["id"]) or normalise.word(text) == normalise.word(row["name"])


def _hash(text: str) -> list[str]:
    found = normalise.hash_(text)
    return [found] if found else []


SUB_ID_DAYS: Final = 30
SUB_IDS: Final = {
    **{name: f"sub id {place}" for place, name in enumerate(AFF_SUBS, start=1)},
    "affiliate_source": "source",
    "external_id": "external id",
}
"""The fields of a click that the search looks at, and what people call them."""
_OF_LATEST: Final = f"of the latest {text_search.MOST_READ:,} clicks within {SUB_ID_DAYS} days"

_Look = Callable[[Pool, str, Sight], AsyncIterator[Found]]
_LOOKS: Final[Iterable[_Look]] = (_clicks, _conversions, _own_offers, _catalogue, _postbacks)
_RESOURCES: Final = [
    resource for resource in RESOURCES if resource.table.name in ("offer", "affiliate", "advertiser")
]
