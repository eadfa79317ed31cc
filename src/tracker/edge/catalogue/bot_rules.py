"""The operator's own rules for bots."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from tracker.edge.catalogue.networks import Networks
from tracker.edge.enrich.bots import CACHE_SIZE, MAX_NAME, MAX_REASON, is_human, well_formed


class OperatorBots:
    """The operator's own rules (the catalogue's table bot_rule): parts of User-Agents, and networks."""

    def __init__(self) -> None:
        self.is_empty = True
        self._rules: dict[int, tuple[str, str]] = {}
        self._parts: dict[str, str] = {}  # in lower case → as the operator wrote it
        self._networks = Networks()
        self._user_agent_again = lru_cache(CACHE_SIZE)(self._by_user_agent)

    def put(self, id_: int, row: dict[str, Any] | None) -> None:
        """Replace one rule. None removes it.

        Raises:
            ValueError: a wrong field or value. No rule has this id now.
        """
        rule = (row["field"], row["value"]) if row is not None else None
        if rule != self._rules.get(id_):
            self._remove(id_)
            if rule is not None:
                self._add(id_, *rule)
        self.is_empty = not self._rules

    def reason(self, user_agent: str, ip: str) -> str | None:
        """The rule by which the visitor is a bot. None for people.

        humans.txt wins over a part of a User-Agent. It does not win over a network: networks are for bots
        with the User-Agents of people. `ip`: "", or as edge.read.client_address.plain_address returns it.
        """
        if self._networks and (network := self._networks.find(ip)):
            return f"operator: network {network}"
        return self._user_agent_again(user_agent) if self._parts else None

    def _by_user_agent(self, user_agent: str) -> str | None:
        lowered = user_agent.lower()
        for part, written in self._parts.items():
            if part in lowered:
                human = is_human(well_formed(user_agent))
                return None if human else f"operator: user agent {written}"[:MAX_REASON]
        return None

    def _add(self, id_: int, field: str, value: str) -> None:
        if field == "ip":
            self._networks.add(value)
        elif field != "user_agent":
            raise ValueError(f"a bot rule is on user_agent or ip, not on {field[:MAX_NAME]!r}")
        elif not value.strip():
            raise ValueError("a bot rule on user_agent needs the part of it to look for")
        else:
            self._parts[value.lower()] = value
            self._user_agent_again.cache_clear()
        self._rules[id_] = field, value

    def _remove(self, id_: int) -> None:
        field, value = self._rules.pop(id_, ("", ""))
        if field == "ip":
            self._networks.discard(value)
        elif field == "user_agent":
            parts = [text for of, text in self._rules.values() if of == field]  # others may be the same
            self._parts = {text.lower(): text for text in parts}
            self._user_agent_again.cache_clear()
