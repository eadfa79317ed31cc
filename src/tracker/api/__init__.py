"""The API: reading clicks and conversions, telling of them, and managing the catalogue."""
