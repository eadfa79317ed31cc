"""Formats of times in foreign files, as `strptime` of C and Python has them: `%d.%m.%Y %H:%M`."""

from __future__ import annotations

import re
from datetime import UTC, datetime, tzinfo
from typing import NamedTuple

from tracker.domain.local_time import first_second, zone_named

_DIRECTIVE = re.compile(r"%-?(.)", re.DOTALL)
_READ = frozenset("YymbBdjHIpMSfzaA%")
_ZONE = " %Z"
_OTHERS = {
    "c": "write its parts, such as %a %b %d %H:%M:%S %Y",
    "D": "write %m/%d/%y",
    "F": "write %Y-%m-%d",
    "R": "write %H:%M",
    "T": "write %H:%M:%S",
    "e": "write %d",
    "k": "write %H",
    "l": "write %I",
    "s": "Unix seconds are read without a format",
    "Z": "a zone's name is read at the end, behind a space",
    "x": "write its parts, such as %m/%d/%y",
    "X": "write its parts, such as %H:%M:%S",
}
_PROBE = datetime(2019, 11, 23, 21, 43, 57, 250_000, UTC)  # no two parts of it are equal
_TIMES = tuple(
    (_PROBE.replace(**dict.fromkeys(("hour", "minute", "second", "microsecond")[kept:], 0))).time()  # type: ignore[arg-type]
    for kept in range(5)
)


class DateFormat(NamedTuple):
    """One format. Local times are of the file's zone."""

    text: str  # without its zone
    has_zone: bool  # its last part is the name of a zone

    @property
    def shown(self) -> str:
        return self.text + _ZONE if self.has_zone else self.text

    @classmethod
    def of(cls, text: str) -> DateFormat:
        """
        Raises:
            ValueError: it is no format of a day or a time.
        """
        has_zone = text.endswith(_ZONE)
        format_ = text.removesuffix(_ZONE)
        for found in _DIRECTIVE.finditer(format_):
            if (directive := found[1]) not in _READ:
                raise ValueError(f"has %{directive}: {_OTHERS.get(directive, 'there is no such part')}")
        format_ = format_.replace("%-", "%")  # strptime reads 7 and 07 alike
        _try(format_)
        return cls(format_, has_zone)

    def read(self, text: str, zone: tzinfo) -> int | None:
        """Unix milliseconds, or None if the text has another format.

        A local time that clocks skip or show twice is the first second of both.

        Raises:
            ValueError: its zone is not known.
        """
        if self.has_zone:
            text, _, name = text.rpartition(" ")
        try:
            parsed = datetime.strptime(text, self.text)  # noqa: DTZ007 - local times are naive
        except ValueError:
            return None
        if parsed.tzinfo is not None:
            return round(parsed.timestamp() * 1000)
        if self.has_zone:
            zone = _zone(name)
        second = first_second(parsed.replace(microsecond=0), zone)
        return second * 1000 + parsed.microsecond // 1000


def _zone(name: str) -> tzinfo:
    try:
        return UTC if name in ("GMT", "Z") else zone_named(name)
    except ValueError:
        raise ValueError(
            f"has the zone {name[:40]!r}, which is not a zone of IANA: take it out, and give --tz"
        ) from None


def _try(format_: str) -> None:
    """Check that a format keeps the day, and the hour before the minutes.

    Raises:
        ValueError: it does not.
    """
    try:
        parsed = datetime.strptime(_PROBE.strftime(format_), format_)  # noqa: DTZ007 - only compared
    except (ValueError, re.error):  # of a part that is there twice
        raise ValueError("is not a format of times, such as %d.%m.%Y %H:%M:%S") from None
    if parsed.date() != _PROBE.date():
        raise ValueError("has no whole day: a year (%Y or %y), a month (%m, %b or %B) and a day (%d)")
    if parsed.time() not in _TIMES:
        raise ValueError("has no whole time: %H:%M, or %I:%M with %p, and with %S if it has seconds")
