"""Fires the postback of a test: read as an edge reads it, and sent the way of every postback."""

from __future__ import annotations

from typing import NamedTuple

from tracker.edge.postback_reader import Refused
from tracker.ops.postback_trial import read_url
from tracker.store import db
from tracker.stream.postbacks import PostbackStream


class Fired(NamedTuple):
    """The answer of an edge to a postback."""

    http_status: int
    hash: str | None  # None: it was refused
    reason: str  # "" if it was taken


async def fire(
    connection: db.Connection, stream: PostbackStream, url: str, ip: str, vouched_for: int | None
) -> Fired:
    """Read a postback and put it on its stream, where a worker finds it.

    `vouched_for`: the advertiser whose proof it lacks, because the operator sends it. None: it has its own.

    Raises:
        UserError: it is not the URL of a postback.
        UNREACHABLE of tracker.stream.reader: the stream server is away.
    """
    _, read = await read_url(connection, url, ip)
    try:
        postback = read()
    except Refused as refused:
        return Fired(refused.answer.status, None, refused.message)
    if vouched_for is not None:
        postback = postback._replace(advertiser_id=vouched_for)
    await stream.append(postback)
    return Fired(200, postback.hash, "")
