"""`tracker demo`: a small network to click through."""

from __future__ import annotations

import asyncio
from argparse import ArgumentParser, Namespace

from tracker.settings import Settings
from tracker.store.catalogue.demo import load_demo


def add_arguments(_: ArgumentParser) -> None:
    """The demo command has no arguments."""


def run(settings: Settings, _: Namespace) -> int:
    assert settings.postgres_dsn
    loaded = asyncio.run(
        load_demo(settings.postgres_dsn, currency=settings.currency, time_zone=settings.time_zone)
    )
    print("offers 1 to 5, affiliates 501 to 520" if loaded else "nothing to do: the database is not empty")
    return 0
