"""Composes the edge. The API composes itself (api.app)."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from tracker.domain.click_id import Mint
from tracker.edge import click
from tracker.edge.catalogue.catalogue import Catalogue
from tracker.edge.enrich.geo import GeoReader
from tracker.edge.head import LinkApp
from tracker.edge.http.batching import Batching
from tracker.edge.metrics import Metrics
from tracker.edge.postback_reader import is_postback_path
from tracker.edge.postbacks import Postbacks
from tracker.edge.read.lenient_link import is_nearly_tracking_path
from tracker.edge.read.link import is_tracking_path
from tracker.edge.record import identity
from tracker.edge.record.ending import end
from tracker.edge.record.identity import EdgeId
from tracker.edge.record.partitioned import PartitionedRecorder
from tracker.edge.redirect import Redirect
from tracker.edge.refused_postbacks import RefusedLog
from tracker.edge.unmatched import OrphanLog
from tracker.metrics.exposition import Exposition
from tracker.metrics_socket import Answers, answering
from tracker.processes.catalogue_sync import follow_catalogue
from tracker.settings import Settings

_GEO_SECONDS = 60
_FIRST_CATALOGUE_SECONDS = 3  # seconds that an edge without a snapshot makes its first visitors wait


def create_edge(settings: Settings, edge: EdgeId | None = None) -> Edge:
    """The public application: tracking links, postbacks and health.

    It is edge 0 unless the caller names another one.
    """
    click.prepare()
    edge = edge or identity.read(settings.data_dir, 0)
    slot = edge.slot
    mint, catalogue, metrics, geo = Mint(), Catalogue(), Metrics(slot), GeoReader(settings.geoip_db)
    recorders, orphans = PartitionedRecorder(settings, edge, mint), OrphanLog(settings)
    refused = RefusedLog(settings)
    postbacks = Postbacks(settings, mint, catalogue, refused, metrics)
    redirect = Redirect(settings, mint, catalogue, geo, recorders, orphans, metrics)

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        snapshot = settings.data_dir / "catalogue" / f"{slot}.ndjson"
        await catalogue.restore(snapshot)
        await recorders.start()
        tasks = [
            asyncio.create_task(follow_catalogue(settings, catalogue, snapshot)),
            asyncio.create_task(_reload_geo(geo)),
            asyncio.create_task(orphans.run()),
            asyncio.create_task(refused.run()),
        ]
        with suppress(TimeoutError):
            async with asyncio.timeout(_FIRST_CATALOGUE_SECONDS):
                await catalogue.loaded.wait()
        _freeze()
        async with answering(
            settings.data_dir, f"edge-{slot}", _answers(slot, catalogue, recorders, metrics)
        ):
            yield
        await end(*tasks)
        await recorders.stop()
        await postbacks.close()
        geo.close()

    rest = Starlette(routes=_health(catalogue, recorders), lifespan=lifespan)

    links = LinkApp(redirect, catalogue, metrics)
    return Edge(catalogue, Batching(redirect.follow), links, postbacks, rest)


class Edge:
    """Routes links and postbacks before Starlette, whose router and middleware cost more than a redirect."""

    def __init__(
        self,
        catalogue: Catalogue,
        batching: Batching,
        links: LinkApp,
        postbacks: Postbacks,
        rest: Starlette,
    ) -> None:
        self.take = batching.take
        self._catalogue = catalogue
        self._links = links
        self._postbacks = postbacks
        self._rest = rest

    async def __call__(self, scope: Mapping[str, Any], receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            await self._rest(scope, receive, send)  # type: ignore[arg-type]
        elif self._is_postback(scope):
            await self._postbacks(scope, receive, send)
        elif self._claims(scope["path"]) or is_nearly_tracking_path(scope["path"]):
            await self._links(scope, receive, send)
        else:
            await self._rest(scope, receive, send)  # type: ignore[arg-type]

    def is_link(self, path: str) -> bool:
        """Whether a path is of links only. A postback form of the path looks at the query, too."""
        if is_tracking_path(path):
            return True
        return self._claims(path) and not self._catalogue.postback_forms.claims(path)

    def _claims(self, path: str) -> bool:
        return is_tracking_path(path) or self._catalogue.link_forms.claims(path)

    def _is_postback(self, scope: Mapping[str, Any]) -> bool:
        path = scope["path"]
        return not is_tracking_path(path) and (
            is_postback_path(path) or self._postbacks.form_of(scope) is not None
        )


def _health(catalogue: Catalogue, recorders: PartitionedRecorder) -> list[Route]:
    """The endpoints for operators and proxies."""

    async def live(_: Request) -> Response:
        return PlainTextResponse("live\n")

    async def ready(_: Request) -> Response:
        if recorders.is_second:
            return PlainTextResponse("another edge has this slot: give this one another --slot\n", 503)
        if recorders.has_refused:
            return PlainTextResponse("clicks are lost: neither the stream nor the spool takes them\n", 503)
        missing = [
            *(["catalogue"] if not catalogue.loaded.is_set() else []),
            *(["stream"] if not recorders.has_been_up else []),
        ]
        return PlainTextResponse(
            f"waiting for: {', '.join(missing)}\n" if missing else "ready\n", 503 if missing else 200
        )

    return [Route("/health/live", live), Route("/health/ready", ready)]


def _answers(slot: int, catalogue: Catalogue, recorders: PartitionedRecorder, metrics: Metrics) -> Answers:
    """The metrics of this edge, for the metrics listener."""
    name = f"edge-{slot}"

    async def show_metrics(_: str) -> str:
        gauges = await asyncio.to_thread(recorders.gauges)
        metrics.set("clicks_spooled", recorders.spooled)
        metrics.set("clicks_one_copy", recorders.one_copy)
        metrics.set("visitors_unknown", recorders.unknown)
        exposition = Exposition()
        exposition.add_process(name)
        exposition.add_build(name)
        metrics.show(exposition, catalogue_problems=len(catalogue.problems), **gauges)
        exposition.add_histogram("tracker_append_seconds", recorders.appends, edge=slot)
        return exposition.text()

    async def serves(domain: str) -> str:
        if not catalogue.loaded.is_set():
            return ""
        return "ours" if catalogue.hosts.serves(domain) else "not ours"

    return {"metrics": show_metrics, "serves": serves}


def _freeze() -> None:
    """Freeze the objects of the start, so that garbage collections skip them."""
    gc.collect()
    gc.freeze()


async def _reload_geo(geo: GeoReader) -> None:
    while True:
        await asyncio.sleep(_GEO_SECONDS)
        await asyncio.to_thread(geo.reload_changed)
