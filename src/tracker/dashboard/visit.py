"""A request for a page: from where it comes, and whose session it presents."""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import ip_address
from typing import Final, NamedTuple

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response

from tracker.edge.http.request import headers_of
from tracker.edge.read.client_address import Proxies, plain_address
from tracker.edge.read.text import read
from tracker.people import sessions
from tracker.people.sign_in import SignedIn, SignIn, Visitor
from tracker.settings import Settings
from tracker.store.catalogue.edit import Author
from tracker.store.db import Pool
from tracker.store.people.sessions import Session

_COOKIE: Final = "tracker-session"
_SAFE_COOKIE: Final = (
    f"__Host-{_COOKIE}"  # browsers take it by https only, for this host and all of its paths
)
_LONGEST_HOST = 255
_LONGEST_AGENT = 500  # characters read. Fewer are kept


class Visit(NamedTuple):
    """A request with what each page needs to know of it."""

    request: Request
    visitor: Visitor
    scheme: str
    host: str  # with its port
    secret: str  # of the session. "" without one
    session: Session | None

    @property
    def path(self) -> str:
        return str(self.request.scope["path"])

    @property
    def origin(self) -> str:
        """The pages' origin as a browser writes it (RFC 6454, section 6.2)."""
        port = {"http": ":80", "https": ":443"}.get(self.scheme, "")
        return f"{self.scheme}://{self.host.lower().removesuffix(port)}"

    @property
    def is_encrypted(self) -> bool:
        return self.scheme == "https"

    @property
    def is_readable_on_the_way(self) -> bool:
        """Whether passwords cross a network without encryption."""
        return not self.is_encrypted and not _is_loopback(self.host)

    @property
    def lacks_factor(self) -> bool:
        """Whether the role of the user needs a second factor that is not set up."""
        session = self.session
        return session is not None and not session.has_totp and session.role in self.settings.totp_roles

    @property
    def author(self) -> Author:
        """The user, as the author of a change."""
        assert self.session
        return Author(None, self.session.email, self.session.user_id, self.visitor.address)

    @property
    def pool(self) -> Pool:
        pool: Pool = self.request.app.state.pool
        return pool

    @property
    def settings(self) -> Settings:
        settings: Settings = self.request.app.state.settings
        return settings

    @property
    def api(self) -> Starlette:
        """The API of this process."""
        api: Starlette = self.request.app.state.api
        return api

    @property
    def sections(self) -> Sequence[tuple[str, Sequence[tuple[str, str]]]]:
        """The navigation: sections with the addresses and names of the pages that the session may open."""
        return self.request.app.state.navigation.of(self.session)  # type: ignore[no-any-return]

    @property
    def sign_in(self) -> SignIn:
        sign_in: SignIn = self.request.app.state.sign_in
        return sign_in

    @property
    def form_token(self) -> str:
        """What the forms of the session carry. "" without a session."""
        return sessions.form_token(self.secret) if self.session else ""


async def visit_of(request: Request) -> Visit:
    """The visit of a request, with its session if that is open."""
    proxies: Proxies = request.app.state.proxies
    headers = headers_of(request.scope["headers"])
    address = plain_address(request.client.host) if request.client else ""
    scheme = host = ""
    if proxies.trusts[address]:
        address, scheme, host = proxies.origin(address, headers)
    scheme = scheme or request.scope["scheme"]
    host = host or read(headers.get(b"host", b""), _LONGEST_HOST)
    visitor = Visitor(address or "unknown", read(headers.get(b"user-agent", b""), _LONGEST_AGENT))
    secret = _secret(headers.get(b"cookie", b""), _cookie(scheme == "https").encode())
    session = await sessions.find(request.app.state.pool, secret)
    return Visit(request, visitor, scheme, host, secret, session)


def cookie_of(visit: Visit, name: str) -> str:
    """The value of a cookie of the visit. "" without one."""
    return _secret(headers_of(visit.request.scope["headers"]).get(b"cookie", b""), name.encode())


def give(visit: Visit, response: Response, signed_in: SignedIn) -> None:
    """Put a session into the browser. It ends with the browser, if not before."""
    _set(visit, response, signed_in.secret, None)


def take(visit: Visit, response: Response) -> None:
    """Remove the session from the browser."""
    _set(visit, response, "", 0)


def _set(visit: Visit, response: Response, value: str, max_age: int | None) -> None:
    is_safe = visit.is_encrypted
    response.set_cookie(
        _cookie(is_safe), value, max_age=max_age, path="/", secure=is_safe, httponly=True, samesite="lax"
    )


def _cookie(is_safe: bool) -> str:
    return _SAFE_COOKIE if is_safe else _COOKIE


def _secret(cookies: bytes, name: bytes) -> str:
    """The value of a cookie. Its name is compared byte by byte.

    Starlette strips 0x85 and 0xA0 off names. With such a byte before it, `__Host-` binds no browser,
    so another host of the same domain could set the cookie.
    """
    pairs = (pair.strip(b" \t").partition(b"=") for pair in cookies.split(b";"))
    return next((value.decode("latin-1") for key, _, value in pairs if key == name), "")


def _is_loopback(host: str) -> bool:
    """Whether a host is this machine by its name (RFC 6761, section 6.3) or address."""
    name = host[1:].partition("]")[0] if host.startswith("[") else host.partition(":")[0]
    if name.lower() == "localhost" or name.lower().endswith(".localhost"):
        return True
    try:
        return ip_address(name).is_loopback
    except ValueError:
        return False
