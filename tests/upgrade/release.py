"""The release before: its code, and a data directory that it left behind. `make_archives` made both.

    code-0.2.0.tar.xz   the folders src and workers of the release's commit
    data-0.2.0.tar.xz   a TRACKER_DATA_DIR, and expected.json with its content

The stopped parts left clicks and postbacks in all places: in the table, on the stream, in an edge's spool.
"""

from __future__ import annotations

import asyncio
import json
import lzma
import os
import sys
import tarfile
from asyncio.subprocess import PIPE, STDOUT, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import asyncpg

from tests.e2e.running import PATIENCE
from tests.environ import clean_environ

VERSION, COMMIT = "0.2.0", "d4cee747"
HERE = Path(__file__).parent
CODE, DATA = HERE / f"code-{VERSION}.tar.xz", HERE / f"data-{VERSION}.tar.xz"
MOST_BYTES = 1 << 20
"""Most bytes of the archive with the data directory."""
DEAD = "dead:{0}"

TOLD = {
    "click": "SELECT aff_sub FROM click WHERE aff_sub <> ''",
    "conversion": "SELECT concat_ws(' ', order_id, status, payout, payout_currency, revenue) FROM conversion",
    "book": "SELECT concat_ws(' ', kind, payout, payout_currency, revenue) FROM conversion_entry",
    "token": "SELECT concat_ws(' ', name, encode(secret_hash, 'hex')) FROM token",
    "offer": "SELECT concat_ws(' ', id, name, status) FROM offer",
    "affiliate": "SELECT concat_ws(' ', id, name, status) FROM affiliate",
    "visitor key": "SELECT encode(visitor_key, 'hex') FROM deployment",
}
"""What must survive, by its name: one text for each row."""


async def content(dsn: str) -> dict[str, list[str]]:
    """The rows of a database, as texts in order."""
    connection = await asyncpg.connect(dsn)
    try:
        return {name: sorted(row[0] for row in await connection.fetch(sql)) for name, sql in TOLD.items()}
    finally:
        await connection.close()


def unpack(directory: Path) -> dict[str, Any]:
    """Lay the release and its data into `directory`/code and `directory`/var. Returns expected.json."""
    for archive, target in ((CODE, directory / "code"), (DATA, directory / "var")):
        with lzma.open(archive) as plain, tarfile.open(fileobj=plain) as members:
            members.extractall(target, filter="data")
    installed = directory / "code" / "src" / f"tracker-{VERSION}.dist-info"
    installed.mkdir()  # the release asks for its version by the name that the package had
    (installed / "METADATA").write_text(f"Metadata-Version: 2.4\nName: tracker\nVersion: {VERSION}\n")
    expected: dict[str, Any] = json.loads((directory / "var" / "expected.json").read_text())
    return expected


class Release:
    """Processes of one release on the same engines and data directory."""

    def __init__(self, data_dir: Path, code: Path | None, redis_url: str, dsn: str) -> None:
        own = {"TRACKER_DATA_DIR": str(data_dir), "TRACKER_REDIS_URL": redis_url, "TRACKER_POSTGRES_DSN": dsn}
        self._directory = code  # `python -m` finds the modules of the working directory first
        self._environ = clean_environ() | own | {"PYTHONDONTWRITEBYTECODE": "1"}
        if code is not None:  # sources of the former release beat the installed ones
            self._environ.pop("TRACKER_PURE", None)  # it does not know the setting
            self._environ["PYTHONPATH"] = f"{code / 'src'}{os.pathsep}{code}"
        self._log = data_dir / ("former.log" if code else "new.log")

    @asynccontextmanager
    async def running(self, *words: str, **variables: str) -> AsyncIterator[Process]:
        with self._log.open("ab") as log:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "tracker", *words),
                env=self._environ | variables,
                cwd=self._directory,
                stdout=log,
                stderr=log,
            )
        try:
            yield process
        finally:
            with suppress(ProcessLookupError):
                process.terminate()
            await asyncio.wait_for(process.wait(), PATIENCE)

    @asynccontextmanager
    async def edge(self, slot: int, port: int) -> AsyncIterator[Process]:
        """An edge that answers links."""
        words = ("edge", "--slot", str(slot))
        async with self.running(*words, TRACKER_PORT=str(port)) as process, asyncio.timeout(PATIENCE):
            while await status(port, "/health/ready") != b"200":
                assert process.returncode is None, self._log.read_text()
                await asyncio.sleep(0.05)
            yield process

    async def run(self, *words: str) -> tuple[int | None, str]:
        """The exit code and the output of a command."""
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "tracker", *words),
            env=self._environ,
            cwd=self._directory,
            stdout=PIPE,
            stderr=STDOUT,
        )
        output, _ = await asyncio.wait_for(process.communicate(), PATIENCE)
        return process.returncode, output.decode()


async def status(port: int, path: str) -> bytes:
    """The HTTP status of a path, or nothing if no process listens."""
    return (await get(port, path))[0]


async def get(port: int, path: str) -> tuple[bytes, str]:
    """The HTTP status and the Location."""
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return b"", ""
    writer.write(
        f"GET {path} HTTP/1.1\r\nHost: t.example\r\nConnection: close\r\n"
        "User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0\r\n\r\n".encode()
    )
    lines = (await reader.read()).partition(b"\r\n\r\n")[0].split(b"\r\n")
    writer.close()
    named = [line for line in lines if line.lower().startswith(b"location: ")]
    return lines[0][9:12], named[0][10:].decode() if named else ""
