"""Pages: sign in, give the second factor, sign out."""

from __future__ import annotations

from urllib.parse import quote

from starlette.responses import Response

from tracker.dashboard.form import Form
from tracker.dashboard.html import ROOT, Fault, html, redirect
from tracker.dashboard.page import ACCOUNT, HOME, SECOND_FACTOR, SIGN_IN, Page, page_of
from tracker.dashboard.visit import Visit, give, take
from tracker.people.sign_in import SignedIn


async def enter(visit: Visit, signed_in: SignedIn, wanted: str = "") -> Response:
    """Lead a new session to its page, or first to what its user must know.

    The session that the browser had before ends.
    """
    if visit.session:
        await visit.sign_in.sign_out(visit.session)
    then = page_of(wanted)
    if not signed_in.is_whole or signed_in.was_guessed:
        first = ACCOUNT if signed_in.is_whole else SECOND_FACTOR
        then = first + (f"?next={quote(then, safe='/')}" if then else "")
    response = redirect(then or HOME)
    give(visit, response, signed_in)
    return response


async def _show_sign_in(visit: Visit, form: Form, fault: Fault | None) -> Response:
    if visit.session and not fault:
        return redirect(HOME)
    has_ended = bool(visit.secret) and not fault
    return html(
        "sign_in.html", visit, {"form": form, "next": _next(visit, form), "has_ended": has_ended}, fault=fault
    )


async def _sign_in(visit: Visit, form: Form) -> Response:
    email, password = form.get("email", ""), form.get("password", "")
    signed_in = await visit.sign_in.with_password(email, password, visit.visitor)
    return await enter(visit, signed_in, form.get("next", ""))


async def _show_second_factor(visit: Visit, form: Form, fault: Fault | None) -> Response:
    return html("second_factor.html", visit, {"next": _next(visit, form)}, fault=fault)


async def _second_factor(visit: Visit, form: Form) -> Response:
    assert visit.session
    signed_in = await visit.sign_in.with_code(visit.session, form.get("code", ""), visit.visitor)
    return await enter(visit, signed_in, form.get("next", ""))


async def _sign_out(visit: Visit, _: Form) -> Response:
    assert visit.session
    await visit.sign_in.sign_out(visit.session)
    response = redirect(SIGN_IN)
    take(visit, response)
    return response


def _next(visit: Visit, form: Form) -> str:
    return page_of(form.get("next", "") or visit.request.query_params.get("next", ""))


pages = [
    Page(SIGN_IN, "anyone", _show_sign_in, _sign_in, "The e-mail address or the password is wrong."),
    Page(SECOND_FACTOR, "half", _show_second_factor, _second_factor, "The code is wrong."),
    Page(f"{ROOT}/sign-out", "half or signed in", send=_sign_out, changes_nothing=True),
]
