"""Postback forms: which form a request has, and what it means by it."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.factories.clicks import HASH
from tracker.domain.normalise import pairs
from tracker.domain.postback import PARAMETERS, ConversionStatus, OfForm, Source, read_postback
from tracker.edge.catalogue.catalogue import Catalogue
from tracker.edge.catalogue.postback_forms import Meaning, PostbackForms, by_name, compiled
from tracker.stream.postbacks import decode, encode
from tracker.stream.record import Undecodable


def a_row(path: str, **changes: Any) -> dict[str, Any]:
    empty: dict[str, Any] = {"match": {}, "parameters": {}, "constants": {}, "values": {}}
    nothing = dict.fromkeys(("host", "secret", "advertiser_id", "source"))
    return {"name": path, "path": path} | empty | nothing | changes


def forms_of(*rows: dict[str, Any]) -> PostbackForms:
    forms = PostbackForms()
    for id_, row in enumerate(rows, 1):
        forms.put(id_, row)
    return forms


def read(forms: PostbackForms, target: str, host: str = "go.test") -> tuple[str, Meaning] | None:
    path, _, query = target.partition("?")
    form = forms.find(host, path, query.encode())
    assert form is None or forms.claims(path)
    return form and (form.name, form.read(path, by_name(pairs(query.encode()), form.names)))


LSR = a_row("/aff_lsr", constants={"status": "approved"}, secret="security_token")
GOAL = a_row("/aff_goal", name="goal", match={"a": "lsr"}, parameters={"goal_id": "goal"})
GOAL_OF = a_row("/aff_goal", name="goal of", match={"a": "lsr", "goal_name": "*"})
ROOT = a_row("/", match={"nid": "*", "transaction_id": "*"}, parameters={"amount": "sale_amount"})
KEY = a_row(
    "/{secret}/postback",
    name="key",
    parameters={"subid": "click_id", "tid": "order_id", "payout": "revenue"},
    values={"status": {"lead": "pending", "sale": "approved", "rejected": "rejected"}},
)
PATH = a_row("/p/{click_id}/{event}", name="path", values={"goal": {"ftd": "deposit", "7": "level"}})
OWN = a_row("/own", host="own.test", parameters={"status": ""})
TOKEN = a_row("/token", parameters={"token": "click_id"}, secret="k")
ANY_OWN = a_row("/own", name="any", constants={"goal": "base"})

FORMS = forms_of(LSR, GOAL, GOAL_OF, ROOT, KEY, PATH, OWN, ANY_OWN, TOKEN)

READ: list[tuple[str, str, dict[str, str], str, str | None]] = [
    ("/aff_lsr?transaction_id=5", "/aff_lsr", {"transaction_id": "5", "status": "approved"}, "", "approved"),
    ("/aff_lsr/?hash=5&status=hold", "/aff_lsr", {"hash": "5", "status": "approved"}, "", "approved"),
    ("/aff_lsr?hash=5&security_token=k", "/aff_lsr", {"hash": "5", "status": "approved"}, "k", "approved"),
    ("/aff_lsr?hash=5&token=abc", "/aff_lsr", {"hash": "5", "status": "approved"}, "abc", "approved"),
    ("/aff_goal?a=lsr&goal_id=4&hash=5", "goal", {"goal": "4", "hash": "5"}, "", None),
    ("/aff_goal?amp;a=%6Csr&hash=5", "goal", {"hash": "5"}, "", None),
    ("/aff_goal?a=lsr&goal_name=x", "goal of", {"goal_name": "x"}, "", None),
    ("/?nid=1&transaction_id=5&amount=7", "/", {"transaction_id": "5", "sale_amount": "7"}, "", None),
    ("?transaction_id=&nid=", "/", {"transaction_id": ""}, "", None),
    ("/k/postback?subid=5&status=Lead", "key", {"click_id": "5", "status": "pending"}, "k", "pending"),
    ("/k/postback?subid=5&status=other", "key", {"click_id": "5", "status": "other"}, "k", None),
    ("/k/postback?subid={s}&click_id=5&tid=1", "key", {"click_id": "5", "order_id": "1"}, "k", None),
    ("/p/5/FTD?goal=x&hash=9", "path", {"click_id": "5", "event": "deposit"}, "", None),
    ("/p/5/7?order_id=1", "path", {"click_id": "5", "event": "level", "order_id": "1"}, "", None),
    ("/token?token=5&k=x", "/token", {"click_id": "5"}, "x", None),
    ("/token?token=5", "/token", {"click_id": "5"}, "", None),
    ("/own?goal_id=4&hash=5&status=x", "any", {"goal": "base", "hash": "5", "status": "x"}, "", None),
]


@pytest.mark.parametrize(("target", "name", "parameters", "secret", "status"), READ)
def test_postback_is_read_by_its_form(
    target: str, name: str, parameters: dict[str, str], secret: str, status: str | None
) -> None:
    assert read(FORMS, target) == (name, Meaning(parameters, secret, status))  # type: ignore[arg-type]


def test_form_of_its_host_goes_first_and_leaves_names_out() -> None:
    assert read(FORMS, "/own?status=x&hash=5", "OWN.test:80") == ("/own", Meaning({"hash": "5"}, "", None))


@pytest.mark.parametrize(
    "target",
    [
        "/aff_goal?hash=5",
        "/aff_goal?a=other",
        "/aff_goal?a=LSR",
        "/?nid=5",
        "/",
        "/postback?hash=5",
        "/postback/postback",
        "/x/postbacks?subid=5",
        "//postback",
        "/p/5",
        "/offer/3?affiliate_id=513",
        "/health/live",
    ],
)
def test_other_requests_are_of_no_form(target: str) -> None:
    assert read(FORMS, target) is None


def test_placeholders_take_no_link_of_ours_with_more_slashes() -> None:
    forms = forms_of(a_row("//{hash}/3"), a_row("/{hash}//x"))
    assert [forms.claims(path) for path in ("//abc/3", "//offer/3", "/abc//x", "/offer//x")] == [
        *(True, False),
        *(True, False),
    ]


def test_form_that_is_changed_or_removed_gives_its_path_back() -> None:
    forms = forms_of(LSR, GOAL)
    forms.put(1, a_row("/other"))
    assert (forms.claims("/aff_lsr"), forms.claims("/other")) == (False, True)
    with pytest.raises(ValueError, match="path"):
        forms.put(1, a_row("/postback"))
    assert not forms.claims("/other")
    forms.put(2, None)
    assert not list(forms)


def test_unusable_form_is_a_problem_of_the_catalogue() -> None:
    catalogue = Catalogue()
    catalogue.put("postback_form", "1", LSR)
    catalogue.put("postback_form", "2", a_row("/postback"))
    assert [form.name for form in catalogue.postback_forms] == ["/aff_lsr"]
    assert catalogue.problems == {
        ("postback_form", "2"): ["left out: path: '/postback' is a path of the edge's own"]
    }


FORM = OfForm(3, "TUNE", 7, "tune", ConversionStatus.HOLD, "/aff_lsr", {"a": "b"})


def test_record_has_its_second_version_only_for_a_form() -> None:
    plain = read_postback(HASH, Source.POSTBACK, "192.0.2.7", 1, {"hash": HASH, "status": "lead"})
    assert (encode(plain)[:1], decode(encode(plain))) == (b"\x01", plain)
    for form in (FORM, FORM._replace(advertiser_id=None, source="", status=None)):
        said = read_postback(HASH, Source.POSTBACK, "", None, {"hash": HASH, "status": "x"}, form)
        assert said.status == form.status
        assert (encode(said)[:1], decode(encode(said))) == (b"\x02", said)


@pytest.mark.parametrize("form", [b"", b",{}", b',{"id":1}', b",7"])
def test_record_of_a_damaged_form_is_undecodable(form: bytes) -> None:
    with pytest.raises(Undecodable):
        decode(b'\x02["' + HASH.encode() + b'","postback","",null,{"hash":"5"}' + form + b"]")


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"path": "aff_lsr"}, "path: 'aff_lsr' is not a path"),
    ({"path": "//offer/3"}, "path: '//offer/3' is a path of the edge's own"),
    ({"path": "//%6fffer/{hash}"}, "path: .* is a path of the edge's own"),
    ({"path": "/p/{nonsense}"}, "path: {nonsense} in the path is not known"),
    ({"path": "/p/{hash}/{click_id}"}, "path: .* two placeholders of one meaning"),
    ({"path": "/{click_id}"}, "path: .* has no fixed segment"),
    ({"path": "/"}, "path: .* needs a match"),
    ({"match": {"a": " x"}}, "match: a: needs a value without blanks"),
    ({"match": {str(n): "*" for n in range(11)}}, "match: match has more than 10 names"),
    ({"match": {"": "*"}}, "match: match: a name has 1 to"),
    ({"match": {"a": 1.5}}, "match: a: needs text"),
    ({"match": []}, "match: match is not an object"),
    ({"parameters": {"a": "token"}}, "parameters: a: 'token' is not one of"),
    ({"constants": {"goal": "1", "event": "2"}}, "constants: has two names of the goal"),
    ({"constants": {"goal": "{goal}"}}, "constants: goal: .* is read as a missing value"),
    ({"values": {"status": {"null": "approved"}}}, "values: status: 'null' is read as a missing value"),
    ({"values": {"status": "approved"}}, "values: values.status is not an object"),
]


@pytest.mark.parametrize(("changes", "why"), WRONG)
def test_wrong_form_is_refused_by_its_field(changes: dict[str, Any], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        compiled(1, a_row("/right") | changes)


@given(st.dictionaries(st.text(max_size=5) | st.sampled_from(sorted(PARAMETERS)), st.text(max_size=10)))
def test_sender_never_changes_what_path_and_constants_say(sent: dict[str, str]) -> None:
    form = compiled(1, a_row("/p/{click_id}", constants={"status": "hold", "goal": "x"}, secret="k"))
    meaning = form.read("/p/5", sent)
    told = meaning.parameters
    assert (told["click_id"], told["status"], told["goal"], meaning.status) == ("5", "hold", "x", "hold")
    assert not told.keys() & {"hash", "clickid", "event", "goal_id", "goal_name", "goal_code", "event_name"}
    assert told.keys() <= PARAMETERS
