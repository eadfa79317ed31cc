"""The API: reading clicks and conversions, telling of them, and managing the catalogue."""

from tracker.api.application import create_api

__all__ = ["create_api"]
