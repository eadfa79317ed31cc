"""The hosts of tracking links."""

from __future__ import annotations

from typing import Any


def plain_host(host: str) -> str:
    """A Host header or domain as hosts are compared: lower case, without port and final dot."""
    name, colon, port = host.rpartition(":")
    bare = name if colon and (port.isdigit() or not port) else host
    return bare.lower().removesuffix(".")


class TrackingHosts:
    """Answers a TLS proxy that asks whether to get a certificate for a domain."""

    def __init__(self) -> None:
        self._served: set[str] = set()

    def put(self, host: str, row: dict[str, Any] | None) -> None:
        """Replace one host by its row of tracking_host. None removes it."""
        if row is None or row["status"] == "retired":
            self._served.discard(host)
        else:
            self._served.add(host)

    def serves(self, domain: str) -> bool:
        """Whether the domain is one of ours. A burned one is: live ads still lead to it."""
        return plain_host(domain) in self._served
