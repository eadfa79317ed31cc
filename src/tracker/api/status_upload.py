"""Statuses of many conversions at once: a file as an advertiser sends it at the end of a month."""

from __future__ import annotations

import csv
import re
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Any, Literal

import orjson
from pydantic import BaseModel, Field
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from tracker.api.auth import authorize
from tracker.api.conversion_schema import Status
from tracker.api.conversions import PATH, READ_SCOPE
from tracker.api.json_body import check_type, read_chunks, too_long
from tracker.api.listing import as_json
from tracker.api.openapi import FILES, answers, documented, needs
from tracker.api.parameters import Bool, Query, about, read_query
from tracker.api.problems import invalid
from tracker.api.resource import read_id
from tracker.api.tell_conversions import SCOPE
from tracker.conversion import read_status
from tracker.store import told_conversions
from tracker.store.told_conversions import NO_CONVERSION, Line, LineResult

UPLOADS = f"{PATH}/status-uploads"

MAX_LINES = 100_000
MAX_BODY = 32 << 20
"""Longest file, in bytes."""

MOST_LISTED = 1_000
"""Lines that an answer lists of a kind."""

_LONGEST_LINE = 4_096  # characters
_MOST_OF_A_LINE = 4 * _LONGEST_LINE + 1  # bytes that surely are more
_LONGEST_TEXT = 500
_CSV, _NDJSON = "text/csv", "application/x-ndjson"
_COLUMNS = ("hash", "order_id", "goal_id", "advertiser_id", "status", "sale_status")
_HASH = re.compile(r"[0-9a-fA-F]{32}")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")


_EXAMPLES = {
    _CSV: "order_id,goal_id,status,sale_status\r\nA-1001,,approved,paid\r\nA-1002,3,rejected,returned\r\n",
    _NDJSON: '{"hash":"01927632a6c87d3f9b1c5e8a4f60d2b7","status":"approved"}\n',
}
FILES["upload_statuses"] = {
    media_type: {"schema": {"type": "string"}, "example": example}
    for media_type, example in _EXAMPLES.items()
}


class UploadQuery(Query):
    """How a file is taken."""

    dry_run: Bool = about("Do it all, say what came of it, and take it back.")


class ChangedLine(BaseModel):
    """A line that changed its conversion's status."""

    line: int = Field(description="From 1; the header of CSV is a line, too.", examples=[2])
    conversion_id: int = Field(examples=[902])
    status_before: Status | None = Field(description="null without the scope conversions:read.")
    status_after: Status


class ProblemLine(BaseModel):
    """A line that is of no conversion, or says what cannot be."""

    line: int = Field(examples=[3])
    result: Literal["unmatched", "refused"]
    reason: str = Field(examples=[NO_CONVERSION])


class UploadAnswer(BaseModel):
    """What came of a file: matched = changed + unchanged; lines = matched + unmatched + refused."""

    dry_run: bool
    lines: int = Field(description="Without the header and empty ones.", examples=[100])
    matched: int = Field(examples=[97])
    changed: int = Field(description="Of these, those that got another status.", examples=[95])
    unchanged: int = Field(description="Of these, those that had their status already.", examples=[2])
    unmatched: int = Field(description="Of no conversion.", examples=[2])
    refused: int = Field(description="That cannot be read, or say what cannot be.", examples=[1])
    changes: list[ChangedLine] = Field(description=f"The first {MOST_LISTED:,}.")
    problems: list[ProblemLine] = Field(description=f"The first {MOST_LISTED:,} unmatched and refused ones.")


@documented.validate(
    query=UploadQuery,
    resp=answers(UploadAnswer, 400, 401, 403, 413, 415, 422, 503),
    security=needs(SCOPE),
    tags=["Conversions"],
    operation_id="upload_statuses",
    skip_validation=True,
)
async def upload_statuses(request: Request) -> Response:
    """Upload statuses

    A file of at most 100,000 lines: CSV with a header (text/csv) or NDJSON (application/x-ndjson), UTF-8.
    Each names a conversion by `hash` (the conversion's own, or its click's) or by `order_id`, where needed
    with `goal_id` or `advertiser_id`, and gives it a `status` (names of other platforms, too) and, unless it
    is left out or empty, a `sale_status`. Everything is done in one transaction; what is unmatched or refused
    is listed and stops nothing else. An approval of a percentage of a sale_amount that only a browser told is
    refused, and the conversion is on hold. `dry_run=true` says beforehand what would come of it.
    """
    token = await authorize(request, SCOPE)
    is_dry = bool(read_query(request, UploadQuery).dry_run)
    is_csv = check_type(request, _CSV, _NDJSON) == _CSV
    lines, unreadable = await _read(request, is_csv)
    results = await told_conversions.set_statuses(request.app.state.pool, lines, token.name, dry_run=is_dry)
    results = sorted([*results, *unreadable])
    return as_json(_summary(results, is_dry, shows_before=token.allows(READ_SCOPE)))


routes: list[BaseRoute] = [Route(UPLOADS, upload_statuses, methods=["POST"])]


async def _read(request: Request, is_csv: bool) -> tuple[list[Line], list[LineResult]]:
    """The lines of a file, and those that cannot be read, with why."""
    fields: Callable[[str], Mapping[str, Any]] | None = None if is_csv else _json_fields
    lines: list[Line] = []
    unreadable: list[LineResult] = []
    async for number, text in _texts(request):
        if fields is None:
            fields = _csv_reader(text)
            continue
        if len(lines) + len(unreadable) == MAX_LINES:
            raise too_long(f"The file has more than {MAX_LINES:,} lines.")
        try:
            lines.append(_line(number, fields(text)))
        except ValueError as error:
            unreadable.append(LineResult(number, None, None, None, str(error)))
    return lines, unreadable


async def _texts(request: Request) -> AsyncIterator[tuple[int, str]]:
    """The lines that are not empty, with their numbers."""
    number, rest = 0, b""
    async for chunk in read_chunks(request, MAX_BODY):
        *whole, rest = (rest + chunk).split(b"\n")
        for line in whole:
            number += 1
            if line.strip():
                yield number, _text(line)
        rest = rest[:_MOST_OF_A_LINE]  # it is refused for its length, however long it becomes
    if rest.strip():
        yield number + 1, _text(rest)


def _text(line: bytes) -> str:
    return line.decode("utf-8", "replace").strip("\ufeff\r")


def _csv_reader(header: str) -> Callable[[str], Mapping[str, Any]]:
    try:
        names = [name.strip().lower() for name in _cells(header)]
    except ValueError as error:
        raise invalid({"body": [f"its header {error}"]}) from None
    unknown = [name[:50] for name in names if name not in _COLUMNS]
    if unknown or len(set(names)) < len(names):
        raise invalid({"body": [f"its header has other columns than {', '.join(_COLUMNS)}, or one twice"]})
    if "status" not in names or not {"hash", "order_id"} & set(names):
        raise invalid({"body": ["its header lacks status, or both of hash and order_id"]})

    def fields(text: str) -> Mapping[str, Any]:
        cells = _cells(text)
        if len(cells) != len(names):
            raise ValueError(f"has {len(cells)} fields, not {len(names)} as the header")
        return dict(zip(names, cells, strict=True))

    return fields


def _cells(text: str) -> list[str]:
    if len(text) > _LONGEST_LINE:
        raise ValueError(f"is longer than {_LONGEST_LINE} characters")
    try:
        return next(csv.reader([text], strict=True))
    except csv.Error as error:
        raise ValueError(f"is no line of CSV: {error}") from None


def _json_fields(text: str) -> Mapping[str, Any]:
    try:
        given = orjson.loads(text) if len(text) <= _LONGEST_LINE else None
    except orjson.JSONDecodeError:
        given = None
    if not isinstance(given, dict):
        raise ValueError(f"is no JSON object of at most {_LONGEST_LINE} characters")
    if not given.keys() <= set(_COLUMNS):
        raise ValueError(f"has other fields than {', '.join(_COLUMNS)}")
    return given


def _line(number: int, fields: Mapping[str, Any]) -> Line:
    said = {name: _cell(name, fields.get(name)) for name in _COLUMNS}
    if bool(said["hash"]) == bool(said["order_id"]):
        raise ValueError("names its conversion by neither or both of hash and order_id")
    if said["hash"] and not _HASH.fullmatch(said["hash"]):
        raise ValueError("hash is not 32 hexadecimal digits")
    try:
        status = read_status(said["status"])
    except ValueError as error:
        raise ValueError(f"status {error}") from None
    return Line(
        number,
        said["hash"].lower() or None,
        said["order_id"] or None,
        _id("goal_id", said["goal_id"]),
        _id("advertiser_id", said["advertiser_id"]),
        status,
        said["sale_status"] or None,
    )


def _cell(name: str, value: object) -> str:
    text = str(value).strip() if isinstance(value, str | int) and not isinstance(value, bool) else ""
    if value is not None and not isinstance(value, str | int):
        raise ValueError(f"{name} is not a text")
    if len(text) > _LONGEST_TEXT or _CONTROL.search(text):
        raise ValueError(f"{name} is longer than {_LONGEST_TEXT} characters or has control characters")
    return text


def _id(name: str, text: str) -> int | None:
    if text and read_id(text) is None:
        raise ValueError(f"{name} is not an id")
    return read_id(text)


def _summary(results: Sequence[LineResult], is_dry: bool, *, shows_before: bool) -> dict[str, object]:
    counts = Counter(map(_result, results))
    changes = [each for each in results if _result(each) == "changed"]
    problems = [each for each in results if each.reason]
    return {
        "dry_run": is_dry,
        "lines": len(results),
        "matched": counts["changed"] + counts["unchanged"],
        **{name: counts[name] for name in ("changed", "unchanged", "unmatched", "refused")},
        "changes": [_change(each, shows_before=shows_before) for each in changes[:MOST_LISTED]],
        "problems": [
            {"line": each.number, "result": _result(each), "reason": each.reason}
            for each in problems[:MOST_LISTED]
        ],
    }


def _result(result: LineResult) -> str:
    if result.reason:
        return "unmatched" if result.reason == NO_CONVERSION else "refused"
    return "unchanged" if result.before is result.after else "changed"


def _change(result: LineResult, *, shows_before: bool) -> dict[str, object]:
    number, conversion_id, before, after, _ = result
    return {
        "line": number,
        "conversion_id": conversion_id,
        "status_before": before if shows_before else None,
        "status_after": after,
    }
