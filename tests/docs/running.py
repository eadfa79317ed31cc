"""Runs the blocks of a page in order, as a reader would, in one shell beside a real tracker."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.conftest import Furnish
from tests.docs.pages import Block, Command, commands
from tests.e2e.running import PATIENCE, Up, free_port
from tests.environ import clean_environ
from tracker.processes.engines.engine import resolve
from tracker.processes.engines.postgres import postgres_tool
from tracker.settings import Settings

_START = re.compile(r"(?P<variables>(?:\w+=\S+ )*)(?:make run|tracker up)(?P<options>(?: --\S+)*)")
_READS = re.compile(
    r"curl (?!.*(?: -d| -X|--data|-i |/offer/)).*|tracker (?:postbacks|ledger)\b.*", re.DOTALL
)
"""Commands that change nothing. What they show may take a moment: clicks are stored in batches."""

_VARIES = (  # what the page shows of a value that is another one each time
    (r"…", r".*?"),
    (r"[0-9a-f]{12,32}", r"[0-9a-f]{12,32}"),
    (r"\d{4}-\d\d-\d\d(?:T\d\d:\d\d:\d\d(?:\.\d+)?(?:Z|\+00:00)|\d\d:\d\d:\d\d)?", r"[-\dT:.+Z]{8,}"),
    (r"[A-Z][a-z]{2},\d\d[A-Z][a-z]{2}\d{4}\d\d:\d\d:\d\dGMT", r"[\w,:]+GMT"),
)
_ANY_OF_THESE = re.compile("|".join(f"({pattern})" for pattern, _ in _VARIES))
_RECEIVER = "9000"
"""The port of an affiliate's server on the pages. Each page gets a free one."""
_MARK = "-- the command has ended with"


def matches(shown: str, printed: str) -> bool:
    """Whether a command printed what the page shows: white space does not count, `…` is any text."""
    shown, printed = re.sub(r"\s+", "", shown), re.sub(r"\s+", "", printed)
    pattern, end = "", 0
    for found in _ANY_OF_THESE.finditer(shown):
        pattern += re.escape(shown[end : found.start()]) + _VARIES[(found.lastindex or 0) - 1][1]
        end = found.end()
    return re.fullmatch(pattern + re.escape(shown[end:]), printed, re.DOTALL) is not None


class Shell:
    """A bash that keeps its variables from command to command."""

    def __init__(self, directory: Path, **variables: str) -> None:
        (directory / ".curlrc").write_text("silent\nshow-error\n")  # no progress meter: nobody watches
        clean = clean_environ()
        paths = f"{Path(sys.executable).parent}:{clean['PATH']}"
        self._bash = subprocess.Popen(
            ["bash", "--noprofile", "--norc"],
            cwd=directory,
            env=clean | variables | {"PATH": paths, "CURL_HOME": str(directory)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert self._bash.stdin
        self._bash.stdin.write("trap 'kill $(jobs -p) 2> /dev/null' EXIT\n")  # what a page leaves running

    def run(self, words: str) -> tuple[int, str]:
        """Exit code and output."""
        assert self._bash.stdin
        assert self._bash.stdout
        self._bash.stdin.write(f"{words}\nprintf '\\n{_MARK} %d\\n' $?\n")
        self._bash.stdin.flush()
        printed = ""
        for line in self._bash.stdout:
            if line.startswith(_MARK):
                return int(line.rsplit(" ", 1)[1]), printed
            printed += line
        raise AssertionError(f"the shell has ended: {printed}")

    def close(self) -> None:
        self._bash.communicate(timeout=PATIENCE)


class House:
    """The tracker of some pages. The first one starts it, and the others find it running."""

    def __init__(self, directory: Path, furnish: Furnish) -> None:
        self._directory = directory
        self._furnish = furnish
        self._tracker: Up | None = None
        self._started: object = None

    def start(self, name: str, *options: str, **variables: str) -> Up:
        """`name` is the one of its data directory."""
        if self._tracker is None:
            self._started = (name, options, variables)
            self._tracker = Up(self._furnish(self._directory / name), *options, **variables)
            self._tracker.wait_ready()
        assert self._started == (name, options, variables), "pages that share a tracker start it in one way"
        return self._tracker

    def close(self) -> None:
        if self._tracker and self._tracker.process.poll() is None:
            self._tracker.end()


class Reader:
    """Follows one page, in a directory of its own."""

    def __init__(self, directory: Path, house: House) -> None:
        self._directory = directory
        self._house = house
        self._receiver_port = free_port()
        self._tracker: Up | None = None
        self._shell: Shell | None = None

    def follow(self, block: Block) -> None:
        if block.language == "sql":
            self._run_sql(block.text)
        else:
            for command in commands(block):
                start = _START.fullmatch(command.words)
                if start:
                    self._start(start, command.output)
                elif command.words.startswith("cat ") and command.output:
                    (self._directory / command.words.removeprefix("cat ")).write_text(command.output)
                else:
                    self._run(command)

    def close(self) -> None:
        if self._shell:
            self._shell.close()

    def _start(self, start: re.Match[str], shown: str) -> None:
        assert self._tracker is None, "a page starts one tracker"
        variables = dict(word.split("=", 1) for word in start["variables"].split())
        data_dir = self._directory / variables.pop("TRACKER_DATA_DIR", "var")
        tracker = self._tracker = self._house.start(data_dir.name, *start["options"].split(), **variables)
        data_dir.symlink_to(tracker.data_dir)
        assert matches(shown, self._as_shown(tracker.output)), tracker.output
        self._shell = Shell(self._directory, TRACKER_PORT=str(tracker.port))

    def _run(self, command: Command) -> None:
        assert self._shell, "the page has not started a tracker"
        deadline = time.monotonic() + PATIENCE
        while True:
            code, printed = self._shell.run(self._as_run(command.words))
            printed = self._as_shown(printed)
            if code == 0 and matches(command.output, printed):
                return
            assert _READS.fullmatch(command.words), (command.words, code, printed)
            assert time.monotonic() < deadline, (command.words, code, printed)
            time.sleep(0.1)

    def _run_sql(self, text: str) -> None:
        assert self._tracker, "the page has not started a tracker"
        dsn = str(resolve(Settings(data_dir=self._tracker.data_dir)).postgres_dsn)
        done = subprocess.run(
            [postgres_tool("psql"), "-v", "ON_ERROR_STOP=1", "-d", dsn, "-f", "-"],
            input=text,
            capture_output=True,
            text=True,
            check=False,
        )
        assert (done.returncode, done.stderr) == (0, ""), text
        assert not re.search(r"\b(?:UPDATE|INSERT 0) 0$", done.stdout, re.MULTILINE), (text, done.stdout)

    def _as_run(self, words: str) -> str:
        words = words.replace(_RECEIVER, str(self._receiver_port))
        return re.sub(
            r"127\.0\.0\.1:800([012])", lambda found: f"127.0.0.1:{self._port(int(found[1]))}", words
        )

    def _as_shown(self, printed: str) -> str:
        for number in range(3):
            printed = printed.replace(f"127.0.0.1:{self._port(number)}", f"127.0.0.1:800{number}")
        return printed.replace(str(self._receiver_port), _RECEIVER)

    def _port(self, number: int) -> int:
        assert self._tracker
        return (self._tracker.port, self._tracker.api_port, self._tracker.metrics_port)[number]


@contextmanager
def house_of(directory: Path, furnish: Furnish) -> Iterator[House]:
    house = House(directory, furnish)
    try:
        yield house
    finally:
        house.close()


@contextmanager
def reader(directory: Path, house: House) -> Iterator[Reader]:
    following = Reader(directory, house)
    try:
        yield following
    finally:
        following.close()
