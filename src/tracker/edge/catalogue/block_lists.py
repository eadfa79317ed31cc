"""Block lists: unwanted sources, subs and addresses of an offer, an affiliate or the network."""

from __future__ import annotations

from collections import Counter
from typing import Any, NamedTuple

from tracker.domain.model import Click, Reason
from tracker.edge.catalogue.networks import Networks

_SUBS = {"aff_sub": 0} | {f"aff_sub{n + 1}": n for n in range(1, 20)}

Row = dict[str, Any]


class _Place(NamedTuple):
    offer_id: int  # 0 = any
    affiliate_id: int  # 0 = any


class _Unwanted:
    """The blocked values of one offer, affiliate or pair."""

    def __init__(self) -> None:
        self.sources: Counter[str] = Counter()  # by number of rows: two rows may have the same value
        self.subs: Counter[tuple[int, str]] = Counter()
        self.networks = Networks()

    def change(self, field: str, value: str, by: int) -> None:
        if field == "ip":
            (self.networks.add if by > 0 else self.networks.discard)(value)
            return
        counted, key = (self.sources, value) if field == "source" else (self.subs, (_SUBS[field], value))
        counted[key] += by  # type: ignore[index]
        if not counted[key]:  # type: ignore[index]
            del counted[key]

    def __bool__(self) -> bool:
        return bool(self.sources or self.subs or self.networks)

    def reason(self, click: Click) -> Reason:
        link = click.link
        if link.source in self.sources:
            return Reason.SOURCE_BLOCKED
        if self.subs and any((n, sub) in self.subs for n, sub in enumerate(link.aff_subs) if sub):
            return Reason.SUB_BLOCKED
        if self.networks and self.networks.find(click.visitor.ip):
            return Reason.IP_BLOCKED
        return Reason.NONE


class BlockList:
    def __init__(self) -> None:
        self._places: dict[_Place, _Unwanted] = {}
        self._rows: dict[int, Row] = {}

    def put(self, id_: int, row: Row | None) -> None:
        """Replace one row. None removes it.

        Raises:
            ValueError: a malformed address. Nothing of that row is left.
        """
        old = self._rows.pop(id_, None)
        if old:
            self._change(old, -1)
        if row:
            self._change(row, +1)
            self._rows[id_] = row

    def _change(self, row: Row, by: int) -> None:
        place = _Place(row["offer_id"] or 0, row["affiliate_id"] or 0)
        unwanted = self._places.setdefault(place, _Unwanted())
        try:
            unwanted.change(row["field"], row["value"], by)
        finally:
            if not unwanted:
                del self._places[place]

    def __len__(self) -> int:
        """The number of offers, affiliates and pairs with blocked values: 0 in most networks."""
        return len(self._places)

    def reason(self, click: Click, offer_id: int) -> Reason:
        """The reason why a click is blocked at an offer. NONE if it is not."""
        affiliate_id = click.affiliate.id
        for place in ((offer_id, affiliate_id), (offer_id, 0), (0, affiliate_id), (0, 0)):
            unwanted = self._places.get(place)  # type: ignore[call-overload]
            if unwanted and (reason := unwanted.reason(click)):
                return Reason(reason)
        return Reason.NONE
