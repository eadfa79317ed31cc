"""The table of a click's fields agrees with the code by hand, and keeps the orders that clients know."""

from __future__ import annotations

import ast
from importlib.resources import files
from typing import Any

import pytest

from tests.factories.clicks import HASH, a_click, outcomes_of
from tracker.api.clicks.schema import Click
from tracker.api.partner_access.schema import CLICKS
from tracker.domain.click_fields import ADV_SUBS, AFF_SUBS, DIMENSIONS, FROZEN, STORED, ordered
from tracker.domain.conversion import ConvertedClick
from tracker.domain.model import ClickRow, Device, Geo, Link, Outcome, Visitor
from tracker.reading.clicks import ListQuery
from tracker.store.clicks.columns import KEYS
from tracker.stream.record import Undecodable, decode, encode

RECORD = (
    b'\x01["01900000000070008000000000000001",null,false,42,513,null,[3,513,null,"","","","",'
    b'["","","","","","","","","","","","","","","","","","","",""],["","","","",""]],'
    b'["192.0.2.7","Mozilla/5.0","","en","","t.test","http://t.test/offer/3?affiliate_id=513","",""],'
    b'["Windows","10","","","desktop","x64","Chrome","141.0.0.0"],["NL",null,"Amsterdam",null,"UNK"],'
    b'[["accepted",0,3,132,1,1,"https://x.test/"]]]'
)
"""The record of `a_click()` as edges write it. A version that adds a field keeps this one readable."""

ROW: dict[str, Any] = {
    **dict.fromkeys((*AFF_SUBS, *ADV_SUBS), ""),
    "hash": HASH,
    "group_hash": HASH,
    "is_unique": True,
    "status": "accepted",
    "reason": 0,
    "is_bot": False,
    "bot_reason": None,
    "is_test": False,
    "verdict_late": False,
    "requested_offer_id": 3,
    "requested_url_id": None,
    "offer_id": 3,
    "offer_url_id": 132,
    "advertiser_id": 1,
    "brand_id": 1,
    "affiliate_id": 513,
    "aff_group_id": None,
    "affiliate_source": "",
    "external_id": "",
    "gaid": "",
    "idfa": "",
    "visitor_key": 42,
    "ip": "192.0.2.7",
    "user_agent": "Mozilla/5.0",
    "client_hints": "",
    "language": "en",
    "referrer": "",
    "host": "t.test",
    "fetch_dest": "",
    "fetch_user": "",
    "device_os": "Windows",
    "device_os_version": "10",
    "device_brand": "",
    "device_model": "",
    "device_type": "desktop",
    "platform": "x64",
    "browser": "Chrome",
    "browser_version": "141.0.0.0",
    "country_code": "NL",
    "region_code": None,
    "city": "Amsterdam",
    "isp": None,
    "mobile_carrier": "UNK",
    "requested_link": "http://t.test/offer/3?affiliate_id=513",
    "redirected_link": "https://x.test/",
}

COLUMNS = {(field.of, field.called or field.name): field.name for field in STORED}
ANSWER = b"0" + bytes.fromhex(HASH)

# Clients know these orders: a new field comes after them.
LISTED = (
    *("id", "hash", "group_hash", "offer_id", "offer_name", "offer_url_id", "advertiser_id"),
    *("advertiser_name", "aff_group_id", "brand_id", "affiliate_id", "affiliate_name", "device_model"),
    *("device_brand", "sale_status", "advertiser_external_id", *ADV_SUBS, "device_os", *AFF_SUBS),
    *("affiliate_source", "user_agent", "browser", "ip", "device_os_version", "platform", "mobile_carrier"),
    *("country_code", "region_code", "external_id", "has_conversions", "requested_link"),
    *("redirected_link", "is_unique", "created_at", "status", "reason", "is_bot", "bot_reason", "is_test"),
    *("verdict_late", "requested_offer_id", "requested_url_id", "referrer", "host", "language"),
    *("client_hints", "gaid", "idfa", "device_type", "browser_version", "city", "isp", "fetch_dest"),
    *("fetch_user", "visitor_key"),
)
DEVICE = (
    *("device_type", "device_brand", "device_model", "device_os", "device_os_version", "platform"),
    *("browser", "browser_version", "mobile_carrier", "country_code", "region_code", "city"),
)
SEEN_BY_AFFILIATE = (
    *("id", "hash", "group_hash", "offer_id", "offer_name", "offer_url_id", "affiliate_id", *AFF_SUBS),
    *("affiliate_source", "external_id", "user_agent", *DEVICE, "referrer", "has_conversions"),
    *("requested_link", "is_unique", "created_at", "status", "reason", "is_bot", "is_test"),
    "requested_offer_id",
)
SEEN_BY_ADVERTISER = (
    *("id", "hash", "group_hash", "offer_id", "offer_name", "offer_url_id", "advertiser_id"),
    *("affiliate_id", "sale_status", "advertiser_external_id", *ADV_SUBS, "user_agent", *DEVICE),
    *("has_conversions", "redirected_link", "is_unique", "created_at", "status", "is_bot", "is_test"),
)
GROUPS = (
    *("offer", "offer_url", "affiliate", "country", "device_type", "os", "browser", "status", "reason"),
    "affiliate_source",
)
FILTERS = (
    *("affiliate_id", "offer_id", "id", "hash", "offer_url_id", "advertiser_id", "country_code"),
    *("affiliate_source", "external_id", "status", "is_unique", "is_bot", "has_conversions", *AFF_SUBS),
)


def test_click_row_has_the_stored_fields() -> None:
    kinds = {
        field.name: f"{field.kind.__name__}{' | None' if field.blank is None else ''}" for field in STORED
    }
    # From the source, because mypyc drops `| None` from annotations.
    model = ast.parse(files("tracker.domain").joinpath("model.py").read_bytes()).body
    (row,) = (node for node in model if isinstance(node, ast.ClassDef) and node.name == "ClickRow")
    fields = [node for node in row.body if isinstance(node, ast.AnnAssign)]
    assert {ast.unparse(field.target): ast.unparse(field.annotation) for field in fields} == kinds
    assert set(kinds) == set(ClickRow._fields)


def test_converted_click_has_the_frozen_fields() -> None:
    assert set(ConvertedClick._fields) - {"hash", "id", "status"} == FROZEN


@pytest.mark.parametrize(
    ("known", "now"),
    [
        (LISTED, KEYS),
        (LISTED, tuple(Click.model_fields)),
        (SEEN_BY_AFFILIATE, CLICKS["affiliate"]),
        (SEEN_BY_ADVERTISER, CLICKS["advertiser"]),
        (GROUPS, tuple(DIMENSIONS)),
        (FILTERS, tuple(name for name in ListQuery.model_fields if name in FILTERS)),
    ],
)
def test_orders_that_clients_know_stay(known: tuple[str, ...], now: tuple[str, ...]) -> None:
    assert now[: len(known)] == known


def test_new_names_follow_the_known_ones() -> None:
    assert ordered(["new", "b", "newer", "a"], ["a", "b", "c"]) == ("a", "b", "new", "newer")


@pytest.mark.parametrize(
    ("noun", "values"), [("visitor", Visitor), ("device", Device), ("geo", Geo), ("link", Link)]
)
def test_value_reaches_its_column(noun: str, values: Any) -> None:
    """Each value of a noun is its own name in a record: the row has it in the column of the table."""
    texts = {name: f"{noun} {name}" for name in values._fields}
    if noun == "link":
        texts |= {"aff_subs": AFF_SUBS, "adv_subs": ADV_SUBS}
    if noun == "visitor":
        texts["ip"] = "192.0.2.9"
    click = a_click(**{noun: values(**texts)})
    _, record = encode(click, outcomes_of(click))
    row = decode({b"a": ANSWER, b"r": record})
    columns = {COLUMNS[noun, name]: text for name, text in texts.items() if (noun, name) in COLUMNS}
    assert columns
    assert {column: getattr(row, column) for column in columns} == columns
    if noun == "link":
        assert [getattr(row, name) for name in (*AFF_SUBS, *ADV_SUBS)] == [*AFF_SUBS, *ADV_SUBS]


@pytest.mark.parametrize("noun", [Visitor, Device, Geo, Outcome])
def test_values_have_a_column(noun: Any) -> None:
    assert {name for of, name in COLUMNS if of == noun.__name__.lower()} == set(noun._fields)


def test_record_is_written_as_before() -> None:
    click = a_click()
    assert encode(click, outcomes_of(click))[1] == RECORD


def test_record_is_read_as_before() -> None:
    row = decode({b"a": ANSWER, b"r": RECORD})._asdict()
    assert row | ROW == row


def test_sub_id_in_the_wrong_part_is_refused() -> None:
    moved = RECORD.replace(b'""],["","","","",""]]', b'"",""],["","","",""]]')
    assert len(moved) == len(RECORD)
    with pytest.raises(Undecodable, match="unpack"):
        decode({b"a": ANSWER, b"r": moved})
