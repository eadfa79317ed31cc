"""A generated client of the API's document, used against a running tracker."""

from __future__ import annotations

from collections.abc import Iterator
from http import HTTPStatus
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from openapi_python_client import generate
from openapi_python_client.config import Config, ConfigFile, MetaType

from tests.conftest import Furnish
from tests.e2e.running import Up, up
from tests.e2e.test_commands import tracker as command

_PACKAGE = "tracker_client"
_FILES = dict.fromkeys(("text/csv", "application/x-ndjson"), "application/octet-stream")  # sent as they are
_SCOPES = ("clicks:read", "clicks:write", "offers:read", "offers:write", "reports:read")


@pytest.fixture(scope="module")
def tracker(furnish: Furnish, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    with up(furnish(tmp_path_factory.mktemp("client") / "var")) as running:
        yield running


@pytest.fixture(scope="module")
def client(tracker: Up, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """An instance of the generated client, with a token."""
    directory = tmp_path_factory.mktemp("generated")
    document = directory / "openapi.json"
    document.write_bytes(tracker.get("/openapi.json", tracker.api_port)[1])
    _generate(document, directory / _PACKAGE)
    scopes = [word for scope in _SCOPES for word in ("--scope", scope)]
    token = command(tracker.data_dir, "token", "create", *scopes).stdout.strip()
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(directory))
        made = import_module(_PACKAGE).AuthenticatedClient
        with made(base_url=f"http://127.0.0.1:{tracker.api_port}", token=token) as client:
            yield client


def test_generated_client_creates_reads_changes_and_reports(client: Any) -> None:
    models = import_module(f"{_PACKAGE}.models")
    click = models.NewClick(offer_id=3, affiliate_id=513, aff_sub="generated", dedupe_key="once")
    created = _call(client, "clicks.create_clicks", HTTPStatus.CREATED, body=click).parsed
    assert not created.duplicate
    assert _call(client, "clicks.create_clicks", HTTPStatus.CREATED, body=click).parsed.duplicate
    (read,) = _call(client, "clicks.get_click", id=created.hash_).parsed.data
    assert (read.id, read.aff_sub, read.redirected_link) == (created.id, "generated", created.redirected_link)
    listed = _call(client, "clicks.list_clicks", aff_sub=["generated"], offer_id=[3]).parsed
    assert (listed.total, [row.hash_ for row in listed.data]) == (1, [created.hash_])
    (row,) = _call(client, "reports.read_report", group_by="offer", offer_id=[3]).parsed.data
    assert (row.offer_id, row.clicks + row.invalid) == (3, 1)


def test_generated_client_changes_an_offer_only_at_its_version(client: Any) -> None:
    models = import_module(f"{_PACKAGE}.models")
    offer = models.Offer(name="Generated", advertiser_id=1)
    made = _call(client, "management.create_offer", HTTPStatus.CREATED, body=offer)
    id_, etag = made.parsed.id, made.headers["ETag"]
    paused = models.OfferPatch(status="paused")
    changed = _call(client, "management.change_offer", id=id_, body=paused, if_match=etag)
    assert (changed.parsed.status, changed.parsed.name) == ("paused", "Generated")
    late = models.OfferPatch(name="Too late")
    stale = _call(
        client, "management.change_offer", HTTPStatus.PRECONDITION_FAILED, id=id_, body=late, if_match=etag
    )
    assert stale.parsed.errors.to_dict() == {
        "version": [f"is not current: the current version is {changed.parsed.version}"]
    }


def _generate(document: Path, package: Path) -> None:
    options = ConfigFile(package_name_override=_PACKAGE, post_hooks=[], content_type_overrides=_FILES)
    config = Config.from_sources(options, MetaType.NONE, document, "utf-8", False, package)
    assert [error.header for error in generate(config=config)] == []


def _call(client: Any, operation: str, status: HTTPStatus = HTTPStatus.OK, **arguments: Any) -> Any:
    answer = import_module(f"{_PACKAGE}.api.{operation}").sync_detailed(client=client, **arguments)
    assert answer.status_code == status, answer.content
    return answer
