"""Recognises crawlers, link previews, monitors and headless browsers by their User-Agent.

The list is crawler-user-agents: 1,500 patterns, updated monthly, whose tags separate previews, monitors and
HTTP libraries. (crawlerdetect is as long and has no tags: it calls libraries and apps bots too.) ua-parser's
Rust extractor finds the first matching pattern in 1 to 6 µs. `re` takes hundreds.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache, lru_cache
from importlib.resources import files
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ua_parser_rs import UserAgentExtractor

CACHE_SIZE = 16_384
"""Distinct User-Agents remembered."""
MAX_REASON = 80
"""Longest reason, in characters."""
MAX_NAME = 60
"""Longest part of a User-Agent that a reason repeats, in characters."""

NAMELESS = "empty user agent"

_KINDS = {"social-preview": "link preview", "monitoring": "monitoring", "browser-automation": "headless"}
_LIBRARY = "http-library"  # people's apps and partners' servers use them

# Patterns of the list that phones and browsers of people match.
_TOO_WIDE = frozenset(
    {
        r"AP3A\.240617\.008",  # the build of Android 15 on most Oppo, OnePlus and Realme phones
        "Butterfly",  # HTC Butterfly
        "Chirp|gotosocial",  # "Chirp" is a common word. gotosocial is below
        r"Code\/1\.",  # an editor, in whose browser a person clicks
        "Expanse",
        "Fever",
        "Fluid",  # a Mac browser for single sites
        "MetaIAB Facebook",  # Facebook's in-app browser
        "Sogou",  # its browser and search app. Its crawlers say "spider"
        "Sonic",  # O+ Sonic
        r"Trae\/",  # another editor
        r"mail\.ru",  # the browsers and apps of Mail.ru
    }
)

_SOCIAL_SERVERS = (
    "Akkoma|BookWyrm|Firefish|Foundkey|Friendica|Ghost|Hubzilla|Iceshrimp|Mastodon|Misskey|Mitra|Mobilizon"
    "|PeerTube|Pixelfed|Pleroma|Sharkey|Smithereen|Takahe|Wafrn|WriteFreely"
)
_CHAT_SERVERS = "Conduit|Dendrite|matrix-media-repo|Matrix-Media-Repo|Rocket.Chat|Synapse|Tuwunel"

# Bots that the list leaves out or counts as libraries. The first group is the name.
_OURS = (
    ("headless", r"(?i)\b(headless\w*)"),
    ("link preview", r"\b(Cardyb|kakaotalk-scrap|Guilded Image Caching Service|LarkUrl2Meta)\b"),
    ("link preview", r"^(Pinterest)/0\.\d"),
    # Servers of the Fediverse and of Matrix fetch the links that their users post.
    ("link preview", rf"^({_SOCIAL_SERVERS})(?:[/ (]|$)"),
    ("link preview", rf"^({_CHAT_SERVERS})/\d"),
    (
        "link preview",
        r"(?i)\b([\w.-]*(?:link|url|page|web)[ _-]?(?:preview|unfurl|expand)\w*|\w*externalhit)",
    ),
    (
        "link preview",
        r"(?i)\b([\w.-]*(?:unfurl|open-?graph|oembed|embed[ -]php|microlink|peekalink|linkpeek)[\w.-]*)",
    ),
    # Office fetches a link itself before it hands it to the browser, which follows it again.
    ("link preview", r"^(Microsoft Office(?: \w+ Discovery|/[\d.]+))"),
    ("link preview", r"^Mozilla/4\.0 \(compatible; (ms-office)"),
    # Mail gateways fetch links before the reader does.
    ("link preview", r"(?i)\b(barracuda|mimecast|proofpoint|cloudmark|messagelabs|ironport|fortimail)"),
    (
        "link preview",
        r"(?i)\b(email security|e?mail[ -]?scanner|link[ -]?scan(?:ner)?|url[ -]?(?:scan|defense))\b",
    ),
    ("link preview", r"(?i)\b(safe ?links)\b"),
    ("monitoring", r"\b(ELB-HealthChecker|GoogleHC|kube-probe|Prometheus|collectd|munin)\b"),
    ("monitoring", r"(?i)\b([\w.-]*(?:health[ -]?check|uptime|synthetic)\w*)"),
    ("crawler", r"\b(Scrapy|HTTrack|phpcrawl|larbin|colly|trafilatura|python-opengraph|gotosocial)\b"),
    ("crawler", r"\b(Sonic|Fever)/\d"),
    ("crawler", r"^(Expanse)[ ,]"),
    ("crawler", r"(?i)\b([a-z][\w-]*(?: [a-z]+)? (?:bot|crawler|spider))\b"),
    ("crawler", r"(?i)([\w.-]*(?:bots?(?:\b|_)|crawl|spider|scrap(?:e|er|ing)?\b)\w*)"),
    ("crawler", r"\b(Google-[A-Z]\w+|DuplexWeb-Google)"),
    ("crawler", r"^([\w.-]*(?i:checker|fetcher|monitor|scanner|scraper|validator))[\w.-]*/"),
    # Browsers that call themselves compatible name their platform, and do not have an address here.
    ("crawler", r"\(compatible; ?(?:U; ?)?([^;()+]+)[^()]*(?:https?://|mailto:|\w@\w)"),
    ("crawler", r"^Mozilla/5\.0 \(compatible; ?([\w.-]+)/v?[\d.]+[^()]*\)$"),
    ("crawler", r"^Mozilla/5\.0 \(compatible; ?([^;()]+)\)$"),
    ("crawler", r"KHTML, like Gecko; ?(?:compatible; ?)?([^;()]+)"),
    ("crawler", r"\+ ?(https?://[\w.-]+)"),
    ("crawler", r"(\$\{|\{\{|<\?)"),  # an unfilled template, or an attack
)

_NOTHING = " -\"'"
_AROUND_NAMES = " ./;:,+()-"
_HUMANS = files("tracker.edge.enrich").joinpath("humans.txt")
_EXCEPT = "! "
_HUMAN = "human"

_Rule = tuple[str, str, None, None, None, None]
"""A pattern, the result of a match, and further fields of ua-parser."""


def _rule(pattern: str, result: str) -> _Rule:
    return pattern, result, None, None, None, None


def _people() -> Iterator[_Rule]:
    for line in _HUMANS.read_text("utf-8").splitlines():
        if line.startswith(_EXCEPT):
            yield _rule(line.removeprefix(_EXCEPT), _EXCEPT)
        elif line and not line.startswith("#"):
            yield _rule(line, _HUMAN)


def _listed() -> Iterator[tuple[str, str]]:
    from crawleruseragents import CRAWLER_USER_AGENTS_DATA

    for entry in CRAWLER_USER_AGENTS_DATA:
        pattern, tags = entry["pattern"], entry["tags"]
        if pattern not in _TOO_WIDE and _LIBRARY not in tags:
            kind = next((_KINDS[tag] for tag in _KINDS if tag in tags), "crawler")
            yield kind, f"{_start(pattern)}({pattern})"


def _start(pattern: str) -> str:
    """Names begin at the start of a word: "Sonic" is not in "ViewSonic"."""
    return r"(?-u:\b)" if pattern[0].isalnum() else ""


def prepare() -> None:
    """Load the lists that read() needs. Otherwise its first call takes 0.05 seconds."""
    _humans()
    _bots()


@cache
def _humans() -> UserAgentExtractor:
    # Imported here: most commands that load this module look for no bot.
    from ua_parser_rs import UserAgentExtractor

    return UserAgentExtractor(_people())


@cache
def _bots() -> UserAgentExtractor:
    from ua_parser_rs import UserAgentExtractor

    return UserAgentExtractor(_rule(pattern, f"{kind}: $1") for kind, pattern in [*_listed(), *_OURS])


@lru_cache(CACHE_SIZE)
def read(user_agent: str) -> str | None:
    """The rule by which a User-Agent is a bot, such as "crawler: Googlebot". Else None. Never raises."""
    if not user_agent.strip(_NOTHING):
        return NAMELESS
    user_agent = well_formed(user_agent)
    match = _bots().extract(user_agent)  # first: most agents match nothing, and need no second search
    return None if match is None or is_human(user_agent) else _tidy(match.family)


def is_human(user_agent: str) -> bool:
    match = _humans().extract(user_agent)
    return match is not None and match.family == _HUMAN


def well_formed(text: str) -> str:
    """The text without lone surrogates, which the Rust side refuses."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode("utf-8")


def _tidy(reason: str) -> str:
    kind, _, name = reason.partition(": ")
    shown = "".join(filter(str.isprintable, name[:MAX_NAME]))
    return f"{kind}: {shown.strip(_AROUND_NAMES)}"
