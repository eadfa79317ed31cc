"""Which replicas a write waits for, and whether the spool is on another machine than the stream."""

from __future__ import annotations

import pytest

from tracker.stream.connection import is_elsewhere
from tracker.stream.copies import Replicas


@pytest.mark.parametrize(
    ("ours", "theirs", "expected"),
    [
        (("10.0.0.1", 50000), ("10.0.0.2", 6379), True),
        (("10.0.0.1", 50000), ("10.0.0.1", 6379), False),
        (("127.0.0.1", 50000), ("127.0.0.1", 6379), False),
        (("127.0.0.1", 50000), ("127.0.0.2", 6379), False),
        (("2001:db8::1", 50000, 0, 0), ("2001:db8::2", 6379, 0, 0), True),
        (("2001:db8::1", 50000, 0, 0), ("2001:db8::1", 6379, 0, 0), False),
        (("::1", 50000, 0, 0), ("::1", 6379, 0, 0), False),
        (("::ffff:127.0.0.1", 50000, 0, 0), ("::ffff:127.0.0.2", 6379, 0, 0), False),
        (("fe80::1%eth0", 50000, 0, 3), ("fe80::2%eth0", 6379, 0, 3), True),
        ("", "/run/valkey.sock", False),
        (None, None, False),
    ],
)
def test_machine_of_a_server_by_the_addresses(ours: object, theirs: object, expected: bool) -> None:
    assert is_elsewhere(ours, theirs) is expected


def test_replicas_that_confirm_are_waited_for() -> None:
    """Replies to WAIT and WAITAOF, whether a replica has the write, and how many are waited for next."""
    replicas = Replicas()
    noted = []
    for reached, on_disk in [(1, 1), (2, 1), (2, 2), (2, 2), (1, 1), (1, 0), (0, 0), (2, 2)]:
        replicas.note(reached, [1, on_disk])
        (_, number, _), (_, _, on_disks, _) = replicas.waits(0.25)
        assert number == on_disks
        noted.append((replicas.have_it, int(number)))
    assert noted == [*[(True, 1)] * 2, *[(True, 2)] * 2, (True, 1), *[(False, 1)] * 2, (True, 2)]


INFO = b"""# Replication
role:master
connected_slaves:3
slave0:ip=10.0.0.2,port=6379,state=online,offset=%d,lag=0,type=replica
slave1:ip=10.0.0.3,port=6379,state=online,offset=%d,lag=0,type=replica
slave2:ip=10.0.0.4,port=6379,state=wait_bgsave,offset=0,lag=0,type=replica
master_repl_offset:%d
"""


def test_slower_replica_that_keeps_up_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of both replicas the first confirms alone, because the server answers then."""
    now = [100.0]
    monkeypatch.setattr("tracker.stream.copies.monotonic", lambda: now[0])
    replicas = Replicas()
    waited_for = []
    for confirmed, slower, servers in [(1, 0, 900), (1, 400, 1000), (1, 1010, 1100), (2, 1150, 1200)]:
        assert replicas.is_look_due
        replicas.look_at((INFO % (servers, slower, servers)).replace(b"\n", b"\r\n"))
        waited_for.append(int(replicas.waits(0.25)[0][1]))
        replicas.note(confirmed, [1, confirmed])
        assert not replicas.is_look_due
        now[0] += 1
    assert waited_for == [2, 1, 2, 2], "not while it has less than the server had a second before"


def test_replica_that_always_confirms_too_late_is_seldom_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    now, tries = [100.0], 0
    monkeypatch.setattr("tracker.stream.copies.monotonic", lambda: now[0])
    replicas = Replicas()
    for _ in range(600):
        if replicas.is_look_due:
            replicas.look(1, [1, 1])
            tries += 1
        replicas.note(1, [1, 1])
        now[0] += 1
    assert tries == 15


def test_waits_leave_time_for_their_reply() -> None:
    (_, _, reaching), (_, local, _, syncing) = Replicas().waits(0.25)
    assert (reaching, local, syncing) == (b"100", b"1", b"100")
