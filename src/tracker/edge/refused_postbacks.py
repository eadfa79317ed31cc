"""Refused postbacks on their way to the log: as they came, but without secrets.

A wrong call may have a secret in any place. So known secrets are hidden by their value (see
AdvertiserSecrets.hide), and values under names like `token` are hidden too. Of other long texts in unknown
places only the length is kept.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping

from tracker.domain.normalise import cut
from tracker.domain.postback import PARAMETERS, RefusedPostback
from tracker.edge.catalogue.advertiser_secrets import HIDDEN, PIECE, AdvertiserSecrets
from tracker.edge.read.text import crop
from tracker.edge.record.later_log import LaterLog
from tracker.settings import Settings
from tracker.stream.refused_postbacks import RefusedStream

MAX_NAMES, MAX_NAME, MAX_TEXT = 30, 50, 200
"""Most parameters that are kept, and the longest name and value in characters."""
MAX_PARAMETERS = 2_000
"""Most bytes of all names and values, so that the stream takes the record."""

_LOOKED_AT = 2_000  # characters
_SECRET_NAME = re.compile(r"token|secret|passw|pwd|auth|key|sign|cred", re.IGNORECASE)
_LONG = re.compile(r"[A-Za-z0-9._~+/=%\\-]{16,}")
"""16 or more token characters: longer than most words, and as long as most secrets."""


class RefusedLog(LaterLog[RefusedPostback]):
    """Collects refused postbacks, and logs them every second."""

    def __init__(self, settings: Settings) -> None:
        assert settings.redis_url
        stream = RefusedStream(settings.redis_url)
        super().__init__("refused postbacks", stream.append, stream.close)


def shown_parameters(
    parameters: Mapping[str, str],
    secrets: AdvertiserSecrets,
    known: Collection[str] = PARAMETERS,
    secret: str = "",
) -> dict[str, str]:
    """Parameters without secrets, `known` ones first. `secret` is a further name of one."""
    shown: dict[str, str] = {}
    size = 0
    for name, text in sorted(parameters.items(), key=lambda one: one[0] not in known):
        name, text = (name, HIDDEN) if name == secret else _shown(name, text, secrets, known)
        size += len(name.encode()) + len(text.encode())
        if len(shown) == MAX_NAMES or size > MAX_PARAMETERS:
            break
        shown.setdefault(name, text)
    return shown


def shown_text(text: str, secrets: AdvertiserSecrets) -> str:
    """A text from a known place, such as the path or a known parameter, without secrets."""
    return cut(secrets.hide(_beginning(text)), MAX_TEXT)


def _shown(name: str, text: str, secrets: AdvertiserSecrets, known: Collection[str]) -> tuple[str, str]:
    if name in known:
        return name, shown_text(text, secrets)
    is_secret = text != "" and _SECRET_NAME.search(name)
    name = cut(_lengths(secrets.hide(_beginning(name))), MAX_NAME)
    return name, HIDDEN if is_secret else cut(_lengths(secrets.hide(_beginning(text))), MAX_TEXT)


def _lengths(text: str) -> str:
    return _LONG.sub(lambda match: f"({len(match[0])} characters)", text)


def _beginning(text: str) -> str:
    """The start of a text, up to the end of a word: half a secret could not be recognised."""
    if len(text) > _LOOKED_AT:
        end = PIECE.match(text, _LOOKED_AT)
        text = text[: end.end() if end else _LOOKED_AT]
    return crop(text, len(text))
