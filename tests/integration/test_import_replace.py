"""`tracker import --replace`: rows of the same source become what the file says, with counts and books."""

from __future__ import annotations

from decimal import Decimal

import pytest

from tests.factories.clicks import a_click, a_row, store
from tests.factories.conversions import NOT_AS_CLICK
from tests.integration.importing import Done, Importer, importer
from tracker.domain.click_id import Mint, hash_for
from tracker.domain.postback import Source, read_postback
from tracker.store import db
from tracker.store.clicks import insert as clicks
from tracker.store.conversions import apply_postback

__all__ = ["importer"]
pytestmark = pytest.mark.anyio

_AT = 1_720_446_000_000  # 2024-07-08 13:40:00 UTC
_HASH = hash_for(_AT, "earlier\0c1")
_FIRST = """\
legacy_id,offer_id,affiliate_id,created_at,country_code,aff_sub,user_agent
c1,3,513,2024-07-08 13:40:00,DE,banner,Mozilla
c2,3,513,2024-07-08 13:41:00,NL,banner,Mozilla
c3,4,514,2024-07-09 13:41:00,NL,banner,Mozilla
"""
_SECOND = """\
legacy_id,offer_id,affiliate_id,created_at,country_code,aff_sub
c1,4,514,2024-07-08 13:40:00,NO,other
c2,3,513,2024-07-08 13:41:00,NL,banner
c3,4,514,2024-07-09 13:41:00,,banner
c4,4,514,2024-07-09 13:42:00,,banner
"""
_CONVERSIONS = """\
click_hash,legacy_id,status,created_at,order_id,payout,revenue,currency
c1,v1,approved,2024-07-10 10:00:00,o1,1.00,2.00,EUR
c2,v2,pending,2024-07-10 10:00:00,o2,1.00,2.00,EUR
c3,v3,rejected,2024-07-10 10:00:00,o3,1.00,2.00,EUR
"""


async def _import(importer: Importer, kind: str, content: str, *words: str) -> Done:
    return await importer.run(kind, importer.file(f"{kind}.csv", content), *words)


_SHOWN = (
    "offer_id, affiliate_id, requested_offer_id, brand_id, aff_group_id, country_code, aff_sub, user_agent"
)


async def test_clicks_become_what_the_file_says(importer: Importer) -> None:
    """Fields that the file leaves out stay. The feed brings the replaced ones again."""
    await importer.catalogue()
    assert (await _import(importer, "clicks", _FIRST)).code == 0
    ((last,),) = await importer.fetch("SELECT max(id) FROM click")
    dry = await _import(importer, "clicks", _SECOND, "--replace", "--dry-run")
    assert dry.out.endswith(
        "3 of 4 clicks are there already. 2 are there with other values (country_code of 2, offer_id of 1,"
        " affiliate_id of 1, aff_sub of 1). 2 of them would be replaced, 0 stay\n"
    )
    done = await _import(importer, "clicks", _SECOND, "--replace")
    assert (done.code, done.err) == (0, "")
    assert "4 rows: 1 stored, 2 replaced, 1 there already, 0 refused" in done.out
    assert await importer.fetch(f"SELECT id > {last}, {_SHOWN} FROM click ORDER BY hash") == [
        (True, 4, 514, 4, None, None, "NO", "other", "Mozilla"),
        (False, 3, 513, 3, 9, 7, "NL", "banner", "Mozilla"),
        (True, 4, 514, 4, None, None, None, "banner", "Mozilla"),
        (True, 4, 514, 4, None, None, None, "banner", ""),
    ]
    await importer.check_sums()
    assert await importer.fetch("SELECT sum(stored)::int, sum(imported)::int FROM click_minute_part") == [
        (4, 4)
    ]
    back = await _import(importer, "clicks", _FIRST, "--replace", "--json")
    assert (back.json["replaced"], back.json["is_proven"]) == (2, True)
    again = await _import(importer, "clicks", _SECOND, "--replace", "--json")
    assert (again.json["replaced"], again.json["present"]) == (2, 2)


async def test_clicks_of_others_stay(importer: Importer) -> None:
    """A live click with the hash of a row, and a click of another source."""
    await importer.catalogue()
    connection = await db.connect(str(importer.settings.postgres_dsn))
    await clicks.prepare(connection)
    await store(connection, [a_row(a_click(hash=_HASH))])
    await connection.close()
    assert (await _import(importer, "clicks", _FIRST.replace("\nc", "\nd"), "--source", "other")).code == 0
    before = await importer.fetch("SELECT click FROM click ORDER BY hash")
    exported = f"hash,offer_id,affiliate_id,created_at,aff_sub\n{_HASH},4,514,2024-07-08 13:40:00,x\n"
    done = await _import(importer, "clicks", exported, "--replace")
    assert done.code == 1
    assert done.err == (
        "clicks.csv:2: is there with another offer_id, affiliate_id, aff_sub."
        " It stays, because no import of this source stored it\n"
    )
    theirs = _SECOND.replace("\nc", "\nd")
    assert (await _import(importer, "clicks", theirs, "--replace")).code == 1
    assert await importer.fetch("SELECT click FROM click ORDER BY hash") == before


async def test_conversions_follow_their_clicks(importer: Importer) -> None:
    """They get the new values, unless their money depends on these."""
    await importer.catalogue()
    assert (await _import(importer, "clicks", _FIRST)).code == 0
    assert (await _import(importer, "conversions", _CONVERSIONS)).code == 0
    done = await _import(importer, "clicks", _SECOND, "--replace")
    assert done.code == 1
    assert done.err == (
        "clicks.csv:2: is there with another offer_id, affiliate_id, country_code, aff_sub. It stays, because"
        " its conversions are of its offer_id, affiliate_id: take them back first (tracker import undo)\n"
    )
    assert await importer.fetch(NOT_AS_CLICK) == [(0,)]
    assert await importer.fetch("SELECT country_code FROM conversion ORDER BY id") == [
        ("DE",), ("NL",), (None,)
    ]  # fmt: skip
    await importer.check_sums()


_CHANGED = """\
click_hash,legacy_id,status,created_at,order_id,payout,revenue,currency
c1,v1,{},2024-07-10 10:00:00,o1,{},2.50,EUR
c2,v2,approved,2024-07-10 10:00:00,o2,1.00,2.00,EUR
c3,v3,rejected,2024-07-10 10:00:00,o3,7.00,2.00,EUR
"""
_TWICE = [("approval", "1.00", "2.00")] * 2
_BOOKED = {
    ("approved", "1.25"): [*_TWICE, ("correction", "0.25", "0.50")],
    ("rejected", "1.00"): [*_TWICE, ("reversal", "-1.00", "-2.00")],
}


@pytest.mark.parametrize("closed", [False, True])
@pytest.mark.parametrize(("status", "payout"), _BOOKED)
async def test_differences_are_booked(importer: Importer, status: str, payout: str, closed: bool) -> None:
    await importer.catalogue()
    assert (await _import(importer, "clicks", _FIRST)).code == 0
    assert (await _import(importer, "conversions", _CONVERSIONS)).code == 0
    if closed:
        await importer.fetch("INSERT INTO period_close (until, author) VALUES ('2024-08-01+00', 'x')")
    first = await importer.fetch("SELECT * FROM conversion_entry")
    content = _CHANGED.format(status, payout)
    dry = await _import(importer, "conversions", content, "--replace", "--dry-run")
    assert dry.out.endswith("3 of them would be replaced, 0 stay\n")
    assert await importer.fetch("SELECT * FROM conversion_entry") == first
    done = await _import(importer, "conversions", content, "--replace")
    assert (done.code, done.err) == (0, "")
    assert "0 stored, 3 replaced, 0 there already" in done.out
    entries = await importer.fetch("SELECT kind, payout, revenue FROM conversion_entry ORDER BY kind, id")
    assert entries == [(kind, Decimal(one), Decimal(two)) for kind, one, two in _BOOKED[status, payout]]
    assert await importer.fetch("SELECT * FROM conversion_entry ORDER BY id LIMIT 1") == first
    assert await importer.fetch("SELECT DISTINCT is_adjustment FROM conversion_entry WHERE id > 1") == [
        (closed,)
    ]
    assert await importer.fetch("SELECT count(*) FROM conversion_change WHERE NOT is_announced") == [(0,)]
    await importer.check_sums()
    again = await _import(importer, "conversions", content, "--replace", "--json")
    assert (again.json["present"], again.json["is_proven"]) == (3, True)


async def test_conversions_of_others_stay(importer: Importer) -> None:
    """What a postback has changed since, and what another source stored."""
    await importer.catalogue()
    assert (await _import(importer, "clicks", _FIRST)).code == 0
    assert (await _import(importer, "conversions", _CONVERSIONS)).code == 0
    parameters = {"click_id": "c2", "order_id": "o2", "status": "rejected"}
    postback = read_postback(Mint().hash(), Source.API, "", None, parameters)
    connection = await db.connect(str(importer.settings.postgres_dsn))
    async with connection.transaction():
        await apply_postback.take(connection, [postback], None)
    await connection.close()
    await importer.fetch("UPDATE conversion SET import_source = 'other' WHERE order_id = 'o3'")
    before = await importer.fetch("SELECT to_jsonb(conversion) FROM conversion ORDER BY id")
    content = _CHANGED.format("approved", "1.00").replace("2.50", "2.00").replace("c2,v2,a", "c1,v2,a")
    done = await _import(importer, "conversions", content, "--replace")
    assert done.code == 1
    assert done.err == (
        "conversions.csv:3: is there with another click_hash, status."
        " It stays, because a postback or a person has changed it since\n"
        "conversions.csv:4: is there with another payout."
        " It stays, because no import of this source stored it\n"
    )
    assert await importer.fetch("SELECT to_jsonb(conversion) FROM conversion ORDER BY id") == before


@pytest.mark.parametrize(("field", "status", "payout"), [("status", "pending", 1), ("payout", "approved", 5)])
async def test_decided_conversions_stay_and_are_named(
    importer: Importer, field: str, status: str, payout: int
) -> None:
    """Otherwise the file's values would pass for those of the book."""
    await importer.catalogue()
    assert (await _import(importer, "clicks", _FIRST)).code == 0
    assert (await _import(importer, "conversions", _CONVERSIONS)).code == 0
    upload = importer.file("upload.csv", "hash,status\nc2,approved\n")
    assert (await importer.command("status-upload", upload)).code == 0
    first = "c2,v2,pending,2024-07-10 10:00:00,o2,1.00"
    content = _CONVERSIONS.replace(first, f"c2,v2,{status},2024-07-10 10:00:00,o2,{payout}.00")
    done = await _import(importer, "conversions", content, "--replace")
    assert (done.code, done.err) == (
        1,
        f"conversions.csv:3: is there with another {field}."
        " It stays, because a postback or a person has changed it since\n",
    )
    assert await importer.fetch("SELECT status, payout FROM conversion WHERE order_id = 'o2'") == [
        ("approved", Decimal(1))
    ]
    await importer.check_sums()
    assert (await _import(importer, "conversions", _CONVERSIONS)).code == 0


async def test_what_an_undo_reversed_is_approved_again(importer: Importer) -> None:
    await importer.catalogue()
    assert (await _import(importer, "clicks", _FIRST)).code == 0
    assert (await _import(importer, "conversions", _CONVERSIONS)).code == 0
    assert (await importer.run("undo", "--source", "earlier", "--reverse-booked", "--yes")).code == 0
    assert (await _import(importer, "clicks", _FIRST)).code == 0
    told = await _import(importer, "conversions", _CONVERSIONS)
    assert (told.code, told.err) == (1, "conversions.csv:2: is there with another status\n")
    done = await _import(importer, "conversions", _CONVERSIONS, "--replace")
    assert (done.code, done.err) == (0, "")
    assert await importer.fetch("SELECT kind, payout FROM conversion_entry ORDER BY id") == [
        ("approval", Decimal(1)), ("reversal", Decimal(-1)), ("approval", Decimal(1))
    ]  # fmt: skip
    await importer.check_sums()


_MANY = 3_000


def _many(country: str, payout: str) -> dict[str, str]:
    head = "legacy_id,offer_id,affiliate_id,created_at,country_code\n"
    rows = "".join(f"c{n},3,513,{1_720_446_000 + n},{country}\n" for n in range(_MANY))
    sold = "click_hash,legacy_id,status,created_at,order_id,payout,revenue,currency\n" + "".join(
        f"c{n},v{n},approved,2024-07-10 10:00:00,o{n},{payout},1,EUR\n" for n in range(_MANY)
    )
    return {"clicks": head + rows, "conversions": sold}


_HOW_MANY = {
    "clicks": "SELECT count(*) FROM click WHERE country_code = 'NO'",
    "conversions": "SELECT count(*) FROM conversion WHERE payout = 0.02",
}


async def test_killed_replacement_goes_on(importer: Importer) -> None:
    await importer.catalogue()
    for kind, content in _many("DE", "0.01").items():
        assert (await _import(importer, kind, content)).code == 0
    for kind, content in _many("NO", "0.02").items():
        path = importer.file(f"{kind}.csv", content)
        await importer.kill("SELECT FROM import_run WHERE replaced > 0", "import", kind, path, "--replace")
        ((done, replaced),) = await importer.fetch(
            f"SELECT rows, replaced FROM import_run WHERE replaced > 0 AND kind = '{kind}'"
        )
        assert 0 < done == replaced < _MANY
        assert await importer.fetch(_HOW_MANY[kind]) == [(done,)]
        told = await importer.run(kind, path, "--replace", "--json")
        assert (told.json["replaced"], told.json["is_proven"]) == (_MANY, True)
        assert await importer.fetch(_HOW_MANY[kind]) == [(_MANY,)]
    assert await importer.fetch("SELECT count(*), sum(payout) FROM conversion_entry") == [
        (2 * _MANY, Decimal("0.02") * _MANY)
    ]
    await importer.check_sums()
