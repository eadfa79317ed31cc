"""Reads a device from a User-Agent and its client hints.

ua-parser's Rust resolver finds the families of system, browser and device, each by a search of its own. The
rules and lists of `user-agents` then decide whether it is a phone, a tablet, a PC or a bot. Bounded caches
answer repeats.
A client hint wins over the User-Agent. Values that a browser has frozen or left out stay unknown: nothing is
guessed.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import cache, lru_cache
from sys import intern
from typing import TYPE_CHECKING, Any, NamedTuple

from tracker.domain.model import Device, fast

if TYPE_CHECKING:
    from ua_parser.regex import Resolver

CACHE_SIZE = 16_384
"""Distinct (User-Agent, hints) pairs remembered: about 10 MB of usual pairs, 100 MB of the longest."""
MAX_FIELD = 100
"""Longest value of a Device's field, in characters."""

UNKNOWN = Device("UNK", "UNK", "", "", "", "", "", "")
"""A device without any known field."""

_HINTED_OS = {
    "Android": "Android",
    "Chrome OS": "Chrome OS",
    "Chromium OS": "Chrome OS",
    "Linux": "Linux",
    "Windows": "Windows",
    "iOS": "iOS",
    "macOS": "Mac OS X",
}
_COARSE_OS = frozenset(_HINTED_OS.values()) | {""}  # a distribution or Fire OS says more than the hint

_OS_NAMES = {"Other": "", "ATV OS X": "tvOS", "WatchOS": "watchOS", "Web0S": "webOS"}
_TV_OS = frozenset({"Android", "Linux", "Tizen", "webOS"})

# The meaning of Sec-CH-UA-Platform-Version on Windows, by its first number:
# https://learn.microsoft.com/microsoft-edge/web-platform/how-to-detect-win11
_OLD_WINDOWS = {"0.1": "7", "0.2": "8", "0.3": "8.1"}
_FIRST_WINDOWS_11 = 13
_FIRST_BUILD_OF_11 = 22_000

# Browsers that send Chrome's User-Agent and name themselves only in the hints.
_HINTED_BROWSERS = ("Brave", "DuckDuckGo", "Opera GX", "Vivaldi")
_FULL_VERSION_OF = {
    "Chrome": "Chromium",
    "Chrome Mobile": "Chromium",
    "Chrome Mobile WebView": "Chromium",
    "Chromium": "Chromium",
    "Edge": "Microsoft Edge",
    "Edge Mobile": "Microsoft Edge",
    "Opera": "Opera",
    "Opera Mobile": "Opera Mobile",
    "Samsung Internet": "Samsung Internet",
    "Yandex Browser": "YaBrowser",
}
# Apps whose web view ua-parser does not recognise.
_WEB_VIEWS = frozenset({"Chrome Mobile WebView", "Mobile Safari UI/WKWebView"})
_APPS = {"LinkedInApp": "LinkedIn", "MicroMessenger": "WeChat Browser", "KAKAOTALK": "KakaoTalk"}
_APP = re.compile(rf"\b({'|'.join(_APPS)})\b\]?[/ ]?([\d.]*)")
_BRAND = re.compile(r'"((?:[^"\\]|\\.)*)"\s*;\s*v="([^"]*)"')

# Placeholders of ua-parser. "Browser" is the end of "HuaweiBrowser".
_NO_MODELS = frozenset({"Browser", "Feature Phone", "Smartphone", "Tablet", "iOS-Device"})
_BRAND_NAMES = {"SonyEricsson": "Sony", "XiaoMi": "Xiaomi"}
# Makers of models that ua-parser does not know.
_MAKERS = (
    (re.compile(r"SM-[A-Z]\d"), "Samsung"),
    (re.compile(r"AFT[A-Z]|KF[A-Z]{3}"), "Amazon"),
    (re.compile(r"BRAVIA"), "Sony"),
    (re.compile(r"M2\d{3}[CJKLS]\d|2[0-9]\d{2}[0-9A-Z]{4,7}[ACGIJLY]$|(?:Redmi|POCO|Mi) "), "Xiaomi"),
    (re.compile(r"RMX\d{4}"), "Realme"),
    (re.compile(r"CPH\d{4}"), "Oppo"),
)

# Huawei's browsers name the device here.
_HUAWEI_MODEL = re.compile(r"; HarmonyOS; ([^;()]+)[;)]|; ([^;()]+); HMSCore")

# Chrome's reduced User-Agent has the same name for all Android devices. In a web view it ends in "; wv)".
_REDUCED_ANDROID = ("Android 10; K)", "Android 10; K;")
_ANDROID_NAMED = "Mozilla/5.0 (Linux; Android 10; {}) AppleWebKit/537.36 Chrome/99.0 Mobile Safari/537.36"
# Every macOS from 10.15 on sends one of the first two, in Safari, Chrome and Firefox. 10.16 is 11 or later.
_FROZEN_MACOS = frozenset({"10.15.7", "10.15", "10.16"})
# Windows 11 sends "NT 10.0" too. It does not have these two browsers.
_WINDOWS_10 = ("Trident/", " Edge/")
_FROZEN_CHROME_OS = "14541"  # of Chrome's reduced User-Agent
# WebKit froze the iOS version at these (https://github.com/whatwg/compat/issues/283), Firefox at 18.7 on all.
# Safari's own version has always been that of its iOS. Chrome and Google's app name the true one.
_FROZEN_IOS = re.compile(r" OS 18_[67] like ")
_SAFARI = re.compile(r" Version/((?:18\.[67]|2[6-9]|[3-9]\d)(?:\.\d{1,3})*) ")
_NAMES_TRUE_IOS = re.compile(r" (?:CriOS|GSA)/")

# Apps that name their system behind a string that hides it: Meta's, other apps of iPhones, Telegram.
_APP_WORDS = ("FBSV/", "; iOS ", "; iPadOS ", "; iPhone OS ", " for iOS/", " Android (", "-Android/")
_APP_SYSTEM = re.compile(
    r"(?:FBSN/(?P<system>[^;\]]+);)?FBSV/(?P<meta>\d+[\d.]*)"
    r"|\((?:iPhone|iPad|iPod)[\d,]*; (?:(?:iOS|iPadOS|iPhone OS) )?(?P<ios>\d+[\d._]*)"
    r"| Android \(\d+/(?P<android>\d+[\d.]*);"
    r"|-Android/[\d.]+ \([^;()]*; Android (?P<telegram>\d+[\d.]*)"
)
_APP_SYSTEMS = {
    "Android": "Android",
    "Windows": "Windows",
    "iOS": "iOS",
    "iPadOS": "iOS",
    "iPhone OS": "iOS",
    "macOS": "Mac OS X",
}
_APP_TYPE = re.compile(r";FBID/(phone|tablet|desktop)")

# Systems that also name a better known one, and Android on TVs that hide it.
_REAL_SYSTEMS = (
    ("HarmonyOS", "HarmonyOS", re.compile(r"HarmonyOS(?: NEXT)?[ /](\d+[\d.]*)")),
    ("OpenHarmony", "HarmonyOS", re.compile(r"OpenHarmony ?(\d+[\d.]*)")),
    ("Sailfish", "Sailfish", re.compile(r"Sailfish (\d+[\d.]*)")),
    ("KAIOS/", "KaiOS", re.compile(r"KAIOS/(\d+[\d.]*)")),
    ("; Tizen ", "Tizen", re.compile(r"; Tizen (\d+[\d.]*)")),
    ("(Linux; Ubuntu ", "Ubuntu", re.compile(r"Ubuntu (\d+[\d.]*)")),
    ("Andr0id", "Android", re.compile(r"Andr0id (\d+[\d.]*)")),
)
# https://developer.huawei.com/consumer/en/doc/harmonyos-guides/web-default-useragent
_HARMONY_TYPE = re.compile(r"\((\w+); OpenHarmony", re.ASCII)
_HARMONY_TYPES = {"Phone": "phone", "Tablet": "tablet", "PC": "desktop", "2in1": "desktop", "TV": "tv"}

# Searched in the lower-cased string. Plain words come first: they cost a tenth of a pattern's search.
_TV_WORDS = (
    "tv",
    "; aft",
    "bravia",
    "ce-html",
    "chromecast",
    "crkey",
    "large screen",
    "mibox",
    "netcast",
    "omi/",
    "roku",
    "tivoos",
    "vidaa",
    "viera",
    "vizio",
    "web0s",
    "webos",
)
_TV = re.compile(
    r"tv\b|\btv|appletv|; aft[a-z0-9]+\b|bravia|ce-html|chromecast|\bcrkey\b|large screen|mibox|netcast"
    r"|\broku|\bomi/|tivoos|vidaa|viera|vizio|web0s|webos\.tv"
)
_MORE_PHONE_SYSTEMS = frozenset({"KaiOS"})  # that user-agents does not know
_PHONE_WORDS = ("J2ME", "MIDP", "iPhone;", "Googlebot-Mobile")
_CONSOLE_WORDS = ("playstation", "nintendo", "; xbox")
_TABLET_MODEL = re.compile(
    r"\b(?:SM-[TPX]\d|GT-P\d|GT-N[58]|Tab\b|Tablet|iPad|Pad\b|MediaPad|MatePad|Lenovo (?:TB|YT)|TB-?[XJ8]"
    r"|KF[A-Z]{2,5}\b|Nexus (?:7|9|10)\b|Pixel (?:C|Tablet)\b)"
)

_ARM = re.compile(r"\barm(?:v\d\w*|_?64|hf)?\b|\baarch64\b")
_X64_WORDS = ("x64", "wow64", "win64", "amd64", "x86_64", "x86-64")
_X86_WORDS = ("i386", "i486", "i586", "i686", "x86", "win32")

# Parts of a pattern: groups without capture, the first captured group, and alternatives that are names.
_NESTED = re.compile(r"\(\?:[^()]*\)")
_CAPTURED = re.compile(r"\(([^()?][^()]*)\)")
_PLAIN = re.compile(r"[A-Za-z][A-Za-z0-9 !._-]*")
_OTHER_SYSTEMS = frozenset({"BSD", "NetBSD", "OpenBSD"})  # of a group within a group


class _Model(NamedTuple):
    """A device as ua-parser names it."""

    family: str = "Other"
    brand: str | None = None
    model: str | None = None


_NO_MODEL = _Model()
_SPIDER = _Model("Spider")


class _Families(NamedTuple):
    """The names by which `user-agents` judges."""

    tablets: frozenset[str]
    phones: frozenset[str]
    phone_systems: frozenset[str]
    phone_browsers: frozenset[str]
    pc_systems: frozenset[str]


class _Hints(NamedTuple):
    """Client hints, without the quotes of structured-field strings (RFC 9651)."""

    brands: str = ""
    mobile: bool | None = None
    platform: str = ""
    platform_version: str = ""
    model: str = ""
    arch: str = ""
    bitness: str = ""
    full_versions: str = ""

    @classmethod
    def split(cls, client_hints: str) -> _Hints:
        if not client_hints:
            return _NO_HINTS
        brands, mobile, *texts, full_versions = (_well_formed(client_hints).split("\n", 7) + [""] * 7)[:8]
        platform, version, model, arch, bitness = (text.strip().strip('"').strip() for text in texts)
        is_mobile = {"?1": True, "?0": False}.get(mobile.strip())
        return cls(brands, is_mobile, platform, version, model, arch, bitness, full_versions)


_NO_HINTS = _Hints()


class _Judged(NamedTuple):
    """What the type of a device is judged by."""

    user_agent: str
    lowered: str
    os: str
    os_version: str
    browser: str
    device: _Model
    is_mobile: bool | None  # by the hint


def prepare() -> None:
    """Load the packages that read() needs. Otherwise its first call takes 0.2 seconds."""
    _resolver()
    _families()


@lru_cache(CACHE_SIZE)
def read(user_agent: str, client_hints: str) -> Device:
    """Read the device from a User-Agent and client hints. Never raises, even for hostile strings.

    `client_hints`: the values of Sec-CH-UA, -Mobile, -Platform, -Platform-Version, -Model, -Arch, -Bitness
    and -Full-Version-List, in this order, joined by newlines. "" if none was sent.
    """
    user_agent = _well_formed(user_agent)
    hints = _Hints.split(client_hints)
    if not user_agent and hints is _NO_HINTS:
        return UNKNOWN
    device = _device(user_agent, hints)
    model = _model(device)
    os, os_version = _os(user_agent, hints)
    browser, browser_version = _browser(user_agent, hints)
    lowered = user_agent.lower()
    family = "Android" if os == "HarmonyOS" else os  # user-agents does not know HarmonyOS
    judged = _Judged(user_agent, lowered, family, os_version, browser, device, hints.mobile)
    fields = (
        os or UNKNOWN.os,
        os_version or UNKNOWN.os_version,
        _maker(device, model),
        model,
        _type(judged),
        _architecture(lowered, hints),
        browser,
        browser_version,
    )
    return fast(Device, [*map(_kept, fields)])


class UnreadDevice(NamedTuple):
    """A device of which a field is read when it is first asked for. All fields are equal to those of read().

    System, browser and platform take a fifth of read() or less. What else is asked for takes all of it.
    """

    user_agent: str
    client_hints: str

    @property
    def os(self) -> str:
        return _read_os(*self)[0]

    @property
    def os_version(self) -> str:
        return _read_os(*self)[1]

    @property
    def brand(self) -> str:
        return read(*self).brand

    @property
    def model(self) -> str:
        return read(*self).model

    @property
    def type(self) -> str:
        return read(*self).type

    @property
    def platform(self) -> str:
        return _read_platform(*self)

    @property
    def browser(self) -> str:
        return _read_browser(*self)[0]

    @property
    def browser_version(self) -> str:
        return _read_browser(*self)[1]


@lru_cache(CACHE_SIZE)
def _read_os(user_agent: str, client_hints: str) -> tuple[str, str]:
    os, version = _os(_well_formed(user_agent), _Hints.split(client_hints))
    return _kept(os or UNKNOWN.os), _kept(version or UNKNOWN.os_version)


@lru_cache(CACHE_SIZE)
def _read_platform(user_agent: str, client_hints: str) -> str:
    return _architecture(_well_formed(user_agent).lower(), _Hints.split(client_hints))


@lru_cache(CACHE_SIZE)
def _read_browser(user_agent: str, client_hints: str) -> tuple[str, str]:
    browser, version = _browser(_well_formed(user_agent), _Hints.split(client_hints))
    return _kept(browser), _kept(version)


def _kept(value: str) -> str:
    """The part of a field that is kept, one object for all devices that have it."""
    return intern(value[:MAX_FIELD])


@cache
def systems() -> frozenset[str]:
    """The names of operating systems that read() may return."""
    ours = {*_HINTED_OS.values(), *_APP_SYSTEMS.values(), *(name for _, name, _ in _REAL_SYSTEMS), UNKNOWN.os}
    families = _names_in(_matchers()[1]) | _OTHER_SYSTEMS
    return frozenset({_OS_NAMES.get(family, family) for family in families} | ours) - {""}


@cache
def browsers() -> frozenset[str]:
    """The names of browsers that read() may return. Of bots and programs: only those that ua-parser lists."""
    return frozenset({*_names_in(_matchers()[0]), *_HINTED_BROWSERS, *_APPS.values()}) - {"Other"}


def _names_in(matchers: Iterable[Any]) -> set[str]:
    """The families of ua-parser's patterns: the names that they set, and the names that they capture."""
    names: set[str] = set()
    for matcher in matchers:
        if matcher.family and "$" not in matcher.family:
            names.add(matcher.family)
        elif captured := _CAPTURED.search(_NESTED.sub("?", matcher.regex)):
            names |= {name for name in captured[1].split("|") if _PLAIN.fullmatch(name)}
    return names


def _matchers() -> Any:
    # Imported here: most commands that load this module read no device.
    from ua_parser import load_lazy_builtins

    return load_lazy_builtins()


@cache
def _resolver() -> Resolver:
    from ua_parser.regex import Resolver

    return Resolver(_matchers())


@cache
def _families() -> _Families:
    from user_agents import parsers

    return _Families(
        frozenset(parsers.TABLET_DEVICE_FAMILIES),
        frozenset(parsers.MOBILE_DEVICE_FAMILIES),
        frozenset(parsers.MOBILE_OS_FAMILIES) | {"Android", "Firefox OS"} | _MORE_PHONE_SYSTEMS,
        frozenset(parsers.MOBILE_BROWSER_FAMILIES),
        frozenset(parsers.PC_OS_FAMILIES),
    )


def _well_formed(text: str) -> str:
    """The text without lone surrogates, which the Rust side refuses."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode("utf-8")


def _os(user_agent: str, hints: _Hints) -> tuple[str, str]:
    parsed = _resolver().os.extract(user_agent)
    family = _OS_NAMES.get(parsed.family, parsed.family) if parsed else ""
    if "HbbTV" in user_agent and family not in _TV_OS:
        family = ""  # ua-parser takes the maker's name for an OS there
    if named := _real_system(user_agent) or _named_by_app(user_agent, family):
        return named
    hinted = _HINTED_OS.get(hints.platform, "")
    os = hinted if hinted and family in _COARSE_OS else family
    if hinted == os and hints.platform_version:
        version = hints.platform_version
        return os, _windows_version(version) if os == "Windows" else _trimmed(version)
    if parsed is None or os != family or _holds(user_agent, _REDUCED_ANDROID):
        return os, ""
    return os, _thawed(os, _version(parsed.major, parsed.minor, parsed.patch), user_agent)


def _real_system(user_agent: str) -> tuple[str, str] | None:
    """A system that also names another one for compatibility, with its version or ""."""
    named = ""
    for word, name, pattern in _REAL_SYSTEMS:
        if word in user_agent and named in ("", name):
            if match := pattern.search(user_agent):
                return name, _trimmed(match[1])
            named = name
    return (named, "") if named else None


def _named_by_app(user_agent: str, system: str) -> tuple[str, str] | None:
    """The system and version that an app names. None if it does not."""
    match = _APP_SYSTEM.search(user_agent) if _holds(user_agent, _APP_WORDS) else None
    if match is None:
        return None
    if match["meta"]:
        os, version = _APP_SYSTEMS.get(match["system"], system), match["meta"]
    elif match["ios"]:
        os, version = "iOS", match["ios"].replace("_", ".")
    else:
        os, version = "Android", match["android"] or match["telegram"]
    return os, _windows_of(version) if os == "Windows" else _trimmed(version)


def _thawed(os: str, version: str, user_agent: str) -> str:
    """The true version behind one that browsers have frozen. "" if it may be any later one."""
    if os == "iOS" and _FROZEN_IOS.search(user_agent) and not _NAMES_TRUE_IOS.search(user_agent):
        safari = _SAFARI.search(user_agent)
        return _trimmed(safari[1]) if safari else ""
    is_frozen = (
        (os == "Mac OS X" and version in _FROZEN_MACOS)
        or (os == "Windows" and version == "10" and not _holds(user_agent, _WINDOWS_10))
        or (os == "Chrome OS" and version == _FROZEN_CHROME_OS)
    )
    return "" if is_frozen else version


def _windows_of(version: str) -> str:
    """The Windows version of a full one such as 10.0.22621: 11 begins with build 22000."""
    major, _, rest = version.partition(".")
    build = rest.partition(".")[2].partition(".")[0]
    return "11" if major == "10" and build.isdigit() and int(build) >= _FIRST_BUILD_OF_11 else _trimmed(major)


def _windows_version(hinted: str) -> str:
    major, _, rest = hinted.partition(".")
    if not (major.isascii() and major.isdigit()) or len(major) > 4:
        return ""
    if int(major) == 0:
        return _OLD_WINDOWS.get(f"0.{rest[:1]}", "")
    return "11" if int(major) >= _FIRST_WINDOWS_11 else "10"


def _browser(user_agent: str, hints: _Hints) -> tuple[str, str]:
    parsed = _resolver().ua.extract(user_agent)
    family = parsed.family if parsed and parsed.family != "Other" else ""
    if family == "Apple Mail" and "Macintosh" not in user_agent:
        return "", ""  # ua-parser's guess for any bare WebKit, such as the PlayStation 4
    if family in _WEB_VIEWS and (app := _APP.search(user_agent)):
        return _APPS[app[1]], _trimmed(app[2])
    version = _version(parsed.major, parsed.minor, parsed.patch, parsed.patch_minor) if parsed else ""
    return (family, version) if hints is _NO_HINTS else _hinted_browser(family, version, hints)


def _hinted_browser(family: str, version: str, hints: _Hints) -> tuple[str, str]:
    versions: dict[str, str] = dict(_BRAND.findall(hints.full_versions or hints.brands))
    if family in ("Chrome", "Chrome Mobile"):
        for brand in _HINTED_BROWSERS:
            if brand in versions:
                return brand, _trimmed(versions[brand])
    if hints.full_versions:
        version = _trimmed(versions.get(_FULL_VERSION_OF.get(family, ""), version))
    return family, version


def _device(user_agent: str, hints: _Hints) -> _Model:
    """The device by its hint, else by the User-Agent. ua-parser knows the maker of the model."""
    parsed = _resolver().de.extract(user_agent)
    if parsed and parsed.family == _SPIDER.family:
        return _SPIDER
    if hints.model:
        return _known(hints.model)
    if model := _huawei_model(user_agent):
        known = _known(model)
        return _Model(known.family, _maker(known, model) or (parsed.brand if parsed else None), model)
    if parsed is None or _holds(user_agent, _REDUCED_ANDROID):
        return _NO_MODEL
    return _Model(parsed.family, parsed.brand, parsed.model)


def _known(model: str) -> _Model:
    parsed = _resolver().de.extract(_ANDROID_NAMED.format(model))
    return _Model(parsed.family, parsed.brand, model) if parsed else _Model(model=model)


def _huawei_model(user_agent: str) -> str:
    if "HMSCore" not in user_agent and "HarmonyOS;" not in user_agent:
        return ""
    named = _HUAWEI_MODEL.search(user_agent)
    return named[1] or named[2] if named else ""


def _maker(device: _Model, model: str) -> str:
    if device.brand and not device.brand.startswith("Generic"):
        return _BRAND_NAMES.get(device.brand, device.brand)
    return next((maker for models, maker in _MAKERS if models.match(model)), "") if model else ""


def _model(device: _Model) -> str:
    model = device.model or ""
    return "" if model in _NO_MODELS else model


def _type(judged: _Judged) -> str:
    if judged.device.family == _SPIDER.family:
        return "bot"
    if (type_ := _named_type(judged.user_agent)) is not None:
        return type_
    lowered = judged.lowered
    if _holds(lowered, _CONSOLE_WORDS):  # before TV: the PlayStation calls itself one
        return "console"
    if _holds(lowered, _TV_WORDS) and _TV.search(lowered):
        return "tv"
    families = _families()
    if _is_tablet(judged, families):
        return "tablet"
    if _is_phone(judged, families) or (judged.os == "Tizen" and " mobile " in lowered):
        return "phone"
    return "desktop" if _is_pc(judged, families) else ""


# What the properties is_tablet, is_mobile and is_pc of `user-agents` say, each asked once.


def _is_tablet(judged: _Judged, families: _Families) -> bool:
    if judged.device.family in families.tablets:
        return True
    if judged.os == "Android":
        return _is_android_tablet(judged)
    if judged.os == "Windows":
        return judged.os_version.startswith("RT")
    return judged.os == "Firefox OS" and "Mobile" not in judged.browser


def _is_android_tablet(judged: _Judged) -> bool:
    # The rule of user-agents ("no Mobile Safari") takes all apps and older phones for tablets.
    # Browsers on tablets leave out "Mobile". Apps always do, so for them only the model decides.
    if judged.is_mobile is not None:
        return not judged.is_mobile
    if _TABLET_MODEL.search(judged.device.model or judged.device.family):
        return True
    return judged.user_agent.startswith("Mozilla/") and "Mobi" not in judged.user_agent


def _is_phone(judged: _Judged, families: _Families) -> bool:
    """Whether a device that is no tablet is a phone."""
    return (
        judged.os in families.phone_systems
        or judged.browser in families.phone_browsers
        or judged.device.family in families.phones
        or (judged.os == "BlackBerry OS" and judged.device.family != "Blackberry Playbook")
        or _holds(judged.user_agent, _PHONE_WORDS)
        or ("NokiaBrowser" in judged.user_agent and "Mobile" in judged.user_agent)
    )


def _is_pc(judged: _Judged, families: _Families) -> bool:
    user_agent, os = judged.user_agent, judged.os
    if (
        "Windows NT" in user_agent
        or os in families.pc_systems
        or (os == "Windows" and judged.os_version == "ME")
    ):
        return True
    if os == "Mac OS X" and "Silk" not in user_agent:
        return True
    if "Maemo" in user_agent:
        return False
    return "Chrome OS" in os or ("Linux" in user_agent and "X11" in user_agent)


def _named_type(user_agent: str) -> str | None:
    """The type that an app or a system names. "" for a type without a name here, such as a car."""
    if "OpenHarmony" in user_agent and (match := _HARMONY_TYPE.search(user_agent)):
        return _HARMONY_TYPES.get(match[1], "")
    match = _APP_TYPE.search(user_agent) if ";FBID/" in user_agent else None
    return match[1] if match else None


def _architecture(lowered: str, hints: _Hints) -> str:
    hinted = hints.arch.lower()
    if hinted.startswith("arm"):
        return "ARM"
    if hinted == "x86":
        return "x64" if hints.bitness == "64" else "x86"
    if ("arm" in lowered or "aarch64" in lowered) and _ARM.search(lowered):
        return "ARM"
    if _holds(lowered, _X64_WORDS):
        return "x64"
    return "x86" if _holds(lowered, _X86_WORDS) else ""


def _holds(text: str, words: tuple[str, ...]) -> bool:
    for word in words:  # noqa: SIM110 (any() with a generator costs twice as much)
        if word in text:
            return True
    return False


def _version(*parts: str | None) -> str:
    return _trimmed(".".join(filter(None, parts)))


def _trimmed(version: str) -> str:
    """A version without zeros at its end: a reduced "124.0.0.0" means "124"."""
    while version.endswith(".0"):
        version = version[:-2]
    return version
