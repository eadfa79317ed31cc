from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from tests.factories.clicks import a_row
from tests.integration.api_client import CLICKS, api_of, hash_at, run_sql, store
from tests.integration.metrics_client import metrics_of
from tracker.api.app import create_api
from tracker.api.catalogue import PageQuery
from tracker.api.conversions.affiliate_postbacks import PATH as SENT
from tracker.api.conversions.endpoints import PATH as CONVERSIONS
from tracker.api.conversions.period_closes import PATH as CLOSES
from tracker.api.conversions.postbacks import PATH as POSTBACKS
from tracker.api.conversions.status_upload import UPLOADS
from tracker.api.explain import PATH as EXPLAIN
from tracker.api.explain import ExplainQuery
from tracker.api.ledger import PATH as LEDGER
from tracker.api.reports import PATH as REPORTS
from tracker.api.tracking_links import LINK_PATH as LINK
from tracker.api.tracking_links import NetworkLinkQuery
from tracker.reading.clicks import ExportQuery, ListQuery
from tracker.reading.conversions import ConversionExportQuery, ConversionListQuery
from tracker.reading.keys import KeyQuery
from tracker.reading.ledger import LedgerQuery
from tracker.reading.postbacks import PostbackLogQuery, SentPostbackQuery
from tracker.reading.query import ZoneQuery
from tracker.reading.reports.query import ReportQuery
from tracker.settings import Settings
from tracker.store.clicks.columns import KEYS
from tracker.store.clicks.export import CHUNK_ROWS
from tracker.store.db import connect
from tracker.store.tokens import create_token

pytestmark = pytest.mark.anyio

_WAITING = "SELECT pid FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"


async def test_health_and_metrics(database: Settings) -> None:
    async with api_of(database) as client:
        assert (await client.get("/health/live")).status_code == 200
        assert (await client.get("/health/ready")).status_code == 200
        await client.get(f"{CLICKS}/1")
        lines = (await metrics_of(database)).splitlines()
        assert 'tracker_api_answers_total{api="8001",status="200"} 2' in lines
        assert 'tracker_api_answers_total{api="8001",status="404"} 1' in lines


async def test_api_starts_while_postgres_is_away(database: Settings) -> None:
    away = replace(database, postgres_dsn="postgresql://nobody@127.0.0.1:1/nothing")
    async with api_of(away, scopes=()) as client:
        assert (await client.get("/health/live")).status_code == 200
        for path in ("/health/ready", CLICKS):
            answer = await client.get(path, headers={"Authorization": "Bearer trk_x"})
            assert answer.status_code == 503
            assert answer.headers["content-type"] == "application/problem+json"
            assert answer.headers["retry-after"] == "1"


async def test_database_that_is_not_migrated_is_not_ready(database: Settings) -> None:
    await run_sql(database, "ALTER SEQUENCE click_id RENAME TO gone")
    async with api_of(database, scopes=()) as client:
        assert (await client.get("/health/ready")).status_code == 503


@pytest.mark.parametrize("end", ["pg_cancel_backend", "pg_terminate_backend"])
async def test_interrupted_read_is_503_and_the_next_one_works(database: Settings, end: str) -> None:
    assert database.postgres_dsn is not None
    connection = await connect(database.postgres_dsn)
    async with api_of(database) as client:
        assert (await client.get(CLICKS)).status_code == 200
        async with connection.transaction():
            await connection.execute("LOCK TABLE click_count")
            request = asyncio.create_task(client.get(CLICKS))
            while (pid := await connection.fetchval(_WAITING)) is None:
                await asyncio.sleep(0.01)
            await connection.execute(f"SELECT {end}($1)", pid)
            answer = await request
        assert answer.status_code == 503
        assert answer.headers["content-type"] == "application/problem+json"
        assert (await client.get(CLICKS)).status_code == 200
    await connection.close()


async def test_defect_is_500_without_details(database: Settings) -> None:
    await store(database, [a_row()])
    async with api_of(database) as client:
        await run_sql(database, "ALTER TABLE click RENAME TO gone")
        answer = await client.get(CLICKS)
        assert answer.status_code == 500
        assert answer.headers["content-type"] == "application/problem+json"
        assert "gone" not in answer.text
        assert "click" not in answer.text
        assert 'tracker_api_answers_total{api="8001",status="500"} 1' in await metrics_of(database)


async def test_export_that_fails_is_never_finished(database: Settings) -> None:
    assert database.postgres_dsn is not None
    rows = 2 * CHUNK_ROWS + 1  # the third part is requested once the first is sent
    await store(database, [a_row(hash=hash_at(1_790_000_000_000 + n)) for n in range(rows)])
    token = await create_token(database.postgres_dsn, ["clicks:read"])
    app = create_api(database)
    scope = {
        "type": "http",
        "method": "GET",
        "path": f"{CLICKS}/export",
        "query_string": b"",
        "headers": [(b"authorization", f"Bearer {token}".encode())],
    }
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)
        if message.get("body"):
            await run_sql(database, "ALTER TABLE IF EXISTS click RENAME TO gone")

    async with app.router.lifespan_context(app):
        with pytest.raises(RuntimeError, match="response already started") as raised:
            await app(scope, asyncio.Event().wait, send)  # type: ignore[arg-type]
    assert "click" in str(raised.value.__cause__)
    assert 0 < sum(message.get("body", b"").count(b"\n") for message in sent) < rows
    assert all(message["more_body"] for message in sent[1:])


async def test_document_names_all_inputs_and_answers(database: Settings) -> None:
    async with api_of(database, scopes=()) as client:
        spec = (await client.get("/openapi.json")).json()
    assert spec["openapi"].startswith("3.1.")
    assert spec["components"]["securitySchemes"]["bearer"] == {
        "type": "http",
        "scheme": "bearer",
        "description": "A token of `tracker token create`.",
    }
    assert spec["security"] == [{"bearer": []}]
    models = {
        CLICKS: ListQuery,
        f"{CLICKS}/export": ExportQuery,
        f"{CLICKS}/{{id}}": KeyQuery,
        CONVERSIONS: ConversionListQuery,
        f"{CONVERSIONS}/export": ConversionExportQuery,
        f"{CONVERSIONS}/{{id}}": KeyQuery,
        POSTBACKS: PostbackLogQuery,
        CLOSES: PageQuery,
        EXPLAIN: ExplainQuery,
        LEDGER: LedgerQuery,
        LINK: NetworkLinkQuery,
        SENT: SentPostbackQuery,
        f"{SENT}/{{id}}": ZoneQuery,
        REPORTS: ReportQuery,
    }
    for path, model in models.items():
        operation = spec["paths"][path]["get"]
        parameters = {item["name"]: item for item in operation["parameters"] if item["in"] == "query"}
        assert parameters.keys() == {field.alias or name for name, field in model.model_fields.items()}
        for item in parameters.values():
            assert item["description"]
            assert item["schema"]["type"] in ("string", "integer", "boolean", "array")
            assert item["schema"].get("default", "x") is not None
        assert {"200", "401", "403", "422", "429", "503"} <= operation["responses"].keys()
        for status in operation["responses"].keys() - {"200"}:
            assert answer_of(spec, operation, status)["content"].keys() == {"application/problem+json"}
    upload = spec["paths"][UPLOADS]["post"]
    assert upload["requestBody"]["content"].keys() == {"text/csv", "application/x-ndjson"}
    click = spec["components"]["schemas"]["Click"]
    assert tuple(click["properties"]) == KEYS == tuple(click["examples"][0])
    assert sorted(click["required"]) == sorted(KEYS)
    named = {
        f"#/components/{kind}/{name}"
        for kind in ("schemas", "responses")
        for name in spec["components"][kind]
    }
    assert _references(spec) <= named


async def test_document_describes_all_managed_objects(database: Settings) -> None:
    async with api_of(database, scopes=()) as client:
        spec = (await client.get("/openapi.json")).json()
    operations = {
        (method, path): operation
        for path, methods in spec["paths"].items()
        for method, operation in methods.items()
        if "Management" in operation["tags"]
    }
    # kinds of objects with notes, network, trail, feed, applications, copy, fill of caps
    assert len(operations) == 19 * 5 + 2 + 2 + 1 + 1 + 1 + 1
    assert len({operation["operationId"] for operation in operations.values()}) == len(operations)
    for (method, path), operation in operations.items():
        success = {"post": "201", "delete": "204"}.get(method, "200")
        assert {success, "401", "403", "422", "503"} <= operation["responses"].keys(), path
        assert ("requestBody" in operation) == (method in ("post", "patch")), path
        assert all(parameter["description"] for parameter in operation["parameters"]), path
        named = {parameter["name"] for parameter in operation["parameters"]}
        is_entry = path.endswith("/audit/{id}")  # of a log, so without a version
        is_one = method in ("post", "patch") or (path.endswith(("}", "/network")) and not is_entry)
        has_etag = "ETag" in operation["responses"][success].get("headers", {})
        assert has_etag == (is_one and method != "delete"), (method, path)
        assert ("If-Match" in named) == (method in ("patch", "delete")), path


def answer_of(spec: dict[str, Any], operation: dict[str, Any], status: str) -> dict[str, Any]:
    """An answer of an operation, own or shared."""
    answer: dict[str, Any] = operation["responses"][status]
    shared: dict[str, Any] = spec["components"]["responses"]
    return shared[answer["$ref"].rpartition("/")[2]] if "$ref" in answer else answer


def _references(part: Any) -> set[str]:
    if isinstance(part, dict):
        own = {part["$ref"]} if "$ref" in part else set()
        return own.union(*map(_references, part.values()))
    return set().union(*map(_references, part)) if isinstance(part, list) else set()


async def test_docs_page_contacts_no_other_host(database: Settings) -> None:
    async with api_of(database, scopes=()) as client:
        page = await client.get("/docs")
        assert "default-src 'none'" in page.headers["content-security-policy"]
        assert "//" not in page.text
        for asset in ("swagger-ui.js", "swagger-ui.css", "start.js"):
            assert f"/docs/{asset}" in page.text
            answer = await client.get(f"/docs/{asset}")
            assert answer.status_code == 200
            assert answer.content


async def test_operations_describe_their_limits(database: Settings) -> None:
    limits = {"RateLimit-Limit", "RateLimit-Remaining", "RateLimit-Reset"}
    async with api_of(database, scopes=()) as client:
        spec = (await client.get("/openapi.json")).json()
    for path, methods in spec["paths"].items():
        for method, operation in methods.items():
            told = {
                status: set(answer_of(spec, operation, status).get("headers", {}))
                for status in operation["responses"]
            }
            assert told["429"] == {*limits, "Retry-After"}, (method, path)
            assert all((limits <= told[status]) == (status != "401") for status in told), (method, path)
