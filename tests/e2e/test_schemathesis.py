"""The API of a running tracker, asked all that its document says it takes, and what it does not."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Iterator

import asyncpg
import pytest
import schemathesis
from hypothesis import HealthCheck, given, seed, settings
from hypothesis.strategies import SearchStrategy, one_of
from schemathesis import GenerationMode
from schemathesis.config import SchemathesisConfig

from tests.conftest import Furnish
from tests.e2e.running import Up, up
from tracker.api.application import create_api
from tracker.api.openapi import document
from tracker.embedded import postgres_dsn
from tracker.settings import Settings
from tracker.store.tokens import SCOPES, create_token

_OWN_ID = 900_000_000
"""Of the token that asks: none that is guessed, for it would be revoked."""

_SEED, _EXAMPLES = 20, 12
_REFUSALS = [400, 401, 403, 404, 405, 409, 412, 413, 415, 422, 429]
_CONFIG = SchemathesisConfig.from_dict(
    {
        "generation": {"with-security-parameters": False},
        "checks": {
            "negative_data_rejection": {"expected-statuses": _REFUSALS},
            "positive_data_acceptance": {"enabled": False},  # no schema says what goes with what
            "missing_required_header": {"enabled": False},
        },
    }
)
_DOCUMENT = document(create_api(Settings(redis_url="redis://nowhere", postgres_dsn="postgresql://nowhere/x")))
schemathesis.serializer.alias("application/x-ndjson", "text/plain")
_SCHEMA = schemathesis.openapi.from_dict(_DOCUMENT, config=_CONFIG)
# By hand: the tests that its own decorator makes all have one id, so pytest-xdist would run one of them.
_OPERATIONS = {found.ok().label: found.ok() for found in _SCHEMA.get_all_operations()}
_addresses = itertools.count(1)


@pytest.fixture(scope="module")
def tracker(furnish: Furnish, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    data_dir = furnish(tmp_path_factory.mktemp("schemathesis") / "var")
    variables = {
        "TRACKER_API_RATE": "1000000/second",
        "TRACKER_BATCH_AGE_MS": "0",
        "TRACKER_TRUSTED_PROXIES": "127.0.0.1/32",  # so that no wrong token is kept waiting
    }
    with up(data_dir, **variables) as running:
        yield running


@pytest.fixture(scope="module")
def token(tracker: Up) -> str:
    return asyncio.run(_token(postgres_dsn(tracker.data_dir)))


@pytest.mark.parametrize("name", _OPERATIONS)
def test_it_keeps_to_its_document(name: str, tracker: Up, token: str) -> None:
    @seed(_SEED)
    @settings(max_examples=_EXAMPLES, database=None, deadline=None, suppress_health_check=list(HealthCheck))
    @given(case=_cases(name))
    def ask(case: schemathesis.Case) -> None:
        number = next(_addresses)
        headers = {
            "Authorization": f"Bearer {token}",
            "X-Forwarded-For": f"10.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}",
        }
        case.call_and_validate(base_url=f"http://127.0.0.1:{tracker.api_port}", headers=headers)

    ask()


def _cases(name: str) -> SearchStrategy[schemathesis.Case]:
    """What the document allows, and what it does not; a file of lines may be any text."""
    operation = _OPERATIONS[name]
    is_file = any(body.media_type == "text/csv" for body in operation.body)
    modes = [GenerationMode.POSITIVE] if is_file else list(GenerationMode)
    return one_of(operation.as_strategy(generation_mode=mode) for mode in modes)


async def _token(dsn: str) -> str:
    connection = await asyncpg.connect(dsn)
    await connection.execute(f"ALTER SEQUENCE token_id_seq RESTART {_OWN_ID}")
    await connection.close()
    return await create_token(dsn, SCOPES)
