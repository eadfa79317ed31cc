"""Random filters with several values and exclusions, and a judge in Python of which rows they mean."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from ipaddress import ip_address, ip_network
from typing import Any, NamedTuple

Row = Mapping[str, Any]

_BY_COMMA = frozenset({"offer_id", "affiliate_id", "requested_offer_id", "reason", "country_code", "status"})


class Filter(NamedTuple):
    """Parameters, and whether they mean a row."""

    parameters: list[tuple[str, str]]
    means: Callable[[Row], bool]


def random_filter(draw: random.Random, rows: Sequence[Row], columns: Sequence[str]) -> Filter:
    """A filter by up to three columns, with values that some rows have."""
    parameters: list[tuple[str, str]] = []
    judges: list[Callable[[Row], bool]] = []
    for column in draw.sample(columns, draw.randint(0, min(3, len(columns)))):
        for prefix in draw.choice((("",), ("",), ("exclude_",), ("", "exclude_"))):
            values = [draw.choice(rows)[column] for _ in range(draw.choice((1, 1, 2, 3)))]
            texts = [text for value in values if (text := _text(draw, column, value)) is not None]
            if texts:
                parameters += _written(draw, prefix + column, texts)
                judges.append(_judge(column, texts, is_excluded=bool(prefix)))
    return Filter(parameters, lambda row: all(judge(row) for judge in judges))


def _text(draw: random.Random, column: str, value: Any) -> str | None:
    """A value as a parameter. None: the parameter has no text for it."""
    if column == "visitor_key":
        return f"{value % 2**64:016x}"
    if column == "ip" and value and draw.random() < 0.5:
        return str(ip_network(f"{value}/{draw.choice((8, 24, 32))}", strict=False))
    if value in (None, "") and column not in ("region_code", "aff_sub", "affiliate_source"):
        return None
    return "" if value is None else str(value)


def _written(draw: random.Random, name: str, texts: list[str]) -> list[tuple[str, str]]:
    column = name.removeprefix("exclude_")
    if column in _BY_COMMA and draw.random() < 0.7:
        return [(name, ",".join(texts))]
    return [(name, text) for text in texts]


def _judge(column: str, texts: list[str], *, is_excluded: bool) -> Callable[[Row], bool]:
    def has(row: Row) -> bool:
        value = row[column]
        if column == "ip":
            return bool(value) and any(ip_address(value) in ip_network(text) for text in texts)
        if column == "visitor_key":
            return f"{value % 2**64:016x}" in texts
        return ("" if value is None else str(value)) in texts

    return lambda row: has(row) != is_excluded
