"""The parameters of the ledger."""

from __future__ import annotations

from pydantic import Field

from tracker.domain.local_time import first_second, last_second
from tracker.ops import ledger
from tracker.parameters import From, ParameterError, To
from tracker.reading.query import ZoneQuery


class LedgerQuery(ZoneQuery):
    """Which minutes."""

    from_: From = Field(
        None,
        alias="from",
        description="The first minute, as local time. Default: an hour before `to`.",
    )
    to: To = Field(None, description="The last minute, as local time, inclusive. Default: now.")

    def minutes(self, network_zone: str, now: float) -> range:
        """The minutes that are meant.

        Raises:
            ParameterError: there are none, or too many.
        """
        zone = self.zone(network_zone)
        end = int(now) if self.to is None else last_second(self.to, zone)
        start = end - 3600 if self.from_ is None else first_second(self.from_, zone)
        try:
            return ledger.minutes_between(start, end)
        except ValueError as error:
            raise ParameterError({"from": [str(error)]}) from None
