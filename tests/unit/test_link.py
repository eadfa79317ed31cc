import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracker.edge.read.link import MAX_DEEP_LINK, MAX_TEST, MAX_VALUE, read_link

IDS = [
    ("/offer/3", b"affiliate_id=513", 3, 513),
    ("/offer/3/", b"aff_id=513", 3, 513),
    ("/backend/api/v3/offer/3/", b"affiliate_id=513", 3, 513),
    ("/offer/999999999999999999", b"affiliate_id=1", 999999999999999999, 1),
    ("/offer/1000000000000000000", b"affiliate_id=1", 0, 1),
    ("/offer/03", b"affiliate_id=0", 0, 0),
    ("/offer/-3", b"affiliate_id=%2B5", 0, 0),
    ("/offer/3/4", b"affiliate_id=5.0", 0, 0),
    ("/offer/", b"affiliate_id=", 0, 0),
    ("/offer/٣", "affiliate_id=٣".encode(), 0, 0),
    ("/offer/3", b"affiliate_id=1&affiliate_id=2", 3, 1),
    ("/offer/3", b"aff_id=1&affiliate_id=2", 3, 1),
    ("/offer/3", b"affiliate_id=&affiliate_id=2", 3, 0),
    ("/offer/3", b"offer_id=4&affiliate_id=1", 3, 1),
    ("/offer/", b"offer_id=4&affiliate_id=1", 0, 1),
    ("/offer/3", b"affiliate%5Fid=7", 3, 7),
    ("/offer/3", b"fbclid=x&gclid&&=&affiliate_id=%31%32", 3, 12),
]


@pytest.mark.parametrize(("path", "query", "offer_id", "affiliate_id"), IDS)
def test_link_ids_are_read_strictly(path: str, query: bytes, offer_id: int, affiliate_id: int) -> None:
    link = read_link(path, query)
    assert (link.offer_id, link.affiliate_id) == (offer_id, affiliate_id)


VALUES = [
    (b"aff_sub=a+b", "a b"),
    (b"aff_sub=a%2Bb", "a+b"),
    (b"sub1=x", "x"),
    (b"aff_sub1=x&aff_sub=y", "x"),
    (b"aff_sub=%C3%A4", "ä"),
    ("aff_sub=ä".encode(), "ä"),
    (b"aff_sub=%E4", "%E4"),  # bytes that are not UTF-8 stay as text
    (b"aff_sub=%25E4", "%E4"),
    (b"aff_sub=\xff", "%FF"),
    (b"aff_sub=%ED%A0%80", "%ED%A0%80"),
    (b"aff_sub=%C3%A4%E4", "ä%E4"),
    (b"aff_sub=" + b"%e4" * 200, "%E4" * 166),  # 498 characters: no escape is split
    (b"aff_sub=" + b"%25" * 600, "%" * MAX_VALUE),
    (b"aff_sub=%", "%"),
    (b"aff_sub=%zz%4", "%zz%4"),
    (b"aff_sub=a%00b%0D%0Ac%7F", "abc"),
    (b"aff_sub=a%C2%85b", "ab"),
    (b"aff_sub=a=b", "a=b"),
    (b"aff_sub", ""),
    (b"aff_sub=" + b"x" * 600, "x" * MAX_VALUE),
    (b"aff_sub=" + b"%F0%9F%98%80" * 501, "😀" * MAX_VALUE),
]


@pytest.mark.parametrize(("query", "value"), VALUES)
def test_link_values_are_decoded_and_cropped(query: bytes, value: str) -> None:
    assert read_link("/offer/3", query).aff_subs[0] == value


def test_parameters_have_their_places() -> None:
    subs = "&".join(f"aff_sub{n if n > 1 else ''}=s{n}" for n in range(1, 21))
    advs = "&".join(f"adv_sub{n if n > 1 else ''}=v{n}" for n in range(1, 6))
    query = f"affiliate_id=1&offer_url_id=5&affiliate_source=src&external_id=e&gaid=g&idfa=i&{subs}&{advs}"
    link = read_link("/offer/3", query.encode())
    assert (link.url_id, link.source, link.external_id, link.gaid, link.idfa) == (5, "src", "e", "g", "i")
    assert link.aff_subs == tuple(f"s{n}" for n in range(1, 21))
    assert link.adv_subs == tuple(f"v{n}" for n in range(1, 6))


SHOP = "https://shop.test/"

DEEP_LINKS = [
    (b"", ""),
    (b"url=", ""),
    (b"url=https://shop.test/", SHOP),
    (b"url=https%3A%2F%2Fshop.test%2F%3Fa%3D1%26b%3D2", SHOP + "?a=1&b=2"),
    (b"url=https%3A%2F%2Fshop.test%2F%3Fa%3D%2520", SHOP + "?a=%20"),  # decoded once
    (b"url=https://shop.test/?a=b", SHOP + "?a=b"),
    (b"url=https://shop.test/%C3%A4", SHOP + "ä"),
    (b"url=https://shop.test/%C2%A0%F0%9F%98%80", SHOP + "\u00a0😀"),
    (b"url=https://shop.test/&url=https://other.test/", SHOP),
    (b"url=&url=https://other.test/", ""),
    (b"url=" + b"x" * MAX_DEEP_LINK, "x" * MAX_DEEP_LINK),
    (b"url=" + b"x" * (MAX_DEEP_LINK + 1), ""),
    (b"url=" + b"%78" * MAX_DEEP_LINK, "x" * MAX_DEEP_LINK),
    (b"url=https://shop.test/%0d%0a", ""),
    (b"url=https://shop.test/%00", ""),
    (b"url=https://shop.test/%E4", SHOP + "%E4"),
    (b"url=https://shop.test/\xff", SHOP + "%FF"),
]


@pytest.mark.parametrize(("query", "deep_link"), DEEP_LINKS)
def test_deep_link_is_whole_or_absent(query: bytes, deep_link: str) -> None:
    assert read_link("/offer/3", query).deep_link == deep_link


@pytest.mark.parametrize(
    ("query", "test"),
    [
        (b"", ""),
        (b"test=1800000000.0a1b", "1800000000.0a1b"),
        (b"test=%31.x&test=2", "1.x"),
        (b"test=" + b"x" * 200, "x" * MAX_TEST),
        (b"test=a%00b", "ab"),
    ],
)
def test_signature_is_cropped(query: bytes, test: str) -> None:
    assert read_link("/offer/3", query).test == test


@given(st.text(), st.binary(max_size=2000))
def test_random_bytes_are_read(path: str, query: bytes) -> None:
    link = read_link("/offer/" + path, query)
    for text in (link.source, *link.aff_subs, *link.adv_subs):
        assert len(text) <= MAX_VALUE
        assert not any(ord(character) < 32 or 127 <= ord(character) < 160 for character in text)
        text.encode()
