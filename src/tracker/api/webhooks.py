"""Webhooks: create, list, change and rotate them, the log of their requests, and resending."""

from __future__ import annotations

from functools import partial
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field
from starlette.responses import Response
from starlette.routing import Route

from tracker import secret_key
from tracker.api.catalogue import IfMatch, PageQuery, as_json, editor_of, list_rows, listed
from tracker.api.http.body import JSON, MERGE_PATCH
from tracker.api.http.endpoint import Body, Call, endpoint
from tracker.api.http.if_match import etag
from tracker.api.http.paging import envelope
from tracker.api.http.problems import SECURITY_HEADERS, Problem, conflict
from tracker.api.http.routing import ROOT
from tracker.catalogue.fields import Doubts, Fields, NameOrNone
from tracker.catalogue.resource import (
    Resource,
    change_row,
    create_row,
    delete_row,
    found,
    place_of,
    read_id,
)
from tracker.domain import useless_urls
from tracker.domain.webhooks import EVENTS, LONGEST_URL, MOST_WEBHOOKS, TEST, fault_of_url, new_secret
from tracker.parameters import Bool, Model, Query, choice
from tracker.reading.deliveries import log_page
from tracker.reading.query import ZoneQuery
from tracker.reading.webhooks import SentWebhookQuery
from tracker.store.catalogue import edit
from tracker.store.catalogue.edit import Row
from tracker.store.webhooks import events, sent, webhooks
from tracker.store.webhooks.webhooks import TABLE

PATH = f"{ROOT}/webhooks"
SENT_PATH = f"{ROOT}/sent-webhooks"

_SCOPE = "admin"
_TAG = "Webhooks"
_IN_PATH = {"id": "The webhook's id."}
_IN_SENT_PATH = {"id": "The id of the request."}


def _checked_url(url: str) -> str:
    if fault := fault_of_url(url):
        raise ValueError(fault)
    useless_urls.refuse_host(url)
    return url


Url = Annotated[
    str,
    Field(
        max_length=LONGEST_URL,
        description="http or https URL. Events are sent to it with POST.",
        examples=["https://crm.network.example/tracker"],
    ),
    AfterValidator(_checked_url),
]


class Webhook(Fields):
    """A URL of the network's own systems, and the events that it gets."""

    url: Url
    event_types: list[Literal[tuple(EVENTS)]] = Field(  # type: ignore[valid-type]
        min_length=1,
        max_length=len(EVENTS),
        description=" ".join(f"{name}: {meaning}." for name, meaning in EVENTS.items()),
        examples=[["conversion.created"]],
    )
    description: NameOrNone = ""
    status: Literal["active", "paused"] = "active"
    is_archived: bool = False

    @classmethod
    def doubts(cls, row: Row) -> Doubts:
        doubts = useless_urls.of_postback(row["url"], ())
        if row["url"].startswith("http:"):
            doubts.append("is not https: everybody on the way can read the events")
        return {"url": doubts}


class WebhookPatch(Fields):
    """A merge patch (RFC 7396). A missing field stays as it is. null sets the default."""

    url: Url | None = None
    event_types: list[Literal[tuple(EVENTS)]] | None = None  # type: ignore[valid-type]
    description: NameOrNone | None = None
    status: Literal["active", "paused"] | None = None
    is_archived: bool | None = None
    version: int | None = Field(
        None, description="The expected version. If it is not current, the answer is 409."
    )


class WebhookShown(Model):
    """A webhook, without its secret."""

    id: int
    url: str = Field(examples=["https://crm.network.example/tracker"])
    event_types: list[str]
    description: str
    status: Literal["active", "paused"]
    is_archived: bool
    created_at: str = Field(examples=["2026-11-25T16:00:00.123456+00:00"])
    previous_until: str | None = Field(
        description="Until then the secret before the last rotation signs, too."
    )
    version: int = Field(description="A new number after each change. The ETag has it too.")


class WebhookChanged(WebhookShown):
    """A webhook after a change."""

    warnings: list[str] | None = Field(None, description="Notes about the URL. Absent without notes.")


class WebhookIssued(WebhookChanged):
    """A webhook with its secret. The secret is shown only in this answer."""

    secret: str = Field(description="It signs the requests.", examples=["whsec_…"])


class WebhookQuery(PageQuery):
    """Which webhooks."""

    status: choice("active", "paused") = Field(None, description="Only webhooks with this status.")  # type: ignore[valid-type]
    is_archived: Bool = Field(False, description="true: archived webhooks. false: all others.")


class SentWebhook(Model):
    """One request to a webhook, and the result of sending it."""

    id: int
    key: str = Field(description="The header webhook-id is msg_ and this. Every attempt has the same.")
    event_id: int
    webhook_id: int
    type: str = Field(examples=["conversion.created"])
    subject: str = Field(description="What the event is about.", examples=["conversions/17"])
    url: str
    state: Literal["waiting", "sent", "failed"]
    attempts: int = Field(description="Number of attempts since it was created or resent.")
    created_at: str = Field(examples=["2026-11-25 16:00:00"])
    next_attempt_at: str | None = Field(description="null once it was sent or has failed.")
    last_attempt_at: str | None
    give_up_at: str = Field(description="There is no attempt after this time.")
    last_status: int | None = Field(description="HTTP status of the last answer. null if no answer came.")
    last_error: str = Field(examples=["no answer within 10 s"])


class WholeSentWebhook(SentWebhook):
    """One request to a webhook, with its content."""

    payload: dict[str, Any] = Field(description="The body of the request.")


_RESOURCE = Resource("webhooks", "webhook", TABLE, Webhook, scope=_SCOPE)


def _mint(key_file: Any, _given: Row) -> tuple[Row, Row]:
    """The encrypted form of a new secret, and the secret, which is shown once."""
    secret = new_secret()
    return {"secret": f"\\x{secret_key.load(key_file).seal(secret.encode()).hex()}"}, {"secret": secret}


@endpoint(
    scope=_SCOPE,
    query=WebhookQuery,
    returns=listed("WebhookList", WebhookShown),
    tag=_TAG,
    name="list_webhook",
)
async def list_webhooks(call: Call[WebhookQuery]) -> Response:
    """List webhooks

    Without their secrets.
    """
    return await list_rows(call.state.pool, TABLE, call.query, {})


@endpoint(
    scope=_SCOPE,
    query=Query,
    body=Body(Webhook),
    returns=WebhookIssued,
    status=201,
    may_fail=(409,),
    has_etag=True,
    tag=_TAG,
)
async def create_webhook(call: Call[Query]) -> Response:
    """Create a webhook

    Only this answer shows the secret. Give it to the receiver, which verifies the signatures with it.
    """
    async with call.state.pool.acquire() as connection:
        if await webhooks.count(connection) >= MOST_WEBHOOKS:
            raise conflict({"url": [f"is one too many: {MOST_WEBHOOKS} webhooks exist. Archive another one"]})
    resource = _RESOURCE._replace(mint=partial(_mint, call.state.settings.key_file))
    row = await create_row(editor_of(call), resource, {}, await call.object())
    return as_json(row, 201, {"Location": f"{PATH}/{row['id']}", "ETag": etag(row["version"])})


@endpoint(scope=_SCOPE, query=Query, returns=WebhookShown, has_etag=True, tag=_TAG, path=_IN_PATH)
async def get_webhook(call: Call[Query]) -> Response:
    """Get a webhook

    Without its secret.
    """
    row = found(await edit.one(call.state.pool, TABLE, place_of(call.path, "id")), _RESOURCE)
    return as_json(row, headers={"ETag": etag(row["version"])})


@endpoint(
    scope=_SCOPE,
    query=Query,
    headers=IfMatch,
    body=Body(WebhookPatch, (JSON, MERGE_PATCH)),
    returns=WebhookChanged,
    may_fail=(409, 412),
    has_etag=True,
    tag=_TAG,
    path=_IN_PATH,
)
async def change_webhook(call: Call[Query]) -> Response:
    """Change a webhook

    Waiting requests go to the new URL. If it is paused or archived, they are given up.
    """
    row = await change_row(editor_of(call), _RESOURCE, place_of(call.path, "id"), await call.object())
    return as_json(row, headers={"ETag": etag(row["version"])})


@endpoint(
    scope=_SCOPE,
    query=Query,
    headers=IfMatch,
    returns=None,
    status=204,
    may_fail=(409, 412),
    tag=_TAG,
    path=_IN_PATH,
)
async def delete_webhook(call: Call[Query]) -> Response:
    """Delete a webhook

    It is archived. Its waiting requests are given up, and the log keeps them.
    """
    await delete_row(editor_of(call), _RESOURCE, place_of(call.path, "id"))
    return Response(status_code=204, headers=SECURITY_HEADERS)


@endpoint(scope=_SCOPE, query=Query, returns=WebhookIssued, has_etag=True, tag=_TAG, path=_IN_PATH)
async def rotate_webhook(call: Call[Query]) -> Response:
    """Rotate the secret of a webhook

    Only this answer shows the new secret. For 24 hours each request is signed with both secrets.
    """
    kept, shown = _mint(call.state.settings.key_file, {})
    async with edit.changing(call.state.pool) as connection:
        before = found(await edit.locked(connection, TABLE, place_of(call.path, "id")), _RESOURCE)
        row = await webhooks.rotate(connection, call.author, before, bytes.fromhex(kept["secret"][2:]))
    return as_json({**row, **shown}, headers={"ETag": etag(row["version"])})


@endpoint(scope=_SCOPE, query=Query, returns=None, status=204, may_fail=(409,), tag=_TAG, path=_IN_PATH)
async def test_webhook(call: Call[Query]) -> Response:
    """Test a webhook

    Sends it an event of the type webhook.test, which it gets in any case. The log shows the result.
    """
    async with edit.changing(call.state.pool) as connection:
        row = found(await edit.locked(connection, TABLE, place_of(call.path, "id")), _RESOURCE)
        if row["status"] != "active" or row["is_archived"]:
            raise conflict({"status": ["is not active"]})
        path = f"webhooks/{row['id']}"
        await events.note_for(connection, row["id"], TEST, path, {"webhook_id": row["id"]})
    return Response(status_code=204, headers=SECURITY_HEADERS)


@endpoint(scope=_SCOPE, query=SentWebhookQuery, returns=listed("SentWebhookList", SentWebhook), tag=_TAG)
async def list_sent_webhooks(call: Call[SentWebhookQuery]) -> Response:
    """List requests to webhooks

    The log of 30 days, newest first. Page numbers work for the first 10,000 rows.
    """
    query, number = call.query, call.query.page or 1
    page = await log_page(call.state.pool, sent.WEBHOOKS, sent.FILTERS, query, call.network_zone)
    return as_json(envelope(page, per_page=query.per_page, number=number))


@endpoint(scope=_SCOPE, query=ZoneQuery, returns=WholeSentWebhook, tag=_TAG, path=_IN_SENT_PATH)
async def get_sent_webhook(call: Call[ZoneQuery]) -> Response:
    """Get a request to a webhook

    With its content and the result of the last attempt.
    """
    return as_json(await _sent(call))


@endpoint(
    scope=_SCOPE, query=ZoneQuery, returns=WholeSentWebhook, may_fail=(409,), tag=_TAG, path=_IN_SENT_PATH
)
async def send_webhook_again(call: Call[ZoneQuery]) -> Response:
    """Resend a request to a webhook

    With the same webhook-id and content, in any state. It is sent at once and retried like a new one. The
    audit trail records it. If the webhook is paused or archived, the answer is 409.
    """
    id_ = read_id(call.path["id"])
    try:
        await sent.send_again(call.state.pool, call.author, id_ or 0)
    except LookupError:
        raise _no_such_request() from None
    except ValueError as error:
        raise conflict({"webhook_id": [f"cannot be sent: {error}"]}) from None
    return as_json(await _sent(call))


async def _sent(call: Call[ZoneQuery]) -> Row:
    id_, zone = read_id(call.path["id"]) or 0, call.query.zone(call.network_zone)
    row = await sent.WEBHOOKS.one(call.state.pool, id_, zone)
    if row is None:
        raise _no_such_request()
    return {**row, "payload": await sent.payload(call.state.pool, id_)}


def _no_such_request() -> Problem:
    return Problem(404, "The request does not exist.", errors={"id": ["does not exist"]})


routes: list[Route] = [
    Route(PATH, list_webhooks),
    Route(PATH, create_webhook, methods=["POST"]),
    Route(f"{PATH}/{{id}}", get_webhook),
    Route(f"{PATH}/{{id}}", change_webhook, methods=["PATCH"]),
    Route(f"{PATH}/{{id}}", delete_webhook, methods=["DELETE"]),
    Route(f"{PATH}/{{id}}/rotate", rotate_webhook, methods=["POST"]),
    Route(f"{PATH}/{{id}}/test", test_webhook, methods=["POST"]),
    Route(SENT_PATH, list_sent_webhooks),
    Route(f"{SENT_PATH}/{{id}}", get_sent_webhook),
    Route(f"{SENT_PATH}/{{id}}/refire", send_webhook_again, methods=["POST"]),
]
