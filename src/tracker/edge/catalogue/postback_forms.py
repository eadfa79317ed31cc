"""Other trackers' postbacks as data, so that advertisers' URLs go on working after a move.

A form says what a postback means, never who sent it. A form's advertiser only narrows: it refuses the secrets
and clicks of others. The path wins over the form's constants, and constants win over the query and the body.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any, NamedTuple

from tracker.domain.money import read_currency
from tracker.domain.normalise import ESCAPED_MARKS, amount, given, pairs, trim, word
from tracker.domain.postback import CLICK_IDS, GOALS, IDS, ORDER_IDS, PARAMETERS, STATUSES, ConversionStatus
from tracker.edge.catalogue.form_paths import ANY_HOST, Shapes, read_host, read_path
from tracker.edge.catalogue.tracking_hosts import plain_host
from tracker.edge.read.link import MAX_VALUE
from tracker.edge.read.text import crop

SECRET = "secret"  # noqa: S105 - a placeholder's name
OUR_SECRET = "token"  # noqa: S105 - a parameter's name
ANYTHING = "*"
"""The value of a name in `match` that may have any value."""
MAX_MATCH, MAX_NAMES, MAX_VALUES = 10, 100, 1000
"""Most names in a form's match, names in its other objects, and values of a field."""

_PLACES = {name: place for place, name in enumerate((*sorted(PARAMETERS), SECRET))}
_BY_PLACE = tuple(_PLACES)
_GROUPS = dict.fromkeys(CLICK_IDS, "click_id") | dict.fromkeys(ORDER_IDS, "order_id")
_GROUPS |= dict.fromkeys(GOALS, "goal")
_VALUES = {"status", "sale_status", "currency", *GOALS}
_CONSTANTS = PARAMETERS - IDS - {"refund_amount"}
_AMOUNTS = {"payout", "revenue", "sale_amount"}
_LEFT_OUT = ""  # what a name of theirs means that is one of ours, but not here


class WrongForm(ValueError):  # noqa: N818 - the name is clear
    """A form cannot be used. The message says why."""

    def __init__(self, field: str, why: str) -> None:
        super().__init__(f"{field}: {why}")
        self.field = field
        self.why = why


class Meaning(NamedTuple):
    """The meaning of a postback by its form."""

    parameters: dict[str, str]  # by our names
    secret: str  # "" without one
    status: ConversionStatus | None  # if the form decides it


class PostbackForm(NamedTuple):
    """The form of another tracker's postbacks."""

    id: int
    name: str
    key: str  # of its path
    host: str  # "" = any host
    match: Mapping[str, str]
    segments: tuple[tuple[int, str], ...]  # (number of the path's segment, our name or `secret`)
    parameters: Mapping[str, str]  # theirs to ours. Ours mean themselves
    constants: Mapping[str, str]
    values: Mapping[str, Mapping[str, str]]  # by our name: their words to ours
    secret: str  # their name of the secret's parameter
    advertiser_id: int | None
    source: str

    @property
    def rank(self) -> tuple[int, int]:
        """How much its match asks for. Forms of one path are tried from the highest rank on."""
        return len(self.match), sum(value != ANYTHING for value in self.match.values())

    @property
    def names(self) -> frozenset[str]:
        """The names that mean something in its query or body."""
        return frozenset((*self.parameters, self.secret, OUR_SECRET))

    def matches(self, query: Mapping[str, str]) -> bool:
        return all(
            name in query and value in (ANYTHING, trim(query[name])) for name, value in self.match.items()
        )

    def is_apart_from(self, other: PostbackForm) -> bool:
        """Whether no request can be of both, or one of them goes first."""
        return self.rank != other.rank or any(
            value != other.match[name] and ANYTHING not in (value, other.match[name])
            for name, value in self.match.items()
            if name in other.match
        )

    def without_secret(self, path: str) -> str:
        """The path with the name of the placeholder in the place of the secret."""
        places = {segment for segment, name in self.segments if name == SECRET}
        return "/".join(f"{{{SECRET}}}" if n in places else part for n, part in enumerate(path.split("/")))

    def read(self, path: str, sent: Mapping[str, str]) -> Meaning:
        """The meaning of a path, percent-decoded, and of the parameters by their names, each once."""
        parts = path.split("/")
        told = {name: parts[segment] for segment, name in self.segments}
        secret = told.pop(SECRET, "") or sent.get(self.secret, "")
        if OUR_SECRET not in self.parameters:  # where it means something else
            secret = secret or sent.get(OUR_SECRET, "")
        in_path = {_group(name) for name in told}
        constants = {name: text for name, text in self.constants.items() if _group(name) not in in_path}
        fixed = in_path.union(map(_group, constants))
        for theirs, text in sent.items():
            ours = self.parameters.get(theirs, _LEFT_OUT)
            if ours and _group(ours) not in fixed and not given(told.get(ours, "")):
                told[ours] = text
        status = self._put_ours(told) or constants.get("status")
        return Meaning(told | constants, trim(secret), ConversionStatus(status) if status else None)

    def _put_ours(self, told: dict[str, str]) -> str:
        """Put our words in the place of theirs. Returns the status if it was one of them."""
        ours = {
            name: mapped
            for name, text in told.items()
            if (mapped := self.values.get(_group(name), {}).get(word(given(text))))
        }
        told.update(ours)
        return ours.get("status", "")


class PostbackForms:
    """Finds the form of a postback by a few look-ups, however many forms there are."""

    def __init__(self) -> None:
        self._forms: dict[int, PostbackForm] = {}
        self._by_key: defaultdict[str, list[PostbackForm]] = defaultdict(list)
        self._shapes = Shapes()

    def __iter__(self) -> Iterator[PostbackForm]:
        return iter(self._forms.values())

    def put(self, id_: int, row: Mapping[str, Any] | None) -> None:
        """Replace one form by its row of postback_form. None removes it.

        Raises:
            WrongForm: the row is wrong, as the text says. No form has this id now.
        """
        old = self._forms.pop(id_, None)
        if old is not None:
            self._by_key[old.key].remove(old)
            if not self._by_key[old.key]:
                del self._by_key[old.key]
        if row is not None:
            form = self._forms[id_] = compiled(id_, row)
            self._shapes.add(form.key, tuple(segment for segment, _ in form.segments))
            forms = self._by_key[form.key]
            forms.append(form)
            # A form of its host goes first, then one that asks for more.
            forms.sort(key=lambda form: (form.host == ANY_HOST, *(-n for n in form.rank), form.id))

    def claims(self, path: str) -> bool:
        """Whether a form of any host has this path, percent-decoded, for some query."""
        return bool(self._by_key) and any(key in self._by_key for key in self._shapes.keys(path))

    def find(self, host: str, path: str, query: bytes) -> PostbackForm | None:
        """The form of a request. A form with more fixed segments goes first."""
        if not self.claims(path):
            return None
        host = plain_host(host)
        of_path = [form for key in self._shapes.keys(path) for form in self._by_key.get(key, ())]
        names = frozenset(name for form in of_path for name in form.match)
        first = by_name(pairs(query), names) if names else {}
        for form in of_path:
            if form.host in (host, ANY_HOST) and form.matches(first):
                return form
        return None


def by_name(sent: Collection[tuple[str, str]], known: Collection[str]) -> dict[str, str]:
    """The first of repeated parameters. Unknown names are looked up without a leading `amp;` too."""
    first: dict[str, str] = {}
    for name, text in sent:
        first.setdefault(name, text)
    for name in [name for name in first if name not in known]:
        plain = ESCAPED_MARKS.sub("", name)
        if plain in known and plain != name:
            text = first.pop(name)
            first.setdefault(plain, text)
    return first


def compiled(id_: int, row: Mapping[str, Any]) -> PostbackForm:
    """A form from its row.

    Raises:
        WrongForm: it cannot be used.
    """
    host = _read("host", read_host, row["host"])
    match = _match(row["match"])
    key, segments = _path(row["path"], has_match=bool(match))
    in_path = [name for _, name in segments]
    constants = _constants(row["constants"])
    return PostbackForm(
        id_,
        row["name"],
        key,
        host,
        match,
        segments,
        _parameters(row["parameters"]),
        constants,
        _values(row["values"]),
        _secret(row["secret"], row["parameters"], in_path),
        row["advertiser_id"],
        row["source"] or "",
    )


def _group(name: str) -> str:
    """One of the names that mean the same."""
    return _GROUPS.get(name, name)


def _read(field: str, read: Callable[[Any], Any], value: object) -> Any:
    try:
        return read(value)
    except ValueError as error:
        raise WrongForm(field, str(error)) from None


def _path(raw: str, *, has_match: bool) -> tuple[str, tuple[tuple[int, str], ...]]:
    key, places = _read("path", lambda path: read_path(path, _PLACES), raw)
    segments = tuple((segment, _BY_PLACE[place]) for segment, place in places)
    if len({_group(name) for _, name in segments}) < len(segments):
        raise WrongForm("path", f"{raw!r} has two placeholders of one meaning")
    fixed = key.count("/") - len(segments) if key else 0
    if fixed == 0 and (segments or not has_match):
        why = "needs a match, because it is any site's first page" if not segments else "has no fixed segment"
        raise WrongForm("path", f"{raw!r} {why}")
    return key, segments


def _match(match: object) -> dict[str, str]:
    texts = {name: _text("match", name, value) for name, value in _object("match", match, MAX_MATCH).items()}
    for name, text in texts.items():
        if trim(text) != text or not text:
            raise WrongForm("match", f"{name}: needs a value without blanks around it, or {ANYTHING}")
    return texts


def _parameters(parameters: object) -> dict[str, str]:
    known = _object("parameters", parameters, MAX_NAMES)
    for theirs, ours in known.items():
        if ours != _LEFT_OUT and (not isinstance(ours, str) or ours not in PARAMETERS):
            one_of = ", ".join(sorted(PARAMETERS))
            raise WrongForm("parameters", f"{theirs}: {ours!r} is not one of {one_of}")
    return {name: name for name in PARAMETERS} | dict(known)


def _constants(constants: object) -> dict[str, str]:
    known = _object("constants", constants, MAX_NAMES)
    texts = {name: _text("constants", name, value) for name, value in known.items()}
    for name, text in texts.items():
        if name not in _CONSTANTS:
            raise WrongForm("constants", f"{name!r} is not one of {', '.join(sorted(_CONSTANTS))}")
        _check("constants", name, name, text)
    if len({_group(name) for name in texts}) < len(texts):
        raise WrongForm("constants", "has two names of the goal")
    return texts


def _values(values: object) -> dict[str, dict[str, str]]:
    """By the first of the names that mean the same."""
    maps: dict[str, dict[str, str]] = {}
    for name, known in _object("values", values, MAX_NAMES).items():
        if name not in _VALUES:
            raise WrongForm("values", f"{name!r} is not one of {', '.join(sorted(_VALUES))}")
        if _group(name) in maps:
            raise WrongForm("values", "has two names of the goal")
        texts = {
            word(theirs): _text("values", f"{name}.{theirs}", ours)
            for theirs, ours in _object(f"values.{name}", known, MAX_VALUES).items()
        }
        for theirs, ours in texts.items():
            if not given(theirs):
                raise WrongForm("values", f"{name}: {theirs!r} is read as a missing value")
            _check("values", f"{name}.{theirs}", name, ours)
        maps[_group(name)] = texts
    return maps


def _check(field: str, place: str, name: str, text: str) -> None:
    """See that a text can be the value of one of our parameters."""
    if name == "status" and text not in STATUSES:
        raise WrongForm(field, f"{place}: {text!r} is not one of {', '.join(ConversionStatus)}")
    if name == "currency":
        _read(field, read_currency, text)
    if name in _AMOUNTS:
        _read(field, amount, text)
    if not given(text):
        raise WrongForm(field, f"{place}: {text!r} is read as a missing value")


def _secret(secret: str | None, parameters: Mapping[str, object], in_path: Collection[str]) -> str:
    """Their name of the secret's parameter. "" if the path has the secret, or nothing has it."""
    if secret == f"{{{SECRET}}}":
        secret = None
        if SECRET not in in_path:
            raise WrongForm("secret", f"the path has no {{{SECRET}}}")
    elif secret and SECRET in in_path:
        raise WrongForm("secret", f"the path has the secret: leave it out, or write {{{SECRET}}}")
    if secret and secret in parameters:
        raise WrongForm("secret", f"{secret!r} is in parameters, too")
    return secret or ""


def _object(field: str, value: object, most: int) -> Mapping[str, Any]:
    outer = field.partition(".")[0]
    if not isinstance(value, Mapping):
        raise WrongForm(outer, f"{field} is not an object")
    if len(value) > most:
        raise WrongForm(outer, f"{field} has more than {most} names")
    for name in value:
        if not name or len(name) > MAX_VALUE:
            raise WrongForm(outer, f"{field}: a name has 1 to {MAX_VALUE} characters")
    return value


def _text(field: str, name: str, value: object) -> str:
    text = str(value) if isinstance(value, int | str) and not isinstance(value, bool) else None
    if text is None or crop(text, MAX_VALUE) != text:
        raise WrongForm(field, f"{name}: needs text of at most {MAX_VALUE} characters")
    return text
