"""Common names of operating systems and browsers that have another name here.

The table has only names with the same meaning. "iPadOS" is not in it: a tablet with it is read as iOS, and so
is an iPhone. "Windows 10" is not in it: the version is not a part of the name.
"""

from __future__ import annotations

SYSTEMS = {
    "appleios": "iOS",
    "bb10": "BlackBerry OS",
    "blackberry": "BlackBerry OS",
    "chromeos": "Chrome OS",
    "chromiumos": "Chrome OS",
    "cros": "Chrome OS",
    "gnulinux": "Linux",
    "googleandroid": "Android",
    "firefoxos": "Firefox OS",
    "harmony": "HarmonyOS",
    "harmonyos": "HarmonyOS",
    "iphoneos": "iOS",
    "kaios": "KaiOS",
    "mac": "Mac OS X",
    "macintosh": "Mac OS X",
    "macos": "Mac OS X",
    "macosx": "Mac OS X",
    "microsoftwindows": "Windows",
    "mswindows": "Windows",
    "openharmony": "HarmonyOS",
    "osx": "Mac OS X",
    "redhatlinux": "Red Hat",
    "symbian": "Symbian OS",
    "tvos": "tvOS",
    "ubuntulinux": "Ubuntu",
    "watchos": "watchOS",
    "webos": "webOS",
    "win": "Windows",
    "winmobile": "Windows Mobile",
    "winphone": "Windows Phone",
}
"""Keys are names in lower case without white space, hyphens, underscores, points and slashes."""

BROWSERS = {
    "applesafari": "Safari",
    "bravebrowser": "Brave",
    "chromeandroid": "Chrome Mobile",
    "chromeforandroid": "Chrome Mobile",
    "chromeforios": "Chrome Mobile iOS",
    "chromeios": "Chrome Mobile iOS",
    "crios": "Chrome Mobile iOS",
    "duckduckgobrowser": "DuckDuckGo",
    "duckduckgo": "DuckDuckGo",
    "edgechromium": "Edge",
    "facebookapp": "Facebook",
    "firefoxandroid": "Firefox Mobile",
    "firefoxforandroid": "Firefox Mobile",
    "firefoxforios": "Firefox iOS",
    "fxios": "Firefox iOS",
    "googlechrome": "Chrome",
    "huaweibrowser": "Huawei Browser",
    "instagramapp": "Instagram",
    "internetexplorer": "IE",
    "iossafari": "Mobile Safari",
    "messenger": "Facebook Messenger",
    "microsoftedge": "Edge",
    "microsoftinternetexplorer": "IE",
    "miui": "MiuiBrowser",
    "mobilechrome": "Chrome Mobile",
    "mobilefirefox": "Firefox Mobile",
    "mozillafirefox": "Firefox",
    "msedge": "Edge",
    "msie": "IE",
    "operagx": "Opera GX",
    "operamini": "Opera Mini",
    "operabrowser": "Opera",
    "safarimobile": "Mobile Safari",
    "samsung": "Samsung Internet",
    "samsungbrowser": "Samsung Internet",
    "samsunginternet": "Samsung Internet",
    "samsunginternetbrowser": "Samsung Internet",
    "silk": "Amazon Silk",
    "uc": "UC Browser",
    "ucbrowser": "UC Browser",
    "ucweb": "UC Browser",
    "wechat": "WeChat Browser",
    "yandexbrowser": "Yandex Browser",
    "yandex": "Yandex Browser",
    "yabrowser": "Yandex Browser",
}
"""Keys as in SYSTEMS."""

NEAREST = {
    "androidtv": "Android",
    "appletv": "tvOS",
    "fireos": "Android",
    "firetv": "Android",
    "ipad": "iOS",
    "ipados": "iOS",
    "iphone": "iOS",
    "ipod": "iOS",
    "win32": "Windows",
    "win10": "Windows",
    "win11": "Windows",
    "androidwebview": "Chrome Mobile WebView",
    "fb": "Facebook",
    "gsa": "Google",
    "qq": "QQ Browser",
    "webview": "Chrome Mobile WebView",
}
"""Words that are not a system or browser, with the related one. Keys as in SYSTEMS."""

TYPES = {
    **{name: name for name in ("desktop", "phone", "tablet", "tv", "console", "bot")},
    **dict.fromkeys(
        ("mobile", "mobilephone", "smartphone", "featurephone", "cellphone", "handset", "phablet"), "phone"
    ),
    **dict.fromkeys(("pc", "computer", "personalcomputer", "laptop", "notebook"), "desktop"),
    **dict.fromkeys(("ctv", "connectedtv", "smarttv", "television", "settopbox"), "tv"),
    **dict.fromkeys(("gameconsole", "gamingconsole", "gamesconsole"), "console"),
    **dict.fromkeys(("robot", "crawler", "spider"), "bot"),
}
"""Types of devices, and their other names."""

PLATFORMS = {
    **dict.fromkeys(("x64", "x8664", "amd64", "win64", "x86x64"), "x64"),
    **dict.fromkeys(("x86", "i386", "i486", "i586", "i686", "ia32", "win32"), "x86"),
    **dict.fromkeys(("arm", "arm32", "arm64", "aarch64", "armv7", "armv7l", "armv8", "armv8l"), "ARM"),
}
"""Architectures of processors, and their other names."""
