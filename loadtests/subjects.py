"""What the benchmarks measure: servers of several kinds, their engines, and the requests they get."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import sys
import tempfile
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, nullcontext
from dataclasses import dataclass, replace
from enum import Enum
from pathlib import Path
from random import Random
from typing import Any
from urllib.parse import quote

import asyncpg
from redis.asyncio import Redis

from loadtests.traffic import AFFILIATES, OFFERS, USER_AGENTS
from tracker.edge.record import ending
from tracker.processes.children import Claim
from tracker.processes.engines.cluster import ADMIN, ROLE
from tracker.processes.engines.engine import Engine, resolve
from tracker.processes.engines.postgres import start_postgres
from tracker.processes.engines.valkey import start_valkey
from tracker.settings import Settings
from tracker.store.catalogue.demo import load_demo
from tracker.store.migrate import migrate
from tracker.stream.reader import UNREACHABLE, Reader
from tracker.stream.record import FIRST_WITHOUT_DEVICE
from workers.click_writer import SLOT_SECONDS

HERE = Path(__file__).parent
OFFERS_OF_BENCHES, AFFILIATES_OF_BENCHES = range(1, 11), range(1, 11)

_STREAM = "clicks:{0}"
_START_SECONDS = 120.0  # a big catalogue under valgrind takes a while
_HELD_SLOT = 9
_POOL = 1_000
_CATALOGUE = """
INSERT INTO advertiser (id, name) VALUES (1, 'Shop');
INSERT INTO offer (id, name, advertiser_id)
SELECT id, 'Offer ' || id, 1 FROM generate_series(1, {offers}) AS id;
INSERT INTO offer_url (offer_id, url)
SELECT id, 'https://ad.example/land?click_id={{hash}}&aff_id={{affiliate_id}}&sub={{aff_sub}}{more}'
FROM generate_series(1, {offers}) AS id;
INSERT INTO affiliate (id, name) SELECT id, 'Affiliate ' || id FROM generate_series(1, {affiliates}) AS id;
"""

BARE, ROUTE, NAIVE, OURS = (
    "bare uvicorn ASGI 302",
    "Starlette Route, empty Response",
    "naive SET + XADD",
    "tracker edge",
)
REAL = ", a browser's 17 headers"
NEW = f"{OURS}, all agents and networks new"
NEW_ASKING = f"{NEW}, offers ask for devices"
_FEW_HEADERS = "Accept: text/html,*/*;q=0.8\r\nAccept-Language: en-GB,en;q=0.9\r\n"
# With Host, User-Agent and X-Forwarded-For these are the 17 that Chrome sends through a proxy for a link.
_BROWSER_HEADERS = (
    "Connection: keep-alive\r\n"
    'sec-ch-ua: "Chromium";v="141", "Google Chrome";v="141", "Not?A_Brand";v="8"\r\n'
    "sec-ch-ua-mobile: ?0\r\n"
    'sec-ch-ua-platform: "Windows"\r\n'
    "Upgrade-Insecure-Requests: 1\r\n"
    "Accept: text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8\r\n"
    "Sec-Fetch-Site: cross-site\r\n"
    "Sec-Fetch-Mode: navigate\r\n"
    "Sec-Fetch-User: ?1\r\n"
    "Sec-Fetch-Dest: document\r\n"
    "Referer: https://blog.example/reviews/\r\n"
    "Accept-Encoding: gzip, deflate, br, zstd\r\n"
    "Accept-Language: en-GB,en;q=0.9\r\n"
    "Cookie: _ga=GA1.1.1234567890.1700000000; consent=yes\r\n"
)


class Kind(Enum):
    """What requests are like."""

    KNOWN = "with 5 headers, of agents and addresses that come again"
    BROWSER = "the same with the 17 headers of a real browser"
    NEW = "with places where the generator makes agent and network new"


class CannotMeasure(Exception):  # noqa: N818 - one line that says what stands in the way
    """The benchmark cannot be run, or tells nothing; the message is one line for the operator."""


@dataclass(frozen=True)
class Contender:
    name: str
    port: int
    pid: int
    requests: Path
    engine: Engine | None
    connections: int = 64


@dataclass(frozen=True)
class Cores:
    """Where what runs; None: on any of them."""

    server: int | None = None
    generator: int | None = None

    @classmethod
    def of_this_machine(cls) -> Cores:
        usable = sorted(os.sched_getaffinity(0))
        return cls(usable[0], usable[-1]) if len(usable) > 1 else cls()


class House:
    """The engines and servers of one benchmark: see open_house."""

    def __init__(
        self,
        stack: AsyncExitStack,
        directory: Path,
        cores: Cores,
        under: Sequence[str],
        within: Sequence[str],
    ) -> None:
        self._stack = stack
        self.directory = directory
        self._cores = cores
        self._under = under
        self._within = within
        self._edges = 0

    async def empty_stream(self) -> None:
        async with Redis.from_url(self.valkey.url) as client:
            await client.xtrim(_STREAM, maxlen=0, approximate=False)

    async def backlog(self) -> int:
        """How many clicks wait on the stream."""
        async with Redis.from_url(self.valkey.url) as client:
            return int(await client.xlen(_STREAM))

    async def left_to_worker(self) -> float:
        """The part of the clicks on the stream whose device the edge has left to the worker."""
        async with Redis.from_url(self.valkey.url) as client:
            entries: Any = await client.xrevrange(_STREAM, count=_POOL)
        versions = [fields[b"r"][0] for _, fields in entries]
        return versions.count(FIRST_WITHOUT_DEVICE) / max(len(versions), 1)

    async def stream_bytes(self) -> float:
        """Bytes of memory that a click on the stream takes."""
        async with Redis.from_url(self.valkey.url) as client:
            size = await client.memory_usage(_STREAM, samples=0)
            return (size or 0) / max(await client.xlen(_STREAM), 1)

    async def start_engines(self) -> None:
        """Start Valkey and PostgreSQL, the latter with the demo catalogue."""
        self.valkey, self.postgres = await self._engines("ours", "valkey", "postgres")
        await migrate(self.postgres.url)
        await load_demo(self.postgres.url)

    async def _engines(self, name: str, *kinds: str) -> list[Engine]:
        settings = resolve(Settings(data_dir=self.directory / name))
        claim = await Claim.take(settings.data_dir)
        self._stack.push_async_callback(claim.release)
        starters = {"valkey": start_valkey, "postgres": start_postgres}
        engines = []
        for kind in kinds:
            engine = await starters[kind](settings, claim)
            self._stack.push_async_callback(engine.stop)
            if kind == "valkey":
                pin(engine.process.pid, self._cores.server)
            engines.append(engine)
        return engines

    async def start_pair(self) -> tuple[Contender, Contender]:
        """Start the bare server, an edge and its worker."""
        requests = write_requests(self.directory / "requests", tuple(OFFERS), tuple(AFFILIATES))
        bare = await self.start_server(BARE, "bare", requests=requests)
        edge = await self.start_edge(OURS, "tracker", requests)
        self.worker_pid = (await self.spawn("tracker", "worker", env=self.environ("tracker"))).pid
        return bare, edge

    async def start_naive(self, requests: Path) -> Contender:
        """Start the usual tracker, with a Valkey of its own that is set up as such services have it."""
        (valkey,) = await self._engines("naive", "valkey")
        async with Redis.from_url(valkey.url) as client:
            await client.config_set("appendfsync", "everysec")
        return await self.start_server(NAIVE, "naive", valkey.url, requests=requests, engine=valkey)

    async def start_server(
        self, name: str, *words: str, requests: Path, engine: Engine | None = None
    ) -> Contender:
        port = _free_port()
        process = await self.spawn("loadtests.servers", words[0], str(port), *words[1:], env=_clean_environ())
        await until_answering(port, "/", process)
        return Contender(name, port, process.pid, requests, engine)

    async def create_catalogue(
        self,
        name: str,
        offers: int = len(OFFERS_OF_BENCHES),
        affiliates: int = len(AFFILIATES_OF_BENCHES),
        *,
        asks_device: bool = False,
    ) -> None:
        """A database with so many offers and affiliates. `asks_device`: URLs contain the device's system."""
        await migrate(await self.create_database(name))
        more = "&os={device_os}" if asks_device else ""
        await execute(self.dsn(name), _CATALOGUE.format(offers=offers, affiliates=affiliates, more=more))

    async def create_database(self, name: str) -> str:
        """An empty database; returns its DSN."""
        admin = self.postgres.url.replace(ROLE, ADMIN, 1)
        await execute(admin, f"CREATE DATABASE {name} OWNER {ROLE}")
        return self.dsn(name)

    async def has_database(self, name: str) -> bool:
        """Whether a database was made, maybe by an earlier house in the same directory."""
        async with connected(self.postgres.url) as connection:
            return bool(await connection.fetchval("SELECT true FROM pg_database WHERE datname = $1", name))

    async def start_api(self, database: str) -> tuple[int, int]:
        """Start an API that refuses nobody for asking often; returns its port and process."""
        port = _free_port()
        environ = self.environ(database) | {
            "TRACKER_API_PORT": str(port),
            "TRACKER_API_RATE": "1000000/second",
        }
        process = await self.spawn("tracker", "api", env=environ)
        await until_answering(port, "/health/ready", process)
        return port, process.pid

    async def start_edge(self, name: str, database: str, requests: Path) -> Contender:
        port = _free_port()
        environ = self.environ(database) | {"TRACKER_PORT": str(port)}
        self._edges += 1  # they share a stream, where each edge has a slot of its own
        process = await self.spawn("tracker", "edge", "--slot", str(self._edges), env=environ)
        await until_answering(port, "/health/ready", process)
        return Contender(name, port, process.pid, requests, self.valkey)

    async def hold_worker_slot(self) -> None:
        """Hold the slot of a worker that reads nothing.

        An edge writes the records of today only while a worker lives. A real one would take CPU beside what
        is measured, and drain the backlog.
        """
        reader = await self._stack.enter_async_context(Reader(self.valkey.url, _HELD_SLOT))
        await reader.create_group()
        await reader.new(1, None)  # edges look for the consumers of the group
        await reader.hold_slot(SLOT_SECONDS)
        self._stack.push_async_callback(ending.end, asyncio.create_task(_hold(reader)))

    async def spawn(
        self,
        module: str,
        *words: str,
        env: Mapping[str, str],
        stdout: int | None = None,
        fds: Sequence[int] = (),
    ) -> asyncio.subprocess.Process:
        process = await asyncio.create_subprocess_exec(
            *(*self._under, sys.executable, "-m", *self._within, module, *words),
            env=env,
            stdout=stdout,
            pass_fds=fds,
            cwd=HERE.parent,
            start_new_session=True,
        )
        self._stack.push_async_callback(end, process)
        pin(process.pid, self._cores.server)
        return process

    def environ(self, database: str) -> dict[str, str]:
        data_dir = self.directory / f"edge-{database}"
        data_dir.mkdir(exist_ok=True)
        return _clean_environ() | {
            "TRACKER_REDIS_URL": self.valkey.url,
            "TRACKER_POSTGRES_DSN": self.dsn(database),
            "TRACKER_DATA_DIR": str(data_dir),
            "TRACKER_TRUSTED_PROXIES": "127.0.0.1/32",
            "TRACKER_APPEND_TIMEOUT_MS": "10000",
        }

    def dsn(self, database: str) -> str:
        return self.postgres.url.replace("/tracker?", f"/{quote(database)}?", 1)


@asynccontextmanager
async def open_house(
    cores: Cores = Cores(),
    under: Sequence[str] = (),
    within: Sequence[str] = (),
    kept: Path | None = None,
) -> AsyncIterator[House]:
    """Engines in a temporary directory, and what is started beside them: it all ends with the block.

    `under`: the command that servers are run under, such as valgrind with its options. `within`: the module
    that runs them, with its options. "{directory}" is the house's own. `kept`: a directory that stays, where
    engines find their data again.
    """
    async with AsyncExitStack() as stack:
        made = (
            tempfile.TemporaryDirectory(prefix="tracker-bench-") if kept is None else nullcontext(str(kept))
        )
        directory = stack.enter_context(made)
        os.chmod(directory, 0o755)  # noqa: S103 - root's engines run as somebody else
        options = ([word.format(directory=directory) for word in words] for words in (under, within))
        house = House(stack, Path(directory), cores, *options)
        await house.start_engines()
        yield house


async def start_contenders(house: House) -> list[Contender]:
    """The servers that every benchmark of the edge compares, each with all of its loads.

    The catalogues are known, so that it is known which offers ask for devices.
    """
    known, real, new = (
        write_requests(house.directory / kind.name, OFFERS_OF_BENCHES, AFFILIATES_OF_BENCHES, kind)
        for kind in Kind
    )
    await house.create_catalogue("plain")
    await house.create_catalogue("asking", asks_device=True)
    await house.hold_worker_slot()
    bare = await house.start_server(BARE, "bare", requests=known)
    route = await house.start_server(ROUTE, "route", requests=known)
    edge = await house.start_edge(OURS, "plain", known)
    asking = await house.start_edge(NEW_ASKING, "asking", new)
    with_real = (replace(each, name=each.name + REAL, requests=real) for each in (bare, route, edge))
    return [bare, route, edge, replace(edge, name=NEW, requests=new), asking, *with_real]


def write_requests(
    path: Path, offers: Sequence[int], affiliates: Sequence[int], kind: Kind = Kind.KNOWN
) -> Path:
    """A file of ready requests."""
    headers = _BROWSER_HEADERS if kind is Kind.BROWSER else _FEW_HEADERS
    chance = Random(2)
    agents = [line.split("\t")[4] for line in USER_AGENTS.read_text().splitlines()[1:]]
    requests = []
    for number in range(_POOL):
        agent, address = chance.choice(agents), f"24.0.{number // 250}.{number % 250}"
        if kind is Kind.NEW:
            agent, address = f"{agent} @N@", "@IP@"
        query = (
            f"affiliate_id={chance.choice(affiliates)}&aff_sub=s{number % 40}&source=bench&gclid={number:x}"
        )
        requests.append(
            f"GET /offer/{chance.choice(offers)}?{query} HTTP/1.1\r\nHost: links.example\r\n"
            f"User-Agent: {agent}\r\nX-Forwarded-For: {address}\r\n"
            f"{headers}\r\n"
        )
    path.write_bytes("\x1e".join(requests).encode())
    return path


def resident(pid: int) -> int:
    """Bytes of a process that are in memory."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def pin(pid: int, core: int | None) -> None:
    if core is not None:
        with contextlib.suppress(ProcessLookupError):
            os.sched_setaffinity(pid, {core})


def _clean_environ() -> dict[str, str]:
    """The environment without settings, except which form runs."""
    return {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("TRACKER_") or name == "TRACKER_PURE"
    }


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


async def execute(dsn: str, statements: str) -> None:
    async with connected(dsn) as connection:
        await connection.execute(statements)


@asynccontextmanager
async def connected(dsn: str) -> AsyncIterator[asyncpg.Connection]:
    """A connection of its own, closed with the block."""
    connection = await asyncpg.connect(dsn)
    try:
        yield connection
    finally:
        await connection.close()


async def _hold(reader: Reader) -> None:
    while True:
        await asyncio.sleep(SLOT_SECONDS / 3)
        with contextlib.suppress(*UNREACHABLE):
            await reader.hold_slot(SLOT_SECONDS)


async def until_answering(port: int, path: str, process: asyncio.subprocess.Process) -> None:
    async with asyncio.timeout(_START_SECONDS):
        while not await _answers(port, path):
            if process.returncode is not None:
                raise CannotMeasure("a server ended before it answered, see above")
            await asyncio.sleep(0.05)


async def _answers(port: int, path: str) -> bool:
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return False
    writer.write(f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
    status = (await reader.readline()).split(b" ")
    writer.close()
    return len(status) > 1 and status[1] != b"503"


async def end(process: asyncio.subprocess.Process) -> None:
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        try:
            async with asyncio.timeout(10):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()
