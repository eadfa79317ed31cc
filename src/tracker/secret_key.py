"""The key file: one key that encrypts the secrets which the tracker itself must be able to read.

The file is outside the database and its backups. So a stolen dump has no readable secret. Encryption is
Fernet of the package cryptography: AES-128-CBC with HMAC-SHA256
(https://github.com/fernet/spec/blob/master/Spec.md).
"""

from __future__ import annotations

import os
import tempfile
from contextlib import suppress
from pathlib import Path

from cryptography.fernet import Fernet, InvalidToken

from tracker.errors import CannotStartError

_FOR_OTHERS, _FOR_READING_GROUP = 0o077, 0o040
_LONGEST_FILE = 1024  # bytes


class OtherKeyError(Exception):
    """A secret was encrypted with another key than that of the key file."""


class SecretKey:
    """The key of one key file."""

    def __init__(self, text: bytes) -> None:
        """Raises ValueError if the text is not a key."""
        self._fernet = Fernet(text)

    def seal(self, secret: bytes) -> bytes:
        """Encrypt a secret. Two calls never give the same bytes."""
        return self._fernet.encrypt(secret)

    def open(self, sealed: bytes) -> bytes:
        """Decrypt a secret.

        Raises:
            OtherKeyError: it was encrypted with another key, or was changed.
        """
        try:
            return self._fernet.decrypt(sealed)
        except InvalidToken:
            raise OtherKeyError from None


def load(path: Path) -> SecretKey:
    """The key of a file. A missing file is made first, for its owner only.

    Of several processes that make it at once, one wins, and all read the same key.

    Raises:
        CannotStartError: it cannot be made or read, others may read it, or it is not a key file.
    """
    with suppress(FileNotFoundError):
        return read(path)
    try:
        _make(path)
    except OSError as error:
        raise CannotStartError(f"the key file {path} cannot be made: {error.strerror}. {_ADVICE}") from error
    return read(path)


def read(path: Path) -> SecretKey:
    """The key of an existing file.

    Raises:
        FileNotFoundError: there is no such file.
        CannotStartError: it cannot be read, others may read it, or it is not a key file.
    """
    try:
        with path.open("rb") as file:
            status = os.fstat(file.fileno())
            text = file.read(_LONGEST_FILE)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise CannotStartError(f"the key file {path} cannot be read: {error.strerror}. {_ADVICE}") from error
    if is_open_to_others(status):
        raise CannotStartError(f"the key file {path} is open to other users: run `chmod 600 {path}`")
    try:
        return SecretKey(text)
    except ValueError:
        raise CannotStartError(
            f"{path} is not a key file: put the right file there. Or remove it to get a new key, "
            "rotate the secrets of all webhooks, and reset the second factors of users"
        ) from None


def is_open_to_others(status: os.stat_result) -> bool:
    """Whether users may read or change a file whom nobody chose.

    Kubernetes and systemd hand secrets over as files of root that one group may read. Root chose that group.
    """
    allowed = _FOR_READING_GROUP if status.st_uid == 0 != os.geteuid() else 0
    return bool(status.st_mode & _FOR_OTHERS & ~allowed)


def check(path: Path) -> None:
    """Refuse a file that `load` would refuse. A missing file is fine.

    Raises:
        CannotStartError: as for `read`.
    """
    with suppress(FileNotFoundError):
        read(path)


_ADVICE = "Give it to the user of the API and the worker, or set TRACKER_SECRET_KEY_FILE to another path"


def _make(path: Path) -> None:
    """Write a whole file beside the path, and give it its name unless another process was faster."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    number, name = tempfile.mkstemp(prefix=f"{path.name}.", dir=path.parent)
    try:
        with os.fdopen(number, "wb") as file:  # mkstemp makes files with the rights 0600
            file.write(Fernet.generate_key() + b"\n")
            file.flush()
            os.fsync(file.fileno())
        with suppress(FileExistsError):
            os.link(name, path)
    finally:
        os.unlink(name)
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
