"""Secrets that somebody has put into a link: they are not shown in the log of hits that name nothing."""

from __future__ import annotations

import pytest

from tests.integration.edge_client import edge_of, recorded
from tests.integration.importing import Importer, importer

__all__ = ["importer"]
pytestmark = pytest.mark.anyio

TEXTS: list[tuple[str, str]] = [  # as it is sent, as it is shown
    ("/offer/99?affiliate_id=513&token=trs_VnO8G2", "/offer/99?affiliate_id=513&token=(secret)"),
    ("/offer/99?token=trs_a-B_9&aff_sub=x", "/offer/99?token=(secret)&aff_sub=x"),
    ("/offer/99?key=trk_VnO8G2", "/offer/99?key=(secret)"),
    ("/offer/99?token=TRS_VNO8G2", "/offer/99?token=(secret)"),
    ("/offer/99?token=trs%5FVnO8G2", "/offer/99?token=(secret)"),
    ("/offer/99?u=https%3A%2F%2Fa.test%2F%3Ftoken%3Dtrs%255fVnO8G2&b=c", "%3Ftoken%3D(secret)&b=c"),
    ("/offer/99?a=trs_one&b=trk_two", "?a=(secret)&b=(secret)"),
    (f"/offer/99?aff_sub={'x' * 430}&token=trs_{'y' * 99}", "&token=(secret)"),  # it is cut afterwards
    ("/offer/99?aff_sub=trsx&aff_sub2=strk", "/offer/99?aff_sub=trsx&aff_sub2=strk"),
]


async def test_secret_in_an_orphan_is_not_shown(importer: Importer) -> None:
    await importer.command("demo")
    async with edge_of(importer.settings) as edge:
        for sent, _ in TEXTS:
            await edge.get(sent, headers={"Referer": "https://a.test/?token=trs_VnO8G2"})
    for words in ([], ["--json"]):
        told = await importer.command("orphans", *words)
        lines = told.out.splitlines()
        assert len(lines) == len(TEXTS)
        assert "VnO8" not in told.out
        for line, (sent, shown) in zip(reversed(lines), TEXTS, strict=True):
            assert shown in line, sent


async def test_link_of_a_click_stays_as_the_visitor_sent_it(importer: Importer) -> None:
    await importer.command("demo")
    async with edge_of(importer.settings) as edge:
        await edge.get("/offer/3?affiliate_id=513&token=trs_VnO8G2")
    (row,) = await recorded(importer.settings)
    assert row.requested_link.endswith("/offer/3?affiliate_id=513&token=trs_VnO8G2")
