"""What all pages have in common: who may open them, and how their forms are taken."""

from __future__ import annotations

import logging
import re
from collections.abc import Awaitable, Callable
from math import ceil
from typing import Final, Literal, NamedTuple
from urllib.parse import quote

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from tracker.dashboard import form as forms
from tracker.dashboard.asking import RefusedError
from tracker.dashboard.form import Form
from tracker.dashboard.html import NO_REFERRER, ROOT, Fault, redirect
from tracker.dashboard.navigation import EVERYBODY, Access
from tracker.dashboard.visit import Visit, visit_of
from tracker.people.passwords import BusyError
from tracker.people.sign_in import FieldError, WrongError
from tracker.people.throttle import WaitError
from tracker.secret_key import OtherKeyError

HOME: Final = f"{ROOT}/"
SIGN_IN: Final = f"{ROOT}/sign-in"
SECOND_FACTOR: Final = f"{ROOT}/second-factor"
ACCOUNT: Final = f"{ROOT}/account"

Show = Callable[[Visit, Form, Fault | None], Awaitable[Response]]
Send = Callable[[Visit, Form], Awaitable[Response]]
Who = Literal["anyone", "half", "half or signed in", "signed in"]

_A_PAGE = re.compile(rf"{ROOT}/[A-Za-z0-9/_-]*(\?[A-Za-z0-9_.~%=&+:,-]*)?", re.ASCII)
_LONGEST_PAGE = 1_000
_MINUTE = 60
_ENDS = (401, 403, 404)  # there is nothing to show beside them

_log = logging.getLogger(__name__)


class Page(NamedTuple):
    """A page, or the target of a form.

    `who` may open it. A half session is one whose second factor is missing. `show` gets the fields that were
    sent and their fault. Both are empty when the page is opened. If it asks for what is refused, it is called
    again with the fields of the query and the fault, and shows them without asking.
    """

    path: str
    who: Who
    show: Show | None = None
    send: Send | None = None
    wrong: str = ""  # the message for WrongError
    is_private: bool = False  # its address has a secret, so no referrer leaves it
    changes_nothing: bool = False  # its form may be sent by an admin who looks as a partner
    is_file: bool = False  # it is saved, or read by a script, and not shown
    access: Access = EVERYBODY
    takes_file: bool = False  # its form may have a file

    def route(self) -> Route:
        methods = [*(["GET"] if self.show else []), *(["POST"] if self.send else [])]
        return Route(self.path, self._answer, methods=methods)

    async def _answer(self, request: Request) -> Response:
        visit = await visit_of(request)
        self._check_access(visit)
        response = await (self._sent(visit) if request.method == "POST" else self._shown(visit))
        if self.is_private:
            response.headers.update(NO_REFERRER)
        return response

    async def _shown(self, visit: Visit) -> Response:
        assert self.show
        if elsewhere := self._elsewhere(visit):
            return elsewhere
        try:
            return await self.show(visit, Form(), None)
        except RefusedError as error:
            return await self._shown_again(visit, Form(visit.request.query_params.multi_items()), error.fault)

    async def _shown_again(self, visit: Visit, form: Form, fault: Fault) -> Response:
        """The page with the fault of what was asked or sent. An error if it needs the refused answer."""
        if self.show is None or fault.status in _ENDS:
            raise HTTPException(fault.status, fault.text, dict(fault.headers))
        try:
            return await self.show(visit, form, fault)
        except RefusedError as error:
            raise HTTPException(error.fault.status, error.fault.text, dict(error.fault.headers)) from None

    async def _sent(self, visit: Visit) -> Response:
        assert self.send
        forms.check_origin(visit, proves_itself=self.is_private)
        form = await forms.read_form(visit.request, takes_file=self.takes_file)
        if self.who != "anyone":
            if elsewhere := self._elsewhere(visit):
                return elsewhere
            forms.check_token(visit, form)
        if visit.session and visit.session.seen_as and not self.changes_nothing:
            raise HTTPException(403, "You see what a partner sees. Nothing can be changed. Go back first.")
        try:
            return await self.send(visit, form)
        except RefusedError as error:
            return await self._shown_again(visit, form, error.fault)
        except (FieldError, WrongError, WaitError, BusyError, OtherKeyError) as error:
            if visit.session and (await visit_of(visit.request)).session is None:
                return redirect(SIGN_IN)  # it has ended meanwhile
            if self.show is None:
                raise
            return await self.show(visit, form, self._fault(error))

    def _check_access(self, visit: Visit) -> None:
        session = visit.session
        if self.who == "signed in" and session and session.is_whole and not self.access.allows(session):
            raise HTTPException(403, "Your role does not open this page.")

    def _elsewhere(self, visit: Visit) -> Response | None:
        """Where a visit has to go first."""
        session = visit.session
        if self.who == "anyone":
            return None
        if session is None:
            return redirect(SIGN_IN + self._then(visit))
        if not session.is_whole and self.who == "signed in":
            return redirect(SECOND_FACTOR + self._then(visit))
        if session.is_whole and self.who == "half":
            return redirect(HOME)
        if visit.lacks_factor and self.show and self.path != ACCOUNT:
            return redirect(ACCOUNT)
        return None

    def _then(self, visit: Visit) -> str:
        """The parameter that leads back to this page later."""
        wanted = visit.request.query_params.get("next", "") if self.who == "half" else self._address(visit)
        return f"?next={quote(wanted, safe='/')}" if page_of(wanted) not in ("", HOME) else ""

    def _address(self, visit: Visit) -> str:
        query = visit.request.url.query
        return f"{visit.path}?{query}" if query and self.show else visit.path if self.show else ""

    def _fault(self, error: Exception) -> Fault:
        match error:
            case FieldError():
                return Fault(422, error.why, error.field)
            case WaitError():
                minutes = ceil(error.seconds / _MINUTE)
                text = f"Too many attempts failed from your address. Try again in {minutes} min."
                return Fault(429, text, headers={"Retry-After": str(error.seconds)})
            case BusyError():
                return Fault(503, _BUSY, headers={"Retry-After": "1"})
            case OtherKeyError():
                _log.error(
                    "a second factor is sealed with another key file: %(advice)s",
                    {"event": "other_key_file", "advice": _OTHER_KEY_ADVICE},
                )
                return Fault(503, _OTHER_KEY)
        return Fault(403, self.wrong)


def page_of(wanted: str) -> str:
    """An address of a page of ours, or "" for any other address."""
    is_ours = len(wanted) <= _LONGEST_PAGE and _A_PAGE.fullmatch(wanted) and "//" not in wanted
    return wanted if is_ours else ""


_OTHER_KEY = (
    "The app's codes cannot be checked, because the tracker's key file has been exchanged. Give a recovery "
    "code, or ask your administrator to reset your second factor."
)
_OTHER_KEY_ADVICE = (
    "put the right file at TRACKER_SECRET_KEY_FILE, or run `tracker users reset --second-factor` for its user"
)
_BUSY = "Many people sign in at this moment. Try again in a few seconds."
