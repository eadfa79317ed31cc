"""URLs that are sent but cannot do what they should."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterator
from typing import NamedTuple

from tracker.catalogue import advertisers_affiliates, offers, traffic
from tracker.catalogue.resource import Resource
from tracker.domain import macros, postback_macros, useless_urls
from tracker.domain.macros import TemplateError
from tracker.ops.upgrade.concern import Concern, of_row
from tracker.store.catalogue import edit
from tracker.store.catalogue.edit import Row
from tracker.store.db import Connection


class _Kind(NamedTuple):
    """A field that contains a URL, or a part of one."""

    resource: Resource
    field: str
    doubts: Callable[[str], list[str]]
    compile: Callable[[str], object] = macros.compile
    known: Container[str] = macros.MACROS


def _offer_url(url: str) -> list[str]:
    return useless_urls.of_offer_url(url, macros.MACROS)


def _postback(url: str) -> list[str]:
    return useless_urls.of_postback(url, postback_macros.MACROS)


def _kinds() -> Iterator[_Kind]:
    for resource in (*offers.RESOURCES, *traffic.RESOURCES):
        for field in ("url", "fallback_url"):
            if field in resource.fields.model_fields:
                yield _Kind(resource, field, _offer_url)
        if resource.table.name == "offer_free_value":
            yield _Kind(resource, "value", useless_urls.of_free_text, macros.free_text)
    for resource in advertisers_affiliates.RESOURCES:
        if resource.table.name == "affiliate_postback":
            yield _Kind(resource, "url", _postback, postback_macros.compile, postback_macros.MACROS)


_KINDS = tuple(_kinds())


async def find(connection: Connection) -> list[Concern]:
    """Find such URLs of offers, offer URLs, free values, the network and affiliates' postbacks."""
    return [
        concern
        for kind in _KINDS
        for row in await edit.every(connection, kind.resource.table)
        if row[kind.field] and not row.get("is_archived")
        for concern in _of_field(kind, row)
    ]


def _of_field(kind: _Kind, row: Row) -> Iterator[Concern]:
    url = row[kind.field]
    if not _is_served(kind, url):
        return  # the doctor reports this elsewhere
    if kind.field != "value" and (corrected := useless_urls.corrected(url, kind.known)) != url:
        text = f"{kind.field}: {_refused(url, kind.known)}. Corrected: {corrected}"
        yield of_row(kind.resource, row, text, {kind.field: corrected})
        url = corrected
    for doubt in kind.doubts(url):
        yield of_row(kind.resource, row, f"{kind.field}: {doubt}")


def _is_served(kind: _Kind, url: str) -> bool:
    try:
        kind.compile(url)
    except TemplateError:
        return False
    return True


def _refused(url: str, known: Container[str]) -> str:
    try:
        useless_urls.refuse(url, known)
    except TemplateError as error:
        return error.rule
    return ""
