"""Makes the archives of the release before: `.venv/bin/python -m tests.upgrade.make_archives`.

It needs the repository's history. It starts the release's own code of COMMIT on the embedded engines, follows
links, sends postbacks, and stops its parts so that something is left in each place.
"""

from __future__ import annotations

import asyncio
import io
import json
import lzma
import os
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

import asyncpg
import redis.asyncio

from tests.e2e.running import PATIENCE, free_port
from tests.upgrade.release import CODE, COMMIT, DATA, DEAD, MOST_BYTES, Release, content, get
from tracker.processes.children import Claim
from tracker.processes.engines.engine import resolve
from tracker.processes.engines.postgres import postgres_tool, start_postgres
from tracker.processes.engines.valkey import start_valkey
from tracker.settings import Settings

LINK = "/offer/3?affiliate_id=513"
_SECRET = "trs_upgrade"
_MONEY = f"""
INSERT INTO advertiser_secret (advertiser_id, secret_hash) VALUES (1, sha256('{_SECRET}'));
UPDATE goal SET payout = 2.5, revenue = 4, currency = 'EUR' WHERE offer_id = 3
"""
_XZ = [{"id": lzma.FILTER_LZMA2, "preset": 9 | lzma.PRESET_EXTREME, "dict_size": 64 << 20}]
_LEFT_OUT = {
    "lock",
    "children",
    "metrics",
    "run",
    "postgres.lock",
    "postgres.log",
    "valkey.log",
    "former.log",
}
_KEPT_WAL = {"archive_status", "summaries"}


def main() -> int:
    with tempfile.TemporaryDirectory(prefix="tracker-release-") as directory:
        root = Path(directory)
        root.chmod(0o755)  # as root, PostgreSQL runs under another account
        code = root / "code"
        _check_out(code)
        asyncio.run(asyncio.wait_for(_live(root / "var", code), 3 * PATIENCE))
        _pack(CODE, code)
        _pack(DATA, root / "var")
    for archive in (CODE, DATA):
        print(f"{archive}: {archive.stat().st_size} bytes")
    return int(DATA.stat().st_size > MOST_BYTES)


def _check_out(code: Path) -> None:
    code.mkdir()
    command = ["git", "archive", COMMIT, "src", "workers"]
    archive = subprocess.run(command, check=True, capture_output=True)
    with tarfile.open(fileobj=io.BytesIO(archive.stdout)) as members:
        members.extractall(code, filter="data")


async def _live(data_dir: Path, code: Path) -> None:
    settings = resolve(Settings(data_dir=data_dir))
    claim = await Claim.take(data_dir)
    valkey, postgres = await start_valkey(settings, claim), await start_postgres(settings, claim)
    former = Release(data_dir, code, valkey.url, postgres.url)
    for words in (("migrate",), ("demo",), ("token", "create", "--scope", "clicks:read", "--name", "old")):
        exit_code, output = await former.run(*words)
        assert exit_code == 0, output
    await _money(postgres.url)
    port = free_port()
    expected: dict[str, object] = {}
    async with former.edge(0, port) as edge:
        async with former.running("worker"):
            stored = await _clicks(port, 30)
            await _postbacks(port, list(stored.values()))
            await _dead_letter(valkey.url)
            await _until_stored(postgres.url, set(stored))
        on_stream = await _clicks(port, 20)
        await _postback(port, next(iter(on_stream.values())), "waiting")
        await valkey.stop()
        spooled = await _clicks(port, 10)
        assert list((data_dir / "spool").glob("*.spool"))
        edge.kill()
    expected["answered"] = sorted(set(stored) | set(on_stream) | set(spooled))
    expected["told"] = await content(postgres.url)
    expected["link"] = LINK
    await _shrink(postgres.url)
    await postgres.stop()
    await claim.release()
    _reset_wal(data_dir / "postgres")
    (data_dir / "expected.json").write_text(json.dumps(expected, indent=1) + "\n")


async def _money(dsn: str) -> None:
    connection = await asyncpg.connect(dsn)
    await connection.execute(_MONEY)
    await connection.close()


_numbers = iter(range(1, 1000))


async def _clicks(port: int, number: int) -> dict[str, str]:
    """The Location of so many answered clicks by aff_sub."""
    answered: dict[str, str] = {}
    for _ in range(number):
        name = f"old{next(_numbers)}"
        answered[name] = await _get(port, f"{LINK}&aff_sub={name}")
    return answered


async def _get(port: int, path: str, wanted: bytes = b"302") -> str:
    """The Location of a path, as soon as the edge knows the catalogue."""
    while True:
        status, location = await get(port, path)
        if status == wanted:
            return location
        await asyncio.sleep(0.1)


async def _postbacks(port: int, locations: list[str]) -> None:
    for number, location in enumerate(locations[:8]):
        await _postback(
            port, location, f"order-{number}", ("", "pending", "rejected", "approved")[number % 4]
        )


async def _postback(port: int, location: str, order: str, status: str = "") -> None:
    hash_ = location.partition("click_id=")[2][:32]
    said = f"&status={status}" if status else ""
    await _get(port, f"/postback?click_id={hash_}&order_id={order}&token={_SECRET}{said}", b"200")


async def _dead_letter(url: str) -> None:
    async with redis.asyncio.Redis.from_url(url) as client:
        await client.xadd("clicks:{0}", {"r": b"\xffof no release", "a": b"0" * 17})
        while not await client.xlen(DEAD):
            await asyncio.sleep(0.05)


async def _until_stored(dsn: str, names: set[str]) -> None:
    while True:
        told = await content(dsn)
        if names <= set(told["click"]) and len(told["conversion"]) == 8:
            return
        await asyncio.sleep(0.1)


async def _shrink(dsn: str) -> None:
    """Without the free room of the catalogue's tables. The other two databases are alike, which xz sees."""
    connection = await asyncpg.connect(dsn)
    await connection.execute("VACUUM FULL")
    await connection.close()


def _reset_wal(cluster: Path) -> None:
    """Leave the log's files away, as PostgreSQL's own tool does after a clean stop."""
    owner = cluster.stat()
    command = [postgres_tool("pg_resetwal"), "--wal-segsize=1", "-D", str(cluster)]
    as_owner = {} if os.geteuid() else {"user": owner.st_uid, "group": owner.st_gid, "extra_groups": []}
    subprocess.run(command, check=True, **as_owner)


def _pack(archive: Path, directory: Path) -> None:
    plain = io.BytesIO()
    with tarfile.open(fileobj=plain, mode="w") as members:
        for path in sorted(directory.rglob("*")):
            name = path.relative_to(directory)
            if name.parts[0] in _LEFT_OUT or "__pycache__" in name.parts or path.is_socket():
                continue
            members.add(path, str(name), recursive=False, filter=_nobody)
    archive.write_bytes(lzma.compress(plain.getvalue(), filters=_XZ))


def _nobody(member: tarfile.TarInfo) -> tarfile.TarInfo:
    member.uid = member.gid = 0
    member.uname = member.gname = ""
    return member


if __name__ == "__main__":
    sys.exit(main())
