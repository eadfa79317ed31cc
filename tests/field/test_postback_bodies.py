"""Bodies as senders of the field write them: forms, JSON of any content type, and `amp;`."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.field.advertiser import advertiser_of
from tracker.settings import Settings

pytestmark = pytest.mark.anyio

FORM = "application/x-www-form-urlencoded"
AMP = [
    ("click_id=CLICK&amp;status=pending", "pending", "a page's markup"),
    ("amp;status=pending&click_id=CLICK", "pending", "at the beginning"),
    ("click_id=CLICK&amp;amp;status=pending", "pending", "escaped twice"),
    ("click_id=CLICK&%23038;status=pending", "pending", "as a number"),
    ("click_id=CLICK&AMP;status=pending", "pending", "in capitals"),
    ("click_id=CLICK&amp;amp;amp;amp;status=pending", "pending", "any number of times"),
    ("click_id=CLICK&amp%3Bstatus=pending", "pending", "percent-encoded"),
    ("amp;click_id=CLICK&amp;status=pending", "pending", "the click, too"),
    ("click_id=CLICK&amp;status=pending&status=hold", "hold", "a plain name wins over its twin"),
    ("click_id=CLICK&status=hold&amp;status=pending", "hold", "in either order"),
    ("click_id=CLICK&amp;status=pending&amp;status=hold", "pending", "else the first"),
    ("click_id=CLICK&amp;unknown=1&amp;=2&amp;", "approved", "what is not known is passed over"),
]


async def test_names_are_known_without_the_mark_of_a_page(database: Settings) -> None:
    async with advertiser_of(database) as advertiser:
        for query, status, why in AMP:
            for body in (False, True):
                click = await advertiser.click()
                said = query.replace("CLICK", click)
                if body:
                    told = await advertiser.calls("", content=said, headers={"content-type": FORM})
                else:
                    told = await advertiser.calls(said)
                assert told.result == "stored", (query, told.reason)
                assert await advertiser.conversions("status", click) == [(status,)], (query, why)


async def test_secret_is_known_without_the_mark_of_a_page(database: Settings) -> None:
    async with advertiser_of(database) as advertiser:
        click = await advertiser.click()
        said = f"/postback?click_id={click}&amp;token="
        assert (await advertiser.edge.get(f"{said}wrong")).status_code == 403
        ((parameters,),) = await advertiser.fetch("SELECT count(*) FROM postback WHERE result = 'stored'")
        assert parameters == 0


def multipart(*parts: str, end: str = "--x--\r\n") -> dict[str, Any]:
    body = "".join(f"--x\r\n{part}\r\n" for part in parts) + end
    return {"content": body.encode(), "headers": {"content-type": "multipart/form-data; boundary=x"}}


def field(name: str, value: str, more: str = "") -> str:
    return f'Content-Disposition: form-data; name="{name}"\r\n{more}\r\n{value}'


def labelled(label: str | None, body: str | bytes) -> dict[str, Any]:
    return {"content": body, "headers": {} if label is None else {"content-type": label}}


@pytest.mark.parametrize(
    "body", [b"[]", b" [ ] ", b"null", b"{}", b" \r\n", b"\xef\xbb\xbf", b"\xef\xbb\xbf\n"]
)
async def test_empty_body_keeps_the_parameters_of_the_query(database: Settings, body: bytes) -> None:
    async with advertiser_of(database) as advertiser:
        for label in ("application/json", FORM, None):
            click = await advertiser.click()
            told = await advertiser.calls(f"click_id={click}&status=pending", **labelled(label, body))
            assert (told.status, told.result) == (200, "stored"), (label, told.reason)
            assert await advertiser.conversions("status", click) == [("pending",)], label


def bodies(click: str) -> list[tuple[str, dict[str, Any]]]:
    """A postback with the status pending."""
    said = {"click_id": click, "status": "pending"}
    text, form = json.dumps(said), f"click_id={click}&status=pending"
    fields = [field(name, value) for name, value in said.items()]
    return [
        ("PHP's curl with an array", {"files": {name: (None, value) for name, value in said.items()}}),
        ("with a preamble", multipart(*fields) | {"content": b"\r\n" + multipart(*fields)["content"]}),
        (
            "Java's part headers",
            multipart(
                *(
                    field(
                        name,
                        value,
                        "Content-Type: text/plain; charset=UTF-8\r\nContent-Transfer-Encoding: 8bit\r\n",
                    )
                    for name, value in said.items()
                )
            ),
        ),
        (
            "a quoted boundary",
            multipart(*fields) | {"headers": {"content-type": 'Multipart/Form-Data; boundary="x"'}},
        ),
        ("a file part", multipart(fields[0], field('status"; filename="a.txt', "pending"))),
        ("JSON as a text", labelled("text/plain", text)),
        ("JSON as a text, with a charset", labelled("text/plain;charset=UTF-8", text)),
        ("JSON as a form, as curl -d sends it", labelled(FORM, text)),
        ("JSON as bytes", labelled("application/octet-stream", text)),
        ("JSON without a label", labelled(None, text)),
        ("JSON of another label", labelled("text/json", text)),
        ("JSON of a vendor", labelled("application/vnd.shop.v1+json", text)),
        ("JSON with a byte order mark", labelled("application/json", b"\xef\xbb\xbf" + text.encode())),
        ("JSON of Windows", labelled("application/json", text.encode("utf-16"))),
        ("JSON with white space before it", labelled("text/plain", f"\r\n  {text}")),
        (
            "JSON that says it twice: the first counts, as in a query",
            labelled("application/json", f'{text[:-1]}, "status": "approved", "click_id": "another"}}'),
        ),
        ("a form as JSON", labelled("application/json", form)),
        ("a form as a text", labelled("text/plain", form)),
        ("a form without a label", labelled(None, form)),
        ("a form with a charset", labelled(f"{FORM}; charset=utf-8", form)),
        ("a form in capitals", labelled("Application/X-WWW-Form-URLencoded", form)),
        ("a form with a line end", labelled(FORM, f"{form}\r\n")),
    ]


async def test_body_is_read_under_any_content_type(database: Settings) -> None:
    async with advertiser_of(database) as advertiser:
        for place in range(len(bodies(""))):
            click = await advertiser.click()
            why, body = bodies(click)[place]
            told = await advertiser.calls("", **body)
            assert (told.status, told.result) == (200, "stored"), (why, told)
            assert await advertiser.conversions("status", click) == [("pending",)], why


async def test_value_of_a_body_is_not_changed(database: Settings) -> None:
    value = "a\u00e4 + & = % \U0001f600"
    async with advertiser_of(database) as advertiser:
        for kind in ("data", "json", "files"):
            click = await advertiser.click()
            said: dict[str, Any] = {"click_id": click, "adv_sub": value}
            if kind == "files":
                said = {name: (None, text) for name, text in said.items()}
            await advertiser.calls("", **{kind: said})
            assert await advertiser.conversions("adv_sub", click) == [(value,)], kind
        click = await advertiser.click()
        await advertiser.calls("", json={"click_id": click, "adv_sub": {"\u00e4": [1]}, "adv_sub2": False})
        assert await advertiser.conversions("adv_sub, adv_sub2", click) == [('{"\u00e4":["1"]}', "false")]
        click = await advertiser.click()
        content = multipart(field("click_id", click), field("adv_sub", "X"))["content"]
        headers = multipart()["headers"]
        await advertiser.calls("", content=content.replace(b"X", b"\xee\xea"), headers=headers)
        assert await advertiser.conversions("adv_sub", click) == [("%EE%EA",)]


def wrong_bodies(click: str) -> list[tuple[int, str, dict[str, Any]]]:
    whole = multipart(field("click_id", click), field("status", "pending"))
    return [
        (422, "cut off", whole | {"content": whole["content"][:-9]}),
        (422, "without its end", multipart(field("click_id", click), end="")),
        (422, "another boundary", whole | {"headers": {"content-type": "multipart/form-data; boundary=y"}}),
        (422, "no boundary", whole | {"headers": {"content-type": "multipart/form-data"}}),
        (
            422,
            "a long boundary",
            whole | {"headers": {"content-type": f"multipart/form-data; boundary={'x' * 999}"}},
        ),
        (422, "half of JSON", labelled("text/plain", f'{{"click_id": "{click}"')),
        (422, "a list", labelled("text/plain", "[1]")),
        (415, "XML", labelled("application/xml", f"<click_id>{click}</click_id>")),
        (
            415,
            "packed",
            labelled("application/json", b"\x1f\x8b")
            | {"headers": {"content-type": "application/json", "content-encoding": "gzip"}},
        ),
    ]


async def test_body_that_cannot_be_read_is_refused(database: Settings) -> None:
    async with advertiser_of(database) as advertiser:
        click = await advertiser.click()
        for status, why, body in wrong_bodies(click):
            assert (await advertiser.calls("", **body)).status == status, why
        assert await advertiser.fetch("SELECT count(*) FROM postback") == [(0,)]
