"""What the files of deploy/ have in common."""

from __future__ import annotations

from pathlib import Path

from tracker.release import version

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
IMAGE = f"tracker:{version()}"


def is_pinned(image: str) -> bool:
    """Whether an image has a tag that names a version, and no registry: operators choose theirs."""
    name, _, tag = image.rpartition(":")
    return bool(name) and "." not in name.split("/")[0] and any(letter.isdigit() for letter in tag)
