"""How long conversions took after their clicks."""

from __future__ import annotations

from typing import Any

from pydantic import Field
from starlette.responses import Response
from starlette.routing import Route

from tracker.api.conversions.endpoints import ALL, PATH, READ_SCOPE
from tracker.api.http.endpoint import Call, endpoint
from tracker.api.http.listing import as_json
from tracker.parameters import Model
from tracker.reading import conversions as reading
from tracker.reading.conversions import ConversionFilterQuery
from tracker.reading.visibility import Visibility
from tracker.store.conversions import times


class TimeStep(Model):
    """The conversions with a time in this step."""

    seconds_from: int | None = Field(
        description="The fewest seconds. null: the conversion came before its click, as an import says.",
        examples=[60],
    )
    seconds_to: int | None = Field(
        description="The most seconds, inclusive. null: any number.", examples=[299]
    )
    conversions: int = Field(examples=[41])
    rejected: int = Field(description="The rejected ones of them.", examples=[3])


class ConversionTimes(Model):
    """The times from clicks to conversions, as a histogram."""

    data: list[TimeStep]
    total: int = Field(description="The sum of conversions.", examples=[100])
    median_seconds: int | None = Field(description="null without conversions.", examples=[240])
    p90_seconds: int | None = Field(
        description="Nine of ten conversions took no longer. null without conversions.", examples=[86_000]
    )


@endpoint(
    scope=READ_SCOPE,
    query=ConversionFilterQuery,
    without_money=ConversionFilterQuery,
    returns=ConversionTimes,
    tag="Conversions",
    from_standby=True,
)
async def read_conversion_times(call: Call[ConversionFilterQuery]) -> Response:
    """Get times from click to conversion

    The conversions of the same filters as those of the list, counted by the time since their click. A step's
    conversions are the list's with `seconds_from_click_from` and `seconds_from_click_to`. Many conversions
    within seconds are rarely people's. Without a span of time all conversions are counted. If that takes too
    long, the answer is 503: then narrow the time.
    """
    return await answer_times(call, call.query, ALL.seen_by(call.token))


async def answer_times(call: Call[Any], query: ConversionFilterQuery, visibility: Visibility) -> Response:
    """The times of the visible conversions."""
    query = await reading.by_hash(call.pool, query, visibility)
    read = await times.read(call.pool, visibility.narrow(query.conversions(call.network_zone)))
    return as_json(
        {
            "data": [_row(step) for step in read.steps],
            "total": sum(step.conversions for step in read.steps),
            "median_seconds": read.median,
            "p90_seconds": read.most,
        }
    )


def _row(step: times.Step) -> dict[str, int | None]:
    last = None if step.end is None else step.end - 1
    return {
        "seconds_from": step.start,
        "seconds_to": last,
        "conversions": step.conversions,
        "rejected": step.rejected,
    }


routes: list[Route] = [Route(f"{PATH}/times", read_conversion_times)]
