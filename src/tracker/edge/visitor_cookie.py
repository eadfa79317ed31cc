"""The visitor cookie under this deployment's name, secret and lifetime."""

from __future__ import annotations

from tracker.domain.model import Click
from tracker.edge.catalogue.catalogue import Catalogue
from tracker.edge.http import response
from tracker.edge.http.request import Request
from tracker.edge.http.response import Response
from tracker.edge.read import cookie
from tracker.settings import Settings


class VisitorCookie:
    """Reads the cookie from requests, and sets it in responses."""

    def __init__(self, settings: Settings, catalogue: Catalogue) -> None:
        self._name, self._seconds = settings.cookie_name.encode(), settings.cookie_days * 86_400
        self._catalogue = catalogue  # whose secret may change

    def key(self, request: Request) -> int | None:
        """The visitor key that the browser's cookie carries. None without a cookie of ours."""
        return cookie.read(request.headers, self._name, self._catalogue.visitor_secret)

    def set_in(self, answer: Response, click: Click) -> Response:
        """The response with a cookie that carries the click's visitor key."""
        is_https = click.visitor.requested_link.startswith("https:")
        secret = self._catalogue.visitor_secret
        value = cookie.header(self._name, click.visitor_key, secret, self._seconds, is_https)
        return response.with_header(answer, b"set-cookie", value)
