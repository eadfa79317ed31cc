"""`make audit`: compares what is installed with what is pinned, and looks for known weaknesses.

All but the weaknesses are also tests (tests/unit/test_supply.py), because they need no network.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import sysconfig
from base64 import urlsafe_b64encode
from collections.abc import Iterable, Iterator
from importlib.metadata import Distribution, distributions
from pathlib import Path

from license_expression import Licensing
from packaging.utils import canonicalize_name

from sbom import licence_of, pins
from tracker.release import DISTRIBUTION

ROOT = Path(__file__).parents[1]
FILES = ["requirements.txt", "requirements-docs.txt", "requirements-tools.txt", "requirements-runtime.txt"]
UNPINNED = {"pip", DISTRIBUTION}
"""Python brings pip, and the tracker is installed from its sources."""
ALLOWED = {
    *("0BSD", "Apache-2.0", "BSD-2-Clause", "BSD-3-Clause", "ISC", "MIT", "MIT-0", "PSF-2.0", "Unlicense"),
    "MPL-2.0",  # asks for the sources of its own files only, and we change none
    "ZPL-2.1",
}
"""Licences that ask for no more than their text in copies. One more is a decision: add it with its reason."""
_EXPRESSIONS = Licensing()
_AUDITOR = ROOT / "build" / "tools" / "bin" / "pip-audit"


def differences() -> list[str]:
    """What is installed and not pinned, and the other way round. The site's packages are there, or none."""
    there = {canonicalize_name(one.metadata["Name"]): one.version for one in distributions()}
    wanted = {name: pin.version for name, pin in pins(ROOT / FILES[0]).items()}
    of_site = {name: pin.version for name, pin in pins(ROOT / FILES[1]).items()}
    if "zensical" in there:
        wanted |= of_site
    return [
        f"{name}: {there.get(name, 'nothing')} is installed, {wanted.get(name, 'nothing')} is pinned"
        for name in sorted((there.keys() | wanted.keys()) - UNPINNED)
        if there.get(name) != wanted.get(name)
    ]


def changed_files() -> list[str]:
    """Files that differ from the hashes of their package, are missing, or belong to no package."""
    known, changed = set[Path](), []
    for package in distributions():
        for file in package.files or []:
            path = Path(str(file.locate()))
            known.add(path.resolve())
            if file.hash and _hash_of(path, file.hash.mode) != file.hash.value:
                changed.append(f"{path}: not as its package {package.metadata['Name']} has it")
    site = Path(sysconfig.get_path("purelib"))
    strangers = {path for path in site.rglob("*") if path.is_file() and path.suffix != ".pyc"}
    return changed + [f"{path}: of no package" for path in sorted(strangers) if path.resolve() not in known]


def _hash_of(path: Path, mode: str) -> str:
    try:
        digest = hashlib.new(mode, path.read_bytes()).digest()
    except FileNotFoundError:
        return "missing"
    return urlsafe_b64encode(digest).rstrip(b"=").decode()


def refused_licences(packages: Iterable[Distribution] | None = None) -> list[str]:
    """The packages, by default all installed ones, without a known and allowed licence.

    Of alternatives one is enough.
    """
    return [
        f"{package.metadata['Name']}: {licence_of(package) or 'its licence is not known'}"
        for package in packages or distributions()
        if not _is_allowed(package)
    ]


def _is_allowed(package: Distribution) -> bool:
    licence = licence_of(package)
    if licence is None:
        return False
    parsed = _EXPRESSIONS.parse(licence)
    values = {one: _EXPRESSIONS.TRUE if str(one) in ALLOWED else _EXPRESSIONS.FALSE for one in parsed.symbols}
    return bool(parsed.subs(values).simplify() == _EXPRESSIONS.TRUE)


def weaknesses() -> Iterator[str]:
    """Known weaknesses of all pinned packages, by pip-audit.

    Raises:
        LookupError: the list could not be asked about each of them.
    """
    options = ["--disable-pip", "--require-hashes", "--progress-spinner", "off", "--format", "json"]
    words = [
        str(_AUDITOR),
        *options,
        *(word for file in FILES for word in ("--requirement", str(ROOT / file))),
    ]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if not done.stdout:  # it ends with 1 in either case, but prints a result in one only
        raise LookupError(done.stderr.strip().splitlines()[-1])
    packages = json.loads(done.stdout)["dependencies"]
    if skipped := [package["name"] for package in packages if "skip_reason" in package]:
        # It calls this success, and so would find nothing where a package index answers no such questions.
        raise LookupError(f"no answer about {len(skipped)} of {len(packages)} packages, such as {skipped[0]}")
    for package in packages:
        for found in package["vulns"]:
            fixed = ", ".join(found["fix_versions"]) or "no version"
            yield f"{package['name']} {package['version']}: {found['id']}, fixed in {fixed}"


def main() -> int:
    found = [*differences(), *changed_files(), *refused_licences()]
    print("\n".join(found) or "Installed packages are the pinned ones, unchanged, of allowed licences.")
    try:
        known = list(weaknesses())
    except LookupError as error:
        print(f"NOT DONE: known weaknesses could not be looked up: {error}")
        return 2
    print("\n".join(known) or "No pinned package has a known weakness.")
    return int(bool(found or known))


if __name__ == "__main__":
    sys.exit(main())
