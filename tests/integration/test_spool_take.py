"""`tracker spool take`: the spool of a lost edge is put on the stream once, hostile files are refused."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import stat
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from tests.environ import clean_environ
from tests.factories.clicks import a_click, outcomes_of
from tests.integration.ledger_entries import streams_of
from tests.integration.stream_client import stored
from tracker import cli
from tracker.domain.click_id import Mint
from tracker.edge.record import deployment, spool_file
from tracker.edge.record.spool import Spool, segments
from tracker.edge.record.spool_file import Segment
from tracker.errors import UserError
from tracker.ops import ledger, spool_take
from tracker.settings import Settings
from tracker.stream.ledger import StreamLedger
from tracker.stream.record import Entry, decode, encode

pytestmark = pytest.mark.anyio

SLOT, RUN = 3, "0123456789abcdef"
mint = Mint()


class Lost:
    """The TRACKER_DATA_DIR of a lost edge of this deployment."""

    def __init__(self, data_dir: Path, id_: str) -> None:
        self.data_dir = data_dir
        self.spool = data_dir / "spool"
        self.spool.mkdir(parents=True)
        self.hashes: list[str] = []
        data_dir.joinpath("edges").mkdir()
        data_dir.joinpath("edges", f"{SLOT}.run").write_text(f"{RUN} 1-0\n")
        self.spool.joinpath("deployment").write_text(f"{id_}\n")

    def leave(self, *sizes: int, partition: int = 0) -> Path:
        """Leave a segment with groups of these sizes."""
        segment = self.segment(*sizes, partition=partition)
        segment.close()
        return segment.path

    def segment(self, *sizes: int, partition: int = 0) -> Segment:
        spool = Spool(self.spool, SLOT, partition, 1 << 50)
        for size in sizes:
            spool.append([self._entry() for _ in range(size)], b"", None)
        segment = spool.seal()
        assert segment
        return segment

    def _entry(self) -> Entry:
        click = a_click(hash=mint.hash(), visitor_key=len(self.hashes))
        self.hashes.append(click.hash)
        return encode(click, outcomes_of(click))


@pytest.fixture
async def lost(database: Settings, tmp_path: Path) -> Lost:
    assert database.redis_url
    async with StreamLedger(database.redis_url) as stream:
        return Lost(tmp_path / "lost", await stream.name_deployment(None))


async def take(settings: Settings, source: Path, **options: bool) -> tuple[spool_take.Taken, list[str]]:
    lines: list[str] = []
    taken = await spool_take.take(settings, source, "anna", lines.append, **options)
    return taken, lines


async def on_stream(settings: Settings) -> Counter[str]:
    return Counter(decode(delivery.fields).hash for delivery in await stored(settings))


@pytest.mark.parametrize("names_data_dir", [True, False])
async def test_spool_of_a_lost_edge_is_put_on_the_stream(
    database: Settings, lost: Lost, names_data_dir: bool
) -> None:
    source = lost.data_dir if names_data_dir else lost.spool
    lost.leave(3, 2)
    lost.leave(1)
    dry, _ = await take(database, source, is_dry=True)
    assert (dry.segments, dry.clicks, len(await on_stream(database))) == (2, 6, 0)
    assert {path.name for path in lost.spool.iterdir()} == {
        "deployment",
        *(path.name for path in segments(lost.spool)),
    }
    taken, _ = await take(database, source)
    assert (taken.segments, taken.clicks, taken.refused) == (2, 6, 0)
    assert taken.edges == {f"{SLOT}/{RUN}"}
    assert await on_stream(database) == Counter(lost.hashes)
    assert segments(database.data_dir / "spool") == []
    again, lines = await take(database, source)
    assert (again.segments, again.earlier) == (0, 2)
    (line,) = lines
    assert line.startswith("2 segments were taken at ")
    assert f" by anna on {socket.gethostname()} into " in line
    lost.leave(2)  # the edge came back for a moment
    assert (await take(database, source))[0].clicks == 2
    assert await on_stream(database) == Counter(lost.hashes)


def link(lost: Lost) -> str:
    path = lost.leave(1)
    path.rename(moved := lost.data_dir / "moved")
    path.symlink_to(moved)
    lost.hashes.clear()
    return "is a symbolic link"


def pipe(lost: Lost) -> str:
    os.mkfifo(lost.spool / f"{1:012x}-3-0-{'a' * 16}.spool")
    return "is a pipe"


def directory(lost: Lost) -> str:
    lost.spool.joinpath(f"{1:012x}-3-0-{'a' * 16}.spool").mkdir()
    return "is a directory"


def node(lost: Lost) -> str:
    """A device's node would need root."""
    os.mknod(lost.spool / f"{1:012x}-3-0-{'a' * 16}.spool", stat.S_IFSOCK | 0o600)
    return "is a socket"


def second_name(lost: Lost) -> str:
    os.link(lost.leave(1), lost.data_dir / "second")
    lost.hashes.clear()
    return "has 2 names (hard links)"


def huge(lost: Lost) -> str:
    with lost.leave(1).open("r+b") as file:
        file.truncate(1 << 40)  # it has hardly a block on the disk
    lost.hashes.clear()
    return "and such a file at most"


def writable(lost: Lost) -> str:
    lost.leave(1).chmod(0o666)
    lost.hashes.clear()
    return "may be written by other users"


def foreign_name(lost: Lost) -> str:
    path = lost.leave(1)
    path.rename(path.with_name("clicks.spool"))
    lost.hashes.clear()
    return "clicks.spool has not the name of a segment"


def empty(lost: Lost) -> str:
    lost.leave(1).write_bytes(b"")
    lost.hashes.clear()
    return "is empty"


def rubbish(lost: Lost) -> str:
    lost.leave(1).write_bytes(b"rubbish" * 1000)
    lost.hashes.clear()
    return "is not a segment of this tracker"


def later_version(lost: Lost) -> str:
    path = lost.leave(1)
    now, later = (spool_file._frame(b"H", version) for version in (b"\x01", b"\x09"))
    path.write_bytes(path.read_bytes().replace(now, later))
    lost.hashes.clear()
    return "it has version"


def foreign_clicks(lost: Lost) -> str:
    segment = lost.segment(1)
    control, record = lost._entry()
    segment.append([(b"X" + control[1:], record)])
    segment.close()
    lost.hashes.clear()
    return "has clicks that no edge has written"


def other_times(lost: Lost) -> str:
    path = lost.leave(1)
    path.rename(path.with_name(f"{int(time.time() * 1000) + 2 * 3_600_000:012x}{path.name[12:]}"))
    lost.hashes.clear()
    return "has clicks of times that it cannot have"


HOSTILE: tuple[Callable[[Lost], str], ...] = (
    *(link, pipe, directory, node, second_name, huge, writable, foreign_name, empty, rubbish),
    *(later_version, foreign_clicks, other_times),
)


NO_SEGMENT = '{"takes": [{"at": "", "by": "", "into": "", "segments": {"../x": 1, "y": 2}}]}'


@pytest.mark.parametrize("put", HOSTILE)
async def test_what_no_edge_has_left_is_refused_by_a_line(
    database: Settings, lost: Lost, put: Callable[[Lost], str]
) -> None:
    why = put(lost)
    lost.leave(2)
    (lost.spool / "taken.json").write_text(NO_SEGMENT)
    taken, lines = await take(database, lost.data_dir)
    assert (taken.refused, taken.clicks) == (1, 2)
    (line,) = (line for line in lines if line.startswith("refused: "))
    assert why in line
    assert await on_stream(database) == Counter(lost.hashes)


async def test_segment_of_a_running_edge_is_left_to_it(database: Settings, lost: Lost) -> None:
    held = lost.segment(1)
    taken, (line,) = await take(database, lost.data_dir)
    assert (taken.refused, taken.segments) == (1, 0)
    assert "is in use by a running edge" in line
    held.close()
    assert (await take(database, lost.data_dir))[0].clicks == 1


async def test_spool_of_an_edge_that_runs_on_another_host_is_left_to_it(
    database: Settings, lost: Lost
) -> None:
    """No lock of it is seen here, but the stream hears of it."""
    lost.leave(1)
    async with streams_of(database) as streams:
        await streams.say(f"{SLOT}/{RUN}", int(time.time() * 1000))
    for is_dry in (True, False):
        with pytest.raises(UserError, match=f"edge {SLOT}/{RUN} of .* runs, and drains its spool"):
            await take(database, lost.data_dir, is_dry=is_dry)


async def test_clicks_that_an_edge_adds_to_a_taken_segment_are_taken_too(
    database: Settings, lost: Lost
) -> None:
    """The edge of a host that was cut off goes on, and writes into the segment that it has open."""
    segment = lost.segment(2)
    whole = segment.path.read_bytes()
    segment.append([lost._entry()])
    segment.close()
    longer = segment.path.read_bytes()
    segment.path.write_bytes(whole)
    assert (await take(database, lost.data_dir))[0].clicks == 2
    segment.path.write_bytes(longer)
    again, _ = await take(database, lost.data_dir)
    assert (again.segments, again.earlier) == (1, 0)
    assert (await on_stream(database)).keys() == set(lost.hashes)
    assert (await take(database, lost.data_dir))[0].earlier == 1


async def test_longer_segment_waits_until_what_was_copied_of_it_is_drained(
    database: Settings, lost: Lost
) -> None:
    path = lost.leave(1)
    own = database.data_dir / "spool"
    own.mkdir(exist_ok=True)
    (copy := own / path.name).write_bytes(path.read_bytes()[:100])
    taken, lines = await take(database, lost.data_dir)
    assert (taken.refused, taken.segments) == (1, 0)
    assert "when it was shorter" in lines[0]
    copy.unlink()
    assert (await take(database, lost.data_dir))[0].clicks == 1


async def test_mark_does_not_write_into_what_the_foreign_disk_has_in_its_place(
    database: Settings, lost: Lost, tmp_path: Path
) -> None:
    lost.leave(1)
    (victim := tmp_path / "victim").write_text("kept")
    os.link(victim, lost.spool / "taken.json.new")
    await take(database, lost.data_dir)
    assert victim.read_text() == "kept"
    assert (await take(database, lost.data_dir))[0].earlier == 1


async def test_full_disk_keeps_nothing_of_a_take(database: Settings, lost: Lost) -> None:
    lost.leave(3)
    limit = f"import resource; resource.setrlimit(resource.RLIMIT_FSIZE, ({1000}, {1000})); "
    limit += "import signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN); "
    assert await _run(database, lost, "-c", f"{limit}from tracker import cli; sys.exit(cli.main())") == 1
    assert [path for path in (database.data_dir / "spool").iterdir() if ".spool" in path.name] == []
    assert not (lost.spool / "taken.json").exists()


async def test_dry_run_makes_no_directory(database: Settings, lost: Lost, tmp_path: Path) -> None:
    lost.leave(1)
    (tmp_path / "here").mkdir()
    settings = replace(database, data_dir=tmp_path / "here" / "var")
    assert (await take(settings, lost.data_dir, is_dry=True))[0].clicks == 1
    assert list((tmp_path / "here").iterdir()) == []


@pytest.mark.parametrize(("cut", "clicks", "said"), [(10, 2, "unfinished write"), (2_000, 0, "unfinished")])
async def test_half_a_segment_is_taken_as_far_as_it_is_whole(
    database: Settings, lost: Lost, cut: int, clicks: int, said: str
) -> None:
    path = lost.leave(1, 1, 1)
    data = path.read_bytes()
    path.write_bytes(data[: max(len(data) - cut, 20)])
    taken, lines = await take(database, lost.data_dir)
    assert taken.clicks == clicks
    assert said in lines[0]
    assert await on_stream(database) == Counter(lost.hashes[:clicks])


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda lost: (lost.spool / "deployment").write_text("f" * 16), "is of another deployment"),
        (lambda lost: (lost.spool / "deployment").unlink(), "does not say of which deployment"),
    ],
    ids=["another", "unknown"],
)
async def test_spool_of_another_deployment_needs_a_word(
    database: Settings, lost: Lost, change: Callable[[Lost], object], why: str
) -> None:
    lost.leave(2)
    change(lost)
    with pytest.raises(UserError, match=why):
        await take(database, lost.data_dir)
    assert (await take(database, lost.data_dir, any_deployment=True))[0].clicks == 2


async def test_directory_that_cannot_be_a_lost_spool_is_refused(
    database: Settings, lost: Lost, tmp_path: Path
) -> None:
    lost.leave(1)
    own = database.data_dir / "spool"
    own.mkdir(exist_ok=True)
    for text in ("{", "[" * 100_000, '{"takes": [{"at": ""}]}', '{"takes": 1}'):
        (lost.spool / "taken.json").write_text(text)
        with pytest.raises(UserError, match=r"taken\.json is not what a take has written"):
            await take(database, lost.data_dir)
    (lost.spool / "taken.json").unlink()
    (tmp_path / "link").symlink_to(lost.spool)
    (tmp_path / "file").write_text("")
    for source, why in (
        (own, "is the spool of this TRACKER_DATA_DIR"),
        (tmp_path / "link", "cannot be read as a directory"),
        (tmp_path / "file", "cannot be read as a directory"),
        (tmp_path / "nowhere", "cannot be read as a directory"),
    ):
        with pytest.raises(UserError, match=why):
            await take(database, source)
    with pytest.raises(UserError, match="raise TRACKER_SPOOL_MB"):
        await take(replace(database, spool_bytes=0), lost.data_dir)
    lost.spool.chmod(0o777)
    with pytest.raises(UserError, match="may be written by other users"):
        await take(database, lost.data_dir)


KILLS = {
    "after the first copy": "rename 1 after",
    "between append and the end of a segment": "unlink 1 before",
    "before the mark": "rename 1 before taken.json",
}
"""Where a take is killed: a call, its number, before or after it, and a name that it must have."""
_KILLED = """
import os, pathlib, signal, sys
from tracker import cli
call, number, when, name = (sys.argv.pop(1).split() + [""])[:4]
owner = {"rename": os, "unlink": pathlib.Path}[call]
do, seen = getattr(owner, call), 0
def killed(*words, **options):
    global seen
    seen += name in str(words) and (call == "rename" or str(words).find(".spool'") > 0)
    def end():
        if seen == int(number):
            os.kill(os.getpid(), signal.SIGKILL)
    if when == "before":
        end()
    result = do(*words, **options)
    end()
    return result
setattr(owner, call, killed)
sys.exit(cli.main())
"""


async def test_take_that_is_killed_and_repeated_takes_each_click_once(database: Settings, lost: Lost) -> None:
    lost.leave(3, 2)
    lost.leave(4)
    for where in KILLS.values():
        assert await _run(database, lost, "-c", _KILLED, where) == -signal.SIGKILL, where
    assert await _run(database, lost, "-m", "tracker") == 0
    assert await on_stream(database) == Counter(lost.hashes)
    assert segments(database.data_dir / "spool") == []


async def _run(settings: Settings, lost: Lost, *python: str) -> int:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *python,
        *("spool", "take", "--forget-edge", str(lost.data_dir)),
        env=clean_environ() | _environment(settings),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    return await process.wait()


def _environment(settings: Settings) -> dict[str, str]:
    return {
        # Python does not see that a limit has cut its bytecode off, and leaves it so.
        "PYTHONDONTWRITEBYTECODE": "1",
        "TRACKER_DATA_DIR": str(settings.data_dir),
        "TRACKER_REDIS_URL": settings.redis_url or "",
        "TRACKER_POSTGRES_DSN": settings.postgres_dsn or "",
    }


async def test_command_takes_a_spool_and_forgets_its_edge(
    database: Settings, lost: Lost, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, value in _environment(database).items():
        monkeypatch.setenv(name, value)
    path = lost.leave(3)
    ago = int((time.time() - 3600) * 1000)
    async with streams_of(database) as streams:
        await streams.say(f"{SLOT}/{RUN}", ago)

    async def command(*words: str) -> tuple[int, str]:
        code = await asyncio.to_thread(cli.main, ["spool", "take", *words, str(lost.data_dir)])
        return code, capsys.readouterr().out

    assert await command("--dry-run") == (0, "3 clicks of 1 segments would be taken\n")
    code, told = await command()
    assert (code, told.splitlines()) == (
        0,
        [
            "3 clicks of 1 segments are on the stream",
            f"Complete-Until waits for it until: tracker ledger --forget-edge {SLOT}/{RUN} --yes",
        ],
    )
    assert await command("--forget-edge") == (0, f"nothing to take\nedge {SLOT}/{RUN} is forgotten\n")
    told_now, _ = await ledger.ask(database, range(1))
    assert told_now.heartbeats == []
    path.with_name("x.spool").symlink_to(path)
    assert await command("--forget-edge") == (1, "nothing to take\n")


async def test_deployment_keeps_its_id_when_the_stream_server_is_emptied(
    database: Settings, tmp_path: Path
) -> None:
    assert database.redis_url
    async with StreamLedger(database.redis_url) as stream, streams_of(database) as streams:
        await deployment._note(stream, tmp_path)
        first = deployment.known(tmp_path)
        assert first is not None
        assert first == await stream.deployment()
        await streams._client.delete("deployment:{0}")
        await deployment._note(stream, tmp_path)
        assert await stream.deployment() == first
        (tmp_path / "deployment").write_text("f" * 16)  # the directory came from elsewhere
        await deployment._note(stream, tmp_path)
        assert deployment.known(tmp_path) == first
