"""Names of the catalogue's objects: what ids are called, and the ids that a person means by names."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from http import HTTPStatus
from typing import Final

from tracker.dashboard.asking import RefusedError, ask
from tracker.dashboard.catalogue.kinds import Kind, Names, kind_of, with_query
from tracker.dashboard.form import Form
from tracker.dashboard.html import Fault
from tracker.dashboard.visit import Visit
from tracker.domain import normalise
from tracker.domain.normalise import composed, trim, word
from tracker.reading.filters import EXCLUDE
from tracker.store.catalogue.edit import Row

OF_PARTIES: Final[Mapping[str, str]] = {f"{party}_ids": party for party in ("affiliate", "advertiser")}
"""The fields that name whose rows somebody sees, each with the table of what it names."""

FILTERS: Final[Mapping[str, str]] = {
    f"{how}{name}": table
    for how in ("", EXCLUDE)
    for name, table in (
        ("offer_id", "offer"),
        ("requested_offer_id", "offer"),
        ("affiliate_id", "affiliate"),
        ("advertiser_id", "advertiser"),
        ("goal_id", "goal"),
        ("offer_url_id", "offer_url"),
    )
}
"""The filters of lists and reports that name objects, each with their table."""

_MOST_NAMES: Final = 200  # objects that a field suggests
_MOST_WRITTEN: Final = 100  # names of a form: each is searched for
_MOST_CANDIDATES: Final = 5
_LONGEST_NAME: Final = 500
_LONGEST_SHOWN: Final = 80
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]")


async def names_by_id(visit: Visit, ids: Mapping[str, Iterable[int]]) -> Names:
    """The names of objects, archived or not. `ids`: by table. What the session does not read has none."""
    found: dict[tuple[str, int], str] = {}
    for table, some in ids.items():
        wanted = list(some)[:_MOST_NAMES]
        kind = kind_of(table)
        if not wanted or kind.resource.table.parent or not kind.is_read_by(visit):
            continue
        for archived in ("false", "true"):
            query = {"id": wanted, "is_archived": archived, "per_page": _MOST_NAMES}
            body = (await ask(visit, kind.api, query)).body
            found |= {(table, row["id"]): row["name"] for row in body["data"]}
    return found


async def names_in(visit: Visit, rows: Iterable[Row], *tables: str) -> Names:
    """The names of what rows name in columns such as affiliate_id."""
    found = list(rows)
    ids = {table: [row[f"{table}_id"] for row in found if row.get(f"{table}_id")] for table in tables}
    return await names_by_id(visit, {table: dict.fromkeys(some) for table, some in ids.items()})


async def names_of_filters(visit: Visit, pairs: Sequence[tuple[str, str]]) -> Mapping[tuple[str, str], str]:
    """What the ids of filters are called, by the filter and its value. "" where nothing has a name."""
    ids = {
        (name, value): [id_ for part in value.split(",") if (id_ := normalise.id_(part))]
        for name, value in pairs
        if name in FILTERS
    }
    wanted: dict[str, list[int]] = {}
    for (name, _), some in ids.items():
        wanted.setdefault(FILTERS[name], []).extend(some)
    names = await names_by_id(visit, wanted)
    return {
        pair: ", ".join(filter(None, (names.get((FILTERS[pair[0]], id_)) for id_ in some)))
        for pair, some in ids.items()
    }


async def names_of_partners(visit: Visit, rows: Iterable[Row]) -> Names:
    """The names of the partners whose rows users, tokens or shares see."""
    found = list(rows)
    ids = {table: [id_ for row in found for id_ in row[name]] for name, table in OF_PARTIES.items()}
    return await names_by_id(visit, {table: dict.fromkeys(some) for table, some in ids.items()})


async def names_of(visit: Visit, kind: Kind) -> list[tuple[int, str]]:
    """Ids and names of the first objects of a kind, by name. None of parts of others."""
    if kind.resource.table.parent:
        return []
    body = (await ask(visit, kind.api, {"per_page": _MOST_NAMES, "sort": "name"})).body
    return [(row["id"], row["name"]) for row in body["data"]]


async def name_at(visit: Visit, table: str, id_: int) -> str:
    """The name of one object. A number alone is easily that of another one."""
    name: str = (await ask(visit, kind_of(table).api_one, at={"id": id_})).body["name"]
    return name


async def with_ids(visit: Visit, form: Form, tables: Mapping[str, str]) -> Form:
    """A form in whose fields a person may write objects' whole names instead of their ids: with the ids.

    `tables`: the table of each such field. A field may have several objects, with commas between. A session
    that does not read the catalogue, such as a partner's, writes ids.

    Raises:
        RefusedError: no object has such a name, several have it, or there are more than _MOST_WRITTEN.
    """
    kinds = {field: kind_of(table) for field, table in tables.items()}
    read = {field: kind for field, kind in kinds.items() if kind.is_read_by(visit)}
    ids: dict[tuple[str, str], str] = {}
    wrong: dict[str, str] = {}
    above: dict[str, str] = dict(visit.request.path_params)  # the ids of objects that may have parts
    left = _MOST_WRITTEN
    for field, kind in sorted(read.items(), key=lambda one: bool(one[1].resource.table.parent)):
        for text in dict.fromkeys(form.all(field)):
            left -= sum(map(_has_letter, text.split(",")))
            try:
                if left < 0:
                    raise ValueError(f"are more than {_MOST_WRITTEN} names: write ids")
                ids[field, text] = above[field] = await _ids_of(visit, kind, text, above)
            except ValueError as error:
                wrong[field] = str(error)
    if wrong:
        raise RefusedError(Fault(HTTPStatus.UNPROCESSABLE_ENTITY, "Some names are not known.", fields=wrong))
    return Form((name, ids.get((name, text), text)) for name, text in form.pairs)


async def address_with_ids(visit: Visit, tables: Mapping[str, str] = FILTERS) -> str:
    """The address of a list whose filters say names: with their ids. "" if it has no names.

    `tables`: as in `with_ids`.

    Raises:
        RefusedError: no object has such a name, or several have it.
    """
    sent = Form(visit.request.query_params.multi_items())
    found = await with_ids(visit, sent, tables)
    if found.pairs == sent.pairs:
        return ""
    return with_query(visit.path, {name: found.all(name) for name in found})


async def _ids_of(visit: Visit, kind: Kind, text: str, above: Mapping[str, str]) -> str:
    """The ids that names mean, with commas between. A text without a letter is ids.

    A name may have a comma itself.

    Raises:
        ValueError: no object has such a name, or several have it.
    """
    if not _has_letter(text):
        return text
    whole = trim(text)
    parts = dict.fromkeys(part for part in map(trim, text.split(",")) if part)
    if len(parts) == 1:
        return await _id_of(visit, kind, whole, above)
    if len(whole) <= _LONGEST_NAME and _exact(await _called_like(visit, kind, whole, above), whole):
        return await _id_of(visit, kind, whole, above)
    ids = []
    for part in parts:
        try:
            ids.append(await _id_of(visit, kind, part, above) if _has_letter(part) else part)
        except ValueError as error:
            raise ValueError(f"“{part[:_LONGEST_SHOWN]}”: {error}") from None
    return ",".join(ids)


def _has_letter(text: str) -> bool:
    return any(map(str.isalpha, text))


async def _called_like(
    visit: Visit, kind: Kind, text: str, above: Mapping[str, str], *, is_archived: bool = False
) -> Sequence[Row]:
    """Objects whose names have a text in them, exact names first. Of a kind that has no search, all.

    Raises:
        ValueError: it is no name, or the object is not known whose parts they are.
    """
    table = kind.resource.table
    if len(text) > _LONGEST_NAME or _CONTROL.search(text):
        raise ValueError(f"is longer than {_LONGEST_NAME} characters or has control characters")
    query: dict[str, object] = {"q": text} if table.searched else {}
    if is_archived:
        query["is_archived"] = "true"
    at = {}
    if table.parent:
        whose = above.get(table.parent, "")
        if not whose.isdecimal():
            raise ValueError(f"name the one {table.parent_table} too, or write the id of the {kind.noun}")
        at[table.parent] = whose
    rows: Sequence[Row] = (await ask(visit, kind.api, {**query, "per_page": _MOST_NAMES}, at=at)).body["data"]
    return rows


def _exact(rows: Sequence[Row], text: str) -> list[Row]:
    """The objects with exactly this name, or this code."""
    wanted = word(composed(text))
    return [row for row in rows if wanted in (word(row.get(key) or "") for key in ("name", "code"))]


async def _id_of(visit: Visit, kind: Kind, text: str, above: Mapping[str, str]) -> str:
    """The id of the one object with a name.

    Raises:
        ValueError: no object has it, several have it, or an archived one. The text has the candidates.
    """
    rows = await _called_like(visit, kind, text, above)
    found = _exact(rows, text)
    if len(found) == 1:
        return str(found[0]["id"])
    if found:
        raise ValueError(f"{len(found)} {kind.plural.lower()} have this name: write the id, {_listed(found)}")
    if kind.resource.table.can_archive:
        others = await _called_like(visit, kind, text, above, is_archived=True)
        if archived := _exact(others, text):
            raise ValueError(f"the {kind.noun} of this name is archived: write the id, {_listed(archived)}")
    near = ", ".join(f"{row['name']} ({row['id']})" for row in rows[:_MOST_CANDIDATES] if row.get("name"))
    raise ValueError(f"no {kind.noun} has this name or id{f'. There is {near}' if near else ''}")


def _listed(rows: Sequence[Row]) -> str:
    """The ids of the first candidates."""
    more = " or another" if len(rows) > _MOST_CANDIDATES else ""
    return " or ".join(str(row["id"]) for row in rows[:_MOST_CANDIDATES]) + more
