"""What a network keeps about partners and offers: e-mail, contact, note, external id, tags, category."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.integration.api_client import api_of
from tests.integration.importing import Importer, importer
from tracker.api.http.routing import ROOT
from tracker.domain import normalise
from tracker.settings import Settings
from tracker.store.catalogue.demo import load_demo
from tracker.store.tokens import create_token

__all__ = ["importer"]

SCOPES = ("offers:read", "offers:write")
OF_PARTNER = {
    "email": "jane@partner.example",
    "contact": "Jane Roe, +1 202 555 0101",
    "note": "pays late\nask Jane",
    "external_id": "CRM-1042",
    "tags": ["vip", "mobile"],
}
OF_OFFER = {"category": "Games", "note": "a\nb", "external_id": "7", "tags": ["vip"]}
LABELS = {"advertisers/1": OF_PARTNER, "affiliates/513": OF_PARTNER, "offers/3": OF_OFFER}


@pytest.mark.parametrize(
    ("text", "is_right"),
    [
        ("jane@partner.example", True),
        (" jane+net@mail.partner.example ", True),
        ("jürgen@bücher.example", True),
        ("jane", False),
        ("jane@partner", False),
        ("jane@@partner.example", False),
        ("jane roe@partner.example", False),
        ("jane@partner.example\nx", False),
        ("@partner.example", False),
        ("jane@partner.", False),
        (f"{'j' * 250}@partner.example", False),
    ],
)
def test_email_has_one_at_between_name_and_host(text: str, is_right: bool) -> None:
    if is_right:
        assert normalise.email(text) == text.strip()
    else:
        with pytest.raises(ValueError, match="is not an e-mail address"):
            normalise.email(text)


@pytest.fixture
async def demo(importer: Importer) -> Importer:
    assert importer.settings.postgres_dsn
    await load_demo(importer.settings.postgres_dsn)
    return importer


@pytest.mark.anyio
async def test_labels_come_in_by_the_api_and_are_in_the_audit_trail(demo: Importer) -> None:
    async with api_of(demo.settings, scopes=SCOPES) as api:
        for path, labels in LABELS.items():
            answer = await api.patch(f"{ROOT}/{path}", json=labels)
            assert answer.json().items() >= labels.items(), answer.text
            trail = (await api.get(f"{ROOT}/audit", params={"path": path})).json()["data"]
            assert trail[0]["after"].items() >= labels.items()
            nothing = dict.fromkeys(labels)
            empty = {name: [] if name == "tags" else "" for name in labels} | {"external_id": None}
            assert (await api.patch(f"{ROOT}/{path}", json=nothing)).json().items() >= empty.items()


WRONG: list[tuple[str, dict[str, Any], str]] = [
    ("affiliates/513", {"email": "jane"}, "email"),
    ("affiliates/513", {"email": "jane\u0000@partner.example"}, "email"),
    ("affiliates/513", {"contact": "a\nb"}, "contact"),
    ("affiliates/513", {"note": "a\u001bb"}, "note"),
    ("affiliates/513", {"note": "x" * 10_001}, "note"),
    ("advertisers/1", {"external_id": "a\tb"}, "external_id"),
    ("advertisers/1", {"external_id": "x" * 101}, "external_id"),
    ("offers/3", {"tags": "vip"}, "tags"),
    ("offers/3", {"tags": ["a,b"]}, "tags"),
    ("offers/3", {"tags": ["\u200b"]}, "tags"),
    ("offers/3", {"tags": ["x" * 51]}, "tags.0"),
    ("offers/3", {"tags": [f"t{n}" for n in range(51)]}, "tags"),
    ("offers/3", {"category": "x" * 101}, "category"),
    ("offers/3", {"email": "jane@partner.example"}, "email"),
]


@pytest.mark.anyio
async def test_wrong_labels_are_named(demo: Importer) -> None:
    async with api_of(demo.settings, scopes=SCOPES) as api:
        for path, patch, field in WRONG:
            answer = await api.patch(f"{ROOT}/{path}", json=patch)
            assert (patch, answer.status_code, list(answer.json()["errors"])) == (patch, 422, [field])


KEPT: list[tuple[str, Any, Any]] = [
    ("email", " Jane@Partner.example\u200b", "Jane@Partner.example"),
    ("note", " a\r\nb\tc\n", "a\nb\tc"),
    ("external_id", " CRM-1 ", "CRM-1"),
    ("external_id", " ", None),
    ("tags", ["VIP", " vip ", "Jose\u0301"], ["vip", "jos\u00e9"]),
]


@pytest.mark.anyio
async def test_labels_are_kept_in_one_form(demo: Importer) -> None:
    async with api_of(demo.settings, scopes=SCOPES) as api:
        for field, text, kept in KEPT:
            answer = await api.patch(f"{ROOT}/affiliates/513", json={field: text})
            assert (field, answer.json()[field]) == (field, kept)


@pytest.mark.anyio
async def test_external_id_is_unique_among_rows_of_a_kind_that_are_not_archived(demo: Importer) -> None:
    async with api_of(demo.settings, scopes=SCOPES) as api:

        async def change(path: str, **patch: object) -> tuple[int, dict[str, list[str]]]:
            answer = await api.patch(f"{ROOT}/{path}", json=patch)
            return answer.status_code, answer.json().get("errors", {})

        taken = (409, {"external_id": ["is taken"]})
        assert (await change("affiliates/513", external_id="C"))[0] == 200
        assert await change("affiliates/514", external_id="C") == taken
        assert (await change("advertisers/1", external_id="C"))[0] == 200
        assert (await change("affiliates/513", is_archived=True))[0] == 200
        assert (await change("affiliates/514", external_id="C"))[0] == 200
        assert await change("affiliates/513", is_archived=False) == taken


@pytest.mark.anyio
async def test_labels_come_in_on_the_command_line(demo: Importer) -> None:
    words = ["tags=VIP, mobile", "email=jane@partner.example", "note=a\nb", "external_id=42"]
    done = await demo.command("affiliates", "set", "513", *words)
    assert done.code == 0, done.err
    shown = (await demo.command("affiliates", "show", "513")).out
    assert "\nnote         a\n             b\n" in shown
    row = json.loads((await demo.command("affiliates", "show", "513", "--json")).out)
    assert (row["tags"], row["external_id"], row["note"]) == (["vip", "mobile"], "42", "a\nb")
    done = await demo.command("affiliates", "set", "513", "tags=[vip")
    assert (done.code, done.err) == (1, "tracker: tags is not a list\n")


@pytest.mark.anyio
async def test_labels_are_imported_and_find_their_rows(demo: Importer) -> None:
    files = {
        "a/network.yaml": "affiliates: [{name: J, external_id: A, tags: [VIP]}, {name: J, external_id: B}]",
        "b/affiliates.csv": 'external_id,name,tags\r\nA,Jane,"vip, mobile"\r\nB,J,"[""x""]"\r\n',
    }
    for name, content in files.items():
        (demo.tmp_path / name).parent.mkdir()
        done = await demo.run("catalogue", demo.file(name, content))
        assert done.code == 0, done.err
    rows = "SELECT name, external_id, tags FROM affiliate WHERE external_id IS NOT NULL ORDER BY external_id"
    assert await demo.fetch(rows) == [("Jane", "A", ["vip", "mobile"]), ("J", "B", ["x"])]


@pytest.mark.anyio
async def test_external_id_is_filled_in_by_name(demo: Importer) -> None:
    file = demo.file("network.yaml", "affiliates: [{name: John Doe, external_id: A}]")
    for changes in ("0 created, 1 changed", "0 created, 0 changed"):
        assert changes in (await demo.run("catalogue", file)).out


@pytest.mark.anyio
async def test_partners_do_not_see_labels(demo: Importer, database: Settings) -> None:
    async with api_of(database, scopes=SCOPES) as api:
        for path, labels in LABELS.items():
            assert (await api.patch(f"{ROOT}/{path}", json=labels)).status_code == 200
    owners: list[tuple[str, dict[str, int], tuple[str, ...]]] = [
        ("affiliates", {"affiliate_id": 513}, ("offers:read", "conversions:read", "clicks:read")),
        ("advertisers", {"advertiser_id": 1}, ("conversions:read", "clicks:read")),
    ]
    async with api_of(database, scopes=()) as api:
        for whose, owner, scopes in owners:
            token = await create_token(database.postgres_dsn or "", scopes, **owner)  # type: ignore[arg-type]
            headers = {"Authorization": f"Bearer {token}"}
            own = ROOT.removesuffix("users") + whose
            for path in (f"{ROOT}/affiliates/513", f"{ROOT}/offers/3", f"{ROOT}/audit"):
                assert (await api.get(path, headers=headers)).status_code == 403, path
            if whose == "affiliates":
                (offer,) = (
                    row
                    for row in (await api.get(f"{own}/offers", headers=headers)).json()["data"]
                    if row["id"] == 3
                )
                assert not offer.keys() & OF_OFFER.keys()
