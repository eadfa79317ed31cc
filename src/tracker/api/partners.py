"""Whom the network deals with: advertisers and affiliates."""

from __future__ import annotations

from typing import Literal

from starlette.routing import BaseRoute

from tracker.api import parameters
from tracker.api.fields import Fields, Id, Name
from tracker.api.parameters import Bool, choice
from tracker.api.resource import Resource
from tracker.api.resource_endpoints import routes_of
from tracker.store.managed import Table

_NEEDED_BY = "SELECT 'offers/' || id FROM offer WHERE advertiser_id = $1 AND NOT is_archived LIMIT 5"


class Advertiser(Fields):
    """Who pays for conversions."""

    name: Name
    is_archived: bool = False


class Affiliate(Fields):
    """Who brings clicks."""

    name: Name
    group_id: Id | None = None
    status: Literal["active", "pending", "blocked"] = "active"
    is_test: bool = False
    is_archived: bool = False


RESOURCES = (
    Resource(
        "advertisers",
        "advertiser",
        Table("advertiser", tuple(Advertiser.model_fields), uses=_NEEDED_BY),
        Advertiser,
        {"name": parameters.Text},
    ),
    Resource(
        "affiliates",
        "affiliate",
        Table("affiliate", tuple(Affiliate.model_fields)),
        Affiliate,
        {
            "name": parameters.Text,
            "group_id": parameters.Id,
            "status": choice("active", "pending", "blocked"),
            "is_test": Bool,
        },
    ),
)

routes: list[BaseRoute] = [route for resource in RESOURCES for route in routes_of(resource)]
