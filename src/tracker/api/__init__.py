"""The API: reading clicks, for reporting clients."""

from tracker.api.application import create_api

__all__ = ["create_api"]
