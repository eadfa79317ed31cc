"""Targeting and goal terms with words that clicks never have, such as UK."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tracker.catalogue import goals, offers
from tracker.catalogue.resource import Resource
from tracker.domain import normalise, rules
from tracker.domain.rules import RuleError
from tracker.edge.enrich import device_words
from tracker.ops.upgrade.concern import Concern, of_row
from tracker.store.catalogue import edit
from tracker.store.catalogue.edit import Row
from tracker.store.db import Connection

_TARGETED: tuple[Resource, ...] = tuple(
    resource for resource in offers.RESOURCES if "targeting" in resource.fields.model_fields
)
(_TERMS,) = (resource for resource in goals.RESOURCES if resource.table.name == "goal_terms")


async def find(connection: Connection) -> list[Concern]:
    """Offers and offer URLs."""
    return [
        concern
        for resource in _TARGETED
        for row in await edit.every(connection, resource.table)
        if not row["is_archived"]
        for concern in _of_rules(resource, row)
    ]


async def find_terms(connection: Connection) -> list[Concern]:
    """Terms of a goal in a country that clicks never come from."""
    rows = await edit.every(connection, _TERMS.table)
    return [concern for row in rows if row["country_code"] for concern in _of_terms(row)]


def _of_rules(resource: Resource, row: Row) -> Iterator[Concern]:
    """Words without a meaning, words with another spelling here, and words that no device is read as."""
    saved: dict[str, Any] = row["targeting"] if isinstance(row["targeting"], dict) else {}
    corrected: dict[str, Any] = {}
    for name, demand in saved.items():
        try:
            translated = rules.in_our_words(name, demand)
        except RuleError as error:
            yield of_row(resource, row, f"{error}, so it {_does(demand)}")
            continue
        if _folded(translated) != _folded(demand):
            corrected[name] = translated
    if corrected:
        texts = [_correction(name, saved, corrected) for name in corrected]
        yield of_row(resource, row, "; ".join(texts), {"targeting": corrected})
    for doubt in device_words.doubts(saved | corrected):
        yield of_row(resource, row, doubt)


def _correction(name: str, saved: Row, corrected: Row) -> str:
    before, after = (", ".join(rules.words(targeting, name)) for targeting in (saved, corrected))
    return f"{name} {before}: a part of it {_does(saved[name])}. Corrected: {after}"


def _does(demand: Any) -> str:
    return "keeps nobody out" if isinstance(demand, dict) else "matches nobody"


def _folded(demand: Any) -> Any:
    """The words of a rule as clicks are compared with them, without order or case."""
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
        yield of_row(_TERMS, row, f"country_code: {error}, so they apply to nobody")
        return
    if country != code:
        text = f"country_code {code}: they apply to nobody. Corrected: {country}"
        yield of_row(_TERMS, row, text, {"country_code": country})
