"""Files in the shape of a platform are read by its preset as the same rows in our own shape.

The files have the names of the platform's page, and invented values. `ours` has their rows by our names.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC
from pathlib import Path
from typing import Any

import pytest

from tracker.domain.csv_rows import Columns
from tracker.domain.postback import DEFAULT_WORDS
from tracker.importing import clicks, conversions, presets
from tracker.importing.clicks import ClickReader
from tracker.importing.conversions import ConversionReader
from tracker.importing.files import RowFile
from tracker.importing.meaning import Meaning, translated
from tracker.store.imports.progress import Known, KnownOffer

FILES = Path(__file__).parents[1] / "data" / "presets"
SAMPLES = sorted(path for path in FILES.glob("*/*.*") if path.stem in ("clicks", "conversions"))
KNOWN = Known({3: KnownOffer(7, None), 4: KnownOffer(7, None)}, {5: None})
REQUIRED = {"clicks": clicks.REQUIRED, "conversions": conversions.REQUIRED}


def _reader(kind: str, source: str) -> ClickReader | ConversionReader:
    if kind == "clicks":
        return ClickReader.of(source, UTC, KNOWN)
    return ConversionReader.of(source, UTC, DEFAULT_WORDS)


def _read(path: Path, kind: str, source: str, meaning: Meaning) -> Iterator[Any]:
    reader = _reader(kind, source)
    columns = Columns(tuple(reader.readers), REQUIRED[kind], meaning.columns, ignore_rest=meaning.ignore_rest)
    for line in RowFile(path, columns, rows=meaning.rows).lines():
        assert line.error == ""
        # The fields that a row names differ: a sample may have empty ones, and ours another order.
        yield reader.read(translated(line.fields, meaning.translation))._replace(named=())


@pytest.mark.parametrize("path", SAMPLES, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_a_sample_is_read_as_our_own_rows(path: Path) -> None:
    name, kind = path.parent.name, path.stem
    found = [*_read(path, kind, name, presets.load(name).rows(kind))]
    assert len(found) == 2
    assert found == [*_read(path.parent / "ours" / f"{kind}.csv", kind, name, Meaning())]


def test_each_part_with_rows_has_a_sample() -> None:
    loaded = [presets.load(name) for name in presets.names()]
    parts = {(each.name, part.name) for each in loaded for part in each.parts()}
    rows = {(name, part.rpartition(" ")[2]) for name, part in parts if not part.startswith("forms")}
    assert rows == {(path.parent.name, path.stem) for path in FILES.glob("*/*.*")}
    assert rows == {(path.parents[1].name, path.stem) for path in FILES.glob("*/ours/*")}
