"""The API of a running tracker, asked with valid and invalid requests by its document."""

from __future__ import annotations

import asyncio
import itertools
import re
from collections.abc import Iterator
from functools import cache

import asyncpg
import pytest
import schemathesis
from hypothesis import HealthCheck, given, seed, settings
from hypothesis.strategies import SearchStrategy, one_of
from schemathesis import APIOperation, GenerationMode, Response
from schemathesis.config import SchemathesisConfig
from schemathesis.core.failures import AcceptedNegativeData, Failure, FailureGroup
from schemathesis.openapi.checks import RejectedPositiveData
from starlette.routing import Route

from tests.conftest import Furnish
from tests.e2e.running import Up, up
from tracker.api.app import create_api
from tracker.api.http.endpoint import contract_of
from tracker.api.openapi.document import document
from tracker.domain.access import OF_NETWORK
from tracker.processes.engines.engine import postgres_dsn
from tracker.settings import Settings
from tracker.store.tokens import create_token

_OWN_ID = 900_000_000
"""The id of the token in use. It is too large to be guessed and revoked."""

_SEED, _EXAMPLES = 20, 12
pytestmark = pytest.mark.long

# All checks except those of wrong tokens: after 20 of them in a minute an address gets 429, not 401.
_CONFIG = SchemathesisConfig.from_dict({"generation": {"with-security-parameters": False}})

_CHANGED = "If-Match is checked first (RFC 9110, section 13.2.1), and no schema knows the current version"
EXPLAINED: list[tuple[type[Failure], int, str, str]] = [  # finding, status, text of the answer, reason
    (RejectedPositiveData, 412, r"current version is \d+", _CHANGED),
    (AcceptedNegativeData, 412, r"current version is \d+", _CHANGED),
    (
        AcceptedNegativeData,
        409,
        r"current version is \d+|is used by|is taken|another object",
        "it is wrong in two ways",
    ),
    *(
        (RejectedPositiveData, 422, said, why)
        for said, why in (
            (
                "is an id of this tracker|is no dead letter|id of a dead letter|matches no |is not known"
                "|names the \\w+ itself|leads back|does not exist",
                "no schema knows the ids that there are",
            ),
            (
                "cannot be combined with|(needs|needed by) (compare|(a )?format|created|measures)|date_basis"
                "|is ahead of all changes|is another name of|are missing: set one"
                "|cannot be (mark|set) for|is needed for|is missing, and so"
                "|is not after|is before|is after|twice|is a rule of|more than (31|7,320) days|needs party="
                "|does not go with|must be empty, because"
                "|(must be (empty|false) for|is missing:) the role \\w+"
                "|:(read|write|backfill) \\(possible: |is 0: an amount is above 0",
                "no schema says what goes with what",
            ),
            ('"errors":\\{"query":', "a kept query has the parameters of its endpoint"),
            ("group_by is not one to three", "a pattern does not say that groups differ"),
            ("is the name of another view", "no schema knows the names that there are"),
            ("cannot be changed", "what names an object may be said again, and no schema knows it"),
            (
                "was used (with another body|for another request)",
                "no schema knows which Idempotency-Keys were used",
            ),
            ("IANA time zone", "zones are a list of hundreds of names, which grows"),
            (
                "is neither (a day, )?YYYY|is no time|is not (infinity or )?a time|is not a date",
                "local times have no format of JSON Schema",
            ),
            ("IP address or CIDR|IPv4 or IPv6|is no address|is not an address", "neither have networks"),
            ("is not a path|URL|host name|tracking link", "nor templates of URLs, nor paths"),
            (
                "control characters|NUL character|visible character|e-mail address|has a comma",
                "a pattern of the whole of Unicode helps nobody",
            ),
            (
                "there is no column|no column|is not CSV|names no columns|it has no lines",
                "a file of lines is any text",
            ),
            ("needs text of at most 500", "a value is a text or a number, and no pattern says which text"),
            ("needs at least 16 characters, 6 different", "no schema counts different characters"),
            ("Nothing is booked", "a line is of the parties and conversions that there are"),
            ("is of entry \\d+ of this", "each reference is booked once"),
            ("in the future|in a closed period", "no schema knows the time"),
            (
                "valid integer|is not a whole number from 1 to",
                "JSON Schema calls 1.0 a whole number; here it is written 1",
            ),
            (
                "is not a country|may be [A-Z]|is not a language|is not a region|must be a currency"
                "|must be an amount|is no amount|is not a rate|must be one of",
                "written in many ways, which no pattern lists",
            ),
            ("cursor|too deep|pages lead", "a cursor is what an answer has brought"),
        )
    ),
]
_API = create_api(Settings(redis_url="redis://nowhere", postgres_dsn="postgresql://nowhere/x"))
# Not by the library's decorator: those tests have one id, and pytest-xdist would run one of them.
_NAMES = [
    f"{method} {route.path}"
    for route in _API.routes
    if isinstance(route, Route) and contract_of(route)
    for method in sorted((route.methods or set()) - {"HEAD"})
]
_addresses = itertools.count(1)


@cache
def operations() -> dict[str, APIOperation]:
    """By name. Made by the first test: it takes two seconds, and each of pytest's workers imports this."""
    schemathesis.serializer.alias("application/x-ndjson", "text/plain")
    schema = schemathesis.openapi.from_dict(document(_API), config=_CONFIG)
    return {found.ok().label: found.ok() for found in schema.get_all_operations()}


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


def test_operations_are_those_of_the_document() -> None:
    assert list(operations()) == _NAMES


@pytest.mark.parametrize("name", _NAMES)
def test_api_keeps_to_its_document(name: str, tracker: Up, token: str) -> None:
    @seed(_SEED)
    @settings(max_examples=_EXAMPLES, database=None, deadline=None, suppress_health_check=list(HealthCheck))
    @given(case=_cases(name))
    def ask(case: schemathesis.Case) -> None:
        number = next(_addresses)
        headers = {
            "Authorization": f"Bearer {token}",
            "X-Forwarded-For": f"10.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}",
        }
        base_url = f"http://127.0.0.1:{tracker.api_port}"
        response = case.call(base_url=base_url, headers=headers)
        if (
            response.status_code == 431
        ):  # the server refuses a request line of many kB, and the API is not asked
            return
        again = {"base_url": base_url, "headers": headers}  # some checks repeat the request
        try:
            case.validate_response(response, headers=headers, transport_kwargs=again)
        except FailureGroup as found:
            unexplained = [each for each in found.exceptions if not _is_explained(each, response)]
            if unexplained:
                print(response.status_code, response.text)
                raise FailureGroup(unexplained) from None

    ask()


def _cases(name: str) -> SearchStrategy[schemathesis.Case]:
    """Valid and invalid values by the document. A file of lines may be any text."""
    operation = operations()[name]
    is_file = any(body.media_type == "text/csv" for body in operation.body)
    modes = [GenerationMode.POSITIVE] if is_file else list(GenerationMode)
    return one_of(operation.as_strategy(generation_mode=mode) for mode in modes)


def _is_explained(found: Failure, response: Response) -> bool:
    return any(
        isinstance(found, kind) and response.status_code == status and re.search(said, response.text)
        for kind, status, said, _ in EXPLAINED
    )


async def _token(dsn: str) -> str:
    connection = await asyncpg.connect(dsn)
    await connection.execute(f"ALTER SEQUENCE token_id_seq RESTART {_OWN_ID}")
    await connection.close()
    return await create_token(dsn, OF_NETWORK)
