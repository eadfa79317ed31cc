"""Pages as HTML, with the headers that protect them."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from hashlib import sha256
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final, NamedTuple
from urllib.parse import quote
from zoneinfo import ZoneInfo

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

from tracker.dashboard import words
from tracker.dashboard.fault_words import field_called
from tracker.dashboard.visit import Visit
from tracker.domain.local_time import in_zone

ROOT: Final = "/dashboard"

HEADERS: Final[Mapping[str, str]] = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
        "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}
"""Headers of each page."""
NO_REFERRER: Final[Mapping[str, str]] = {"Referrer-Policy": "no-referrer"}
"""The header of pages whose address has a secret."""

_HERE = Path(__file__).parent
_STATIC = _HERE / "static"
_MEDIA_TYPES = {".svg": "image/svg+xml", ".js": "text/javascript"}
_FILES = {
    f"{ROOT}/static/{path.name}": (path.read_bytes(), _MEDIA_TYPES[path.suffix])
    for path in sorted(_STATIC.iterdir())
    if path.is_file()
}
# One stylesheet: the names of colours and sizes first, then its parts.
_STYLE = sorted(_STATIC.glob("style/*.css"), key=lambda path: (path.name != "tokens.css", path.name))
_FILES[f"{ROOT}/static/style.css"] = (b"\n".join(path.read_bytes() for path in _STYLE), "text/css")
_A_YEAR = "public, max-age=31536000, immutable"


class Fault(NamedTuple):
    """Why a form was not taken. `field` names the wrong field, if it is one."""

    status: int
    text: str
    field: str = ""
    headers: Mapping[str, str] = {}
    fields: Mapping[str, str] = {}  # the text of each wrong field, if several may be wrong

    def of(self, field: str) -> str:
        """What is wrong with a field. "" if nothing is."""
        return self.text if field and field == self.field else self.fields.get(field, "")

    def besides(self, *shown: str) -> str:
        """What is to be said above the form: all that no shown field says."""
        if self.field in shown:
            return ""
        left = [f"{field_called(name)}: {text}" for name, text in self.fields.items() if name not in shown]
        return self.text if not self.fields else "; ".join(left)


def html(
    template: str,
    visit: Visit | None,
    values: Mapping[str, Any],
    *,
    fault: Fault | None = None,
    status: int = 200,
) -> Response:
    """A page. With a fault it has the fault's status."""
    known = {
        "visit": visit,
        "session": visit and visit.session,
        "fault": fault,
        "sections": visit.sections if visit else (),
    }
    text = _TEMPLATES.get_template(template).render(**known, **values)
    extra = fault.headers if fault else {}
    return HTMLResponse(text, fault.status if fault else status, {**HEADERS, **extra})


def error_page(status: int, text: str, headers: Mapping[str, str] | None = None) -> Response:
    """A page that says what went wrong. Its address may have a secret, so no referrer leaves it."""
    title = _TITLES.get(status) or HTTPStatus(status).phrase
    response = html("error.html", None, {"title": title, "text": text}, status=status)
    response.headers.update({**NO_REFERRER, **(headers or {})})
    return response


def redirect(target: str) -> Response:
    """Lead to another page by GET. What is no character of an address (RFC 3986) is percent-encoded."""
    return Response(status_code=303, headers={**HEADERS, "Location": quote(target, safe=_IN_ADDRESS)})


async def _file(request: Request) -> Response:
    """A file of the pages. Its address changes with its text, so a browser may keep it."""
    body, media_type = _FILES[request.scope["path"]]
    is_current = request.url.query == _version(body)
    headers = {**HEADERS, "Cache-Control": _A_YEAR if is_current else "no-cache"}
    return Response(body, headers=headers, media_type=media_type)


routes = [Route(path, _file) for path in _FILES]


def _version(body: bytes) -> str:
    return sha256(body).hexdigest()[:12]


def _address(name: str) -> str:
    """The address of a file of the pages."""
    path = f"{ROOT}/static/{name}"
    return f"{path}?{_version(_FILES[path][0])}"


def _moment(moment: datetime, zone: str) -> str:
    """A time of a zone, to the minute."""
    return moment.astimezone(ZoneInfo(zone)).strftime("%Y-%m-%d %H:%M")


def _local(text: str, zone: str) -> str:
    """A time in RFC 3339 as a time of a zone, to the second. What has the end "infinity" has none."""
    if text == "infinity":
        return "never"
    return in_zone(datetime.fromisoformat(text), ZoneInfo(zone)).strftime("%Y-%m-%d %H:%M:%S")


def _count(number: int | None) -> str:
    return "-" if number is None else f"{number:,}"


_IN_ADDRESS = "/?#[]@!$&'()*+,;=:%"
_TITLES = {
    400: "That did not work",
    403: "Not allowed",
    404: "There is no such page",
    405: "That did not work",
    429: "Too many attempts",
    500: "Something went wrong",
    503: "Not available now",
}
_TEMPLATES = Environment(
    loader=FileSystemLoader(_HERE / "templates"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
    auto_reload=False,
)
_TEMPLATES.globals |= {"root": ROOT, "address_of": _address}
_TEMPLATES.filters |= {
    "moment": _moment,
    "local": _local,
    "count": _count,
    "amount": words.amount,
    "lasting": words.lasting,
}
