"""The envelope of lists."""

from __future__ import annotations

from tracker.store.paging import Page, Row


def envelope(page: Page, *, per_page: int, number: int) -> dict[str, object]:
    return {
        "data": page.rows,
        "total": page.total,
        "per_page": per_page,
        "page": number,
        "pages": -(-page.total // per_page),
    }


def envelope_with_cursor(
    page: Page, *, per_page: int, number: int, next_cursor: str | None
) -> dict[str, object]:
    return {**envelope(page, per_page=per_page, number=number), "next_cursor": next_cursor}


def feed_envelope(rows: list[Row], *, per_page: int, after_id: int) -> dict[str, object]:
    return _endless(rows, per_page) | {"next_after_id": rows[-1]["id"] if rows else after_id}


def changes_envelope(rows: list[Row], *, per_page: int, next_updated_after: int) -> dict[str, object]:
    return _endless(rows, per_page) | {"next_updated_after": next_updated_after}


def _endless(rows: list[Row], per_page: int) -> dict[str, object]:
    """A feed has no end, so it has neither total nor pages. It says where to go on instead."""
    return {"data": rows, "total": None, "per_page": per_page, "page": None, "pages": None}
