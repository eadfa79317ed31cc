"""Made-up visitors: where they are, when they are awake, and what they browse with."""

from __future__ import annotations

from datetime import datetime
from random import Random
from typing import NamedTuple
from zoneinfo import ZoneInfo

from tracker import device
from tracker.domain.model import Device
from tracker.edge.enrich import bots

Choice = tuple[tuple[str, ...], tuple[int, ...]]
"""Texts, and how often each is chosen."""


class Place(NamedTuple):
    """A country, its time zone, some of its regions (ISO 3166-2), and its mobile carriers."""

    country: str
    zone: ZoneInfo
    regions: tuple[str, ...]
    carriers: tuple[str, ...]


PLACES = {
    place.country: place
    for place in (
        Place("DE", ZoneInfo("Europe/Berlin"), ("BE", "BY", "HH", "NW", "NW", "SN"), ("Telekom", "o2")),
        Place("AT", ZoneInfo("Europe/Vienna"), ("9", "9", "6", "4"), ("A1", "Magenta")),
        Place("FR", ZoneInfo("Europe/Paris"), ("IDF", "IDF", "ARA", "PAC"), ("Orange", "SFR")),
        Place("GB", ZoneInfo("Europe/London"), ("ENG", "ENG", "SCT", "WLS"), ("EE", "Vodafone")),
        Place("ES", ZoneInfo("Europe/Madrid"), ("MD", "CT", "AN"), ("Movistar", "Orange")),
        Place("IT", ZoneInfo("Europe/Rome"), ("25", "62", "72"), ("TIM", "Iliad")),
        Place("PT", ZoneInfo("Europe/Lisbon"), ("11", "13"), ("MEO", "NOS")),
        Place("US", ZoneInfo("America/New_York"), ("NY", "CA", "CA", "TX", "FL"), ("Verizon", "T-Mobile")),
        Place("CA", ZoneInfo("America/Toronto"), ("ON", "QC", "BC"), ("Bell", "Rogers")),
        Place("BR", ZoneInfo("America/Sao_Paulo"), ("SP", "SP", "RJ", "MG"), ("Vivo", "Claro")),
        Place("IN", ZoneInfo("Asia/Kolkata"), ("MH", "KA", "DL"), ("Jio", "Airtel")),
        Place("JP", ZoneInfo("Asia/Tokyo"), ("13", "27"), ("docomo", "au")),
    )
}

_BY_HOUR = (9, 5, 3, 2, 2, 4, 10, 20, 30, 34, 36, 38, 42, 40, 37, 36, 38, 44, 55, 68, 78, 74, 52, 25)
"""How many people click in each hour of their own day."""

_IPHONE = (
    "Mozilla/5.0 (iPhone; CPU iPhone OS 18_6 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) "
    "Version/{} Mobile/15E148 Safari/604.1"
)
_ANDROID = (
    "Mozilla/5.0 (Linux; Android {}) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/141.0.0.0 {}Safari/537.36"
)
_DESKTOP = "Mozilla/5.0 ({}) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/142.0.0.0 Safari/537.36{}"
_WINDOWS, _MAC = "Windows NT 10.0; Win64; x64", "Macintosh; Intel Mac OS X 10_15_7"

PHONES: Choice = (
    (
        _IPHONE.format("26.1"),
        _IPHONE.format("18.6"),
        _ANDROID.format("15; SM-S921B", "Mobile "),
        _ANDROID.format("14; SM-A546B", "Mobile "),
        _ANDROID.format("15; Pixel 9", "Mobile "),
        _ANDROID.format("13; 2201116SG", "Mobile "),
        _ANDROID.format("14; CPH2581", "Mobile "),
        _ANDROID.format("14; SM-X710", ""),
        "Mozilla/5.0 (Linux; Android 14; SM-S918B) AppleWebKit/537.36 (KHTML, like Gecko) "
        "SamsungBrowser/28.0 Chrome/130.0.0.0 Mobile Safari/537.36",
    ),
    (26, 12, 14, 13, 8, 9, 6, 4, 8),
)
DESKTOPS: Choice = (
    (
        _DESKTOP.format(_WINDOWS, ""),
        _DESKTOP.format(_WINDOWS, " Edg/142.0.0.0"),
        _DESKTOP.format(_MAC, ""),
        "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) "
        "Version/26.0 Safari/605.1.15",
        "Mozilla/5.0 (Windows NT 10.0; Win64; x64; rv:144.0) Gecko/20100101 Firefox/144.0",
        "Mozilla/5.0 (X11; Linux x86_64; rv:144.0) Gecko/20100101 Firefox/144.0",
    ),
    (46, 15, 12, 12, 11, 4),
)
CRAWLERS: Choice = (
    (
        "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)",
        "facebookexternalhit/1.1 (+http://www.facebook.com/externalhit_uatext.php)",
        "Mozilla/5.0 (compatible; bingbot/2.0; +http://www.bing.com/bingbot.htm)",
        "Slackbot-LinkExpanding 1.0 (+https://api.slack.com/robots)",
    ),
    (4, 3, 2, 1),
)
MACHINES: Choice = (
    (
        _DESKTOP.format("X11; Linux x86_64", ""),
        "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) HeadlessChrome/139.0.0.0 "
        "Safari/537.36",
        _DESKTOP.format(_WINDOWS, ""),
    ),
    (60, 25, 15),
)
DATA_CENTRE = "198.18.66.0/24"
"""The network of the affiliate whose visitors are machines (RFC 2544: addresses of nobody)."""


class Visitor(NamedTuple):
    """Somebody who clicks."""

    place: Place
    region: str
    ip: str
    user_agent: str
    carrier: str  # "" = at home or at work
    is_in_data_centre: bool

    @property
    def device(self) -> Device:
        return device.read(self.user_agent, "")

    @property
    def bot_reason(self) -> str | None:
        """The rule by which an edge would call it a bot. None: a person."""
        return f"operator: network {DATA_CENTRE}" if self.is_in_data_centre else bots.read(self.user_agent)


def wakefulness(place: Place, at: datetime) -> float:
    """How many people of a place click at a time, relative to other times."""
    return float(_BY_HOUR[at.astimezone(place.zone).hour])


def is_weekend(place: Place, at: datetime) -> bool:
    return at.astimezone(place.zone).weekday() >= 5


def person(rng: Random, place: Place, phones: float) -> Visitor:
    """A person, or now and then a crawler. `phones`: the share of phones and tablets, from 0 to 1."""
    is_mobile = rng.random() < phones
    agents = CRAWLERS if rng.random() < 0.025 else PHONES if is_mobile else DESKTOPS
    carrier = rng.choice(place.carriers) if agents is PHONES and rng.random() < 0.5 else ""
    # Of the network for measurements (RFC 2544), below the data centre's.
    ip = f"198.{18 + rng.randrange(2)}.{rng.randrange(64)}.{rng.randrange(1, 255)}"
    return Visitor(place, rng.choice(place.regions), ip, _chosen(rng, agents), carrier, False)


def machine(rng: Random, place: Place) -> Visitor:
    """A visitor of the data centre. Half of them have addresses that no rule knows yet."""
    is_known = rng.random() < 0.5
    ip = f"198.18.{66 if is_known else 67}.{rng.randrange(1, 40)}"
    return Visitor(place, place.regions[0], ip, _chosen(rng, MACHINES), "", is_known)


def _chosen(rng: Random, choice: Choice) -> str:
    return rng.choices(*choice)[0]
