"""Measure the tracker beside a bare uvicorn in one run, and print the ratios that DESIGN.md budgets.

Contenders take turns, round after round, on engines of the benchmark's own; a ratio is taken within each
round, so that a slow minute of the machine slows both its sides. CPU is what /proc says of each process.

Exit code 0: measured; 2: it could not be, or the machine is too noisy to tell anything.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import platform
import re
import shutil
import signal
import socket
import sys
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from statistics import median, quantiles
from typing import NamedTuple
from urllib.parse import quote

import asyncpg
from redis.asyncio import Redis

from loadtests.traffic import AFFILIATES, OFFERS, USER_AGENTS
from tracker.children import CannotStart, Claim
from tracker.embedded import Engine, resolve, start_postgres, start_valkey
from tracker.settings import Settings
from tracker.store.demo import load_demo
from tracker.store.migrate import migrate

HERE = Path(__file__).parent
CONNECTIONS = 64
MOST_NOISE = 0.25
"""Spread of the bare server's own CPU per request, over its median, beyond which ratios mean nothing."""
BIG_OFFERS, BIG_AFFILIATES = 10_000, 100_000

_STREAM = "clicks:{0}"
_START_SECONDS = 60.0
_TICKS = os.sysconf("SC_CLK_TCK")
_POOL = 1_000
_BIG_CATALOGUE = """
INSERT INTO advertiser (id, name) VALUES (1, 'Big');
INSERT INTO offer (id, name, advertiser_id)
SELECT id, 'Offer ' || id, 1 FROM generate_series(1, {offers}) AS id;
INSERT INTO offer_url (offer_id, url)
SELECT id, 'https://ad.example/land?click_id={{hash}}&aff_id={{affiliate_id}}&sub={{aff_sub}}'
FROM generate_series(1, {offers}) AS id;
INSERT INTO affiliate (id, name) SELECT id, 'Affiliate ' || id FROM generate_series(1, {affiliates}) AS id;
"""

BARE, ROUTE, NAIVE, OURS, DISTINCT, BIG = (
    "bare uvicorn ASGI 302",
    "Starlette Route, empty Response",
    "naive SET + XADD",
    "tracker edge",
    "tracker edge, every agent and IP new",
    f"tracker edge, {BIG_OFFERS:,} offers x {BIG_AFFILIATES:,} affiliates",
)
SMALL = "tracker edge, the same requests, 10 offers x 10 affiliates"


class CannotMeasure(Exception):  # noqa: N818 - one line that says what stands in the way
    """The benchmark cannot be run, or tells nothing; the message is one line for the operator."""


class Sample(NamedTuple):
    """One turn of one contender."""

    rate: float  # requests a second
    cpu: float  # µs of the server a request
    engine_cpu: float  # µs of its Valkey a request; 0 where it has none
    p50: float  # ms
    p99: float


@dataclass(frozen=True)
class Contender:
    name: str
    port: int
    pid: int
    requests: Path
    engine: Engine | None


class Budget(NamedTuple):
    """A ratio of two contenders' CPU per request, and how high it may be; None: for comparison only."""

    name: str
    over: str
    under: str
    limit: float | None


BUDGETS = (
    Budget("edge ÷ bare", OURS, BARE, 1.6),
    Budget("edge, every agent and IP new ÷ bare", DISTINCT, BARE, 2.6),
    Budget("edge, big catalogue ÷ small one", BIG, SMALL, 1.05),
    Budget("empty Starlette Route ÷ bare", ROUTE, BARE, None),
    Budget("naive SET + XADD ÷ bare", NAIVE, BARE, None),
)
WRITER_BUDGET = 1.7


@dataclass
class Measured:
    samples: dict[str, list[Sample]] = field(default_factory=dict)
    writer: list[float] = field(default_factory=list)
    """CPU µs of the worker and of PostgreSQL for each click stored, one figure a drain."""

    def ratios(self, over: str, under: str) -> list[float]:
        """One contender's CPU per request over another's, round by round: a machine's drift cancels out."""
        pairs = zip(self.samples[over], self.samples[under], strict=True)
        return [a.cpu / b.cpu for a, b in pairs]


@dataclass(frozen=True)
class Cores:
    """Where what runs."""

    server: int | None
    generator: int | None

    @classmethod
    def of_this_machine(cls) -> Cores:
        usable = sorted(os.sched_getaffinity(0))
        return cls(usable[0], usable[-1]) if len(usable) > 1 else cls(None, None)


def main(argv: Sequence[str] | None = None) -> int:
    arguments = _parser().parse_args(argv)
    try:
        asyncio.run(_bench(arguments.rounds, arguments.seconds, arguments.generator))
    except (CannotMeasure, CannotStart, TimeoutError, asyncio.CancelledError) as error:
        print(f"bench: {str(error) or 'interrupted'}", file=sys.stderr)
        return 2
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m loadtests.bench", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("--rounds", type=int, default=5, help="turns of each contender (%(default)s)")
    parser.add_argument("--seconds", type=float, default=2.0, help="of each turn (%(default)s)")
    found = "wrk" if shutil.which("wrk") else "own"
    parser.add_argument("--generator", choices=("wrk", "own"), default=found, help="of load (%(default)s)")
    return parser


async def _bench(rounds: int, seconds: float, generator: str) -> None:
    cores = Cores.of_this_machine()
    print(_describe_machine(cores, generator))
    task = asyncio.current_task()
    assert task is not None
    for interrupt in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(interrupt, task.cancel)
    async with AsyncExitStack() as stack:
        directory = stack.enter_context(tempfile.TemporaryDirectory(prefix="tracker-bench-"))
        os.chmod(directory, 0o755)  # noqa: S103 - root's engines run as somebody else
        house = await _House.build(stack, Path(directory), cores)
        load = Load(generator, cores)
        measured = Measured()
        for contender in house.contenders:
            await load.run(contender, min(seconds, 1.0))
        for number in range(rounds):
            print(f"round {number + 1} of {rounds} …", flush=True)
            for contender in house.contenders:
                sample = await load.measure(contender, seconds)
                measured.samples.setdefault(contender.name, []).append(sample)
                await house.empty_stream()
            measured.writer.append(await house.drain(load, seconds))
        _refuse_noise(measured.ratios(OURS, BARE))
        print(_report(measured))


def _describe_machine(cores: Cores, generator: str) -> str:
    where = "ONE core for all: rates and latencies say little, CPU per request does"
    if cores.server is not None:
        where = f"server and its Valkey on core {cores.server}, load generator on core {cores.generator}"
    named = "wrk" if generator == "wrk" else "its own load generator (no wrk)"
    machine = f"Python {platform.python_version()}, {os.cpu_count()} cores"
    return f"{machine}; {where}; {named}, {CONNECTIONS} connections"


class _House:
    """The engines and servers of one benchmark."""

    def __init__(self, stack: AsyncExitStack, directory: Path, cores: Cores) -> None:
        self._stack = stack
        self._directory = directory
        self._cores = cores
        self.contenders: list[Contender] = []

    @classmethod
    async def build(cls, stack: AsyncExitStack, directory: Path, cores: Cores) -> _House:
        house = cls(stack, directory, cores)
        await house._start_engines()
        await house._fill_databases()
        await house._start_servers()
        return house

    async def empty_stream(self) -> None:
        async with Redis.from_url(self._valkey.url) as client:
            await client.xtrim(_STREAM, maxlen=0, approximate=False)

    async def drain(self, load: Load, seconds: float) -> float:
        """CPU µs of worker and PostgreSQL for each click of a backlog."""
        edge = next(contender for contender in self.contenders if contender.name == OURS)
        await load.run(edge, seconds)
        async with Redis.from_url(self._valkey.url) as client:
            backlog = await client.xlen(_STREAM)
        before = _cpu_of_family(self._postgres.process.pid)
        process = await self._spawn(
            "loadtests.drain", env=self._environ("tracker"), stdout=asyncio.subprocess.PIPE
        )
        said, _ = await process.communicate()
        if process.returncode != 0:
            raise CannotMeasure("the click writer failed, see above")
        spent = float(said) + _cpu_of_family(self._postgres.process.pid) - before
        return spent / backlog * 1e6

    async def _start_engines(self) -> None:
        self._valkey, self._postgres = await self._engines("ours", "valkey", "postgres")
        (self._naive_valkey,) = await self._engines("naive", "valkey")
        async with Redis.from_url(self._naive_valkey.url) as client:
            await client.config_set("appendfsync", "everysec")  # as such services run

    async def _engines(self, name: str, *kinds: str) -> list[Engine]:
        settings = resolve(Settings(data_dir=self._directory / name))
        claim = await Claim.take(settings.data_dir)
        self._stack.push_async_callback(claim.release)
        starters = {"valkey": start_valkey, "postgres": start_postgres}
        engines = []
        for kind in kinds:
            engine = await starters[kind](settings, claim)
            self._stack.push_async_callback(engine.stop)
            if kind == "valkey":
                _pin(engine.process.pid, self._cores.server)
            engines.append(engine)
        return engines

    async def _fill_databases(self) -> None:
        await migrate(self._postgres.url)
        await load_demo(self._postgres.url)
        for name, offers, affiliates in (("small", 10, 10), ("big", BIG_OFFERS, BIG_AFFILIATES)):
            await _execute(self._postgres.url, f"CREATE DATABASE {name}")
            await migrate(self._dsn(name))
            await _execute(self._dsn(name), _BIG_CATALOGUE.format(offers=offers, affiliates=affiliates))

    async def _start_servers(self) -> None:
        requests = self._directory / "requests"
        requests.mkdir()
        demo = _write_requests(requests / "demo", tuple(OFFERS), tuple(AFFILIATES))
        new = _write_requests(requests / "new", tuple(OFFERS), tuple(AFFILIATES), distinct=True)
        small = _write_requests(requests / "small", range(1, 11), range(1, 11))
        big = _write_requests(requests / "big", range(1, BIG_OFFERS + 1), range(1, BIG_AFFILIATES + 1))
        await self._start_server(BARE, "bare", requests=demo)
        await self._start_server(ROUTE, "route", requests=demo)
        await self._start_server(
            NAIVE, "naive", self._naive_valkey.url, requests=demo, engine=self._naive_valkey
        )
        await self._start_edge(OURS, "tracker", demo)
        edge = self.contenders[-1]
        self.contenders.append(Contender(DISTINCT, edge.port, edge.pid, new, edge.engine))
        await self._start_edge(SMALL, "small", small)
        await self._start_edge(BIG, "big", big)

    async def _start_server(
        self, name: str, *words: str, requests: Path, engine: Engine | None = None
    ) -> None:
        port = _free_port()
        process = await self._spawn(
            "loadtests.servers", words[0], str(port), *words[1:], env=_clean_environ()
        )
        await self._add(Contender(name, port, process.pid, requests, engine), process, "/")

    async def _start_edge(self, name: str, database: str, requests: Path) -> None:
        port = _free_port()
        environ = self._environ(database) | {"TRACKER_PORT": str(port)}
        process = await self._spawn("tracker", "edge", env=environ)
        await self._add(Contender(name, port, process.pid, requests, self._valkey), process, "/health/ready")

    async def _add(self, contender: Contender, process: asyncio.subprocess.Process, path: str) -> None:
        await _until_answering(contender.port, path, process)
        self.contenders.append(contender)

    async def _spawn(
        self, module: str, *words: str, env: Mapping[str, str], stdout: int | None = None
    ) -> asyncio.subprocess.Process:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", module, *words),
            env=env,
            stdout=stdout,
            cwd=HERE.parent,
            start_new_session=True,
        )
        self._stack.push_async_callback(_end, process)
        _pin(process.pid, self._cores.server)
        return process

    def _environ(self, database: str) -> dict[str, str]:
        data_dir = self._directory / f"edge-{database}"
        data_dir.mkdir(exist_ok=True)
        return _clean_environ() | {
            "TRACKER_REDIS_URL": self._valkey.url,
            "TRACKER_POSTGRES_DSN": self._dsn(database),
            "TRACKER_DATA_DIR": str(data_dir),
            "TRACKER_TRUSTED_PROXIES": "127.0.0.1/32",
            "TRACKER_APPEND_TIMEOUT_MS": "10000",
        }

    def _dsn(self, database: str) -> str:
        return self._postgres.url.replace("/tracker?", f"/{quote(database)}?", 1)


class Load:
    """Sends requests at full speed, with wrk or with generate.py, in a process of its own."""

    def __init__(self, generator: str, cores: Cores) -> None:
        self._run = self._with_wrk if generator == "wrk" else self._with_own
        self._cores = cores
        self._first = 0

    async def measure(self, contender: Contender, seconds: float) -> Sample:
        before, engine_before = _cpu_of(contender.pid), _cpu_of_engine(contender)
        told = await self.run(contender, seconds)
        spent, engine_spent = _cpu_of(contender.pid) - before, _cpu_of_engine(contender) - engine_before
        return Sample(
            rate=told["requests"] / told["seconds"],
            cpu=spent / told["requests"] * 1e6,
            engine_cpu=engine_spent / told["requests"] * 1e6,
            p50=told["p50_ms"],
            p99=told["p99_ms"],
        )

    async def run(self, contender: Contender, seconds: float) -> dict[str, float]:
        self._first += 10_000_000
        told = await self._run(contender, seconds)
        if told["failed"] or not told["requests"]:
            raise CannotMeasure(
                f"{contender.name}: {told['failed']:.0f} of {told['requests']:.0f} requests failed"
            )
        return told

    async def _with_wrk(self, contender: Contender, seconds: float) -> dict[str, float]:
        argv = ["wrk", "-t1", f"-c{CONNECTIONS}", f"-d{max(round(seconds), 1)}s", "--latency"]
        argv += ["-s", str(HERE / "click.lua"), f"http://127.0.0.1:{contender.port}"]
        return read_wrk(await self._said([*argv, "--", str(contender.requests), str(self._first)]))

    async def _with_own(self, contender: Contender, seconds: float) -> dict[str, float]:
        words = map(str, (contender.port, CONNECTIONS, seconds, contender.requests, self._first))
        told: dict[str, float] = json.loads(
            await self._said([sys.executable, "-m", "loadtests.generate", *words])
        )
        return told

    async def _said(self, argv: Sequence[str]) -> str:
        process = await asyncio.create_subprocess_exec(
            *argv, stdout=asyncio.subprocess.PIPE, cwd=HERE.parent, start_new_session=True
        )
        _pin(process.pid, self._cores.generator)
        try:
            said, _ = await process.communicate()
        finally:
            await _end(process)
        if process.returncode != 0:
            raise CannotMeasure(f"{argv[0]} failed, see above")
        return said.decode()


def read_wrk(said: str) -> dict[str, float]:
    """What wrk --latency prints."""
    total = re.search(r"(\d+) requests in ([\d.]+)(ms|s|m)", said)
    latency = dict(re.findall(r"^\s+(50|99)%\s+([\d.]+(?:us|ms|s))", said, re.MULTILINE))
    if total is None or latency.keys() != {"50", "99"}:
        raise CannotMeasure(f"wrk's answer cannot be read: {said}")
    failed = re.findall(r"(?:Non-2xx or 3xx responses|connect|read|write|timeout):? (\d+)", said)
    return {
        "requests": float(total[1]),
        "seconds": float(total[2]) * {"ms": 0.001, "s": 1.0, "m": 60.0}[total[3]],
        "p50_ms": _milliseconds(latency["50"]),
        "p99_ms": _milliseconds(latency["99"]),
        "failed": float(sum(map(int, failed))),
    }


def _milliseconds(text: str) -> float:
    number, unit = re.fullmatch(r"([\d.]+)(us|ms|s)", text).groups()  # type: ignore[union-attr]
    return float(number) * {"us": 0.001, "ms": 1.0, "s": 1_000.0}[unit]


def _write_requests(
    path: Path, offers: Sequence[int], affiliates: Sequence[int], *, distinct: bool = False
) -> Path:
    """A file of ready requests; `distinct` leaves places for the generator to make agent and address new."""
    chance = Random(2)
    agents = [line.split("\t")[4] for line in USER_AGENTS.read_text().splitlines()[1:]]
    requests = []
    for number in range(_POOL):
        agent, address = chance.choice(agents), f"24.0.{number // 250}.{number % 250}"
        if distinct:
            agent, address = f"{agent} @N@", "@IP@"
        query = (
            f"affiliate_id={chance.choice(affiliates)}&aff_sub=s{number % 40}&source=bench&gclid={number:x}"
        )
        requests.append(
            f"GET /offer/{chance.choice(offers)}?{query} HTTP/1.1\r\nHost: links.example\r\n"
            f"User-Agent: {agent}\r\nX-Forwarded-For: {address}\r\n"
            "Accept: text/html,*/*;q=0.8\r\nAccept-Language: en-GB,en;q=0.9\r\n\r\n"
        )
    path.write_bytes("\x1e".join(requests).encode())
    return path


def _refuse_noise(ratios: Sequence[float]) -> None:
    """A machine that is slower in one round than in another harms no ratio; what shakes a ratio does."""
    noise = _spread(ratios)
    if noise > MOST_NOISE:
        raise CannotMeasure(
            f"too noisy to tell: in the middle half of the rounds, edge ÷ bare varied by {noise:.0%} "
            f"(at most {MOST_NOISE:.0%}); stop what else runs here, or use --rounds and --seconds"
        )


def _spread(values: Sequence[float]) -> float:
    """How far apart the middle half of some values is, as a share of their median."""
    if len(values) < 2:
        return 0.0
    low, _, high = quantiles(values, n=4, method="inclusive")
    return (high - low) / median(values)


def _report(measured: Measured) -> str:
    bare = [sample.cpu for sample in measured.samples[BARE]]
    lines = [
        "",
        "median of rounds".ljust(60) + "  requests/s   CPU µs   p50 ms   p99 ms  Valkey µs",
    ]
    lines += [_row(name, samples) for name, samples in measured.samples.items()]
    lines += [f"{'click writer and PostgreSQL, a click':60} {'':>11} {median(measured.writer):8.1f}", ""]
    lines += [f"{'ratio of CPU':60} {'min':>7} {'median':>7} {'max':>7} {'budget':>7}"]
    for budget in BUDGETS:
        lines.append(_verdict(budget.name, measured.ratios(budget.over, budget.under), budget.limit))
    writer = [spent / base for spent, base in zip(measured.writer, bare, strict=True)]
    lines.append(_verdict("click writer and PostgreSQL ÷ bare", writer, WRITER_BUDGET))
    ratio = _spread(measured.ratios(OURS, BARE))
    noise = f"bare's own CPU per request {_spread(bare):.0%}, edge ÷ bare {ratio:.0%}"
    return "\n".join([*lines, "", f"noise (spread of the middle half of the rounds): {noise}"])


def _row(name: str, samples: Sequence[Sample]) -> str:
    rate, cpu, engine_cpu, p50, p99 = (median(values) for values in zip(*samples, strict=True))
    engine = f"{engine_cpu:10.1f}" if engine_cpu else f"{'-':>10}"
    return f"{name:60} {rate:11,.0f} {cpu:8.1f} {p50:8.2f} {p99:8.2f} {engine}"


def _verdict(name: str, ratios: Sequence[float], limit: float | None) -> str:
    figures = f"{name:60} {min(ratios):7.2f} {median(ratios):7.2f} {max(ratios):7.2f}"
    if limit is None:
        return f"{figures} {'-':>7}"
    word = "pass" if median(ratios) <= limit else "OVER"
    near = "" if max(ratios) <= limit or min(ratios) > limit else " (within the spread)"
    return f"{figures} {limit:7.2f} {word}{near}"


def _cpu_of(pid: int) -> float:
    """CPU seconds of a process, its threads included."""
    return sum(_stat(pid)[11:13]) / _TICKS


def _cpu_of_engine(contender: Contender) -> float:
    return _cpu_of(contender.engine.process.pid) if contender.engine else 0.0


def _cpu_of_family(pid: int) -> float:
    """CPU seconds of a process and of its children, those that have ended included."""
    return sum(sum(_stat(member)[11:15]) for member in (pid, *_children_of(pid))) / _TICKS


def _stat(pid: int) -> list[int]:
    """/proc/<pid>/stat from its third field on; the second, the name, may hold anything."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        raise CannotMeasure(f"process {pid} has died, see above") from None
    return [int(text) if text.lstrip("-").isdigit() else 0 for text in fields]


def _children_of(pid: int) -> Iterable[int]:
    return map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())


def _pin(pid: int, core: int | None) -> None:
    if core is not None:
        with contextlib.suppress(ProcessLookupError):
            os.sched_setaffinity(pid, {core})


def _clean_environ() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("TRACKER_")}


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


async def _execute(dsn: str, statements: str) -> None:
    connection = await asyncpg.connect(dsn)
    try:
        await connection.execute(statements)
    finally:
        await connection.close()


async def _until_answering(port: int, path: str, process: asyncio.subprocess.Process) -> None:
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


async def _end(process: asyncio.subprocess.Process) -> None:
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        try:
            async with asyncio.timeout(10):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()


if __name__ == "__main__":
    sys.exit(main())
