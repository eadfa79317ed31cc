"""URLs in the shape of a platform's page mean what they mean there, by the forms of its preset."""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qsl, unquote

import pytest

from tracker.catalogue.links import LinkForm, PostbackForm
from tracker.domain.click_fields import AFF_SUBS
from tracker.domain.postback import ConversionStatus
from tracker.edge.catalogue.link_forms import LinkForms
from tracker.edge.catalogue.postback_forms import PostbackForms, by_name
from tracker.importing import presets

SECRET = "0123456789abcdef0123"
CLICK = "6683a1c0e9d2b3f4a5c8d601"

# preset, URL, its meaning by our names, status, whether it has the secret
POSTBACKS = [
    (
        "everflow",
        f"/?nid=12&transaction_id={CLICK}&amount=40&adv1=basket&adv5=last&order_id=A-1&verification_token={SECRET}",
        {"click_id": CLICK, "sale_amount": "40", "adv_sub": "basket", "adv_sub5": "last", "order_id": "A-1"},
        None,
        True,
    ),
    (
        "everflow",
        f"/?nid=12&event_id=6&transaction_id={CLICK}",
        {"click_id": CLICK, "goal_code": "6"},
        None,
        False,
    ),
    (
        "tune",
        f"/aff_lsr?offer_id=3&transaction_id={CLICK}&amount=40&adv_sub=basket&adv_sub2=b&security_token={SECRET}",
        {"click_id": CLICK, "sale_amount": "40", "adv_sub": "basket", "adv_sub2": "b"},
        None,
        True,
    ),
    (
        "tune",
        f"/aff_goal?a=lsr&goal_id=46&transaction_id={CLICK}&adv_sub=basket",
        {"click_id": CLICK, "goal_id": "46", "adv_sub": "basket"},
        None,
        False,
    ),
    (
        "trackier",
        f"/acquisition?click_id={CLICK}&goal_value=sale&txn_id=A-1&sale_amount=40&currency=EUR&status=cancelled",
        {
            "click_id": CLICK,
            "goal_code": "sale",
            "order_id": "A-1",
            "sale_amount": "40",
            "currency": "EUR",
            "status": "cancelled",
        },
        None,
        False,
    ),
    (
        "keitaro",
        f"/{SECRET}/postback?subid={CLICK}&status=lead&payout=4&currency=EUR&tid=A-1",
        {"click_id": CLICK, "status": "pending", "revenue": "4", "currency": "EUR", "order_id": "A-1"},
        ConversionStatus.PENDING,
        True,
    ),
    (
        "keitaro",
        f"/{SECRET}/postback?subid={CLICK}&status=rebill",
        {"click_id": CLICK, "status": "approved"},
        ConversionStatus.APPROVED,
        True,
    ),
    (
        "scaleo",
        f"/track/conv?click_id={CLICK}&token={SECRET}&goal_alias=sale&conv_status=hold&amount=40&adv_param1=basket",
        {"click_id": CLICK, "goal_code": "sale", "status": "hold", "sale_amount": "40", "adv_sub": "basket"},
        None,
        True,
    ),
    (
        "scaleo",
        f"/track/conv-change?click_id={CLICK}&conv_status=trash",
        {"click_id": CLICK, "status": "trash"},
        None,
        False,
    ),
    (
        "offer18",
        f"/p?mid=12&tid={CLICK}&event=deposit&sale=40&adv_sub1=basket&adv_sub2=b",
        {
            "click_id": CLICK,
            "event": "deposit",
            "sale_amount": "40",
            "adv_sub": "basket",
            "adv_sub2": "b",
        },
        None,
        False,
    ),
]

LINKS = [
    (
        "everflow",
        "/28KL6/2CTPL/?sub1=a&sub5=e&source_id=s&google_aid=38400000-8cf0-11bd-b23e-10b96e40000d",
        {
            "aff_sub": "a",
            "aff_sub5": "e",
            "affiliate_source": "s",
            "gaid": "38400000-8cf0-11bd-b23e-10b96e40000d",
        },
    ),
    (
        "tune",
        "/aff_c?offer_id=3&aff_id=5&source=mail&aff_sub=spring&aff_sub5=last&google_aid=g-1&aff_click_id=x-1",
        {
            "affiliate_source": "mail",
            "aff_sub": "spring",
            "aff_sub5": "last",
            "gaid": "g-1",
            "external_id": "x-1",
        },
    ),
    ("affise", "/click?pid=5&offer_id=3&sub1=spring&sub20=last", {"aff_sub": "spring", "aff_sub20": "last"}),
    (
        "trackier",
        "/click?campaign_id=3&pub_id=5&source=mail&p1=spring&p10=last&gaid=g-1&idfa=i-1",
        {"affiliate_source": "mail", "aff_sub": "spring", "aff_sub10": "last", "gaid": "g-1", "idfa": "i-1"},
    ),
    (
        "scaleo",
        "/click?o=3&a=5&sub_id1=spring&sub_id5=last&aff_param1=more&aff_click_id=x-1",
        {"aff_sub": "spring", "aff_sub5": "last", "aff_sub6": "more", "external_id": "x-1"},
    ),
]


def _forms(preset: str, kind: str) -> list[dict[str, Any]]:
    loaded = presets.load(preset)
    return loaded.forms().get(kind, []) if "forms" in loaded.content else []


def _of_all(kind: str) -> list[dict[str, Any]]:
    return [form for name in presets.names() for form in _forms(name, kind)]


@pytest.mark.parametrize("form", _of_all("postback_forms"), ids=lambda form: form["name"])
def test_the_catalogue_takes_a_postback_form(form: dict[str, Any]) -> None:
    assert PostbackForm(**form).clashes() == {}


@pytest.mark.parametrize(("preset", "url", "meaning", "status", "has_secret"), POSTBACKS)
def test_a_postback_means_what_its_page_says(
    preset: str, url: str, meaning: dict[str, str], status: ConversionStatus | None, has_secret: bool
) -> None:
    forms = PostbackForms()
    for id_, form in enumerate(_of_all("postback_forms"), 1):
        forms.put(id_, PostbackForm(**form).model_dump())
    path, _, query = url.partition("?")
    found = forms.find("go.example", unquote(path), query.encode())
    assert found is not None
    assert found.name in [form["name"] for form in _forms(preset, "postback_forms")]
    read = found.read(path, by_name(parse_qsl(query), found.names))
    assert read.parameters == meaning
    assert read.status == status
    assert read.secret == (SECRET if has_secret else "")


@pytest.mark.parametrize("path", ["/", "/?nid=12", "/aff_goal?a=l&goal_id=46", "/p?tid=1", "/x/y"])
def test_other_requests_for_these_paths_are_no_postbacks(path: str) -> None:
    forms = PostbackForms()
    for id_, form in enumerate(_of_all("postback_forms"), 1):
        forms.put(id_, PostbackForm(**form).model_dump())
    plain, _, query = path.partition("?")
    assert forms.find("go.example", plain, query.encode()) is None


@pytest.mark.parametrize(("preset", "url", "values"), LINKS)
def test_a_link_means_what_its_page_says(preset: str, url: str, values: dict[str, str]) -> None:
    forms = LinkForms()
    for id_, form in enumerate(_forms(preset, "link_forms"), 1):
        forms.put(id_, LinkForm(**form).model_dump())
    path, _, query = url.partition("?")
    codes = (
        {"kind": "affiliate", "code": "28KL6", "affiliate_id": 5},
        {"kind": "offer", "code": "2CTPL", "offer_id": 3},
    )
    for id_, code in enumerate(codes):
        forms.codes.put(id_, {"host": None, "offer_url_id": None, **code})
    assert forms.claims(path)
    link = forms.link("go.example", path, query.encode())
    assert (link.offer_id, link.affiliate_id) == (3, 5)
    texts = dict(zip(AFF_SUBS, link.aff_subs, strict=True))
    texts |= {"affiliate_source": link.source, "external_id": link.external_id}
    texts |= {"gaid": link.gaid, "idfa": link.idfa}
    assert {name: text for name, text in texts.items() if text} == values
