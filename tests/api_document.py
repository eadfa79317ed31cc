"""The API's document, written once a process: it takes a second of a core."""

from __future__ import annotations

from functools import cache
from typing import Any

import orjson

from tracker.api.app import create_api
from tracker.api.openapi.document import document
from tracker.settings import Settings


@cache
def api_document() -> dict[str, Any]:
    app = create_api(Settings(redis_url="redis://nowhere.test", postgres_dsn="postgresql://nowhere.test/x"))
    written: dict[str, Any] = orjson.loads(orjson.dumps(document(app)))
    return written
