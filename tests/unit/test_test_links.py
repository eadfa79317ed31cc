import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.factories.clicks import a_click
from tracker.domain.model import Link
from tracker.domain.test_links import is_valid, sign

SECRET = b"k" * 32
EXPIRES = 1_800_000_000


def a_link(test: str, **changes: int) -> Link:
    return a_click().link._replace(offer_id=3, affiliate_id=513, test=test)._replace(**changes)


def test_signature_is_a_time_and_twenty_digits() -> None:
    time, _, digits = sign(SECRET, 3, 513, EXPIRES).partition(".")
    assert (time, len(digits)) == (str(EXPIRES), 20)
    assert int(digits, 16) >= 0


GOOD = sign(SECRET, 3, 513, EXPIRES)


@pytest.mark.parametrize(
    ("link", "millis", "valid"),
    [
        (a_link(GOOD), EXPIRES * 1000 - 1, True),
        (a_link(GOOD), EXPIRES * 1000, False),
        (a_link(GOOD, offer_id=4), 0, False),
        (a_link(GOOD, affiliate_id=514), 0, False),
        (a_link(GOOD, url_id=7), 0, True),  # any URL of the offer
        (a_link(sign(b"other" * 6, 3, 513, EXPIRES)), 0, False),
        (a_link(sign(SECRET, 35, 13, EXPIRES)), 0, False),  # the digits of 3 and 513, cut elsewhere
        (a_link(GOOD.replace(str(EXPIRES), str(EXPIRES + 1))), 0, False),
        (a_link("0" + GOOD), 0, False),
        (a_link(GOOD.upper()), 0, False),
        (a_link(GOOD[:-1]), 0, False),
        (a_link(GOOD + "0"), 0, False),
        (a_link(f"{EXPIRES}."), 0, False),
        (a_link(str(EXPIRES)), 0, False),
        (a_link(""), 0, False),
        (a_link("."), 0, False),
        (a_link("1"), 0, False),
        (a_link("-1.aa"), 0, False),
        (a_link("٣." + "0" * 20), 0, False),
        (a_link("²." + "0" * 20), 0, False),
        (a_link("1.ä"), 0, False),
        (a_link("9" * 100), 0, False),
    ],
)
def test_test_link_is_recognised(link: Link, millis: int, valid: bool) -> None:
    assert is_valid(SECRET, link, millis) is valid


@given(st.text(max_size=100))
def test_signature_of_random_text_is_refused(text: str) -> None:
    assert not is_valid(SECRET, a_link(text), 0)
    assert not is_valid(SECRET, a_link(f"{EXPIRES}.{text}"), 0)
