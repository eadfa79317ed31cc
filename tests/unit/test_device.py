import csv
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from user_agents import parsers

from tracker.device import (
    CACHE_SIZE,
    MAX_FIELD,
    UNKNOWN,
    _families,
    _is_android_tablet,
    _is_pc,
    _is_phone,
    _is_tablet,
    _Judged,
    _Model,
    read,
)

_CHROME = "Mozilla/5.0 ({}) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/{} Safari/537.36"
WINDOWS = _CHROME.format("Windows NT 10.0; Win64; x64", "124.0.0.0")
WINDOWS_8 = _CHROME.format("Windows NT 6.3; Win64; x64", "109.0.5414.120")
MAC = _CHROME.format("Macintosh; Intel Mac OS X 10_15_7", "124.0.0.0")
OLD_MAC = _CHROME.format("Macintosh; Intel Mac OS X 10_13_6", "116.0.0.0")
LINUX = _CHROME.format("X11; Linux x86_64", "124.0.0.0")
ANDROID = _CHROME.format("Linux; Android 10; K", "124.0.0.0 Mobile")
PIXEL = _CHROME.format("Linux; Android 10; Pixel 3", "124.0.0.0 Mobile")
TABLET = _CHROME.format("Linux; Android 10; K", "124.0.0.0")
IPHONE = (
    "Mozilla/5.0 (iPhone; CPU iPhone OS {} like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) {} "
    "Mobile/15E148 Safari/604.1"
)
CHROME = '"Chromium";v="124", "Google Chrome";v="124", "Not-A.Brand";v="99"'
CHROME_FULL = '"Chromium";v="124.0.6367.82", "Google Chrome";v="124.0.6367.82", "Not-A.Brand";v="99.0.0.0"'
BRAVE = '"Chromium";v="124", "Brave";v="124", "Not-A.Brand";v="99"'


def real_user_agents() -> list[dict[str, str]]:
    with (Path(__file__).parent / "user_agents.tsv").open(newline="") as lines:
        return list(csv.DictReader(lines, delimiter="\t", quoting=csv.QUOTE_NONE))


def hints(brands="", mobile="", platform="", version="", model="", arch="", bitness="", full="") -> str:
    quoted = [f'"{value}"' if value else "" for value in (platform, version, model, arch, bitness)]
    return "\n".join([brands, mobile, *quoted, full])


@pytest.mark.parametrize("row", real_user_agents(), ids=lambda row: row["user_agent"][:60])
def test_real_user_agents(row):
    device = read(row["user_agent"], "")
    found = {"type": device.type, "os": device.os, "brand": device.brand, "browser": device.browser}
    assert found == {name: row[name] for name in found}


@pytest.mark.parametrize(
    ("user_agent", "os_version", "browser_version"),
    [
        (WINDOWS, "UNK", "124"),  # Windows 11 says so, too
        (WINDOWS.replace("Safari/537.36", "Safari/537.36 Edge/18.19582"), "10", "18.19582"),
        (WINDOWS_8, "8.1", "109.0.5414.120"),
        (MAC, "UNK", "124"),  # frozen since macOS 11
        (OLD_MAC, "10.13.6", "116"),
        (LINUX, "UNK", "124"),
        (ANDROID, "UNK", "124"),  # "Android 10; K" is every Android
        (PIXEL, "10", "124"),
        (IPHONE.format("17_5_1", "Version/17.5"), "17.5.1", "17.5"),
        (IPHONE.format("18_6", "Version/18.6"), "18.6", "18.6"),
        (IPHONE.format("18_6", "Version/26.1"), "26.1", "26.1"),  # frozen since iOS 26
        (IPHONE.format("18_7", "CriOS/141.0.7390.41"), "18.7", "141.0.7390.41"),
    ],
)
def test_system_and_browser_versions(user_agent, os_version, browser_version):
    device = read(user_agent, "")
    assert (device.os_version, device.browser_version) == (os_version, browser_version)


ARM_LAPTOP = hints(CHROME, "?0", "Windows", "15.0.0", arch="arm", bitness="64", full=CHROME_FULL)
GALAXY = hints(CHROME, "?1", "Android", "13.0.0", "SM-S911B", full=CHROME_FULL)


@pytest.mark.parametrize(
    ("user_agent", "client_hints", "changes"),
    [
        (WINDOWS, hints(CHROME, "?0", "Windows"), {}),
        (WINDOWS, hints(CHROME, "?0", "Windows", "10.0.0"), {"os_version": "10"}),
        (WINDOWS, hints(CHROME, "?0", "Windows", "13.0.0"), {"os_version": "11"}),
        (WINDOWS, hints(CHROME, "?0", "Windows", "15.0.0"), {"os_version": "11"}),
        (WINDOWS, hints(CHROME, "?0", "Windows", "0.3.0"), {"os_version": "8.1"}),
        (WINDOWS, hints(CHROME, "?0", "Windows", "x"), {"os_version": "UNK"}),
        (WINDOWS, ARM_LAPTOP, {"os_version": "11", "platform": "ARM", "browser_version": "124.0.6367.82"}),
        (WINDOWS, hints(BRAVE, "?0", "Windows"), {"browser": "Brave"}),
        (WINDOWS, CHROME, {}),  # the first hint alone
        (MAC, hints(CHROME, "?0", "macOS", "14.4.1"), {"os_version": "14.4.1"}),
        (MAC, hints(CHROME, arch="arm"), {"platform": "ARM"}),
        (LINUX, hints(arch="x86", bitness="32"), {"platform": "x86"}),
        (
            LINUX,
            hints(CHROME, "?0", "Android", "14.0.0"),
            {"os": "Android", "os_version": "14", "type": "tablet"},
        ),
        (ANDROID, hints(CHROME, "?1", "Android"), {}),
        (
            ANDROID,
            hints(CHROME, "?1", "Android", "14.0.0", "Pixel 7"),
            {"os_version": "14", "brand": "Google", "model": "Pixel 7"},
        ),
        (
            ANDROID,
            GALAXY,
            {"os_version": "13", "brand": "Samsung", "model": "SM-S911B", "browser_version": "124.0.6367.82"},
        ),
        (TABLET, hints(CHROME, "?0", model="SM-X710"), {"brand": "Samsung", "model": "SM-X710"}),
        (ANDROID, hints(model="\\;){}%s"), {"model": "\\;){}%s"}),
        ("", hints(platform="Android", version="14"), {"os": "Android", "os_version": "14", "type": "phone"}),
    ],
)
def test_client_hints_add_to_the_string(user_agent, client_hints, changes):
    assert read(user_agent, client_hints) == read(user_agent, "")._replace(**changes)


class Theirs(parsers.UserAgent):
    """The judgements of user-agents on what we have parsed, with our rule for tablets with Android."""

    def __init__(self, judged):
        self.judged = judged
        self.ua_string = judged.user_agent
        self.os = parsers.OperatingSystem(judged.os, (), judged.os_version)
        self.browser = parsers.Browser(judged.browser, (), "")
        self.device = judged.device

    def _is_android_tablet(self):
        return _is_android_tablet(self.judged)


SYSTEMS = [*parsers.PC_OS_FAMILIES, *parsers.MOBILE_OS_FAMILIES, *parsers.TOUCH_CAPABLE_OS_FAMILIES]
SYSTEMS += ["", "Windows", "Mac OS X", "Linux", "Chrome OS", "BlackBerry OS", "BlackBerry Tablet OS"]
BROWSERS = [*parsers.MOBILE_BROWSER_FAMILIES, "", "Chrome", "Firefox Mobile", "Firefox", "Mobile Safari"]
DEVICES = [*parsers.MOBILE_DEVICE_FAMILIES, *parsers.TABLET_DEVICE_FAMILIES, "Other", "Mac", "Pixel 7"]
WORDS = ["J2ME", "MIDP", "iPhone;", "Googlebot-Mobile", "NokiaBrowser", "Mobile", "Windows NT", "Silk"]
WORDS += ["Maemo", "Linux", "X11", "Mozilla/", "Mobi", "Mobile Safari", "Tablet", "iPad", "x"]

judged_devices = st.builds(
    lambda words, *rest: _Judged(" ".join(words), " ".join(words).lower(), *rest),
    st.lists(st.sampled_from(WORDS), max_size=4),
    st.sampled_from(SYSTEMS),
    st.sampled_from(("", "RT", "RT 8.1", "ME", "10", "UNK")),
    st.sampled_from(BROWSERS),
    st.builds(_Model, st.sampled_from(DEVICES), model=st.sampled_from((None, "SM-X710", "Pixel 7"))),
    st.sampled_from((None, True, False)),
)


@given(judged_devices)
def test_type_is_that_of_user_agents_classes(judged):
    theirs, families = Theirs(judged), _families()
    assert _is_tablet(judged, families) == theirs.is_tablet
    assert _is_pc(judged, families) == theirs.is_pc
    assert theirs.is_tablet or _is_phone(judged, families) == theirs.is_mobile


@pytest.mark.parametrize(
    "user_agent", ["", " ", "x", "Google Chrome", "\x00", "\ud800", "💥" * 500, "(" * 500]
)
def test_unknown_user_agent(user_agent):
    assert read(user_agent, "") == UNKNOWN


@given(st.text(max_size=500), st.text(max_size=500))
def test_reading_never_raises(user_agent, client_hints):
    assert all(len(value) <= MAX_FIELD for value in read(user_agent, client_hints))


@given(st.binary(max_size=200), st.lists(st.binary(max_size=40), max_size=10))
def test_bytes_inside_real_strings_never_raise(noise, hint_bytes):
    text = noise.decode("latin-1")
    client_hints = "\n".join(hint.decode("utf-8", "replace") for hint in hint_bytes)
    assert read(ANDROID.replace("K)", text + ")"), client_hints)


def test_flood_of_new_strings_stays_bounded():
    assert read.cache_info().maxsize == CACHE_SIZE
