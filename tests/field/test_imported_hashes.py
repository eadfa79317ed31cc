"""Hashes in imported files: in whatever form, unless an earlier version took them for earlier ids."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

import pytest

from tests.field.advertiser import advertiser_of
from tests.integration.importing import Importer, importer
from tracker.domain.click_id import hash_for

__all__ = ["importer"]
pytestmark = pytest.mark.anyio

_AT = "2024-07-08 13:40:00"
_MILLIS = int(datetime.fromisoformat(f"{_AT}+00:00").timestamp() * 1000)
HASH = hash_for(_MILLIS, "a click")
OTHER = hash_for(_MILLIS, "its visitor's first")
FORMS = {
    "as it is kept": HASH,
    "in capitals": HASH.upper(),
    "a UUID": str(UUID(HASH)),
    "a UUID in capitals": str(UUID(HASH)).upper(),
    "with blanks": f" {HASH}\u00a0",
}


def _clicks(hash_: str, more: str = "", value: str = "") -> str:
    head = f"hash,offer_id,affiliate_id,created_at{more and f',{more}'}"
    return f"{head}\n{hash_},3,513,{_AT}{more and f',{value}'}\n"


def _conversions(hash_: str) -> str:
    return f"click_hash,status,created_at,order_id\n{hash_},pending,2024-07-09 10:00:00,\n"


@pytest.mark.parametrize("form", FORMS)
async def test_hash_in_any_form_is_the_hash(importer: Importer, form: str) -> None:
    await importer.catalogue()
    for more, value in (("", ""), ("legacy_id", "c1"), ("legacy_id", FORMS[form])):
        for name in (form, "as it is kept"):  # the second is there already
            file = importer.file("clicks.csv", _clicks(FORMS[name], more, value))
            done = await importer.run("clicks", file)
            assert (done.code, done.err) == (0, ""), (more, value)
    assert await importer.fetch("SELECT encode(uuid_send(hash), 'hex'), is_unique FROM click") == [
        (HASH, True)
    ]
    assert await importer.fetch("SELECT legacy_id FROM legacy_click") == [("c1",)]
    assert (await importer.run("conversions", importer.file("c.csv", _conversions(FORMS[form])))).code == 0


async def test_group_hash_in_any_form_leads_to_the_first_click(importer: Importer) -> None:
    await importer.catalogue()
    for hash_, first, is_unique in ((HASH, OTHER.upper(), False), (OTHER, str(UUID(OTHER)), True)):
        file = importer.file("clicks.csv", _clicks(hash_, "group_hash", first))
        assert (await importer.run("clicks", file)).code == 0
        found = await importer.fetch(
            "SELECT encode(uuid_send(group_hash), 'hex'), is_unique FROM click WHERE hash = $1", hash_
        )
        assert found == [(OTHER, is_unique)]


@pytest.mark.parametrize("form", [form for form in FORMS if form != "as it is kept"])
async def test_hash_that_an_earlier_version_took_for_an_earlier_id_is_not_doubled(
    importer: Importer, form: str
) -> None:
    text = FORMS[form]
    stored = hash_for(_MILLIS, f"earlier\0{text}")
    async with advertiser_of(importer.settings) as advertiser:
        await importer.fetch("UPDATE goal SET multiple = true, click_window = NULL WHERE id = 30")
        clicks = importer.file("clicks.csv", _clicks(text))
        assert (await importer.run("clicks", clicks)).code == 0
        await importer.fetch("UPDATE click SET hash = $1, group_hash = $1", stored)
        await importer.fetch("INSERT INTO legacy_click (legacy_id, hash) VALUES ($1, $2)", text, stored)
        await importer.fetch("DELETE FROM import_run")
        for name in ("clicks.csv", "again.csv"):
            file = importer.file(name, _clicks(text) + "\n" * (name == "again.csv"))
            done = await importer.run("clicks", file, "--json")
            assert (done.code, done.json["stored"], done.json["is_proven"]) == (0, 0, True), done.err
        conversions = importer.file("conversions.csv", _conversions(text))
        for number in (1, 0):
            done = await importer.run("conversions", conversions, "--json")
            assert (done.code, done.json["stored"] >= number) == (0, True), done.err
        assert (await advertiser.calls(f"click_id={text}&order_id=&status=pending")).result == "unchanged"
        found = await importer.fetch("SELECT encode(uuid_send(click_hash), 'hex') FROM conversion")
        assert found == [(stored,)]


async def test_earlier_id_may_look_like_a_hash(importer: Importer) -> None:
    """One of 64 random ids does."""
    earlier = "6aef39f43f0f7bb4a86c8238d42b5b7a"
    async with advertiser_of(importer.settings) as advertiser:
        await importer.fetch("UPDATE goal SET multiple = true, click_window = NULL WHERE id = 30")
        clicks = importer.file("clicks.csv", _clicks(earlier).replace("hash", "legacy_id"))
        assert (await importer.run("clicks", clicks)).code == 0
        file = importer.file("conversions.csv", _conversions(earlier).replace("00,\n", "00,o1\n"))
        done = await importer.run("conversions", file)
        assert (done.code, done.err) == (0, "")
        said = [
            (await advertiser.calls(f"click_id={earlier}&order_id={order_id}&status=pending")).result
            for order_id in ("o1", "o2")
        ]
        assert said == ["unchanged", "stored"]
        found = await importer.fetch("SELECT click_hash = (SELECT hash FROM click) FROM conversion")
        assert found == [(True,), (True,)]


async def test_hash_of_a_conversion_is_read_alike(importer: Importer) -> None:
    await importer.catalogue()
    await importer.fetch("UPDATE goal SET multiple = true")
    assert (await importer.run("clicks", importer.file("clicks.csv", _clicks(HASH)))).code == 0
    own = hash_for(_MILLIS, "a conversion")
    head = "hash,click_hash,status,created_at"
    for form in (own.upper(), str(UUID(own)), own):
        file = importer.file("a.csv", f"{head}\n{form},{HASH},pending,{_AT}\n")
        assert (await importer.run("conversions", file)).code == 0
    found = await importer.fetch("SELECT encode(uuid_send(hash), 'hex') FROM conversion")
    assert found == [(own,)]
    stored = hash_for(_MILLIS, f"earlier\0conversion\0{own.upper()}")  # by an earlier version
    await importer.fetch("UPDATE conversion SET hash = $1", stored)
    file = importer.file("b.csv", f"{head}\n{own.upper()},{HASH},pending,{_AT}\n\n")
    done = await importer.run("conversions", file, "--json")
    assert (done.code, done.json["stored"]) == (0, 0), done.err
