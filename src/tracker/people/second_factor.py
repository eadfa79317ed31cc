"""The second factor: codes of an authenticator app (TOTP, RFC 6238) and recovery codes."""

from __future__ import annotations

import hmac
import re
import time
from collections.abc import Sequence
from hashlib import sha256
from secrets import choice
from typing import Final

import pyotp

from tracker.secret_key import SecretKey

STEP: Final = 30
"""Seconds of one code."""
RECOVERY_CODES: Final = 10
"""Number of recovery codes. Each works once."""

_DIGITS = re.compile(r"[0-9]{6}", re.ASCII)
_NEIGHBOURS = (0, -1, 1)  # steps by which the clock of a phone may be off
_ALPHABET = "abcdefghjkmnpqrstuvwxyz23456789"  # without letters that look like others
_CODE_LENGTH = 16  # about 79 bits
_ISSUER = "Tracker"


def new_secret() -> str:
    """A secret of 160 bits in base 32, as RFC 4226 recommends."""
    return pyotp.random_base32(32)


def seal(key: SecretKey, secret: str) -> bytes:
    """A secret as it is stored."""
    return key.seal(secret.encode())


def opened(key: SecretKey, sealed: bytes) -> str:
    """A stored secret.

    Raises:
        OtherKeyError: it was sealed with another key file.
    """
    return key.open(sealed).decode()


def address(secret: str, email: str) -> str:
    """The otpauth:// address for an authenticator app."""
    return pyotp.TOTP(secret).provisioning_uri(name=email, issuer_name=_ISSUER)


def is_of_app(code: str) -> bool:
    """Whether a code has the form of those that an app shows. Recovery codes never have it."""
    return _DIGITS.fullmatch(_plain(code)) is not None


def matching_step(secret: str, code: str, seconds: float | None = None) -> int | None:
    """The time step of a code, now or one step off. None if it is wrong."""
    if not is_of_app(code):
        return None
    plain = _plain(code)
    now = int(time.time() if seconds is None else seconds) // STEP
    totp = pyotp.TOTP(secret)
    right = [now + off for off in _NEIGHBOURS if hmac.compare_digest(totp.generate_otp(now + off), plain)]
    return right[0] if right else None


def new_recovery_codes() -> list[str]:
    """Codes to write down, in groups of four characters."""
    return [_grouped("".join(choice(_ALPHABET) for _ in range(_CODE_LENGTH))) for _ in range(RECOVERY_CODES)]


def digest(code: str) -> bytes:
    """A recovery code as it is stored. Case, spaces and hyphens make no difference."""
    return sha256("".join(code.lower().replace("-", "").split()).encode(errors="replace")).digest()


def digests(codes: Sequence[str]) -> list[bytes]:
    return [digest(code) for code in codes]


def _plain(code: str) -> str:
    return "".join(code.split())


def _grouped(code: str) -> str:
    return "-".join(code[n : n + 4] for n in range(0, len(code), 4))
