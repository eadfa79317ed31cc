import csv
from importlib.resources import files
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ua_parser_rs import UserAgentExtractor

from tracker.edge.catalogue.bot_rules import OperatorBots
from tracker.edge.enrich.bots import CACHE_SIZE, MAX_NAME, MAX_REASON, NAMELESS, is_human, read

HERE = Path(__file__).parent
CHROME = "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/141.0.0.0"
ANDROID = (
    "Mozilla/5.0 (Linux; Android {}) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/124.0.0.0 Safari/537.36"
)


def table(name: str) -> list[dict[str, str]]:
    with (HERE / name).open(newline="") as lines:
        return list(csv.DictReader(lines, delimiter="\t", quoting=csv.QUOTE_NONE))


def human_agents() -> list[str]:
    lines = (HERE / "human_agents.txt").read_text().splitlines()
    return [line for line in lines if line and not line.startswith("#")]


def human_patterns() -> list[str]:
    lines = files("tracker.edge.enrich").joinpath("humans.txt").read_text().splitlines()
    return [f"({line})" for line in lines if line and not line.startswith(("#", "!"))]


@pytest.mark.parametrize("user_agent", human_agents(), ids=lambda text: text[:70])
def test_golden_humans_are_never_bots(user_agent):
    assert read(user_agent) is None


@pytest.mark.parametrize("pattern", human_patterns(), ids=lambda text: text[:70])
def test_patterns_for_humans_match_a_human(pattern):
    finds = UserAgentExtractor([(pattern, None, None, None, None, None)])
    assert any(finds.extract(user_agent) for user_agent in human_agents())


@pytest.mark.parametrize("row", table("bot_agents.tsv"), ids=lambda row: row["user_agent"][:70])
def test_real_bots(row):
    assert read(row["user_agent"]) == row["reason"]


REAL = [*human_agents(), *(row["user_agent"] for row in table("bot_agents.tsv"))]


@given(st.sampled_from(REAL), st.integers(0, 200), st.sampled_from([*REAL, "bot", "+http://x.test", "é"]))
def test_people_are_never_bots_whatever_is_in_their_agents(user_agent, at, more):
    user_agent = user_agent[:at] + more + user_agent[at:]
    if is_human(user_agent):
        assert read(user_agent) is None


@pytest.mark.parametrize("row", table("user_agents.tsv"), ids=lambda row: row["user_agent"][:70])
def test_bot_verdict_agrees_with_the_device_type(row):
    assert (read(row["user_agent"]) is not None) == (row["type"] == "bot")


@pytest.mark.parametrize(
    ("user_agent", "reason"),
    [
        ("", NAMELESS),
        ("   ", NAMELESS),
        ("-", NAMELESS),
        ('""', NAMELESS),
        # Bots by name that use a library's or an app's User-Agent.
        ("SomeBot/1.0 okhttp/4.9", "crawler: SomeBot"),
        ("acme-crawler/2.1 CFNetwork/1496.0.7 Darwin/23.5.0", "crawler: acme-crawler"),
        ("python-requests/2.31.0 (NewsSpider)", "crawler: NewsSpider"),
        ("WGETbot/1.0 (+http://wget.alanreed.org)", "crawler: WGETbot"),
        (ANDROID.format("13; CUBOT X70") + " (compatible; SomeBot/1.0)", "crawler: CUBOT"),
        ("facebookexternalhit/1.1;line-poker/1.0", "link preview: facebookexternalhit"),
        (CHROME + " Safari/537.36 [FBAN/FBIOS] HeadlessChrome/120", "headless: HeadlessChrome"),
        # On no list.
        ("Mozilla/5.0 (compatible; NeverHeardOf/0.1)", "crawler: NeverHeardOf"),
        ("Mozilla/5.0 (compatible; Acme; https://acme.test/about)", "crawler: Acme"),
        ("AcmeLinkPreview/1.0", "link preview: AcmeLinkPreview"),
        ("AcmeThing/1.0 (+https://acme.test)", "crawler: https://acme.test"),
        ("acme-scanner/1.0", "crawler: acme-scanner"),
        ("acme synthetic probe", "monitoring: synthetic"),
        ("${jndi:ldap://x.test/a}", "crawler: ${"),
        ("{{.custom_user_agent}}", "crawler: {{"),
        # The name begins a word: neither "Sonic" in "ViewSonic" nor "Yeti" in "aYeti".
        ("Sonic/1.0", "crawler: Sonic"),
        ("Mozilla/5.0 (Linux; Android 4.4.2; aYeti Build/KVT49L) Safari/535.19", None),
        (
            "Sogou web spider/4.0(+http://www.sogou.com/docs/help/webmasters.htm#07)",
            "crawler: Sogou web spider",
        ),
    ],
)
def test_operator_rule_finds_a_bot(user_agent, reason):
    assert read(user_agent) == reason


@pytest.mark.parametrize(
    "user_agent",
    [
        "Mozilla/5.0 (Linux; Android 1" + "; cubot" * 70,
        "Mozilla/5.0 (Linux; Android 1; " + "(" * 469,
        "bot" * 166,
        "b" * 500 + "ot",
        "\ud800bot\udfff" * 50,
        "Mozilla/5.0 (compatible; " + "é" * 475,
        "Mozilla/5.0 (compatible; \u202ebot\u202e; +https://x.test)",
        "\x00" * 500,
        "curl/1" + " a/b (x)" * 61,
        "+http://" + "x." * 240,
    ],
    ids=lambda text: ascii(text[:30]),
)
def test_hostile_strings(user_agent):
    assert is_fit_to_store(read(user_agent))


@given(st.text(max_size=500) | st.text("botcrawlspider/;:()+. Mozilla5https", max_size=500))
def test_user_agent_of_any_text_is_read(text):
    assert is_fit_to_store(read(text))


def is_fit_to_store(reason: str | None) -> bool:
    if reason is None or reason == NAMELESS:
        return True
    kind, _, name = reason.partition(": ")
    known = kind in ("crawler", "headless", "link preview", "monitoring")
    return known and len(name) <= MAX_NAME and len(reason) <= MAX_REASON and reason.isprintable()


def test_cache_is_bounded():
    assert read.cache_parameters()["maxsize"] == CACHE_SIZE


def rules(*rows: tuple[str, str]) -> OperatorBots:
    made = OperatorBots()
    for id_, (field, value) in enumerate(rows, 1):
        made.put(id_, {"id": id_, "field": field, "value": value})
    return made


ACME = ("user_agent", "AcmeTool")
OFFICE = ("ip", "192.0.2.0/24")


@pytest.mark.parametrize(
    ("rows", "user_agent", "ip", "reason"),
    [
        ([], "AcmeTool/1.0", "192.0.2.1", None),
        ([ACME], "AcmeTool/1.0", "", "operator: user agent AcmeTool"),
        ([ACME], "x ACMETOOL y", "", "operator: user agent AcmeTool"),
        ([ACME], "Acme Tool", "", None),
        ([ACME], "", "", None),
        ([OFFICE], CHROME, "192.0.2.1", "operator: network 192.0.2.0/24"),
        ([OFFICE], CHROME, "192.0.3.1", None),
        ([OFFICE], CHROME, "", None),
        ([OFFICE, ("ip", "192.0.2.7")], CHROME, "192.0.2.7", "operator: network 192.0.2.7/32"),
        ([("ip", "2001:DB8::/32")], CHROME, "2001:db8::1", "operator: network 2001:db8::/32"),
        ([ACME, OFFICE], "AcmeTool/1.0", "192.0.2.1", "operator: network 192.0.2.0/24"),
        # Golden humans win over rules on User-Agents, not over rules on addresses.
        ([("user_agent", "okhttp")], "okhttp/4.12.0", "", None),
        ([("user_agent", "okhttp")], "Thing (okhttp inside)", "", "operator: user agent okhttp"),
        ([OFFICE], "okhttp/4.12.0", "192.0.2.1", "operator: network 192.0.2.0/24"),
    ],
)
def test_operator_rules(rows, user_agent, ip, reason):
    assert rules(*rows).reason(user_agent, ip) == reason


def test_long_rule_gives_a_short_reason():
    reason = rules(("user_agent", "x" * 300)).reason("x" * 300, "")
    assert reason == "operator: user agent ".ljust(MAX_REASON, "x")


def test_rule_is_replaced_and_removed():
    made = rules(ACME, OFFICE)
    assert made.reason("AcmeTool", "")
    made.put(1, {"id": 1, "field": "user_agent", "value": "Other"})
    assert made.reason("AcmeTool", "") is None
    assert made.reason("other", "") == "operator: user agent Other"
    made.put(1, None)
    made.put(2, None)
    made.put(3, None)
    assert made.reason("other", "192.0.2.1") is None


def test_network_stays_while_one_rule_holds_it():
    made = rules(OFFICE, OFFICE)
    made.put(1, None)
    assert made.reason(CHROME, "192.0.2.1") == "operator: network 192.0.2.0/24"
    made.put(2, None)
    assert made.reason(CHROME, "192.0.2.1") is None


def test_part_stays_while_one_rule_holds_it():
    made = rules(ACME, ACME)
    made.put(2, None)
    assert made.reason("AcmeTool", "") == "operator: user agent AcmeTool"


@pytest.mark.parametrize(
    ("field", "value", "told"),
    [
        ("ip", "192.0.2.0/33", "not an IP address"),
        ("ip", "", "not an IP address"),
        ("user_agent", " ", "needs the part"),
        ("referrer", "x", "not on 'referrer'"),
    ],
)
@pytest.mark.parametrize("before", [ACME, OFFICE])
def test_bad_rule_is_refused_and_removes_its_former_version(field, value, told, before):
    made = rules(before)
    with pytest.raises(ValueError, match=told):
        made.put(1, {"id": 1, "field": field, "value": value})
    assert made.reason("AcmeTool", "192.0.2.1") is None
