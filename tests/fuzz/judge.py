"""Judges the answers on a connection: one for each request, in order, and no more."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256
from typing import NamedTuple
from urllib.parse import urlsplit

from tests.fuzz.rfc9112 import End, Reading, Request


class Answer(NamedTuple):
    status: int
    path: str | None  # of its request, None for the server's own answer
    body: bytes


def fault(
    reading: Reading, received: bytes, taken: Sequence[str] | None = None, *, may_refuse: bool = False
) -> str | None:
    """The fault of the answers to a closed connection. None if they are right.

    `taken` are the paths of the requests that reached the application, if known. A server that `may_refuse`
    may refuse sound requests, but never accepts broken ones.
    """
    try:
        answers = _answers(received, [request.method for request in reading.requests])
    except (ValueError, IndexError, KeyError) as error:
        return f"answers that are not HTTP: {error!r}"
    if taken is not None and (wrong := _wrong_taken(reading, taken, len(answers))):
        return wrong
    is_last_cut = reading.end in (End.BODY_BAD, End.BODY_CUT)
    whole = reading.requests[:-1] if is_last_cut else reading.requests
    for place, request in enumerate(whole):
        if place >= len(answers):
            return f"request {place} is not answered"
        if may_refuse and answers[place].path is None and answers[place].status == 400:
            return _nothing_behind(answers, place + 1)
        if wrong := _mismatch(request, answers[place]):
            return f"request {place}: {wrong}"
        if _way(request) in ("fails", "close"):
            return _nothing_behind(answers, place + 1)
    return _wrong_end(reading, answers[len(whole) :])


def _wrong_taken(reading: Reading, taken: Sequence[str], answered: int) -> str | None:
    """Requests at the application that the client did not send, or that were not answered."""
    if list(taken) != [_path(request) for request in reading.requests[: len(taken)]]:
        return f"the application was asked {taken}"
    return None if len(taken) <= answered else f"{len(taken)} requests were taken, {answered} answered"


def _wrong_end(reading: Reading, rest: Sequence[Answer]) -> str | None:
    """The fault of the answers behind the last whole request."""
    if reading.end in (End.NEXT, End.CLOSED):
        return _nothing_behind(rest, 0)
    if reading.end is End.HEAD_CUT:
        return _nothing_behind(rest, 0) and _one_refusal(rest)
    if reading.end is End.HEAD_BAD:
        return _one_refusal(rest)
    request = reading.requests[-1]
    if len(rest) != 1:
        return f"a request whose body is not whole has {len(rest)} answers"
    if rest[0].path is None and rest[0].status in (400, 408, 500):
        return None
    return "a body was taken for whole" if _way(request) == "read" else _mismatch(request, rest[0])


def _nothing_behind(answers: Sequence[Answer], number: int) -> str | None:
    return None if len(answers) == number else f"{len(answers)} answers, where {number} are due"


def _one_refusal(rest: Sequence[Answer]) -> str | None:
    is_one = len(rest) == 1 and rest[0].path is None and rest[0].status in (400, 431)
    return None if is_one else f"what is not HTTP is not refused once: {rest}"


def _mismatch(request: Request, answer: Answer) -> str | None:
    if _way(request) == "fails":
        return None if answer.status == 500 and answer.path is None else f"it fails, and got {answer}"
    if answer.path != _path(request):
        return f"{_path(request)} got the answer of {answer.path} ({answer.status})"
    is_read = _way(request) == "read" and request.method != b"HEAD"
    if is_read and answer.body != sha256(request.body).hexdigest().encode():
        return "its body was read otherwise"
    return None


def _path(request: Request) -> str:
    return urlsplit(request.target.decode()).path


def _way(request: Request) -> str:
    return _path(request).split("/")[1]


def _answers(received: bytes, methods: Sequence[bytes]) -> list[Answer]:
    answers: list[Answer] = []
    while received:
        head, end, received = received.partition(b"\r\n\r\n")
        if not end:
            raise ValueError("a head is cut off")
        status_line, *lines = head.decode().split("\r\n")
        protocol, status, _ = status_line.split(" ", 2)
        if protocol != "HTTP/1.1":
            raise ValueError(status_line)
        if status == "100":
            continue
        fields = dict(line.split(": ", 1) for line in lines)
        method = methods[len(answers)] if len(answers) < len(methods) else b"GET"
        body, received = (b"", received) if method == b"HEAD" else _body(fields, received)
        answers.append(Answer(int(status), fields.get("x-path"), body))
    return answers


def _body(fields: dict[str, str], received: bytes) -> tuple[bytes, bytes]:
    if "content-length" in fields:
        length = int(fields["content-length"])
        if length > len(received):
            raise ValueError("a body is cut off")
        return received[:length], received[length:]
    body = b""
    while True:
        size, _, received = received.partition(b"\r\n")
        length = int(size, 16)
        chunk, received = received[:length], received[length + 2 :]
        if length == 0:
            return body, received
        body += chunk
