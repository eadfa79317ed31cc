"""Lists of partners and offers are searched, filtered by their labels, and sorted."""

from __future__ import annotations

import pytest

from tests.integration.api_client import api_of, run_sql
from tracker.api.http.routing import ROOT
from tracker.settings import Settings

pytestmark = pytest.mark.anyio

ROWS = """
INSERT INTO affiliate (id, name, email, external_id, tags, status) VALUES
    (1, 'beta', 'b@one.example', 'X-7', '{vip,web}', 'active'),
    (2, 'Alpha', 'a@two.example', NULL, '{vip}', 'pending'),
    (3, 'gamma 50% off', '', 'x_8', '{}', 'active'),
    (7, 'Ölberg', '', NULL, '{}', 'active'),
    (8, 'Delta 7', '', NULL, '{}', 'active'),
    (9, 'zeta', '', NULL, '{}', 'active');
UPDATE affiliate SET is_archived = true WHERE id = 9;
INSERT INTO advertiser (id, name, email, tags) VALUES (1, 'PlayGames', 'pay@games.example', '{direct}');
INSERT INTO offer (id, name, advertiser_id, category, external_id) VALUES
    (1, 'Puzzle', 1, 'Games', NULL), (2, 'Racing', 1, 'Games', 'R'), (3, 'Shoes', 1, 'Retail', NULL),
    (4, 'R', 1, 'Retail', NULL);
"""

FOUND: list[tuple[str, list[int]]] = [
    ("affiliates?q=", [1, 2, 3, 7, 8]),
    ("affiliates?q=ALPHA", [2]),
    ("affiliates?q=two.example", [2]),
    ("affiliates?q=x-7", [1]),
    ("affiliates?q=%25", [3]),
    ("affiliates?q=_", [3]),
    ("affiliates?q=%5C", []),
    ("affiliates?q=o%CC%88LBERG", [7]),
    ("affiliates?q=%20alpha%E2%80%8B", [2]),
    ("affiliates?q=7", [7, 1, 8]),
    ("affiliates?q=7&sort=name", [7, 1, 8]),
    ("affiliates?q=7&sort=-id", [7, 8, 1]),
    ("affiliates?q=zeta", []),
    ("affiliates?q=zeta&is_archived=true", [9]),
    ("affiliates?q=a&tag=vip", [1, 2]),
    ("affiliates?tag=VIP", [1, 2]),
    ("affiliates?tag=vip&status=pending", [2]),
    ("affiliates?email=a@two.example", [2]),
    ("affiliates?external_id=X-7", [1]),
    ("affiliates?id=8,2,9", [2, 8]),
    ("affiliates?id=8&id=2&sort=name", [2, 8]),
    ("affiliates?id=9&is_archived=true", [9]),
    ("affiliates?sort=name", [2, 1, 8, 3, 7]),
    ("affiliates?sort=-name", [7, 3, 8, 1, 2]),
    ("affiliates?sort=-id", [8, 7, 3, 2, 1]),
    ("advertisers?q=games.example&tag=direct", [1]),
    ("offers?category=Games&sort=-name", [2, 1]),
    ("offers?q=r", [4, 2]),  # a whole name before parts
    ("offers?external_id=R&advertiser_id=1", [2]),
]

REFUSED = [
    ("affiliates?sort=email", "sort"),
    ("affiliates?id=x", "id"),
    ("tracking-hosts?id=1", "id"),
    ("affiliates?tag=a,b", "tag"),
    ("affiliates?q=" + "x" * 501, "q"),
    ("blocks?q=x", "q"),
    ("audit?sort=id", "sort"),
]


async def test_lists_are_searched_filtered_and_sorted(database: Settings) -> None:
    await run_sql(database, ROWS)
    async with api_of(database, scopes=("offers:read",)) as api:
        for query, ids in FOUND:
            page = (await api.get(f"{ROOT}/{query}")).json()
            assert (query, [row["id"] for row in page["data"]]) == (query, ids)
            assert page["total"] == len(ids)
        for query, field in REFUSED:
            answer = await api.get(f"{ROOT}/{query}")
            assert (query, answer.status_code, list(answer.json()["errors"])) == (query, 422, [field])


async def test_search_has_pages(database: Settings) -> None:
    await run_sql(database, "INSERT INTO affiliate (name) SELECT 'a' || n FROM generate_series(10, 59) AS n")
    async with api_of(database, scopes=("offers:read",)) as api:
        names = []
        for number in (1, 2, 3):
            query = f"affiliates?q=A&sort=-name&per_page=20&page={number}"
            page = (await api.get(f"{ROOT}/{query}")).json()
            assert (page["total"], page["pages"]) == (50, 3)
            names += [row["name"] for row in page["data"]]
        assert names == [f"a{n}" for n in range(59, 9, -1)]
