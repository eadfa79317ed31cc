"""Uploads of statuses: a file that an advertiser sends at the end of a month."""

from __future__ import annotations

import re
from asyncio import to_thread
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from email.message import Message
from io import BytesIO
from typing import Any, Literal

import orjson
from pydantic import Field
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from tracker.api.conversions.endpoints import PATH, READ_SCOPE
from tracker.api.conversions.manual import SCOPE
from tracker.api.conversions.schema import Status
from tracker.api.http.body import too_long
from tracker.api.http.endpoint import Call, FileBody, endpoint
from tracker.api.http.listing import as_json
from tracker.api.http.problems import Problem, invalid
from tracker.catalogue.resource import read_id
from tracker.domain import normalise
from tracker.domain.csv_rows import Columns, CsvError, is_for_people, open_text, read_header
from tracker.domain.json_object import field_there_twice
from tracker.domain.normalise import PERCENT, given, trim, word
from tracker.domain.postback import GOALS, no_status
from tracker.edge.read.text import crop
from tracker.parameters import Bool, Model, Query, Text, about
from tracker.store.conversions import manual
from tracker.store.conversions.manual import NO_CONVERSION, Line, LineResult

UPLOADS = f"{PATH}/status-uploads"

MAX_LINES = 100_000
MAX_BODY = 32 << 20
"""Longest file, in bytes."""

MOST_LISTED = 1_000
"""Lines that an answer lists of a kind."""

_LONGEST_LINE = 4_096  # characters
_LONGEST_TEXT = 500
_CSV, _NDJSON = "text/csv", "application/x-ndjson"
_COLUMNS = ("hash", "legacy_id", "order_id", "goal_id", "goal", "advertiser_id", "status", "sale_status")
# The names in a postback. transaction_id is ambiguous, so it is not one of them.
_OTHER_NAMES: dict[str, str] = {
    **dict.fromkeys(("click_id", "clickid", "click_hash", "click_legacy_id"), "hash"),
    "conversion_legacy_id": "legacy_id",
    **dict.fromkeys(("tid", "action_id", "conversion_unique_id"), "order_id"),
    **dict.fromkeys(GOALS[2:], "goal"),
}
_CSV_COLUMNS = Columns(
    _COLUMNS,
    (("hash", "legacy_id", "order_id"), ("status",)),
    _OTHER_NAMES,
    opaque=frozenset({"sale_status"}),
    ids=frozenset({"hash", "legacy_id", "order_id"}),
)
_WHOLE = re.compile(r"\.0+$")  # programs that know one kind of number write 3.0
ENCODINGS = {
    **dict.fromkeys(("utf-8", "utf8", "utf-16", "us-ascii", "ascii"), ""),
    **dict.fromkeys(("iso-8859-1", "latin1", "windows-1252", "cp1252"), "cp1252"),
}
"""By a charset in lower case: iso-8859-1 is its superset, as in browsers (WHATWG Encoding, section 4.2)."""
_CHARSETS = "utf-8, utf-16, us-ascii, iso-8859-1 or windows-1252"
_MARKS = (b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff")
"""Byte order marks. They tell the encoding, and go before the charset of Content-Type."""
_LONGEST_CHARSET = 40
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")


_EXAMPLES = {
    _CSV: "order_id,goal_id,status,sale_status\r\nA-1001,,approved,paid\r\nA-1002,3,rejected,returned\r\n",
    _NDJSON: '{"hash":"01927632a6c87d3f9b1c5e8a4f60d2b7","status":"approved"}\n',
}


class UploadQuery(Query):
    """How the file is applied."""

    source: Text = about("The earlier tracker whose ids the file has, by the name that its imports have.")
    dry_run: Bool = about("true: apply the file, report the result, and roll it back.")


class ChangedLine(Model):
    """A line that changed the status of a conversion."""

    line: int = Field(description="Line number, from 1. The header of CSV counts.", examples=[2])
    conversion_id: int = Field(examples=[902])
    status_before: Status | None = Field(description="null without the scope conversions:read.")
    status_after: Status


class ProblemLine(Model):
    """A line without a matching conversion, or with an error."""

    line: int = Field(examples=[3])
    result: Literal["unmatched", "refused"]
    reason: str = Field(examples=[NO_CONVERSION])


class UploadAnswer(Model):
    """The result of a file: lines = matched + unmatched + refused, matched = changed + unchanged."""

    dry_run: bool
    lines: int = Field(description="Lines without the header and empty lines.", examples=[100])
    matched: int = Field(examples=[97])
    changed: int = Field(description="Matched lines that changed a status.", examples=[95])
    unchanged: int = Field(description="Matched lines whose conversion had the status already.", examples=[2])
    unmatched: int = Field(description="Lines without a matching conversion.", examples=[2])
    refused: int = Field(description="Lines that are invalid or not allowed.", examples=[1])
    changes: list[ChangedLine] = Field(description=f"The first {MOST_LISTED:,} changes.")
    problems: list[ProblemLine] = Field(description=f"The first {MOST_LISTED:,} unmatched and refused lines.")


@endpoint(
    scope=SCOPE,
    query=UploadQuery,
    body=FileBody(_EXAMPLES, MAX_BODY),
    returns=UploadAnswer,
    tag="Conversions",
)
async def upload_statuses(call: Call[UploadQuery]) -> Response:
    """Upload statuses

    A file with at most 100,000 lines: CSV with a header (text/csv) or NDJSON (application/x-ndjson). CSV may
    use commas, semicolons, tabs or bars. It is UTF-8, or UTF-16 with a byte order mark. The `charset` of
    Content-Type may be utf-8, utf-16, us-ascii, iso-8859-1 or windows-1252. A line names a conversion by
    `hash` (its own, its click's, or its click's id in an earlier tracker), by `legacy_id` (its own id in an
    earlier tracker) or by `order_id`. `goal_id`, `goal` (a code or name) and `advertiser_id`
    tell conversions with the same order id apart. `status` may also be a name that other platforms use, or
    one of status-words. `sale_status` is optional. The whole file is one transaction. Unmatched and
    refused lines are listed, and the other lines are applied. An approval is refused if the payout is a
    percentage of a sale_amount that only a pixel sent. `dry_run=true` shows the results and changes nothing.
    """
    is_dry, token = bool(call.query.dry_run), call.token
    media_type, body = await call.file()
    lines, unreadable = await to_thread(read_lines, body, _encoding(call.request), media_type == _CSV)
    results = await manual.set_statuses(
        call.state.pool, lines, token.name, dry_run=is_dry, source=call.query.source
    )
    results = sorted([*results, *unreadable])
    return as_json(summary(results, is_dry, shows_before=token.allows(READ_SCOPE)))


routes: list[Route] = [Route(UPLOADS, upload_statuses, methods=["POST"])]


def _encoding(request: Request) -> str:
    """Python's name of the encoding that Content-Type names. "" if it names none.

    Raises:
        Problem: 415 for an encoding that is not read.
    """
    type_ = Message()
    type_["Content-Type"] = request.headers["content-type"]
    charset = str(type_.get_param("charset", "")).lower()
    if charset and charset not in ENCODINGS:
        raise Problem(415, f"charset {charset[:_LONGEST_CHARSET]} is not read here: send {_CHARSETS}.")
    return ENCODINGS.get(charset, "")


def read_lines(body: bytes, encoding: str, is_csv: bool) -> tuple[list[Line], list[LineResult]]:
    """The rows of a file, and the results of unreadable ones.

    `encoding`: Python's name. Empty: UTF-8, or what a byte order mark tells.

    Raises:
        Problem: 413 for too many lines, 422 for a header that is not one.
    """
    if encoding and not body.startswith(_MARKS):
        body = body.decode(encoding, PERCENT).encode()
    lines: list[Line] = []
    unreadable: list[LineResult] = []
    try:
        for number, fields, error in _csv_rows(body) if is_csv and body.strip() else _json_rows(body):
            if len(lines) + len(unreadable) == MAX_LINES and (fields or error):
                raise too_long(f"The file has more than {MAX_LINES:,} lines.")
            try:
                if error:
                    raise ValueError(error)
                if fields:
                    lines.append(_line(number, fields))
            except ValueError as wrong:
                unreadable.append(LineResult(number, None, None, None, str(wrong)))
    except CsvError as wrong:
        raise invalid({"body": [str(wrong)]}) from None
    return lines, unreadable


def _csv_rows(body: bytes) -> Iterator[tuple[int, Mapping[str, Any], str]]:
    """A row a line. A cell with a line break is refused with all its lines."""
    text = open_text(BytesIO(body))
    header, above = read_header(text, _CSV_COLUMNS, is_for_people=is_for_people(text))
    lines = list(text)
    odd = [place for place, line in enumerate(lines) if line.count('"') % 2]
    broken = {
        place for first, last in zip(odd[::2], odd[1::2], strict=False) for place in range(first, last + 1)
    }
    for place, line in enumerate(lines):
        number = above + place + 1
        try:
            if len(line) > _LONGEST_LINE:
                raise ValueError(f"is longer than {_LONGEST_LINE} characters")
            if place in broken:
                raise ValueError("is a part of a cell with a line break")
            yield number, header.line(line), ""
        except ValueError as error:
            yield number, {}, str(error)


def _json_rows(body: bytes) -> Iterator[tuple[int, Mapping[str, Any], str]]:
    for number, text in enumerate(open_text(BytesIO(body)), 1):
        try:
            if len(text) > _LONGEST_LINE:
                raise ValueError(f"is longer than {_LONGEST_LINE} characters")
            yield number, _json_fields(text) if text.strip() else {}, ""
        except ValueError as error:
            yield number, {}, str(error)


def _json_fields(text: str) -> Mapping[str, Any]:
    try:
        row: Any = orjson.loads(text)
    except orjson.JSONDecodeError:
        row = None
    if not isinstance(row, dict) or not row:
        raise ValueError("is not a JSON object with fields")
    if name := field_there_twice(row, text):
        raise ValueError(f"has two fields {name}")
    if not row.keys() <= {*_COLUMNS, *_OTHER_NAMES}:
        raise ValueError(f"has fields other than {', '.join(_COLUMNS)}")
    fields = {_OTHER_NAMES.get(str(name), str(name)): value for name, value in row.items()}
    if len(fields) < len(row):
        raise ValueError("has two names of one field")
    return fields


def _line(number: int, fields: Mapping[str, Any]) -> Line:
    written = {name: _cell(name, fields.get(name)) for name in _COLUMNS}
    values = {name: given(text) for name, text in written.items()}
    if sum(bool(values[name]) for name in ("hash", "legacy_id", "order_id")) != 1:
        raise ValueError("needs exactly one of hash, legacy_id and order_id")
    hash_ = normalise.hash_(values["hash"])
    if not values["status"]:
        raise ValueError(f"status {no_status()}")
    return Line(
        number,
        hash_ or None,
        values["order_id"] or None,
        written["order_id"] if values["order_id"] else None,
        values["goal_id"] or values["goal"],
        _id("advertiser_id", values["advertiser_id"]),
        word(values["status"]),
        trim(written["sale_status"]) or None,
        written["hash"],
        values["legacy_id"],
    )


def _cell(name: str, value: object) -> str:
    """A cell as it was written, except controls at its ends."""
    if value is not None and (isinstance(value, bool) or not isinstance(value, str | int)):
        raise ValueError(f"{name} is not a text")
    text = "" if value is None else str(value)
    if len(trim(text)) > _LONGEST_TEXT or _CONTROL.search(trim(text)):
        raise ValueError(f"{name} is longer than {_LONGEST_TEXT} characters or has control characters")
    return crop(text, len(text))


def _id(name: str, text: str) -> int | None:
    plain = _WHOLE.sub("", text)
    if text and read_id(plain) is None:
        raise ValueError(f"{name} is not an id")
    return read_id(plain)


def summary(results: Sequence[LineResult], is_dry: bool, *, shows_before: bool) -> dict[str, Any]:
    """The results of a file in the form of UploadAnswer."""
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
        return "unmatched" if result.reason.endswith(NO_CONVERSION) else "refused"
    return "unchanged" if result.before is result.after else "changed"


def _change(result: LineResult, *, shows_before: bool) -> dict[str, object]:
    number, conversion_id, before, after, _ = result
    return {
        "line": number,
        "conversion_id": conversion_id,
        "status_before": before if shows_before else None,
        "status_after": after,
    }
