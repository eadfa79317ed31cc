"""Tells crawlers, link previews, monitors and headless browsers by their User-Agent; and the operator's own.

The list is crawler-user-agents: 1,500 patterns, renewed monthly, whose tags tell previews, monitors and HTTP
libraries apart. (crawlerdetect, as long, has no tags: it calls libraries and apps bots too.) ua-parser's Rust
extractor finds the first pattern that matches in 1 to 6 µs; `re` takes hundreds.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

from crawleruseragents import CRAWLER_USER_AGENTS_DATA
from ua_parser_rs import UserAgentExtractor

from tracker.edge.networks import Networks

CACHE_SIZE = 16_384
"""Distinct User-Agents remembered."""
MAX_REASON = 80
"""Longest reason given, in characters."""
MAX_NAME = 60
"""Longest part of a User-Agent that a reason repeats, in characters."""

NAMELESS = "empty user agent"

_KINDS = {"social-preview": "link preview", "monitoring": "monitoring", "browser-automation": "headless"}
_LIBRARY = "http-library"  # people's apps and partners' servers use them

# Patterns of the list that people's phones and browsers match.
_TOO_WIDE = frozenset(
    {
        r"AP3A\.240617\.008",  # the build of Android 15 on most Oppo, OnePlus and Realme phones
        "Butterfly",  # HTC Butterfly
        "Chirp|gotosocial",  # "Chirp" is anybody's word; gotosocial is below
        r"Code\/1\.",  # an editor, in whose browser a person clicks
        "Expanse",
        "Fever",
        "Fluid",  # a Mac browser for single sites
        "MetaIAB Facebook",  # Facebook's in-app browser
        "Sogou",  # its browser and search app; its crawlers say "spider"
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

# What the list leaves out, or counts among the libraries; the first group is the name.
_OURS = (
    ("headless", r"(?i)\b(headless\w*)"),
    ("link preview", r"\b(Cardyb|kakaotalk-scrap|Guilded Image Caching Service|LarkUrl2Meta)\b"),
    ("link preview", r"^(Pinterest)/0\.\d"),
    # Servers of the Fediverse and of Matrix look at the links that their people post.
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
    # Office asks for a link by itself before it hands it to the browser, which follows it once more.
    ("link preview", r"^(Microsoft Office(?: \w+ Discovery|/[\d.]+))"),
    ("link preview", r"^Mozilla/4\.0 \(compatible; (ms-office)"),
    # Mail gateways look at links before the reader does.
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
    # Browsers that call themselves compatible say with what they run, and give nobody's address.
    ("crawler", r"\(compatible; ?(?:U; ?)?([^;()+]+)[^()]*(?:https?://|mailto:|\w@\w)"),
    ("crawler", r"^Mozilla/5\.0 \(compatible; ?([\w.-]+)/v?[\d.]+[^()]*\)$"),
    ("crawler", r"^Mozilla/5\.0 \(compatible; ?([^;()]+)\)$"),
    ("crawler", r"KHTML, like Gecko; ?(?:compatible; ?)?([^;()]+)"),
    ("crawler", r"\+ ?(https?://[\w.-]+)"),
    ("crawler", r"(\$\{|\{\{|<\?)"),  # a template nobody filled in, or an attack
)

_NOTHING = " -\"'"
_AROUND_NAMES = " ./;:,+()-"
_HUMANS = Path(__file__).with_name("humans.txt")
_EXCEPT = "! "
_HUMAN = "human"

_Rule = tuple[str, str, None, None, None, None]
"""A pattern, what is told where it matches, and what ua-parser would want beside."""


def _rule(pattern: str, told: str) -> _Rule:
    return pattern, told, None, None, None, None


def _people() -> Iterator[_Rule]:
    for line in _HUMANS.read_text("utf-8").splitlines():
        if line.startswith(_EXCEPT):
            yield _rule(line.removeprefix(_EXCEPT), _EXCEPT)
        elif line and not line.startswith("#"):
            yield _rule(line, _HUMAN)


def _listed() -> Iterator[tuple[str, str]]:
    for entry in CRAWLER_USER_AGENTS_DATA:
        pattern, tags = entry["pattern"], entry["tags"]
        if pattern not in _TOO_WIDE and _LIBRARY not in tags:
            kind = next((_KINDS[tag] for tag in _KINDS if tag in tags), "crawler")
            yield kind, f"{_start(pattern)}({pattern})"


def _start(pattern: str) -> str:
    """Where a name begins, a word begins: "Sonic" is not in "ViewSonic"."""
    return r"(?-u:\b)" if pattern[0].isalnum() else ""


_humans = UserAgentExtractor(_people())
_bots = UserAgentExtractor(_rule(pattern, f"{kind}: $1") for kind, pattern in [*_listed(), *_OURS])


@lru_cache(CACHE_SIZE)
def read(user_agent: str) -> str | None:
    """By which rule a User-Agent is a bot's, such as "crawler: Googlebot"; None = a human's. Never raises."""
    if not user_agent.strip(_NOTHING):
        return NAMELESS
    user_agent = _well_formed(user_agent)
    if _is_human(user_agent):
        return None
    found = _bots.extract(user_agent)
    return _tidy(found.family) if found else None


def _is_human(user_agent: str) -> bool:
    found = _humans.extract(user_agent)
    return found is not None and found.family == _HUMAN


def _well_formed(text: str) -> str:
    """Without lone surrogates, which the Rust side refuses."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode("utf-8")


def _tidy(reason: str) -> str:
    kind, _, name = reason.partition(": ")
    shown = "".join(filter(str.isprintable, name[:MAX_NAME]))
    return f"{kind}: {shown.strip(_AROUND_NAMES)}"


class OperatorBots:
    """The operator's own rules (the catalogue's table bot_rule): parts of User-Agents, and networks."""

    def __init__(self) -> None:
        self.is_empty = True
        self._rules: dict[int, tuple[str, str]] = {}
        self._parts: dict[str, str] = {}  # in lower case → as the operator wrote it
        self._networks = Networks()
        self._user_agent_again = lru_cache(CACHE_SIZE)(self._by_user_agent)

    def put(self, id_: int, row: dict[str, Any] | None) -> None:
        """Takes the place of the rule of that id; None removes it.

        Raises ValueError for a field or value that is none, and then holds no rule of that id.
        """
        rule = (row["field"], row["value"]) if row is not None else None
        if rule != self._rules.get(id_):
            self._remove(id_)
            if rule is not None:
                self._add(id_, *rule)
        self.is_empty = not self._rules

    def reason(self, user_agent: str, ip: str) -> str | None:
        """Which rule calls the visitor a bot; None = none does.

        humans.txt wins over a part of a User-Agent, but not over a network: bots that dress as people are
        what those are for. `ip`: "" or in the form that edge.address.plain_address gives.
        """
        if self._networks and (network := self._networks.find(ip)):
            return f"operator: network {network}"
        return self._user_agent_again(user_agent) if self._parts else None

    def _by_user_agent(self, user_agent: str) -> str | None:
        lowered = user_agent.lower()
        for part, written in self._parts.items():
            if part in lowered:
                human = _is_human(_well_formed(user_agent))
                return None if human else f"operator: user agent {written}"[:MAX_REASON]
        return None

    def _add(self, id_: int, field: str, value: str) -> None:
        if field == "ip":
            self._networks.add(value)
        elif field != "user_agent":
            raise ValueError(f"a bot rule is on user_agent or ip, not on {field[:MAX_NAME]!r}")
        elif not value.strip():
            raise ValueError("a bot rule on user_agent needs the part of it to look for")
        else:
            self._parts[value.lower()] = value
            self._user_agent_again.cache_clear()
        self._rules[id_] = field, value

    def _remove(self, id_: int) -> None:
        field, value = self._rules.pop(id_, ("", ""))
        if field == "ip":
            self._networks.discard(value)
        elif field == "user_agent":
            parts = [text for of, text in self._rules.values() if of == field]  # another may hold the same
            self._parts = {text.lower(): text for text in parts}
            self._user_agent_again.cache_clear()
