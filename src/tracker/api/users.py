"""Users: invite, list, change, reset and delete people who sign in, and end their sessions."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from pydantic import Field
from starlette.responses import Response
from starlette.routing import Route

from tracker import parameters
from tracker.api.catalogue import IfMatch, PageQuery, as_json, editor_of, list_rows, listed
from tracker.api.http.body import JSON, MERGE_PATCH
from tracker.api.http.endpoint import Body, Call, endpoint
from tracker.api.http.if_match import etag
from tracker.api.http.problems import SECURITY_HEADERS
from tracker.api.http.routing import ROOT
from tracker.catalogue.fields import Fields
from tracker.catalogue.resource import place_of
from tracker.catalogue.validation import validated
from tracker.domain.access import ROLES
from tracker.parameters import Bool, Model, Query, Search, choice
from tracker.people import editing
from tracker.people.editing import NewUserFields, UserFields
from tracker.people.users import Invited
from tracker.store.catalogue.edit import Row
from tracker.store.people.users import USERS

PATH = f"{ROOT}/users"

_SCOPE = "admin"
_TAG = "Users"
_IN_PATH = {"id": "The user's id."}
_SESSION_IN_PATH = {**_IN_PATH, "session_id": "The session's id."}


class UserPatch(UserFields):
    """A merge patch (RFC 7396). A missing field stays as it is. null sets the default."""

    version: int | None = Field(
        None, description="The expected version. If it is not current, the answer is 409."
    )


class Reset(Fields):
    """What the link resets."""

    second_factor: bool = Field(False, description="true: the link also drops the user's second factor.")


class UserShown(Model):
    """A user, without secrets."""

    id: int
    email: str = Field(examples=["jane@net.example"])
    name: str
    role: str = Field(examples=["manager"])
    affiliate_ids: list[int] = Field(description="Empty: not bound to affiliates.")
    advertiser_ids: list[int] = Field(description="Empty: not bound to advertisers.")
    hides_money: bool = Field(description="true: the user sees no amount anywhere.")
    is_disabled: bool = Field(description="true: the user cannot sign in.")
    has_password: bool = Field(description="false: the invitation has not been accepted yet.")
    has_totp: bool = Field(description="true: signing in takes a code of the second factor, too.")
    created_at: str
    last_sign_in_at: str | None
    version: int = Field(description="A new number after each change. The ETag has it too.")


class InvitedUserShown(UserShown):
    """A user, with a link for the user. The link is shown only in this answer."""

    link: str = Field(
        description="Where the user sets a password. It works once. Nothing is sent: pass it on.",
        examples=["https://tracker.example/dashboard/link?s=…"],
    )


class SessionShown(Model):
    """Where a user is signed in."""

    id: int
    made_at: str
    seen_at: str = Field(description="Exact to the minute.")
    ends_at: str = Field(description="If it is not used until then.")
    address: str = Field(description="The IP address that signed in.")
    user_agent: str
    seen_as: str | None = Field(description="affiliate or advertiser: an admin looks as this partner.")
    seen_as_id: int | None = Field(description="The partner's id.")


class SessionList(Model):
    """The open sessions of a user, the last seen first."""

    data: list[SessionShown]


class UserQuery(PageQuery):
    """Which users."""

    q: Search = Field(
        "",
        description="Only users with this text in: name, email, in any case. The one with this id is first.",
    )
    sort: choice("id", "-id", "name", "-name") = Field(  # type: ignore[valid-type]
        "id", description="id, or name without regard to case. With -, the last is first."
    )
    role: choice(*ROLES) = Field(None, description="Users with this role.")  # type: ignore[valid-type]
    affiliate: parameters.Id = Field(None, alias="affiliate_id", description="Users of this affiliate.")
    advertiser: parameters.Id = Field(None, alias="advertiser_id", description="Users of this advertiser.")
    is_disabled: Bool = Field(None, description="true: disabled users. false: all others.")


@endpoint(scope=_SCOPE, query=UserQuery, returns=listed("UserList", UserShown), tag=_TAG, name="list_user")
async def list_users(call: Call[UserQuery]) -> Response:
    """List users

    Invited, active and disabled ones.
    """
    return await list_rows(call.state.pool, USERS, call.query, {})


@endpoint(
    scope=_SCOPE,
    query=Query,
    body=Body(NewUserFields),
    returns=InvitedUserShown,
    status=201,
    may_fail=(409,),
    has_etag=True,
    tag=_TAG,
)
async def invite_user(call: Call[Query]) -> Response:
    """Invite a user

    Only this answer shows the link. With it the user sets a password, once, within 7 days. Nothing is sent.
    """
    invited = await editing.invite(editor_of(call), await call.object())
    return _with_link(call, invited, 201, {"Location": f"{PATH}/{invited.row['id']}"})


@endpoint(scope=_SCOPE, query=Query, returns=UserShown, has_etag=True, tag=_TAG, path=_IN_PATH)
async def get_user(call: Call[Query]) -> Response:
    """Get a user

    The role, the owners and the last sign-in.
    """
    return _shown(await editing.one(editor_of(call), _id(call)))


@endpoint(
    scope=_SCOPE,
    query=Query,
    headers=IfMatch,
    body=Body(UserPatch, (JSON, MERGE_PATCH)),
    returns=UserShown,
    may_fail=(409, 412),
    has_etag=True,
    tag=_TAG,
    path=_IN_PATH,
)
async def change_user(call: Call[Query]) -> Response:
    """Change a user

    A change of rights signs the user out everywhere. The last admin who can sign in keeps the role: 409.
    """
    return _shown(await editing.change(editor_of(call), _id(call), await call.object()))


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
async def delete_user(call: Call[Query]) -> Response:
    """Delete a user

    For good, with all sessions and links. The audit trail keeps what the user did.
    """
    await editing.remove(editor_of(call), _id(call))
    return Response(status_code=204, headers=SECURITY_HEADERS)


@endpoint(
    scope=_SCOPE,
    query=Query,
    body=Body(Reset),
    returns=InvitedUserShown,
    may_fail=(409,),
    has_etag=True,
    tag=_TAG,
    path=_IN_PATH,
)
async def reset_user(call: Call[Query]) -> Response:
    """Reset a user

    Only this answer shows the link. With it the user sets a new password, once, within 60 minutes. Until then
    nothing changes.
    """
    wanted = validated(await call.object(), Reset)
    return _with_link(
        call, await editing.reset(editor_of(call), _id(call), drops_factor=wanted.second_factor)
    )


@endpoint(scope=_SCOPE, query=Query, returns=SessionList, tag=_TAG, path=_IN_PATH)
async def list_user_sessions(call: Call[Query]) -> Response:
    """List a user's sessions

    Those that are open, the last seen first.
    """
    rows = await editing.open_sessions(editor_of(call), _id(call))
    return as_json({"data": [_session(row) for row in rows]})


@endpoint(scope=_SCOPE, query=Query, returns=None, status=204, tag=_TAG, path=_IN_PATH)
async def end_user_sessions(call: Call[Query]) -> Response:
    """End all sessions of a user

    The user has to sign in again.
    """
    await editing.end_sessions(editor_of(call), _id(call))
    return Response(status_code=204, headers=SECURITY_HEADERS)


@endpoint(scope=_SCOPE, query=Query, returns=None, status=204, tag=_TAG, path=_SESSION_IN_PATH)
async def end_user_session(call: Call[Query]) -> Response:
    """End a session of a user

    The browser that has it is signed out.
    """
    session_id = place_of({"id": call.path["session_id"]}, "id")["id"]
    await editing.end_sessions(editor_of(call), _id(call), session_id)
    return Response(status_code=204, headers=SECURITY_HEADERS)


routes: list[Route] = [
    Route(PATH, list_users),
    Route(PATH, invite_user, methods=["POST"]),
    Route(f"{PATH}/{{id}}", get_user),
    Route(f"{PATH}/{{id}}", change_user, methods=["PATCH"]),
    Route(f"{PATH}/{{id}}", delete_user, methods=["DELETE"]),
    Route(f"{PATH}/{{id}}/reset", reset_user, methods=["POST"]),
    Route(f"{PATH}/{{id}}/sessions", list_user_sessions),
    Route(f"{PATH}/{{id}}/sessions", end_user_sessions, methods=["DELETE"]),
    Route(f"{PATH}/{{id}}/sessions/{{session_id}}", end_user_session, methods=["DELETE"]),
]


def _id(call: Call[Query]) -> int:
    return int(place_of(call.path, "id")["id"])


def _shown(row: Row, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    return as_json(row, status, {"ETag": etag(row["version"]), **(headers or {})})


def _with_link(
    call: Call[Query], invited: Invited, status: int = 200, headers: dict[str, str] | None = None
) -> Response:
    link = f"{call.state.settings.dashboard}{invited.link}"
    return _shown({**invited.row, "link": link}, status, headers)


def _session(row: dict[str, Any]) -> dict[str, Any]:
    return {name: value.isoformat() if isinstance(value, datetime) else value for name, value in row.items()}
