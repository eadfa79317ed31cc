"""The memory of an import, and the files it leaves."""

from __future__ import annotations

import asyncio
import gzip
import json
import os
import signal
import stat
import sys
from collections.abc import Iterable
from itertools import groupby
from pathlib import Path

import pytest

from tests.integration.importing import Importer, importer

__all__ = ["importer"]  # the fixture

pytestmark = pytest.mark.anyio

MOST_MEMORY = 1 << 30
"""Bytes of address space for an import. It takes half of them at its start."""
MIB = 1 << 20

_HEAD = b"legacy_id,offer_id,affiliate_id,created_at\n"
_ROW = b"c1,3,513,2024-07-08 13:40:00\n"
_LIMITED = f"""
import resource, runpy
resource.setrlimit(resource.RLIMIT_AS, ({MOST_MEMORY}, {MOST_MEMORY}))
runpy.run_module("tracker", run_name="__main__")
"""

_BOMBS: dict[str, tuple[str, Iterable[bytes], str]] = {
    "a line": ("clicks", [_HEAD, *[b"0" * MIB] * 2048], "this line is longer than 8 MiB"),
    "a row": ("clicks", [_HEAD, *[b'"a\n",' * (MIB // 5)] * 1024], "this row is longer than 8 MiB"),
    "a JSON list": ("clicks", [b"[[", *[b"[]," * (MIB // 3)] * 256], "the next is longer than 8 MiB"),
    "a JSON object": ("clicks", [b'{"data":\n', *[b"[],\n" * (MIB // 4)] * 256], "is longer than 8 MiB"),
    "long rows": (
        "clicks",
        [_HEAD, *[b"c,3,513," + b"x" * 100_000 + b"\n"] * 10_000],
        "10,000 rows are wrong. Nothing is stored",
    ),
    "a catalogue": ("catalogue", [b"name\n", *[b"x\n" * (MIB // 2)] * 64], "has more than 1,000,000 values"),
}


def _packed(path: Path, content: Iterable[bytes]) -> Path:
    """A part that is repeated is packed once, as a member of its own (RFC 1952, section 2.2)."""
    with path.open("wb") as file:
        for part, repeated in groupby(content):
            file.write(gzip.compress(part, 1) * sum(1 for _ in repeated))
    return path


@pytest.mark.parametrize("bomb", _BOMBS)
async def test_gzip_of_gigabytes_takes_little_memory(importer: Importer, bomb: str) -> None:
    kind, content, why = _BOMBS[bomb]
    path = _packed(importer.tmp_path / ("offers.csv.gz" if kind == "catalogue" else "bomb.gz"), content)
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", _LIMITED, "import", kind, "--dry-run", path),
        stderr=asyncio.subprocess.PIPE,
    )
    _, said = await process.communicate()
    assert (process.returncode, "Traceback" in said.decode()) == (1, False), said
    assert why in said.decode()


async def test_list_of_any_length_is_read_item_by_item(importer: Importer) -> None:
    await importer.catalogue()
    row = {"offer_id": 3, "affiliate_id": 513, "aff_sub": "x" * 400}
    items = (
        json.dumps({**row, "legacy_id": f"c{n}", "created_at": 1_720_446_000 + n}) for n in range(30_000)
    )
    path = importer.file("list.json", "[" + ",".join(items) + "]")
    assert path.stat().st_size > 8 * MIB
    done = await importer.run("clicks", path, "--json")
    assert (done.json["stored"], done.json["is_proven"]) == (30_000, True)


async def test_skipped_rows_are_readable_by_their_owner_only(importer: Importer) -> None:
    await importer.catalogue()
    nested = '{"aff_sub":' * 500 + "1" + "}" * 500
    content = _HEAD + b"c\xff,99,513,2024-07-08 13:40:00\n" + b"c2,99,513,2024-07-08 13:40:00\n"
    files = [
        importer.file("some.csv", content),
        importer.file("some.ndjson", f'{{"legacy_id":"c3"}}\n{nested}\n'),
    ]
    aside = importer.tmp_path / "aside.ndjson"
    before = os.umask(0)
    try:
        done = await importer.run("clicks", *files, "--skip-bad", aside)
    finally:
        os.umask(before)
    assert (done.code, done.err) == (0, "")
    assert stat.S_IMODE(aside.stat().st_mode) == 0o600
    found = [json.loads(line) for line in aside.read_bytes().splitlines()]
    assert [row["row"].get("legacy_id") for row in found] == ["c%FF", "c2", "c3", None]


async def test_killed_import_leaves_no_copy_of_standard_input(importer: Importer) -> None:
    await importer.catalogue()
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tracker", "import", "clicks", "-"), stdin=asyncio.subprocess.PIPE
    )
    assert process.stdin
    process.stdin.write(_HEAD + _ROW * 200_000)
    await process.stdin.drain()
    data_dir = importer.tmp_path / "var"
    open_files = [f"/proc/{process.pid}/fd/{number}" for number in os.listdir(f"/proc/{process.pid}/fd")]
    (spool,) = [file for file in open_files if os.readlink(file).startswith(str(data_dir))]
    assert stat.S_IMODE(os.stat(spool).st_mode) == 0o600
    assert os.stat(spool).st_size >= MIB
    assert os.listdir(data_dir) == []
    os.kill(process.pid, signal.SIGKILL)
    await process.wait()
    assert os.listdir(data_dir) == []
