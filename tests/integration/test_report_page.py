"""The report page: it shows what the API answers, by whatever way somebody looks at it."""

from __future__ import annotations

import csv
import io
import random
import re
from collections.abc import AsyncIterator
from dataclasses import replace
from html import unescape
from typing import Any
from urllib.parse import parse_qsl, urlencode
from zoneinfo import ZoneInfo

import orjson
import pytest
from httpx import AsyncClient

from tests.factories.conversions import store_conversions
from tests.integration.api_client import api_of, run_sql, store
from tests.integration.pages_client import Browser, Site, site_of
from tests.integration.test_api_reports import CHANGES, GROUPS, ZONES, local, random_conversion, random_row
from tracker.api.clicks.endpoints import PATH as CLICKS
from tracker.api.conversions.endpoints import PATH as CONVERSIONS
from tracker.api.reports import PATH as REPORTS
from tracker.dashboard.reports.values import values_of
from tracker.domain.periods import PERIODS
from tracker.domain.rates import Rate
from tracker.settings import Settings
from tracker.store.reports import sources

pytestmark = pytest.mark.anyio

PAGE = "/dashboard/reports"
SCOPES = ("reports:read", "clicks:read", "conversions:read")
MEASURES = "gross,clicks,invalid,conversions_approved,conversions_pending,cr,payout,time_to_conversion"
PATHS = {"clicks": CLICKS, "conversions": CONVERSIONS}


@pytest.fixture
async def site(database: Settings) -> AsyncIterator[Site]:
    """Clicks around changes of clocks, and conversions of some."""
    draw = random.Random(29)
    await run_sql(
        database,
        "INSERT INTO affiliate (id, name) SELECT n, 'A' || n FROM generate_series(1, 6) AS n;"
        "INSERT INTO advertiser (id, name) VALUES (1, 'C'), (2, 'D');",
    )
    rows = [random_row(draw, number) for number in range(250)]
    await store(database, rows)
    await store_conversions(database, [random_conversion(draw, draw.choice(rows)) for _ in range(150)])
    async with site_of(replace(database, api_rate=Rate(100_000, "minute"))) as site:
        yield site


async def signed_in(site: Site, role: str = "admin", **fields: Any) -> Browser:
    email = f"{role}@pages.test"
    await site.add_user(email, role, **fields)
    browser = site.browser()
    await browser.sign_in(email)
    return browser


def lines_of(text: str) -> list[tuple[list[str], list[tuple[str, str]]]]:
    """The table of a page: the names of each row, and the text and link of its cells."""
    found: list[tuple[list[str], list[tuple[str, str]]]] = []
    text = text.partition('class="rows report"')[2]
    for row in re.findall(r"<tr[^>]*>(<th scope=\"row\".*?)</tr>", text, re.DOTALL):
        heads = re.findall(r"<th[^>]*>(.*?)</th>|<td class=\"name\">(.*?)</td>", row, re.DOTALL)
        cells = re.findall(r"<td>(.*?)</td>", row, re.DOTALL)
        links = (re.search(r'href="([^"]*)"', cell) for cell in cells)
        found.append(
            (
                [plain(one or other) for one, other in heads],
                [
                    (plain(cell), unescape(link[1]) if link else "")
                    for cell, link in zip(cells, links, strict=True)
                ],
            )
        )
    return found


def plain(markup: str) -> str:
    markup = re.sub(r'<svg.*?</svg>|<a class="only".*?</a>', "", markup, flags=re.DOTALL)
    return " ".join(unescape(re.sub(r"<[^>]*>", " ", markup)).split()).removeprefix("▸ ").removeprefix("▾ ")


def cells_of(row: dict[str, Any], measures: str) -> list[str]:
    """What a row of the API's JSON says, as cells of the page."""
    return [
        " ".join(" ".join(part for part in value if part) for value in values_of(name, row))
        for name in measures.split(",")
    ]


async def total_of(client: AsyncClient, link: str) -> int:
    """The total of the list that a cell leads to."""
    noun, _, query = link.partition("?")
    asked = [(value, "") if name == "without" else (name, value) for name, value in parse_qsl(query)]
    answer = await client.get(PATHS[noun], params=[*asked, ("per_page", "1")])
    assert answer.status_code == 200, (link, answer.text)
    return int(answer.json()["total"])


async def test_page_api_file_and_lists_agree(site: Site) -> None:
    """Random groups, filters and zones over clicks around changes of clocks."""
    draw, browser = random.Random(47), await signed_in(site)
    counts = {"gross", "clicks", "invalid", "conversions_approved", "conversions_pending"}
    followed = 0
    async with api_of(site.settings, scopes=SCOPES) as client:
        for _ in range(12):
            zone = draw.choice(ZONES)
            low, high = sorted(draw.choice(CHANGES) + draw.randrange(-80_000_000, 80_000_000) for _ in "lh")
            asked = {
                "group_by": ",".join(draw.sample(GROUPS, draw.randint(1, 3))),
                "rows": "all",
                "tz": zone,
                "created_from": local(low, ZoneInfo(zone)),
                "created_to": local(high, ZoneInfo(zone)),
                "measures": MEASURES,
                "limit": "500",
                **dict(
                    draw.sample([("offer_id", "1,2"), ("is_bot", "false"), ("exclude_country_code", "NL")], 1)
                ),
                **({"compare": draw.choice(["previous", "last_week"])} if draw.random() < 0.5 else {}),
            }
            await browser.get(f"{PAGE}?{urlencode(asked)}")
            assert browser.page.status_code == 200, browser.text
            of_api = {name: value for name, value in asked.items() if name != "rows"}
            answer = (await client.get(REPORTS, params=of_api)).json()
            rows = [*answer["data"], *([answer["other"]] if answer["other"] else []), answer["totals"]]
            lines = lines_of(browser.text)
            if not answer["data"] and not answer["other"]:
                assert not lines
                continue
            names = [name for name in answer["totals"] if name != "compared"]
            assert [[text for text, _ in cells] for _, cells in lines] == [
                cells_of(row, MEASURES) for row in rows
            ]

            await browser.get(f"{PAGE}/file?{urlencode(asked)}&format=csv")
            file = list(csv.DictReader(io.StringIO(browser.text)))
            kept = [name for name in names if name in counts]
            assert [[int(row[name]) for name in kept] for row in file] == [
                [row[name] for name in kept] for row in rows
            ]
            row, (_, cells) = draw.choice(list(zip(rows, lines, strict=True)))
            for name, (_, link) in zip(MEASURES.split(","), cells, strict=True):
                if link and name in counts:
                    assert await total_of(client, link) == row[name], (link, asked)
                    followed += 1
    assert followed > 10


@pytest.mark.parametrize("groups", ["offer,country,day", "day,affiliate", "hour,offer", "aff_sub,os"])
async def test_rows_open_in_place_and_add_up(site: Site, groups: str) -> None:
    browser = await signed_in(site)
    query = {
        "group_by": groups,
        "tz": "Europe/Berlin",
        "created_from": "2024-01-01",
        "measures": "gross,invalid",
        "limit": "500",
    }
    await browser.get(f"{PAGE}?{urlencode(query)}")
    closed = lines_of(browser.text)
    toggles = [unescape(one) for one in re.findall(r'class="toggle" href="([^"]+)"', browser.text)]
    assert len(toggles) >= len(closed) - 3
    await browser.get(f"{PAGE}{toggles[0].partition('#')[0]}")
    opened = lines_of(browser.text)
    assert 'aria-expanded="true"' in browser.text
    added = len(opened) - len(closed)
    assert added > 0
    assert opened[1 + added :] == closed[1:]
    inside = [[int(text.replace(",", "")) for text, _ in cells] for _, cells in opened[1 : 1 + added]]
    assert [sum(column) for column in zip(*inside, strict=True)] == [
        int(text.replace(",", "")) for text, _ in opened[0][1]
    ]
    (closing,) = [unescape(one) for one in re.findall(r'href="([^"]+)" aria-expanded="true"', browser.text)]
    await browser.get(f"{PAGE}{closing.partition('#')[0]}")
    assert lines_of(browser.text) == closed


async def test_row_leads_to_the_report_of_its_value_alone(site: Site) -> None:
    browser = await signed_in(site)
    query = "group_by=affiliate,country&created_from=2024-01-01&measures=gross&limit=500"
    await browser.get(f"{PAGE}?{query}")
    (names, cells), *_ = lines_of(browser.text)
    only = unescape(re.search(r'class="only" href="([^"]+)"', browser.text)[1])  # type: ignore[index]
    await browser.get(f"{PAGE}{only}")
    assert lines_of(browser.text)[0][0] == names
    assert [text for text, _ in lines_of(browser.text)[-1][1]] == [text for text, _ in cells]
    assert 'class="only"' not in browser.text.partition("<tfoot>")[0].partition("<tbody>")[2]


async def test_days_are_one_click_away(site: Site) -> None:
    browser = await signed_in(site)
    await browser.get(f"{PAGE}?group_by=day&created_from=2024-01-01&offer_id=1")
    spans = re.search(r'<nav class="spans".*?</nav>', browser.text, re.DOTALL)[0]  # type: ignore[index]
    addresses = [unescape(one) for one in re.findall(r'href="([^"]+)"', spans)]
    assert len(addresses) == len(PERIODS)
    for address in addresses:
        assert "created_from" not in address
        assert "offer_id=1" in address
        assert (await browser.get(address)).status_code == 200


async def test_page_of_a_partner_has_own_rows_and_columns(site: Site) -> None:
    query = {"group_by": "affiliate", "created_from": "2024-01-01", "limit": "500"}
    partner = await signed_in(site, "affiliate", affiliate_ids=[2])
    await partner.get(f"{PAGE}?{urlencode(query)}")
    lines = lines_of(partner.text)
    assert [names for names, _ in lines] == [["A2 2"], ["Total"]]
    for hidden in ("Revenue", "Profit", 'value="advertiser"', "Over cap"):
        assert hidden not in partner.text
    await partner.get(f"{PAGE}?{urlencode({**query, 'measures': 'revenue'})}")
    assert partner.page.status_code == 422
    plain_ = await signed_in(site, "analyst", hides_money=True)
    await plain_.get(f"{PAGE}?{urlencode(query)}")
    assert plain_.page.status_code == 200
    for hidden in ("Payout", "Revenue", "EPC", "EUR", "USD"):
        assert hidden not in plain_.text


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("created_from=yesterday", "created_from"),
        ("period=century", "period"),
        ("tz=Mars/Base", "tz"),
        ("min_clicks=x", "min_clicks"),
        ("offer_id=abc", "offer_id"),
        ("group_by=planet", "Group by"),
        ("measures=luck", "measures"),
        ("compare=custom", "compare_from"),
        ("colour=red", "Colour"),
    ],
)
async def test_wrong_parameter_is_named_and_nothing_is_lost(site: Site, query: str, field: str) -> None:
    browser = await signed_in(site)
    await browser.get(f"{PAGE}?group_by=offer&affiliate_id=4&{query}")
    assert browser.page.status_code == 422
    assert f'id="{field}-fault"' in browser.text or re.search(
        rf'class="notice bad"[^>]*>[^<]*{field}', browser.text
    )
    assert 'name="affiliate_id" value="4"' in browser.text


async def test_too_many_clicks_say_what_to_narrow(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "MOST_CLICKS", 2)
    browser = await signed_in(site)
    await browser.get(f"{PAGE}?group_by=city,isp&created_from=2024-01-01")
    assert browser.page.status_code == 503
    assert "at most 2 can be read one by one" in browser.text
    narrower = [
        unescape(one) for one in re.findall(r'href="(/dashboard/reports\?[^"]*period[^"]*)"', browser.text)
    ]
    assert any("period=yesterday" in one for one in narrower)
    await browser.get(narrower[0])
    assert browser.page.status_code == 200


async def test_form_leads_to_an_address_of_the_api(site: Site) -> None:
    browser = await signed_in(site)
    fields = [
        ("form", "1"),
        ("was", "last_7_days"),
        ("group_by", "offer"),
        ("group_by", ""),
        ("group_by", "day"),
    ]
    fields += [
        ("period", "last_7_days"),
        ("created_from", "2024-01-01"),
        ("measures", "clicks"),
        ("offer_id", ""),
    ]
    await browser.get(
        f"{PAGE}?{urlencode([*fields, ('add', 'country_code'), ('how', 'not'), ('value', 'NL')])}"
    )
    assert browser.page.status_code == 303
    assert browser.location == (
        f"{PAGE}?group_by=offer%2Cday&created_from=2024-01-01&exclude_country_code=NL&measures=clicks"
    )
    await browser.follow()
    assert browser.page.status_code == 200
    curl = unescape(re.search(r'id="curl" value="([^"]*)"', browser.text)[1])  # type: ignore[index]
    query = curl.partition("?")[2].rstrip("'")
    async with api_of(site.settings, scopes=SCOPES) as client:
        assert (await client.get(f"{REPORTS}?{query}")).status_code == 200
    assert "trk_" not in browser.text


@pytest.mark.parametrize(
    ("kind", "first"), [("csv", "offer_id"), ("excel", "\ufeffoffer_id"), ("ndjson", "{")]
)
async def test_files_have_the_rows_of_the_page(site: Site, kind: str, first: str) -> None:
    browser = await signed_in(site)
    query = "group_by=offer,country&created_from=2024-01-01&measures=clicks&limit=500"
    await browser.get(f"{PAGE}?{query}")
    shown = [cells[0][0].replace(",", "") for _, cells in lines_of(browser.text)]
    for rows, number in (("", len(shown)), ("&rows=all", None)):
        await browser.get(f"{PAGE}/file?{query}{rows}&format={kind}")
        assert browser.page.headers["content-disposition"].startswith("attachment")
        text = browser.page.content.decode("utf-8")
        assert text.startswith(first)
        if kind == "ndjson":
            lines = [orjson.loads(line) for line in text.splitlines()]
        else:
            lines = list(csv.DictReader(io.StringIO(text.removeprefix("\ufeff"))))
        assert str(lines[-1]["clicks"]) == shown[-1]
        if number:
            assert [str(line["clicks"]) for line in lines] == shown
        else:
            assert len(lines) > len(shown)


async def test_chart_has_the_values_of_the_days(site: Site) -> None:
    browser = await signed_in(site)
    days = "created_from=2024-10-25&created_to=2024-10-28&tz=Europe/Berlin"
    await browser.get(f"{PAGE}?group_by=day&{days}&chart=gross&compare=previous")
    async with api_of(site.settings, scopes=SCOPES) as client:
        rows = (await client.get(f"{REPORTS}?group_by=day&{days}&compare=previous")).json()["data"]
    by_day = {row["day"]: (str(row["gross"]), str(row["compared"]["gross"])) for row in rows}
    table = re.search(r'class="chart-table".*?</table>', browser.text, re.DOTALL)[0]  # type: ignore[index]
    found = re.findall(r'<th scope="row">(.*?)</th><td>(.*?)</td><td>(.*?)</td>', table)
    assert [name for name, _, _ in found] == ["2024-10-25", "2024-10-26", "2024-10-27", "2024-10-28"]
    assert {name: (now, before) for name, now, before in found} == {
        name: by_day.get(name, ("0", "0")) for name, _, _ in found
    }


async def test_views_are_a_menu(site: Site) -> None:
    browser = await signed_in(site)
    query = "group_by=country&period=today"
    await browser.get(f"{PAGE}?{query}")
    await browser.post(f"{PAGE}/views", query=query, name="By <b>country</b>")
    assert browser.location == f"{PAGE}?{query.replace(',', '%2C')}"
    await browser.follow()
    assert "By &lt;b&gt;country&lt;/b&gt;" in browser.text
    await browser.post(f"{PAGE}/views", query=query, name="By <b>country</b>")
    assert browser.page.status_code == 422
    assert "is the name of another view of yours" in browser.text
    assert '<option value="country" selected>' in browser.text
    await browser.post(
        f"{PAGE}/views", query=query.replace("today", "yesterday"), name="By <b>country</b>", replace="true"
    )
    await browser.follow()
    assert 'href="/dashboard/reports?group_by=country&amp;period=yesterday">By &lt;b&gt;' in browser.text
    colleague = await signed_in(site, "analyst")
    await colleague.get(f"{PAGE}?{query}")
    assert "By &lt;b&gt;" not in colleague.text
    await browser.get(f"{PAGE}?{query}")
    (view,) = re.findall(r'name="delete" value="(\d+)"', browser.text)
    await colleague.post(f"{PAGE}/views", query=query, delete=view)
    assert colleague.page.status_code == 404
    await browser.post(f"{PAGE}/views", query=query, delete=view)
    await browser.follow()
    assert "By &lt;b&gt;" not in browser.text


async def test_hostile_values_stay_text(site: Site) -> None:
    hostile = "<script>alert(1)</script>\"'>"
    await site.sql("UPDATE click SET aff_sub = $1", hostile)
    browser = await signed_in(site)
    query = urlencode({"group_by": "aff_sub,day", "created_from": "2024-01-01", "aff_sub": hostile})
    await browser.get(f"{PAGE}?{query}")
    assert browser.page.status_code == 200
    assert hostile not in browser.text
    assert unescape(browser.text).count(hostile) > 1
    await browser.get(f"{PAGE}?{query}&open={urlencode({'aff_sub': hostile})}&compare={hostile}")
    assert hostile not in browser.text


# The days, the comparison, and the days that it names.
COMPARED = [
    (
        "created_from=2024-10-08&created_to=2024-10-14",
        "previous",
        "the span before, 2024-10-01 to 2024-10-07",
    ),
    (
        "created_from=2024-10-01&created_to=2024-10-31",
        "previous",
        "the span before, 2024-09-01 to 2024-09-30",
    ),
    (
        "created_from=2024-03-31&created_to=2024-03-31",
        "last_month",
        "a month earlier, 2024-02-29 to 2024-02-29",
    ),
    (
        "created_from=2024-10-08+06:00:00&created_to=2024-10-08",
        "last_week",
        "a week earlier, 2024-10-01 06:00:00 to 2024-10-01",
    ),
]


async def test_compared_days_are_named(site: Site) -> None:
    browser = await signed_in(site)
    for days, compare, said in COMPARED:
        await browser.get(f"{PAGE}?group_by=offer&{days}&compare={compare}")
        assert said in browser.text, (days, compare)


async def test_unfinished_day_beside_a_whole_one_is_told(site: Site) -> None:
    browser = await signed_in(site)
    for query, is_told in (
        ("period=today&compare=previous", True),
        ("period=last_7_days&compare=last_week", True),
        ("period=today", False),
        ("period=yesterday&compare=previous", False),
    ):
        await browser.get(f"{PAGE}?{query}")
        assert (query, "Today is not over" in browser.text) == (query, is_told)
