"""Parts of a tracker on several nodes and two hosts are lost under load. Each click has two copies.

`python -m tests.chaos.nodes --on cluster` (make chaos ON=cluster) repeats it. All nodes share this machine,
so no spool is on another one. With TRACKER_ON_LOSS=redirect an edge answers from it nevertheless.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import shutil
import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from time import monotonic

import asyncpg

from tests.chaos.hosts import Host, stall
from tests.chaos.load import Load
from tests.chaos.scenario import LINKS, MOST_PAUSE_SECONDS, OFFERS, check_books, check_stored
from tests.e2e.running import PATIENCE
from tests.integration.standby_client import STANDBY, Pair, pair_of
from tests.integration.topologies import HASTY, Cluster, Node, Sentinels, cluster, sentinels, until
from tracker.metrics_socket import ask
from tracker.processes.children import Claim
from tracker.processes.engines.engine import resolve
from tracker.processes.engines.postgres import start_postgres
from tracker.settings import Settings
from tracker.store.catalogue.demo import load_demo
from tracker.store.migrate import migrate
from tracker.stream.ledger import ALIVE_MILLIS
from tracker.stream.reader import UNREACHABLE
from tracker.stream.waiting_clicks import waiting_clicks

_LOOK_SECONDS = 0.5
_STALL_SECONDS = 0.7  # longer than a click waits for the stream
_PARTITIONS = {"sentinel": "2", "cluster": "6"}
_TOPOLOGIES = {"sentinel": sentinels, "cluster": cluster}
_PATIENCE = 3 * PATIENCE


class Site:
    """Two hosts, the stream's nodes, and PostgreSQL with a standby."""

    def __init__(self, directory: Path, nodes: Sentinels | Cluster, pair: Pair, partitions: str) -> None:
        self.nodes = nodes
        self.pair = pair
        self.variables = {
            "TRACKER_REDIS_URL": nodes.url,
            "TRACKER_POSTGRES_DSN": pair.dsn,
            "TRACKER_PARTITIONS": partitions,
            "TRACKER_COPIES": "2",
            "TRACKER_ON_LOSS": "redirect",
        }
        self._directory = directory
        self._made = 0
        self.hosts: list[Host] = []
        self.ports: list[int] = []
        """Of the edges that a balancer would send visitors to."""

    async def add_host(self) -> None:
        host = Host(self._directory / f"host-{self._made}", self._made, **self.variables)
        self._made += 1
        self.hosts.append(host)
        await host.ready()
        self.ports.append(host.port)

    def lose(self, host: Host) -> None:
        host.lose()
        self.hosts.remove(host)
        self.ports.remove(host.port)

    async def replaced(self, former: Node) -> None:
        """Wait until another node has the former primary's partitions, and all know it."""
        await until(lambda: self._leads(former))
        await until(self.can_be_asked)

    async def _leads(self, former: Node) -> bool:
        wanted = 3 if isinstance(self.nodes, Cluster) else 1
        primaries = await self.nodes.primaries()
        return len(primaries) == wanted and former not in primaries

    async def can_be_asked(self) -> bool:
        """Whether the stream's servers are where sentinels or cluster say."""
        with suppress(*UNREACHABLE):
            await waiting_clicks(self.nodes.url)
            return True
        return False

    async def repair(self) -> None:
        """Wait until all is as it was, so that the next failure is alone."""
        await self.nodes.repair()
        await until(self._have_replicas)
        for host in self.hosts:
            await host.ready()
        await until(self._get_two_copies)

    async def _have_replicas(self) -> bool:
        return all([await _has_replica(node) for node in await self.nodes.primaries()])

    async def _get_two_copies(self) -> bool:
        """Whether no edge answers with one copy. An edge notices a replica that is back a moment later."""
        before = await self._one_copy()
        await asyncio.sleep(_LOOK_SECONDS)
        return await self._one_copy() == before

    async def _one_copy(self) -> list[str]:
        """What each edge says of its clicks that only one server had."""
        said = [await ask(host.directory, "edge-*", "metrics") for host in self.hosts]
        texts = [str(text) for answers in said for text in answers.values()]
        return [line for text in texts for line in text.splitlines() if "clicks_one_copy_total{" in line]


async def _kill_primary(site: Site, load: Load) -> None:
    home = await site.nodes.home(0)
    home.kill()
    await site.replaced(home)


async def _lose_primary(site: Site, load: Load) -> None:
    """Its disk is gone, too. So it comes back empty, as a replica."""
    home = await site.nodes.home(0)
    known = await home.ask("CLUSTER", "MYID") if isinstance(site.nodes, Cluster) else ""
    home.kill()
    for path in home.directory.iterdir():
        if path.is_dir():
            shutil.rmtree(path)
        elif path not in (home.file, home.directory / "log"):
            path.unlink()
    await site.replaced(home)
    home.start()
    await until(lambda: home.knows("PING", having="PONG"))
    await _join(site, home, str(known))


async def _join(site: Site, node: Node, former_id: str) -> None:
    """Make an empty node a replica of the primary that took over."""
    others = [one for one in site.nodes.nodes if one is not node]
    if isinstance(site.nodes, Sentinels):
        await node.ask("REPLICAOF", "127.0.0.1", others[0].port)
        return
    for other in others:
        await other.ask("CLUSTER", "FORGET", former_id)
    _, bus = await node.ask("CONFIG GET", "cluster-port")
    await others[0].ask("CLUSTER MEET", "127.0.0.1", node.port, bus)
    alone = [one for one in await site.nodes.primaries() if one is not node and not await _has_replica(one)]
    id_ = await alone[0].ask("CLUSTER", "MYID")
    await until(lambda: node.knows("CLUSTER", "NODES", having=id_))
    await node.ask("CLUSTER REPLICATE", id_)


async def _has_replica(node: Node) -> bool:
    return await node.knows("INFO", "replication", having="state=online")


async def _kill_replica(site: Site, load: Load) -> None:
    primaries = await site.nodes.primaries()
    next(node for node in site.nodes.nodes if node not in primaries).kill()
    await load.answers(500)


async def _stall_primary(site: Site, load: Load) -> None:
    await stall((await site.nodes.home(0)).process.pid, _STALL_SECONDS)


async def _kill_sentinel(site: Site, load: Load) -> None:
    assert isinstance(site.nodes, Sentinels)
    one = random.choice(site.nodes.sentinels)
    one.kill()
    await load.answers(500)
    one.start()
    await until(lambda: one.knows("PING", having="PONG"))


async def _move_slots(site: Site, load: Load) -> None:
    assert isinstance(site.nodes, Cluster)
    home = await site.nodes.home(0)
    other = next(node for node in await site.nodes.primaries() if node is not home)
    await site.nodes.migrate(0, other)
    await load.answers(200)
    await site.nodes.migrate(0, home)


async def _lose_host(site: Site, load: Load) -> None:
    """A host with a primary: its edge has spooled clicks of the last moment. Its disk is read elsewhere."""
    lost, other = site.hosts[0], site.hosts[1]
    home = await site.nodes.home(0)
    home.kill()
    await until(lambda: _has_spooled(lost))
    await load.answers(100)
    site.lose(lost)
    await site.replaced(home)
    await site.nodes.repair()
    await asyncio.sleep(ALIVE_MILLIS / 1000 + 1)  # an edge that may live is refused
    said = await other.run("spool", "take", "--forget-edge", str(lost.directory / "spool"))
    assert "are on the stream" in said, said
    await site.add_host()


async def _has_spooled(host: Host) -> bool:
    return any(path.stat().st_size for path in host.directory.glob("spool/*.spool"))


async def _promote(site: Site, load: Load) -> None:
    await site.pair.primary.kill()
    await site.pair.standby.ask("SELECT pg_promote(true, 30)")


def _kill(part: str, hosts: int) -> Failure:
    async def kill(site: Site, load: Load) -> None:
        for host in site.hosts[:hosts]:
            host.kill(part)

    return kill


Failure = Callable[[Site, Load], Awaitable[None]]
FAILURES: Mapping[str, Failure] = {
    "one edge": _kill("edge", 1),
    "every edge": _kill("edge", 2),
    "the workers": _kill("worker", 2),
    "an API": _kill("api", 1),
    "a primary": _kill_primary,
    "a stalled primary": _stall_primary,
    "a primary with its disk": _lose_primary,
    "a replica": _kill_replica,
    "a host with its primary and its spool": _lose_host,
    "PostgreSQL's primary": _promote,
}
OWN: Mapping[str, Mapping[str, Failure]] = {
    "sentinel": {"a sentinel": _kill_sentinel},
    "cluster": {"slots that move": _move_slots},
}
UNCOVERED = {"every edge"}
"""Failures that leave no edge to answer."""


@asynccontextmanager
async def a_site(directory: Path, on: str) -> AsyncIterator[Site]:
    async with AsyncExitStack() as stack:
        nodes = await stack.enter_async_context(_TOPOLOGIES[on](directory / "nodes", HASTY))
        furnished = await _furnish(directory / "furnished")
        pair = await stack.enter_async_context(
            pair_of(lambda into: shutil.copytree(furnished, into / "postgres"), directory / "pair")
        )
        await load_demo(pair.primary.dsn)
        site = Site(directory, nodes, pair, _PARTITIONS[on])
        await _execute(pair.primary.dsn, OFFERS)
        await pair.caught_up()
        await pair.primary.set("synchronous_standby_names", STANDBY)
        await pair.standby.set("synchronous_standby_names", "")  # the next primary is alone
        try:
            for _ in range(2):
                await site.add_host()
            yield site
        finally:
            for host in site.hosts:
                await host.end()


async def _furnish(data_dir: Path) -> Path:
    """The directory of a migrated PostgreSQL that was shut down."""
    settings = resolve(Settings(data_dir=data_dir))
    claim = await Claim.take(settings.data_dir)
    postgres = await start_postgres(settings, claim)
    await migrate(postgres.url)
    await postgres.stop()
    await claim.release()
    return data_dir / "postgres"


async def _execute(dsn: str, statements: str) -> None:
    connection = await asyncpg.connect(dsn)
    await connection.execute(statements)
    await connection.close()


async def run(directory: Path, on: str, seed: int) -> tuple[Load, dict[str, float]]:
    """Run the scenario and check it. Returns the visitors, and their longest wait by failure, in seconds.

    Raises:
        AssertionError: a promise was not kept.
    """
    async with a_site(directory, on) as site:
        load, waits = await _fail_under_load(site, {**FAILURES, **OWN[on]}, random.Random(seed))
        await _drained(site)
        await check_stored(site.pair.standby.dsn, load)
        await asyncio.to_thread(check_books, site.hosts[0].environ)
    return load, waits


async def _fail_under_load(
    site: Site, failures: Mapping[str, Failure], lot: random.Random
) -> tuple[Load, dict[str, float]]:
    """Failures one by one, each while clicks flow and all else is whole."""
    waits = {}
    async with asyncio.timeout(_PATIENCE), Load(site.ports, *LINKS) as load:
        for name in lot.sample(list(failures), len(failures)):
            await load.answers(lot.randint(200, 600))
            load.begin_watch()
            await failures[name](site, load)
            await load.answers(200)
            await site.repair()
            waits[name] = load.longest_wait
        await load.answers(500)
    return load, waits


async def _drained(site: Site) -> None:
    """Check that no click is left in a spool or on the stream."""
    begun = monotonic()
    while left := [*_spools(site), *await _waiting(site)]:
        assert monotonic() < begun + PATIENCE, (left, [host.log[-3000:] for host in site.hosts])
        await asyncio.sleep(0.05)


def _spools(site: Site) -> list[Path]:
    return [path for host in site.hosts for path in host.directory.glob("spool/*.spool")]


async def _waiting(site: Site) -> list[object]:
    try:
        return list((await waiting_clicks(site.nodes.url)).items())
    except UNREACHABLE as error:
        return [error]


def main() -> int:
    """Run some seeds and print a line for each. Returns 1 if a promise was broken."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.chaos.nodes",
        description="Lose parts of a tracker on several nodes under load, and compare.",
    )
    parser.add_argument("--on", choices=sorted(_TOPOLOGIES), required=True, help="where the stream is")
    parser.add_argument("--seeds", type=int, default=3, metavar="N", help="how many (3)")
    parser.add_argument("--first", type=int, default=1, metavar="SEED", help="the first one (1)")
    chosen = parser.parse_args()
    answered, broken = 0, False
    for seed in range(chosen.first, chosen.first + chosen.seeds):
        with tempfile.TemporaryDirectory(prefix="tracker-chaos-") as directory:
            Path(directory).chmod(0o755)
            load, waits = asyncio.run(run(Path(directory), chosen.on, seed))
        too_long = {
            name for name, wait in waits.items() if wait > MOST_PAUSE_SECONDS and name not in UNCOVERED
        }
        broken |= bool(too_long)
        answered += len(load.answered)
        told = ", ".join(
            f"{name} {wait:.2f}{' TOO LONG' * (name in too_long)}" for name, wait in waits.items()
        )
        print(
            f"seed {seed} on {chosen.on}: {len(load.answered)} answered, {load.unanswered} cut off,"
            f" {load.refused} refused; all stored once; longest waits in s: {told}",
            flush=True,
        )
    print(f"{answered} clicks answered, each stored once, and the ledger balances")
    return int(broken)


if __name__ == "__main__":
    sys.exit(main())
