"""Bodies that are nested deeply are refused at every door of the API."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from tests.integration.api_client import api_of, run_sql
from tracker.domain.rates import Rate
from tracker.settings import Settings

pytestmark = pytest.mark.anyio

_OBJECTS = """
INSERT INTO advertiser (id, name) VALUES (1, 'Advertiser');
INSERT INTO offer (id, name, advertiser_id) VALUES (1, 'Offer', 1);
INSERT INTO affiliate (id, name) VALUES (1, 'Affiliate')
"""
_METHODS = ("post", "patch", "put")


def _nested(depth: int) -> list[str]:
    """A nested list and a nested object of this depth."""
    return ["[" * depth + "]" * depth, '{"name":' * depth + "1" + "}" * depth]


def _bodies(fields: list[str]) -> Iterator[str]:
    for depth in (254, 300, 1_020, 50_000):
        for value in _nested(depth):
            yield value
            yield from (f'{{"{field}":{value}}}' for field in fields)


class _Ones(dict[str, str]):
    """Fills every parameter of a path."""

    def __missing__(self, name: str) -> str:
        return "1"


async def test_body_that_is_nested_deeply_is_refused_by_every_endpoint(database: Settings) -> None:
    await run_sql(database, _OBJECTS)
    settings = replace(database, api_rate=Rate(1_000_000, "minute"))
    async with api_of(settings, scopes=("admin",)) as client:
        document = (await client.get("/openapi.json")).json()
        doors = [
            (method, path.format_map(_Ones()), operation["requestBody"]["content"])
            for path, operations in document["paths"].items()
            for method, operation in operations.items()
            if method in _METHODS and "requestBody" in operation
        ]
        assert len(doors) > 20
        for method, path, content in doors:
            media_type, described = next(iter(content.items()))
            name = described["schema"].get("$ref", "").rpartition("/")[2]
            fields = list(document["components"]["schemas"].get(name, {}).get("properties", {}))
            for body in _bodies(fields):
                answer = await client.request(
                    method, path, content=body, headers={"Content-Type": media_type}
                )
                assert 400 <= answer.status_code < 500, (path, body[:60], answer.text)
                assert answer.status_code != 429
