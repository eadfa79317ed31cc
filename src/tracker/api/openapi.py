"""The API's document: OpenAPI 3.1 by spectree, out of the routes and their models."""

from __future__ import annotations

from importlib.metadata import version
from typing import Any

from pydantic import BaseModel
from spectree import Response, SpecTree
from spectree.models import SecureType, SecurityScheme, SecuritySchemeData
from starlette.applications import Starlette

from tracker.api.click_schema import EXAMPLE, Click, ProblemDetails
from tracker.api.problems import MEDIA_TYPE

_DESCRIPTION = """\
Reads the clicks that the tracker has recorded, the raw log, every click once and flagged; says up to when
they are complete (the header Complete-Until), and where each one is (the ledger); adds them up (reports); and
says what a tracking link would do.

Send a token with every request: `Authorization: Bearer trk_…`; `tracker token create --scope clicks:read`
makes one. Errors are `application/problem+json` (RFC 9457) and name the parameter they are about."""

_STATUSES = {
    401: "No token, or one that is unknown or has expired",
    403: "The token lacks the scope",
    404: "There is no such click",
    422: "A parameter is unknown, repeated or cannot be read",
    503: "The database cannot answer now, or not in time",
}

_TELL_OF_CLICKS = ("Clicks", "Ledger", "Reports")
_COMPLETE_UNTIL = {
    "Complete-Until": {
        "description": "Every click from before this time (UTC, as 2026-11-25T16:00:00.123Z) was stored when "
        "this answer was read. Missing while no edge has been heard of.",
        "schema": {"type": "string", "format": "date-time"},
    }
}

documented = SpecTree(
    "starlette",
    title="Tracker",
    version=version("tracker"),
    description=_DESCRIPTION,
    mode="strict",
    annotations=False,
    naming_strategy=lambda model: str(model.__name__),
    nested_naming_strategy=lambda _parent, child: str(child),
    validation_error_model=ProblemDetails,
    security_schemes=[
        SecurityScheme(
            name="bearer",
            data=SecuritySchemeData(
                type=SecureType.HTTP, scheme="bearer", description="A token of `tracker token create`."
            ),
        )
    ],
    security={"bearer": []},
)
"""Endpoints register here; each reads its own parameters."""


def answers(model: type[BaseModel] | None, *errors: int) -> Response:
    """What an endpoint answers: a model (None: its docstring says it) or one of some errors."""
    problems = {f"HTTP_{status}": (ProblemDetails, _STATUSES[status]) for status in errors}
    return Response(HTTP_200=model, **problems)


def document(app: Starlette) -> dict[str, Any]:
    """The document of an app's routes."""
    documented.app = app
    spec: dict[str, Any] = documented.spec
    for path in spec["paths"].values():
        for operation in path.values():
            _name_media_types(operation["responses"])
            if operation["tags"][0] in _TELL_OF_CLICKS:
                operation["responses"]["200"]["headers"] = _COMPLETE_UNTIL
            if operation["tags"][0] == "Reports":
                operation["responses"]["200"]["content"]["text/csv"] = {"schema": {"type": "string"}}
    # Set here, because pydantic sorts the keys of an example.
    spec["components"]["schemas"][Click.__name__]["examples"] = [EXAMPLE]
    return spec


def _name_media_types(responses: dict[str, Any]) -> None:
    for status, response in responses.items():
        if int(status) >= 400 and "application/json" in response.get("content", {}):
            response["content"][MEDIA_TYPE] = response["content"].pop("application/json")
    if "content" not in responses["200"]:
        text = {"schema": {"type": "string"}}
        responses["200"]["content"] = {"application/x-ndjson": text, "text/csv": text}
