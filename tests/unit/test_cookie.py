import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracker.edge.read import cookie

SECRET = b"k" * 32
KEY = 0x0123456789ABCDEF
OURS = cookie.value(KEY, SECRET)
FORGED = "f" * 16 + OURS[16:]


def read(cookies: str, secret: bytes = SECRET, name: bytes = b"tv") -> int | None:
    return cookie.read({b"cookie": cookies.encode()}, name, secret)


def test_value_is_the_key_and_its_proof() -> None:
    assert OURS[:16] == f"{KEY:016x}"
    assert len(OURS) == 32
    assert cookie.value(KEY, b"other") != OURS
    assert cookie.value(KEY + 1, SECRET)[16:] != OURS[16:]


@pytest.mark.parametrize(
    ("cookies", "found"),
    [
        (f"tv={OURS}", True),
        (f"a=1; tv={OURS}; b=2", True),
        (f"a=1;tv={OURS};b=2", True),
        (f'tv="{OURS}"', True),
        (f" \ttv= {OURS} ", True),
        (f"tv={FORGED}; tv={OURS}", True),
        (f"tv=; tv=x; tv; tv={OURS}", True),
        ("x=y; " * 3000 + f"tv={OURS}", True),
        ("x=y; " * 4000 + f"tv={OURS}", False),  # beyond the limit
        (f"tv={FORGED}; " * cookie.MAX_TRIES + f"tv={OURS}", False),
        (f"tv={FORGED}", False),
        (f"tv={OURS[:-1]}", False),
        (f"tv={OURS}0", False),
        (f"tv={OURS.upper()}", False),
        (f"TV={OURS}", False),
        (f"xtv={OURS}", False),
        (f"a=tv={OURS}", False),
        (f"a=1, tv={OURS}", False),
        (f"tv2={OURS}", False),
        (f"tv\0={OURS}", False),
        ("tv=" + "ä" * 16, False),
        ("tv=" + " " * 60_000, False),
        ("; " * 30_000 + "tv", False),
        ("", False),
    ],
)
def test_first_own_cookie_is_read(cookies: str, found: bool) -> None:
    assert read(cookies) == (KEY if found else None)


def test_cookie_sent_twice_counts_once() -> None:
    assert read(f"tv={OURS}; tv={cookie.value(7, SECRET)}") == KEY
    assert read(f"tv={cookie.value(7, SECRET)}; tv={OURS}") == 7


def test_cookie_of_another_deployment_or_name_is_ignored() -> None:
    assert read(f"tv={OURS}", secret=b"other") is None
    assert read(f"tv={OURS}", name=b"id") is None
    assert read(f"t+v={OURS}", name=b"t+v") == KEY
    assert read(f"ttv={OURS}", name=b"t+v") is None
    assert cookie.read({}, b"tv", SECRET) is None


@pytest.mark.parametrize(
    ("secure", "end"), [(True, b"; SameSite=Lax; Secure"), (False, b"; HttpOnly; SameSite=Lax")]
)
def test_set_cookie_header_of_a_browser(secure: bool, end: bytes) -> None:
    header = cookie.header(b"tv", KEY, SECRET, 31_536_000, secure)
    assert header.startswith(f"tv={OURS}; Max-Age=31536000; Path=/; HttpOnly; SameSite=Lax".encode())
    assert header.endswith(end)


@given(st.integers(0, 2**64 - 1), st.binary(max_size=64))
def test_visitor_key_is_read_back_from_the_cookie(key: int, secret: bytes) -> None:
    sent = cookie.header(b"tv", key, secret, 60, secure=False).partition(b";")[0]
    assert cookie.read({b"cookie": sent}, b"tv", secret) == key


@given(st.binary(max_size=200))
def test_cookie_of_random_bytes_is_refused(noise: bytes) -> None:
    for cookies in (noise, b"tv=" + noise, f"tv={OURS[:16]}".encode() + noise):
        assert cookie.read({b"cookie": cookies}, b"tv", SECRET) is None
