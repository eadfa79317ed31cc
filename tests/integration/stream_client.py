"""Clicks at chosen moments, put on the stream and read back."""

from __future__ import annotations

from typing import Any

from tests.factories.clicks import a_click, outcomes_of
from tracker.domain.click_id import first_hash_at
from tracker.domain.model import Click
from tracker.settings import Settings
from tracker.stream.appender import Appender, Lane
from tracker.stream.dead_letters import DeadLetter, DeadLetters
from tracker.stream.reader import Delivery, Reader
from tracker.stream.record import Decision, Entry, encode

DAY = 86_400_000
NOON = 1_800_000_000_000 // DAY * DAY + DAY // 2
SECOND = 1.0


def hash_at(millis: int, n: int = 1) -> str:
    return first_hash_at(millis)[:12] + f"70008{n:015x}"


def click_at(millis: int, n: int = 1, **changes: Any) -> Click:
    return a_click(hash=hash_at(millis, n), **changes)


async def append(
    settings: Settings, *clicks: Click, lane: Lane | None = None, partition: int = 0
) -> list[Decision]:
    entries = [encode(click, outcomes_of(click)) for click in clicks]
    return await append_entries(settings, entries, lane=lane, partition=partition)


async def append_entries(
    settings: Settings, entries: list[Entry], *, lane: Lane | None = None, partition: int = 0
) -> list[Decision]:
    assert settings.redis_url
    appender = Appender(settings.redis_url, partition)
    try:
        receipt = await appender.append(lane or Lane(), entries, SECOND)
        assert receipt.outcomes == [answer.outcome for answer in receipt.answers]
        return receipt.answers
    finally:
        await appender.close()


async def stored(settings: Settings, partition: int = 0) -> list[Delivery]:
    assert settings.redis_url
    async with Reader(settings.redis_url, 0, partition) as reader:
        await reader.create_group()
        return [*await reader.backlog(10_000), *await reader.new(10_000, None)]


async def dead_letters(settings: Settings) -> list[DeadLetter]:
    assert settings.redis_url
    async with DeadLetters(settings.redis_url) as letters:
        return [letter async for letter in letters.all()]
