"""Targeting and goal terms with words that no click has, such as UK."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tracker import device_words, rules
from tracker.api import goals, offers
from tracker.api.resource import Resource
from tracker.domain import normalise
from tracker.rules import RuleError
from tracker.store import managed
from tracker.store.managed import Row
from tracker.store.pool import Connection
from tracker.upgrade.concern import Concern, of_row

_TARGETED: tuple[Resource, ...] = tuple(
    resource for resource in offers.RESOURCES if "targeting" in resource.fields.model_fields
)
(_TERMS,) = (resource for resource in goals.RESOURCES if resource.table.name == "goal_terms")


async def find(connection: Connection) -> list[Concern]:
    """Offers and offer URLs."""
    return [
        concern
        for resource in _TARGETED
        for row in await managed.every(connection, resource.table)
        if not row["is_archived"]
        for concern in _of_rules(resource, row)
    ]


async def find_terms(connection: Connection) -> list[Concern]:
    """Terms of a goal in a country that no click comes from."""
    rows = await managed.every(connection, _TERMS.table)
    return [concern for row in rows if row["country_code"] for concern in _of_terms(row)]


def _of_rules(resource: Resource, row: Row) -> Iterator[Concern]:
    """What has no meaning, what means something in our words, and what no device is read as."""
    saved: dict[str, Any] = row["targeting"] if isinstance(row["targeting"], dict) else {}
    meant: dict[str, Any] = {}
    for name, demand in saved.items():
        try:
            in_ours = rules.in_our_words(name, demand)
        except RuleError as error:
            yield of_row(resource, row, f"{error}; it {_does(demand)}")
            continue
        if _folded(in_ours) != _folded(demand):
            meant[name] = in_ours
    if meant:
        texts = [_told(name, saved, meant) for name in meant]
        yield of_row(resource, row, "; ".join(texts), {"targeting": meant})
    for doubt in device_words.doubts(saved | meant):
        yield of_row(resource, row, doubt)


def _told(name: str, saved: Row, meant: Row) -> str:
    before, after = (", ".join(rules.words(targeting, name)) for targeting in (saved, meant))
    return f"{name} {before}: a part of it {_does(saved[name])}; it would be {after}"


def _does(demand: Any) -> str:
    return "keeps nobody out" if isinstance(demand, dict) else "matches nobody"


def _folded(demand: Any) -> Any:
    """What a rule asks for as clicks are compared with it, in no order: case tells nothing apart."""
    if isinstance(demand, dict):
        return {key: _folded(value) for key, value in demand.items()}
    return (
        sorted({normalise.trim(str(text)).lower() for text in demand}) if isinstance(demand, list) else demand
    )


def _of_terms(row: Row) -> Iterator[Concern]:
    code = row["country_code"]
    try:
        country = normalise.country(code)
    except ValueError as error:
        yield of_row(_TERMS, row, f"country_code: {error}; they apply to nobody")
        return
    if country != code:
        text = f"country_code {code}: they apply to nobody; it would be {country}"
        yield of_row(_TERMS, row, text, {"country_code": country})
