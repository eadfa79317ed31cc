"""edge/http rests on private parts of uvicorn: another version has to be compared before it is used."""

from __future__ import annotations

import tomllib
from importlib.metadata import version
from pathlib import Path

COMPARED = "0.54.0"
"""The version whose httptools_impl.py was compared with the list at the top of edge/http/fast_path.py."""
ADVICE = (
    f"edge/http rests on private parts of uvicorn {COMPARED}. Compare the httptools_impl.py of the other "
    "version with the list at the top of edge/http/fast_path.py, and run `make fuzz`. "
    "Then change COMPARED and pyproject.toml."
)


def test_uvicorn_is_the_version_that_was_compared() -> None:
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
    assert f"uvicorn=={COMPARED}" in project["dependencies"], ADVICE
    assert version("uvicorn") == COMPARED, ADVICE
