"""Measure the pages of the dashboard over a big history and a big catalogue, as an admin and as an affiliate.

It fills a database as bench_reads does, and opens every page at a real `tracker api` over HTTP. A page's time
is that of one client. CPU is what /proc says of the API and of PostgreSQL. Exit code 0: measured; 2: it could
not be.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import closing
from datetime import UTC, datetime, timedelta
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from statistics import median, quantiles
from time import perf_counter
from typing import NamedTuple

from cryptography.fernet import Fernet

from loadtests import fill_history
from loadtests.bench import cpu_of_family
from loadtests.bench_reads import SIZES, Client, check_room
from loadtests.budgets import PAGE_BYTES, PAGE_KEPT, PAGE_READ, Budget, judge
from loadtests.subjects import CannotMeasure, House, execute, open_house
from tracker.errors import CannotStartError
from tracker.people import one_time_links, users
from tracker.people.sign_in import SignIn, Visitor
from tracker.secret_key import SecretKey
from tracker.store.catalogue import edit
from tracker.store.catalogue.edit import Author
from tracker.store.db import open_pool
from tracker.store.tokens import create_token

CATALOGUE = 5_000
"""Offers and affiliates, most of them without a click."""

_CATALOGUE_PAGES = """
/offers /offers/7 /offers/7/edit /affiliates /affiliates/33 /advertisers
/links /links?offer_id=7&affiliate_id=33 /applications /catalogue
"""
_MONEY_PAGES = """
/money/balances /money/statements /money/statements?affiliate_id=33 /money/pay
/money/corrections /money/entries /money/closes
"""
_OTHER_PAGES = """
/postbacks /postbacks/out /postbacks/urls /test /operations/dead-letters /operations/imports
/users /tokens /audit /account /sessions
"""
_WARM_UP = 2
_COMPARED = "compare=previous"
_ROOT = "/dashboard"
_FILE = re.compile(rf'(?:href|src)="({_ROOT}/static/[^"?]+\.(?:css|js))[^"]*"')
_CROWD = f"""
INSERT INTO offer (id, name, advertiser_id)
SELECT id, 'Offer of nobody ' || id, 1 FROM generate_series({fill_history.OFFERS} + 1, {CATALOGUE}) AS id;
INSERT INTO offer_url (id, offer_id, url)
SELECT id, id, 'https://ad.example/?c={{hash}}' FROM generate_series({fill_history.OFFERS} + 1, {CATALOGUE}) AS id;
INSERT INTO affiliate (id, name)
SELECT id, 'Affiliate of nobody ' || id FROM generate_series({fill_history.AFFILIATES} + 1, {CATALOGUE}) AS id;
ANALYZE offer, offer_url, affiliate
"""  # noqa: E501, S608


class Known(NamedTuple):
    """What addresses are about."""

    hash: str
    own_hash: str  # of a click of the affiliate
    conversion: int
    cursor: str
    quarter: str  # parameters for the last 90 days


class Opened(NamedTuple):
    """A page to open."""

    name: str
    path: str  # below /dashboard
    budget: Budget = PAGE_KEPT


class Measured(NamedTuple):
    """What a page took: milliseconds and bytes."""

    least: float
    p50: float
    p95: float
    own_cpu: float  # of the API
    engine_cpu: float  # of PostgreSQL
    html: int
    whole: int  # with its style and scripts


def pages_of_admin(known: Known) -> Iterator[Opened]:
    """Each page of the menu, and its usual variants."""
    yield from _overviews(known)
    yield from _reports(known)
    yield from _lists(known)
    yield from _as_they_are(_CATALOGUE_PAGES)
    yield from _as_they_are(_MONEY_PAGES)
    yield from _as_they_are(_OTHER_PAGES)
    for path in ("/money/statements?group_by=offer", "/operations"):
        yield Opened(path, path, PAGE_READ)


def _overviews(known: Known) -> Iterator[Opened]:
    for name in ("today", "yesterday", "last_7_days", "last_30_days"):
        yield Opened(f"overview, {name}", f"/?period={name}")
    yield Opened("overview, 90 days", f"/?{known.quarter}")
    yield Opened("live tiles", "/live")


def _reports(known: Known) -> Iterator[Opened]:
    for group in ("day", "offer", "affiliate", "advertiser", "country", "device_type"):
        yield Opened(f"report by {group}, 30 days", f"/reports?group_by={group}&period=last_30_days")
    yield Opened("report by offer, 90 days", f"/reports?group_by=offer&{known.quarter}")
    week = "period=last_7_days"
    yield Opened("report by affiliate, compared", f"/reports?group_by=affiliate&{week}&{_COMPARED}")
    yield Opened("report, rows that open", f"/reports?group_by=offer,affiliate&{week}")
    yield Opened("report, a row is open", f"/reports?group_by=offer,day&{week}&open=7", PAGE_READ)
    for groups in ("offer,affiliate", "day,country,device_type"):
        yield Opened(f"report by {groups}, 7 days", f"/reports?group_by={groups}&{week}&rows=all", PAGE_READ)


def _lists(known: Known) -> Iterator[Opened]:
    yield Opened("clicks of today", "/clicks")
    yield Opened("clicks of 7 days", "/clicks?period=last_7_days")
    yield Opened("clicks, filtered", "/clicks?period=last_7_days&offer_id=7&country_code=DE", PAGE_READ)
    yield Opened("clicks, deep", f"/clicks?{known.quarter}&cursor={known.cursor}")
    yield Opened("a click's story", f"/clicks/{known.hash}")
    yield Opened("conversions", "/conversions")
    yield Opened("a conversion", f"/conversions/{known.conversion}")
    yield Opened("search by a click's id", f"/search?q={known.hash}")
    yield Opened("search by a name", "/search?q=Offer%207")
    yield Opened("search by what nobody has", "/search?q=order-12345")


def _as_they_are(paths: str) -> Iterator[Opened]:
    for path in paths.split():
        yield Opened(path, path)


def pages_of_affiliate(known: Known) -> Iterator[Opened]:
    """What an affiliate with a third of the clicks opens."""
    for name in ("today", "last_7_days", "last_30_days"):
        yield Opened(f"affiliate: overview, {name}", f"/?period={name}", PAGE_READ)
    for group in ("day", "offer", "aff_sub"):
        path = f"/reports?group_by={group}&period=last_7_days"
        yield Opened(f"affiliate: report by {group}, 7 days", path, PAGE_READ)
    yield Opened("affiliate: clicks of 7 days", "/clicks?period=last_7_days", PAGE_READ)
    yield Opened("affiliate: a click's story", f"/clicks/{known.own_hash}")
    for path in ("/conversions", "/own-offers", "/own-links", "/own-postbacks", "/money/statements"):
        yield Opened(f"affiliate: {path}", path)


def main(argv: Sequence[str] | None = None) -> int:
    arguments = _parser().parse_args(argv)
    try:
        check_room(SIZES[arguments.size])
        asyncio.run(_measure(SIZES[arguments.size], arguments.rounds, arguments.keep))
    except (CannotMeasure, CannotStartError, HTTPException, TimeoutError, KeyboardInterrupt) as error:
        print(f"bench-pages: {str(error) or 'interrupted'}", file=sys.stderr)
        return 2
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m loadtests.bench_pages", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("--size", choices=SIZES, default="10m", help="clicks (%(default)s)")
    parser.add_argument(
        "--rounds", type=int, default=10, help="how often each is opened, at least twice (%(default)s)"
    )
    parser.add_argument(
        "--keep",
        type=_directory,
        help="a directory for the data: the next run of the day does not fill it again",
    )
    return parser


def _directory(text: str) -> Path:
    path = Path(text).absolute()
    path.mkdir(parents=True, exist_ok=True)
    return path


async def _measure(clicks: int, rounds: int, kept: Path | None) -> None:
    async with open_house(kept=kept) as house:
        database = f"history_{clicks}"
        dsn = house.dsn(database)
        if await house.has_database(database):
            await fill_history.bring_up_to_date(dsn)
        else:
            await _fill(house, database, clicks)
        admin, affiliate = [
            await sign_in(dsn, role, ids)
            for role, ids in (("admin", []), ("affiliate", [fill_history.BIG_AFFILIATE]))
        ]
        token = await create_token(dsn, ["admin"], "bench")
        port, pid = await house.start_api(database)
        with closing(Client(port, token)) as client:
            known = known_of(client)
        cpu = Cpu(pid, house.postgres.process.pid)
        print(_HEAD)
        for secret, pages in ((admin, pages_of_admin(known)), (affiliate, pages_of_affiliate(known))):
            with closing(Browser(port, secret)) as browser:
                for page in pages:
                    print(row(page, measured(browser, page.path, rounds, cpu)), flush=True)


async def _fill(house: House, database: str, clicks: int) -> None:
    print(f"filling a database with {clicks:,} clicks …", flush=True)
    dsn = await house.create_database(database)
    await fill_history.fill(dsn, clicks)
    await execute(dsn, _CROWD)


async def sign_in(dsn: str, role: str, affiliate_ids: Sequence[int]) -> str:
    """The secret of the session of a new user."""
    email, author = f"{role}-{perf_counter()}@bench.test", Author(None, "command line: bench")
    row = {"email": email, "role": role, "name": "", "affiliate_ids": [*affiliate_ids], "advertiser_ids": []}
    async with await open_pool(dsn) as pool:
        async with edit.changing(pool) as connection:
            invited = await users.invite(
                connection, author, {**row, "hides_money": False, "is_disabled": False}
            )
        people = SignIn(pool, SecretKey(Fernet.generate_key()))
        try:
            secret = invited.link.partition(f"{one_time_links.PARAMETER}=")[2]
            signed_in = await people.with_link(
                secret, "a calm and long pass phrase", Visitor("127.0.0.1", "bench")
            )
        finally:
            people.close()
    return signed_in.secret


def known_of(client: Client) -> Known:
    """Places in the history that addresses are about."""
    today = datetime.now(UTC).date()
    quarter = f"created_from={today - timedelta(days=fill_history.DAYS)}&created_to={today}"
    first = json.loads(client.ask(f"/clicks?{quarter}"))
    middle = json.loads(client.ask(f"/clicks?{quarter}&page={max(1, first['pages'] // 2)}"))
    own = json.loads(client.ask(f"/clicks?affiliate_id={fill_history.BIG_AFFILIATE}&per_page=1"))
    conversions = json.loads(client.ask("/conversions?per_page=1"))
    return Known(
        middle["data"][0]["hash"],
        own["data"][0]["hash"],
        conversions["data"][0]["id"],
        middle["next_cursor"],
        quarter,
    )


class Cpu(NamedTuple):
    """Two processes, by their ids."""

    api: int
    postgres: int

    def read(self) -> tuple[float, float]:
        """CPU seconds of both until now."""
        return cpu_of_family(self.api), cpu_of_family(self.postgres)


class Browser:
    """A session, over one connection that is kept alive."""

    def __init__(self, port: int, secret: str) -> None:
        self._connection = HTTPConnection("127.0.0.1", port, timeout=60)
        self._headers = {"Cookie": f"tracker-session={secret}"}
        self._files: dict[str, int] = {}

    def open(self, path: str) -> bytes:
        """The body of a page. A redirect is followed.

        Raises:
            CannotMeasure: it is no page.
        """
        self._connection.request("GET", path, headers=self._headers)
        answer = self._connection.getresponse()
        body = answer.read()
        if answer.status in (302, 303, 307):
            return self.open(answer.headers["Location"])
        if answer.status != 200:
            raise CannotMeasure(f"{path} was answered {answer.status}: {body[-300:].decode()}")
        return body

    def files(self, text: str) -> int:
        """Bytes of the style and the scripts of a page."""
        return sum(map(self._size, set(_FILE.findall(text))))

    def _size(self, path: str) -> int:
        if path not in self._files:
            self._files[path] = len(self.open(path))
        return self._files[path]

    def close(self) -> None:
        self._connection.close()


def measured(browser: Browser, path: str, rounds: int, cpu: Cpu) -> Measured:
    for _ in range(_WARM_UP):
        text = browser.open(_ROOT + path)
    taken, before = [], cpu.read()
    for _ in range(rounds):
        begun = perf_counter()
        browser.open(_ROOT + path)
        taken.append((perf_counter() - begun) * 1000)
    own, engine = ((now - then) * 1000 / rounds for now, then in zip(cpu.read(), before, strict=True))
    p95 = quantiles(taken, n=20, method="inclusive")[-1]
    return Measured(
        min(taken), median(taken), p95, own, engine, len(text), len(text) + browser.files(text.decode())
    )


_HEAD = (
    f"\n{'milliseconds':42}{'least':>8}{'p50':>8}{'p95':>8}{'API CPU':>9}{'PG CPU':>8}"
    f"{'HTML KB':>9}{'all KB':>8}  budgets"
)


def row(page: Opened, taken: Measured) -> str:
    """The line of a page. The budget of its bytes is named only where it is missed."""
    figures = f"{taken.least:8.1f}{taken.p50:8.1f}{taken.p95:8.1f}{taken.own_cpu:9.1f}{taken.engine_cpu:8.1f}"
    size = f"{taken.html / 1000:9.1f}{taken.whole / 1000:8.1f}"
    heavy = "" if PAGE_BYTES.allows(taken.whole) else f", bytes {judge([taken.whole], PAGE_BYTES)}"
    return f"{page.name:42}{figures}{size}  {judge([taken.p50], page.budget)}{heavy}"


if __name__ == "__main__":
    sys.exit(main())
