"""The release of the tracker that is installed."""

from __future__ import annotations

from importlib.metadata import version as version_of

DISTRIBUTION = "affiliate-click-tracker"
"""The name of the package. The index has another project named tracker."""


def version() -> str:
    """The version of the installed package, such as 1.2.0."""
    return version_of(DISTRIBUTION)
