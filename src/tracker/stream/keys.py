"""Every key on the stream server.

Keys of one partition share a hash tag, so that they live on one node of a cluster. Scripts complete the keys
that end here with a colon.
"""

from __future__ import annotations

SLOTS = b"slots:{0}"
"""Hash: the run id of the edge that each slot belongs to."""
DEPLOYMENT = b"deployment:{0}"
"""The id of this deployment, which the spools of its edges have too."""
POSTBACKS = b"postbacks:{0}"
"""Stream: postbacks on their way into the database."""
POSTBACK_BYTES = b"postback-bytes:{0}"
"""The size of the waiting postbacks in bytes."""
DEAD_POSTBACKS = b"dead-postbacks:{0}"
"""Stream: unreadable postbacks, with the reason."""
REFUSED_POSTBACKS = b"refused-postbacks:{0}"
"""Stream, bounded: refused postbacks on their way to the log."""
UNMATCHED = b"orphans:{0}"
"""Stream, bounded: the latest hits that name no known offer or affiliate."""
GROUP = b"writers"
"""The group of click writers on each stream of clicks."""
CONSUMER = b"writer-"
"""Followed by a writer's slot: its name in the group."""


def clicks(partition: int) -> bytes:
    """Stream: recorded clicks, read by GROUP."""
    return b"clicks:{%d}" % partition


def dead(partition: int) -> bytes:
    """Stream: clicks that could not be stored, with the reason."""
    return b"dead:{%d}" % partition


def edges(partition: int) -> bytes:
    """Hash: the heartbeat of each edge by <slot>/<run id>."""
    return b"edges:{%d}" % partition


def ledger_prefix(partition: int) -> bytes:
    return b"ledger:{%d}:" % partition


def ledger(partition: int, hour: int) -> bytes:
    """Hash: an hour's entries, counted by minute and by their fate."""
    return ledger_prefix(partition) + b"%d" % hour


def lane_prefix(partition: int) -> bytes:
    """Followed by a lane: the last sequence and answer of an appending connection."""
    return b"lane:{%d}:" % partition


def unique_prefix(partition: int) -> bytes:
    """Followed by <window>:<slice>:<n>: buckets of visitors seen (record_clicks.lua)."""
    return b"unique:{%d}:" % partition


def remembered(partition: int) -> bytes:
    """The memory of these buckets, and the networks that get no more of it."""
    return b"remembered:{%d}" % partition


def remembered_parts(partition: int) -> bytes:
    """Hash: the same by network, and by the hour in which it is free again."""
    return remembered(partition) + b":parts"


def cap_prefix(partition: int) -> bytes:
    """Followed by a counter (tracker.domain.caps): what a cap has counted in a period."""
    return b"cap:{%d}:" % partition


def writer_prefix(partition: int) -> bytes:
    return b"writer:{%d}:" % partition


def writer(partition: int, slot: int) -> bytes:
    """The holder of a writer's slot: its token, and its word on formats."""
    return writer_prefix(partition) + b"%d" % slot


def copies_probe(partition: int) -> bytes:
    """Written by `tracker doctor`, which then asks who has it. It expires at once."""
    return b"copies-probe:{%d}" % partition


def formats(edge: str) -> bytes:
    """An edge's word on formats. It expires soon after the edge has ended."""
    return b"formats:{0}:" + edge.encode()


def rate(owner: str) -> str:
    """When the API has room again for a token or an address. It expires then."""
    return f"rate:{{0}}:{owner}"
