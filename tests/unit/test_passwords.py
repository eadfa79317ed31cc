"""Which passwords are taken."""

from __future__ import annotations

import pytest

from tracker.people.passwords import fault

COMMON = (
    *("password1234", "Password123!", "PASSWORD2026", "passwordpassword", "p@ssw0rd12345", "qwertyuiop123"),
    *("123456789012", "abcdefghijkl", "1qaz2wsx3edc", "adminadmin2026", "trackertracker", "iloveyou1234"),
    *("098765432112", "qwertzuiop12", "\uff50assword1234"),
)
FINE = (
    *(
        "a calm and long pass phrase",
        "correct horse battery staple",
        "test of the tall tower",
        "kx7-Ruhig-vbQ2",
    ),
    *("gr\u00fcn wie \u00e4pfel im mai", "816203957441", "welcome to my quiet garden"),
)


@pytest.mark.parametrize("password", COMMON)
def test_password_that_many_people_have_is_not_taken(password: str) -> None:
    assert "attackers try" in fault(password, "jane@net.example", "Jane")


@pytest.mark.parametrize("password", FINE)
def test_password_of_own_words_is_taken(password: str) -> None:
    assert fault(password, "jane@net.example", "Jane") == ""
