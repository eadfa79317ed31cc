"""Every kind of object of the catalogue."""

from __future__ import annotations

from tracker.catalogue import advertisers_affiliates, goals, links, offers, traffic

RESOURCES = (
    *advertisers_affiliates.RESOURCES,
    *offers.RESOURCES,
    *goals.RESOURCES,
    *traffic.RESOURCES,
    *links.RESOURCES,
)
