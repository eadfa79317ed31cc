"""Measure the read API at several sizes of history, side by side, so that growth is visible.

It starts an engine of its own in a temporary directory, fills a database of each size (10 million clicks take
some ten minutes and 10 GB there), and asks a real `tracker api` over HTTP. Exit code 0: measured; 2: it could
not be.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import shutil
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import closing
from http.client import HTTPConnection, HTTPResponse
from statistics import median, quantiles
from time import perf_counter
from typing import Any, NamedTuple

from loadtests import fill_history
from loadtests.budgets import EXPORT, PAGE, REPORT, SUB_IDS, Budget, judge
from loadtests.subjects import CannotMeasure, open_house, resident
from tracker.errors import CannotStartError
from tracker.store.tokens import create_token

SIZES = {"100k": 100_000, "1m": 1_000_000, "2m": 2_000_000, "10m": 10_000_000}
_BYTES_A_CLICK = 1_500  # with indexes, and with what a fill leaves in the WAL meanwhile
_WARM_UP = 3
_ROOT = "/backend/open-api/v1/users"
_EXPORTED = 1_000_000
_CONVERTED, _UNCONVERTED = "has_conversions=true&is_unique=true", "has_conversions=false&is_unique=true"
_CHUNK = 1 << 18


class Question(NamedTuple):
    name: str
    path: str
    budget: Budget | None = None


def questions(known: Mapping[str, Any]) -> list[Question]:
    recent = f"created_from={known['recent']}"
    by_sub_id = f"/reports?group_by=aff_sub&affiliate_id={fill_history.BIG_AFFILIATE}"
    compared = f"{recent}&created_to={known['newest']}&compare=last_month"
    three = "day,country,device_type"
    return [
        Question("clicks, page 1", "/clicks", PAGE),
        Question("clicks, page 1 of an offer", "/clicks?offer_id=7", PAGE),
        Question("clicks, a page at half depth", f"/clicks?page={known['pages'] // 2}", PAGE),
        Question("clicks, a cursor page at half depth", f"/clicks?cursor={known['cursor']}", PAGE),
        Question("clicks, exact total of an offer", "/clicks?offer_id=7&per_page=1", PAGE),
        Question("clicks, exact total of an affiliate", "/clicks?affiliate_id=33&per_page=1", PAGE),
        Question("clicks, exact total of 30 days", f"/clicks?{recent}&per_page=1", PAGE),
        Question("a click by its hash", f"/clicks/{known['hash']}"),
        Question("a click by its id", f"/clicks/{known['id']}"),
        Question("report by country", "/reports?group_by=country", REPORT),
        Question("report by device type", "/reports?group_by=device_type", REPORT),
        Question("report by day", "/reports?group_by=day", REPORT),
        Question("report by day, in a zone of its own", "/reports?group_by=day&tz=Europe/Berlin", REPORT),
        Question("report by offer and day", "/reports?group_by=offer,day", REPORT),
        Question("report by country of 30 days", f"/reports?group_by=country&{recent}", REPORT),
        Question("report by sub id of a big affiliate, 30 days", f"{by_sub_id}&{recent}", SUB_IDS),
        Question("the same in another zone", f"{by_sub_id}&{recent}&tz=Asia/Kolkata", SUB_IDS),
        Question(
            "report by affiliate of a month, compared", f"/reports?group_by=affiliate&{compared}", REPORT
        ),
        Question("report by advertiser", "/reports?group_by=advertiser", REPORT),
        Question("report by offer and affiliate of 30 days", f"/reports?group_by=offer,affiliate&{recent}"),
        Question("report by offer of an affiliate", "/reports?group_by=offer&affiliate_id=33", REPORT),
        Question("report by day, country and device of 30 days", f"/reports?group_by={three}&{recent}"),
        Question("clicks that have a conversion", "/clicks?has_conversions=true", PAGE),
        Question("unique clicks that have one", f"/clicks?{_CONVERTED}", PAGE),
        Question(
            "unique clicks that have one, cursor",
            f"/clicks?{_CONVERTED}&cursor={known['of_converted']}",
            PAGE,
        ),
        Question("unique clicks that have none", f"/clicks?{_UNCONVERTED}", PAGE),
        Question(
            "unique clicks that have none, cursor",
            f"/clicks?{_UNCONVERTED}&cursor={known['of_others']}",
            PAGE,
        ),
        Question("conversions, page 1", "/conversions"),
    ]


class Timed(NamedTuple):
    p50: float  # ms
    p95: float


class Size(NamedTuple):
    """What was measured of one size."""

    clicks: int
    filled_seconds: float
    answers: Mapping[str, Timed]
    budgets: Mapping[str, Budget | None]
    export_rate: float  # rows a second
    export_growth: int  # bytes of memory that the API has grown by


def main(argv: Sequence[str] | None = None) -> int:
    arguments = _parser().parse_args(argv)
    try:
        check_room(max(SIZES[name] for name in arguments.sizes))
        sizes = [asyncio.run(_measure(SIZES[name], arguments.rounds)) for name in arguments.sizes]
    except (CannotMeasure, CannotStartError, TimeoutError, KeyboardInterrupt) as error:
        print(f"bench-reads: {str(error) or 'interrupted'}", file=sys.stderr)
        return 2
    print(report(sizes))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m loadtests.bench_reads", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument(
        "--sizes",
        type=lambda text: text.split(","),
        default=["1m", "10m"],
        help=f"of {', '.join(SIZES)}, with commas between them (1m,10m)",
    )
    parser.add_argument("--rounds", type=int, default=20, help="how often each is asked (%(default)s)")
    return parser


def check_room(clicks: int) -> None:
    """Raises CannotMeasure if the temporary directory is too small for so many clicks."""
    free, wanted = shutil.disk_usage(tempfile.gettempdir()).free, clicks * _BYTES_A_CLICK
    if free < wanted:
        raise CannotMeasure(
            f"{tempfile.gettempdir()} has {free >> 30} GiB free, and {clicks:,} clicks want {wanted >> 30}: "
            "set TMPDIR, or use --sizes 1m"
        )


async def _measure(clicks: int, rounds: int) -> Size:
    async with open_house() as house:
        print(f"filling a database with {clicks:,} clicks …", flush=True)
        begun = perf_counter()
        dsn = await house.create_database("history")
        await fill_history.fill(dsn, clicks)
        filled = perf_counter() - begun
        token = await create_token(dsn, ["admin"], "bench")
        port, pid = await house.start_api("history")
        with closing(Client(port, token)) as client:
            asked = questions(known_of(client))
            print(f"asking {len(asked)} questions, {rounds} times each …", flush=True)
            answers = {each.name: timed(client, each.path, rounds) for each in asked}
        with closing(Client(port, token)) as client:
            rate, growth = _export(client, pid, min(clicks, _EXPORTED))
    return Size(clicks, filled, answers, {each.name: each.budget for each in asked}, rate, growth)


class Client:
    """Of the read API, over one connection that is kept alive; it adds next to nothing to the API's time."""

    def __init__(self, port: int, token: str) -> None:
        self._connection = HTTPConnection("127.0.0.1", port, timeout=60)
        self._headers = {"Authorization": f"Bearer {token}"}

    def ask(self, path: str) -> bytes:
        """The body of an answer; raises CannotMeasure unless it is a 200."""
        return self.open(path).read()

    def open(self, path: str) -> HTTPResponse:
        """An answer whose body is still to be read; raises CannotMeasure unless it is a 200."""
        self._connection.request("GET", _ROOT + path, headers=self._headers)
        answer = self._connection.getresponse()
        if answer.status != 200:
            raise CannotMeasure(f"{path} was answered {answer.status}: {answer.read(200).decode()}")
        return answer

    def close(self) -> None:
        self._connection.close()


def known_of(client: Client) -> dict[str, Any]:
    """Places in the history that questions are about."""
    first = json.loads(client.ask("/clicks"))
    middle = json.loads(client.ask(f"/clicks?page={first['pages'] // 2}"))
    click = middle["data"][0]
    return {
        "pages": first["pages"],
        "hash": click["hash"],
        "id": click["id"],
        "cursor": middle["next_cursor"],
        "recent": first["data"][0]["created_at"][:8] + "01",
        "newest": first["data"][0]["created_at"][:10],
        "of_converted": json.loads(client.ask(f"/clicks?{_CONVERTED}&per_page=1"))["next_cursor"],
        "of_others": json.loads(client.ask(f"/clicks?{_UNCONVERTED}&per_page=1"))["next_cursor"],
    }


def timed(client: Client, path: str, rounds: int) -> Timed:
    taken = []
    for number in range(rounds + _WARM_UP):
        begun = perf_counter()
        client.ask(path)
        if number >= _WARM_UP:
            taken.append((perf_counter() - begun) * 1000)
    return Timed(median(taken), quantiles(taken, n=20, method="inclusive")[-1])


def _export(client: Client, pid: int, rows: int) -> tuple[float, int]:
    """Rows a second of an export, and bytes that the API has grown by meanwhile."""
    before, highest, lines = resident(pid), 0, 0
    begun = perf_counter()
    answer = client.open("/clicks/export?format=ndjson")
    while lines < rows and (chunk := answer.read1(_CHUNK)):
        lines += chunk.count(b"\n")
        highest = max(highest, resident(pid))
    return lines / (perf_counter() - begun), highest - before


def report(sizes: Sequence[Size]) -> str:
    """The table, of all sizes side by side."""
    heads = "".join(f"{f'{size.clicks:,} p50':>16}{'p95':>9}" for size in sizes)
    lines = ["", f"{'milliseconds':42}{heads}{'growth':>9}  budget"]
    for name, budget in sizes[0].budgets.items():
        told = [size.answers[name] for size in sizes]
        figures = "".join(f"{each.p50:16.1f}{each.p95:9.1f}" for each in told)
        growth = f"{told[-1].p50 / told[0].p50:9.2f}" if len(sizes) > 1 else f"{'-':>9}"
        lines.append(f"{name:42}{figures}{growth}  {judge([max(each.p50 for each in told)], budget)}")
    return "\n".join([*lines, "", *map(_bulk, sizes)])


def _bulk(size: Size) -> str:
    return (
        f"{size.clicks:,} clicks: filled in {size.filled_seconds:.0f} s; export of "
        f"{min(size.clicks, _EXPORTED):,} rows: {size.export_rate:,.0f} a second "
        f"({judge([size.export_rate], EXPORT)}), "
        f"the API grew by {size.export_growth / (1 << 20):.0f} MiB"
    )


if __name__ == "__main__":
    sys.exit(main())
