"""The page of one's own account: password and second factor."""

from __future__ import annotations

from collections.abc import Sequence

from starlette.exceptions import HTTPException
from starlette.responses import Response

from tracker.dashboard.form import Form
from tracker.dashboard.html import Fault, html, redirect
from tracker.dashboard.page import ACCOUNT, Page, page_of
from tracker.dashboard.visit import Visit, give
from tracker.people import qr_code, second_factor
from tracker.people.passwords import SHORTEST
from tracker.people.sign_in import FieldError, SignedIn
from tracker.secret_key import OtherKeyError
from tracker.store.people import guesses, users


async def _show(visit: Visit, form: Form, fault: Fault | None) -> Response:
    assert visit.session
    secret = await _proposed(visit)
    values = {
        "shortest": SHORTEST,
        "done": visit.request.query_params.get("done", ""),
        "sent": form.get("do", ""),
        "secret": secret and _in_groups(secret),
        "picture": secret and qr_code.picture(second_factor.address(secret, visit.session.email)),
        "guesses": await guesses.of_user(visit.pool, visit.session.user_id),
        "next": page_of(visit.request.query_params.get("next", "")),
        "zone": visit.settings.time_zone,
        "codes_left": await users.count_codes(visit.pool, visit.session.user_id),
    }
    return html("account.html", visit, values, fault=fault)


async def _proposed(visit: Visit) -> str | None:
    """The key that waits for its first code. One of another key file is made again by the button."""
    assert visit.session
    try:
        return await visit.sign_in.proposed_factor(visit.session)
    except OtherKeyError:
        return None


async def _change(visit: Visit, form: Form) -> Response:
    change = {
        "password": _change_password,
        "propose": _propose_factor,
        "confirm": _confirm_factor,
        "remove": _remove_factor,
        "codes": _renew_codes,
    }.get(form.get("do", ""))
    if change is None:
        raise HTTPException(400, "The form cannot be read.")
    return await change(visit, form)


async def _change_password(visit: Visit, form: Form) -> Response:
    assert visit.session
    if form.get("password", "") != form.get("again", ""):
        raise FieldError("again", "is not the same as the first")
    before, after = form.get("before", ""), form.get("password", "")
    return _renewed(
        visit, await visit.sign_in.change_password(visit.session, before, after, visit.visitor), "password"
    )


async def _propose_factor(visit: Visit, form: Form) -> Response:
    assert visit.session
    await visit.sign_in.propose_factor(visit.session, form.get("before", ""), visit.visitor)
    return redirect(ACCOUNT)


async def _confirm_factor(visit: Visit, form: Form) -> Response:
    assert visit.session
    code = form.get("code", "")
    signed_in, codes = await visit.sign_in.confirm_factor(visit.session, code, visit.visitor)
    session = visit.session._replace(has_totp=True)
    response = _recovery_codes(visit._replace(secret=signed_in.secret, session=session), codes, is_new=True)
    give(visit, response, signed_in)
    return response


async def _remove_factor(visit: Visit, form: Form) -> Response:
    assert visit.session
    signed_in = await visit.sign_in.remove_factor(visit.session, form.get("before", ""), visit.visitor)
    return _renewed(visit, signed_in, "removed")


async def _renew_codes(visit: Visit, form: Form) -> Response:
    assert visit.session
    password, code = form.get("before", ""), form.get("code", "")
    codes = await visit.sign_in.renew_recovery_codes(visit.session, password, code, visit.visitor)
    return _recovery_codes(visit, codes, is_new=False)


def _renewed(visit: Visit, signed_in: SignedIn, done: str) -> Response:
    response = redirect(f"{ACCOUNT}?done={done}")
    give(visit, response, signed_in)
    return response


def _recovery_codes(visit: Visit, codes: Sequence[str], *, is_new: bool) -> Response:
    """The recovery codes, shown only in this answer. `is_new`: the factor was switched on."""
    return html("recovery_codes.html", visit, {"codes": codes, "is_new": is_new})


def _in_groups(secret: str) -> str:
    return " ".join(secret[n : n + 4] for n in range(0, len(secret), 4))


pages = [Page(ACCOUNT, "signed in", _show, _change, "The password is wrong.")]
