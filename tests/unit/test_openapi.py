"""The API's document, rule by rule."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import orjson
import pytest
from jsonschema import Draft202012Validator
from openapi_spec_validator import OpenAPIV31SpecValidator

from tests.api_document import api_document
from tracker.api.app import create_api
from tracker.api.http.auth import VIEWS
from tracker.api.http.routing import ROOT
from tracker.api.ledger import PATH as LEDGER
from tracker.api.openapi.document import document
from tracker.settings import Settings

Spec = dict[str, Any]
Operation = dict[str, Any]

_TELL_OF_CLICKS = (
    *(f"clicks{rest}" for rest in ("", "/{id}", "/{id}/story", "/export")),
    *(f"conversions{rest}" for rest in ("", "/{id}", "/export")),
    *("reports", "balances", "statements", "statements/entries", "statements/lines"),
)
"""Paths of the network and of partners whose answers say up to when they are complete."""


@pytest.fixture(scope="module")
def spec() -> Spec:
    return api_document()


def test_document_is_openapi_and_json_schema(spec: Spec) -> None:
    assert spec["openapi"].startswith("3.1.")
    assert [error.message for error in OpenAPIV31SpecValidator(spec).iter_errors()] == []


def test_document_is_the_same_each_time(spec: Spec) -> None:
    app = create_api(Settings(redis_url="redis://nowhere.test", postgres_dsn="postgresql://nowhere.test/x"))
    assert orjson.loads(orjson.dumps(document(app))) == spec


def test_operations_have_names_of_their_own(spec: Spec) -> None:
    names = [operation["operationId"] for _, operation in _operations(spec)]
    assert len(names) == len(set(names)) > 0


def test_document_names_complete_until_where_answers_tell_of_clicks(spec: Spec) -> None:
    of_network = (f"{ROOT}/{path}" for path in ("corrections", "period-closes", "test-runs/{id}"))
    of_all = (f"{root}/{path}" for root in (ROOT, *VIEWS.values()) for path in _TELL_OF_CLICKS)
    assert {LEDGER, *of_network, *of_all} == {
        path
        for path, methods in spec["paths"].items()
        for operation in methods.values()
        if any("Complete-Until" in answer.get("headers", ()) for answer in operation["responses"].values())
    }


def test_document_has_no_unused_schema(spec: Spec) -> None:
    text = orjson.dumps(spec).decode()
    for kind in ("schemas", "responses"):
        assert [
            name for name in spec["components"][kind] if f'"#/components/{kind}/{name}"' not in text
        ] == []


def _lacks(operation: Operation, *fields: str) -> list[str]:
    return [f"has no {field}" for field in fields if not operation.get(field)]


def _of_parameters(operation: Operation, spec: Spec) -> Iterator[str]:
    for parameter in operation.get("parameters", ()):
        schema, name = parameter["schema"], parameter["name"]
        if not parameter.get("description"):
            yield f"{name} has no description"
        if not isinstance(schema.get("type"), str):
            yield f"{name} has no type"
        for example in schema.get("examples", [None]):
            yield from (f"{name}: {error}" for error in _errors(schema, example, spec))


def _of_bodies(operation: Operation, spec: Spec) -> Iterator[str]:
    bodies = {"body": operation.get("requestBody", {}), **_answers(operation, spec)}
    for name, body in bodies.items():
        for media_type, content in body.get("content", {}).items():
            if "example" not in content:
                yield f"{name} {media_type} has no example"
            else:
                errors = _errors(content["schema"], content["example"], spec)
                yield from (f"{name} {media_type}: {error}" for error in errors)


def _of_headers(operation: Operation, spec: Spec) -> Iterator[str]:
    for status, answer in _answers(operation, spec).items():
        for name, header in answer.get("headers", {}).items():
            if not header.get("description") or not header["schema"].get("type"):
                yield f"{status} {name} is not described"


def _of_answers(operation: Operation, spec: Spec) -> Iterator[str]:
    answered = _answers(operation, spec)
    in_path = any(parameter["in"] == "path" for parameter in operation.get("parameters", ()))
    is_conditional = any(parameter["name"] == "If-Match" for parameter in operation.get("parameters", ()))
    expected = {"401", "403", "422", "429", "503"}
    expected |= {"400", "413", "415"} if "requestBody" in operation else set()
    expected |= {"404"} if in_path else set()
    expected |= {"412"} if is_conditional else set()
    if expected - answered.keys():
        yield f"does not tell of {sorted(expected - answered.keys())}"
    if sum(status.startswith("2") for status in answered) != 1:
        yield "has no answer, or several"
    for status, answer in answered.items():
        is_problem = answer.get("content", {}).keys() == {"application/problem+json"}
        if (status >= "4") != is_problem or not (status == "204" or answer.get("content")):
            yield f"{status} is of the wrong media type"


_RULES: dict[str, Callable[[Operation, Spec], Iterator[str] | list[str]]] = {
    "names": lambda operation, _: _lacks(operation, "operationId", "summary", "description", "tags"),
    "parameters": _of_parameters,
    "bodies": _of_bodies,
    "headers": _of_headers,
    "answers": _of_answers,
}


@pytest.mark.parametrize("rule", _RULES)
def test_operations_are_fully_described(spec: Spec, rule: str) -> None:
    defects = [
        f"{where}: {defect}"
        for where, operation in _operations(spec)
        for defect in _RULES[rule](operation, spec)
    ]
    assert defects == []


def test_tags_and_schemas_are_described(spec: Spec) -> None:
    used = {tag for _, operation in _operations(spec) for tag in operation["tags"]}
    assert {tag["name"] for tag in spec["tags"] if tag["description"]} == used
    schemas = spec["components"]["schemas"]
    assert [name for name, schema in schemas.items() if not schema.get("description")] == []


def _operations(spec: Spec) -> Iterator[tuple[str, Operation]]:
    for path, methods in spec["paths"].items():
        for method, operation in methods.items():
            yield f"{method} {path}", operation


def _answers(operation: Operation, spec: Spec) -> dict[str, Any]:
    shared = spec["components"]["responses"]
    return {
        status: shared[answer["$ref"].rpartition("/")[2]] if "$ref" in answer else answer
        for status, answer in operation["responses"].items()
    }


def _errors(schema: dict[str, Any], example: object, spec: Spec) -> list[str]:
    whole = {**schema, "components": spec["components"]}  # where its references lead
    return [error.message[:200] for error in Draft202012Validator(whole).iter_errors(example)]
