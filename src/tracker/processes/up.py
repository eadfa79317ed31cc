"""`tracker up`: runs every part as a child process. It starts, restarts and stops them in order."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import sys
from collections.abc import Awaitable, Callable, Iterable
from importlib.util import find_spec
from pathlib import Path
from shlex import quote
from typing import NamedTuple, TextIO

from tracker import secret_key
from tracker.compiled import FORM
from tracker.errors import CannotStartError
from tracker.people import first_admin
from tracker.processes.children import Account, Child, Claim, first_error, spawn
from tracker.processes.engines import accounts, engine
from tracker.processes.engines import postgres as engines_postgres
from tracker.processes.engines import valkey as engines_valkey
from tracker.processes.sockets import listen
from tracker.processes.systemd import ServiceManager
from tracker.settings import Settings, environment, local_url, reachable
from tracker.store import db
from tracker.store.catalogue.demo import has_demo, load_demo
from tracker.store.migrate import migrate
from tracker.store.tokens import works
from tracker.stream import server_info
from tracker.stream.reader import UNREACHABLE

logger = logging.getLogger(__name__)

READY_SECONDS = 60.0
"""How long the edge and the API may take to be ready."""

_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 5.0
_STEADY_SECONDS = 10.0  # a child that ran this long is restarted with the first pause
_FAILURES_AT_START = 4  # of one child before everything is ready, then the start fails
_DRAIN_SECONDS, _BATCH_SECONDS = 15.0, 45.0  # an edge or the API, and the worker
_POLL_SECONDS = 0.05
_ANSWER_SECONDS = 2.0
_DEMO_LINK = "/offer/3?affiliate_id=513&aff_sub=demo"
_CODE = ("json", "uvicorn", "tracker", "workers")  # of Python, its packages and the tracker
_SERVICES_DIRECTORIES = ("spool", "edges", "catalogue", "metrics", "keys")


async def up(settings: Settings, *, edges: int, demo: bool | None) -> None:
    """Run a whole tracker until SIGTERM or SIGINT.

    With `demo` None, only an embedded database gets demo data.

        Raises:
        CannotStartError: a part cannot be started. All parts are stopped again.
    """
    stopping, manager = asyncio.Event(), ServiceManager.of_process()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    claim = await Claim.take(settings.data_dir)
    try:
        if (claim.data_dir / engine.RESTORING).exists():
            raise CannotStartError(
                f"a restore into {claim.data_dir} was interrupted: empty it, and restore again"
            )
        secret_key.check(settings.key_file)
        tracker = _Tracker(settings, claim, manager)
        running = asyncio.create_task(tracker.run(edges, demo))
        stop = asyncio.create_task(stopping.wait())
        try:
            await asyncio.wait({running, stop}, return_when=asyncio.FIRST_COMPLETED)
            if running.done():
                await running
        finally:
            manager.report("STOPPING=1")
            stop.cancel()
            await _cancelled(running)
            await tracker.stop()
    finally:
        await claim.release()


class Part:
    """One child. It is restarted when it ends."""

    def __init__(self, name: str, start: Callable[[], Awaitable[Child]]) -> None:
        self._name = name
        self._start = start
        self._child: Child | None = None
        self._failures = 0
        self._pause = _FIRST_PAUSE
        self.all_up = False
        """Whether the whole tracker has been ready. From then on no failure is final."""

    async def start(self) -> None:
        self._child = await self._start()

    async def keep(self) -> None:
        """Restart the child forever. Raises CannotStartError if a restart cannot help."""
        while self._child is not None:
            begun = asyncio.get_running_loop().time()
            code = await self._child.process.wait()
            if asyncio.get_running_loop().time() - begun > _STEADY_SECONDS:
                self._pause, self._failures = _FIRST_PAUSE, 0
            self._give_up_if_pointless(code)
            await self._start_again(_fate(code))

    async def stop(self) -> None:
        if self._child is not None:
            await self._child.stop()

    def _give_up_if_pointless(self, code: int) -> None:
        self._failures += 1
        if code == os.EX_CONFIG:
            raise CannotStartError(f"{self._name} refuses its settings, see above")
        if self._failures >= _FAILURES_AT_START and not self.all_up:
            raise CannotStartError(
                f"{self._name} cannot start: {_fate(code)} {self._failures} times, see above"
            )

    async def _start_again(self, fate: str) -> None:
        while True:
            logger.warning(  # each part is a kind of log line of its own
                f"{self._name} %(fate)s, and is started again",
                {"event": "part_restarted", "part": self._name, "fate": fate},
            )
            await asyncio.sleep(self._pause)
            self._pause = min(self._pause * 2, _LONGEST_PAUSE)
            try:
                return await self.start()
            except CannotStartError as error:
                if not self.all_up:
                    raise
                fate = f"cannot be started ({error})"


class _Tracker:
    """The parts of one tracker."""

    def __init__(self, settings: Settings, claim: Claim, manager: ServiceManager) -> None:
        self._manager = manager
        self._given = settings
        self._settings = engine.resolve(settings)
        self._claim = claim
        self._engines: list[Part] = []
        self._worker: list[Part] = []
        self._api: list[Part] = []
        self._edges: list[Part] = []
        self._metrics: list[Part] = []

    async def run(self, edges: int, demo: bool | None) -> None:
        """Start everything in order, and restart children until cancelled."""
        with self._listen("links") as links, self._listen("api") as api, self._listen("metrics") as metrics:
            self._manager.check_rest("links", "api", "metrics")
            try:
                async with asyncio.TaskGroup() as keepers:
                    await self._start_engines(keepers)
                    await self._prepare(demo)
                    account = _services(self._claim.data_dir)
                    await self._start_parts(keepers, edges, links, api, metrics, account)
                    await _until_ready("edge", links)
                    await _until_ready("API", api)
                    for part in self._parts():
                        part.all_up = True
                    _say("tracker: ready (Ctrl-C stops it)")
                    self._manager.report("READY=1")
                    keepers.create_task(self._manager.keep_alive())
            except ExceptionGroup as group:
                raise first_error(group) from None

    def _listen(self, name: str) -> socket.socket:
        """The socket of the edges (links), the API or the metrics: systemd's, or a new one."""
        host, host_variable = self._given.host, "TRACKER_HOST"
        if name == "metrics":
            host, host_variable = self._given.metrics_host, "TRACKER_METRICS_HOST"
        variable, port = {
            "links": ("TRACKER_PORT", self._given.port),
            "api": ("TRACKER_API_PORT", self._given.api_port),
            "metrics": ("TRACKER_METRICS_PORT", self._given.metrics_port),
        }[name]
        passed = self._manager.socket(name, variable, port)
        return passed or listen(variable, host, port, host_variable=host_variable)

    async def stop(self) -> None:
        """Stop the edges first, which drain, then the worker, and the engines last."""
        for parts in (self._edges, self._api, self._worker, self._metrics, self._engines):
            await asyncio.gather(*(part.stop() for part in parts))

    def _parts(self) -> Iterable[Part]:
        return (*self._engines, *self._worker, *self._api, *self._edges, *self._metrics)

    async def _start_engines(self, keepers: asyncio.TaskGroup) -> None:
        if self._given.redis_url is None:
            valkey = Part("Valkey", lambda: engines_valkey.start_valkey(self._settings, self._claim))
            self._engines.append(valkey)
        if self._given.postgres_dsn is None:
            postgres = Part(
                "PostgreSQL", lambda: engines_postgres.start_postgres(self._settings, self._claim)
            )
            self._engines.append(postgres)
        async with asyncio.TaskGroup() as starting:
            for part in self._engines:
                starting.create_task(part.start())
        for part in self._engines:
            keepers.create_task(part.keep())

    async def _prepare(self, demo: bool | None) -> None:
        dsn = self._settings.postgres_dsn
        assert dsn
        await self._check_versions()
        try:
            await migrate(dsn)
            shown = await self._demo(dsn, demo)
            admin = await first_admin.link(dsn)
        except Exception as error:  # all errors that the database may raise
            raise CannotStartError(f"the database cannot be prepared: {error}") from error
        if FORM.is_stale:
            _say(f"tracker: {FORM.text} (make build compiles it again)", sys.stderr)
        # Before anything is ready: a caller that waits for readiness finds the links printed.
        _say(_banner(self._given, shown, admin))

    async def _demo(self, dsn: str, demo: bool | None) -> _Demo:
        """Load the demo data if wanted, unless the database holds other data."""
        is_embedded = self._given.redis_url is None and self._given.postgres_dsn is None
        if not (is_embedded if demo is None else demo):
            return _Demo(False, None)
        path, made = self._claim.data_dir / "demo-token", list[str]()

        def keep(token: str) -> None:
            _write_secret(path, f"{token}\n")
            made.append(token)

        await load_demo(dsn, keep, currency=self._settings.currency, time_zone=self._settings.time_zone)
        if made:
            return _Demo(True, f"'Authorization: Bearer {made[0]}'")
        # A secret is shown once. Later only its file is named.
        is_valid = path.exists() and await works(dsn, path.read_text().strip())
        header = f'"Authorization: Bearer $(cat {quote(str(path))})"'
        is_there = await has_demo(dsn)
        if demo and not is_there:
            _say("tracker: no demo data is loaded: the database is not empty", sys.stderr)
        return _Demo(is_there, header if is_valid else None)

    async def _check_versions(self) -> None:
        """Refuse servers that are too old. An unreachable server is reported by the parts."""
        assert self._settings.redis_url
        assert self._settings.postgres_dsn
        try:
            servers, _ = await server_info.ask_all(self._settings.redis_url)
        except UNREACHABLE as error:
            _say(f"tracker: TRACKER_REDIS_URL: {error}", sys.stderr)
        else:
            for server in servers:
                engine.check_version("TRACKER_REDIS_URL", server.server, server.version)
        try:
            version = await db.version(self._settings.postgres_dsn)
        except db.UNREACHABLE as error:
            raise CannotStartError(f"TRACKER_POSTGRES_DSN: {error}") from error
        engine.check_version("TRACKER_POSTGRES_DSN", "postgresql", version)

    async def _start_parts(
        self,
        keepers: asyncio.TaskGroup,
        edges: int,
        links: socket.socket,
        api: socket.socket,
        metrics: socket.socket,
        account: Account | None,
    ) -> None:
        self._api = [Part("the API", self._command(account, "api", _DRAIN_SECONDS, api))]
        self._worker = [Part("the worker", self._command(account, "worker", _BATCH_SECONDS, slot=0))]
        self._edges = [
            Part(f"edge {slot}", self._command(account, "edge", _DRAIN_SECONDS, links, slot))
            for slot in range(edges)
        ]
        self._metrics = [Part("the metrics", self._command(account, "metrics", _DRAIN_SECONDS, metrics))]
        for part in (*self._api, *self._worker, *self._edges, *self._metrics):
            await part.start()
            keepers.create_task(part.keep())

    def _command(
        self,
        account: Account | None,
        role: str,
        patience: float,
        listening: socket.socket | None = None,
        slot: int | None = None,
    ) -> Callable[[], Awaitable[Child]]:
        words = [] if slot is None else ["--slot", str(slot)]
        fds = () if listening is None else (listening.fileno(),)
        words += [word for fd in fds for word in ("--fd", str(fd))]
        # Its environment is ours, with the settings in it. -P: no modules from `.`
        argv = [sys.executable, "-P", "-m", "tracker", role, *words]
        variables = None if account is None else environment(HOME=account.home)

        async def start() -> Child:
            process = await spawn(
                argv, self._claim, signal.SIGTERM, account=account, environment=variables, fds=fds
            )
            return Child(role, process, signal.SIGTERM, patience)

        return start


def _services(data_dir: Path) -> Account | None:
    """The account of all parts except the engines. Give these parts' directories to their account."""
    interpreter = Path(sys.executable)
    code = [Path(spec.origin) for spec in map(find_spec, _CODE) if spec is not None and spec.origin]
    account, closed = accounts.services([interpreter.resolve(), interpreter, *code], data_dir)
    if closed is not None:
        _say(
            f"tracker: {closed} is closed to user {accounts.SERVICES}, so edge, API and worker run as root "
            "without its capabilities: put Python and the tracker where others may read them",
            sys.stderr,
        )
    for name in _SERVICES_DIRECTORIES:
        accounts.own(data_dir / name, account, all_of_it=True)
    for snapshot in data_dir.glob("catalogue-*.ndjson"):  # where they were when edges could write there
        snapshot.unlink()
    return account


async def _until_ready(name: str, listening: socket.socket) -> None:
    host, port = listening.getsockname()[:2]
    missing = "it does not answer"
    try:
        async with asyncio.timeout(READY_SECONDS):
            while missing:
                missing = await _missing(reachable(host), port) or ""
                await asyncio.sleep(_POLL_SECONDS)
    except TimeoutError:
        raise CannotStartError(f"the {name} is not ready after {READY_SECONDS:.0f} s: {missing}") from None


async def _missing(host: str, port: int) -> str:
    """The answer of a server that is not ready, or "" once it is ready."""
    try:
        async with asyncio.timeout(_ANSWER_SECONDS):
            reader, writer = await asyncio.open_connection(host, port)
            try:
                writer.write(b"GET /health/ready HTTP/1.1\r\nHost: tracker\r\nConnection: close\r\n\r\n")
                head, _, body = (await reader.read()).decode(errors="replace").partition("\r\n\r\n")
            finally:
                writer.close()
    except (OSError, TimeoutError):
        return "it does not answer"
    return "" if head.split()[1:2] == ["200"] else body.strip()


def _write_secret(path: Path, text: str) -> None:
    path.unlink(missing_ok=True)
    path.touch(mode=0o600)
    path.write_text(text)


class _Demo(NamedTuple):
    """The demo data."""

    has_link: bool
    header: str | None  # with its token, quoted for a shell. None: no token works


def _banner(settings: Settings, demo: _Demo, admin: str | None) -> str:
    links, api = local_url(settings.host, settings.port), local_url(settings.host, settings.api_port)
    clicks = f"{api}/backend/open-api/v1/users/clicks"
    lines = [f"Tracker, with its data in {settings.data_dir.resolve()}", ""]
    if demo.has_link:
        lines += [f"  Tracking link  {links}{_DEMO_LINK}"]
    else:
        lines += [f"  Tracking links {links}/offer/OFFER_ID?affiliate_id=AFFILIATE_ID"]
    if demo.header:
        lines += [f"  Read API       curl -H {demo.header} '{clicks}'"]
    else:
        lines += [f"  Read API       {clicks} (a token for it: tracker token create --scope clicks:read)"]
    if admin:
        lines += [f"  First admin    {settings.dashboard}{admin} (works once, within an hour)"]
    else:
        lines += [f"  Users          {settings.dashboard}/dashboard (more: tracker users invite)"]
    metrics = local_url(settings.metrics_host, settings.metrics_port)
    return "\n".join([*lines, f"  API docs       {api}/docs", f"  Metrics        {metrics}/metrics", ""])


def _fate(code: int) -> str:
    return f"ended with code {code}" if code >= 0 else f"was ended by {signal.Signals(-code).name}"


async def _cancelled(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.wait({task})


def _say(text: str, where: TextIO | None = None) -> None:
    print(text, file=where or sys.stdout, flush=True)
