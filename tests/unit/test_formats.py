"""Words on formats: which version an edge may write, and what the doctor says of it."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from tracker.ops.doctor.formats import findings
from tracker.stream.formats import WORD, Word, Worker, writable
from tracker.stream.record import NEWEST, OLDEST, VERSIONS

FORMER = Word.read("")
LATER = Word((NEWEST, NEWEST + 1), (1, 2))
NEW, OLD, NEXT = (Worker(0, str(n), word) for n, word in enumerate((WORD, FORMER, LATER)))
ELSEWHERE = NEW._replace(partition=1)


@pytest.mark.parametrize(
    ("text", "word"),
    [
        (str(WORD), WORD),
        ("0123456789abcdef clicks=1,2 postbacks=1", Word((1, 2), (1,))),
        ("0123456789abcdef", Word((1,), (1,))),
        ("", Word((1,), (1,))),
        ("postbacks=1,2 views=9 clicks=2,3", Word((2, 3), (1, 2))),
        ("clicks=1,x,3 postbacks=", Word((1, 3), ())),
        ("clicks=2 postbacks=1 process=0a rival=1b", Word((2,), (1,), "0a", "1b")),
    ],
)
def test_word_is_read_as_it_was_said(text: str, word: Word) -> None:
    assert Word.read(text) == word


@pytest.mark.parametrize(
    ("workers", "partitions", "version"),
    [
        ([], 1, OLDEST),
        ([NEW], 1, NEWEST),
        ([OLD], 1, OLDEST),
        ([NEW, OLD], 1, OLDEST),
        ([NEW, NEXT], 1, NEWEST),
        ([OLD, NEXT], 1, OLDEST),
        ([NEW], 2, OLDEST),  # nobody reads the second partition now
        ([NEW, ELSEWHERE], 2, NEWEST),
        ([NEW, ELSEWHERE._replace(word=FORMER)], 2, OLDEST),
    ],
)
def test_edge_writes_what_every_live_worker_reads(
    workers: list[Worker], partitions: int, version: int
) -> None:
    assert writable(workers, partitions) == version


def word(*clicks: int) -> Word:
    return WORD._replace(clicks=clicks)


@pytest.mark.parametrize(
    ("workers", "edges", "lines"),
    [
        ([NEW], {"0/a": word(NEWEST)}, [("ok", f"all workers and edges know clicks of version {NEWEST}")]),
        ([], {"0/a": word(OLDEST)}, [("ok", f"no worker runs: edges write clicks of version {OLDEST}")]),
        ([NEW, OLD, OLD], {"0/a": word(OLDEST)}, [("warn", "workers of a former release: 1. Edges write")]),
        ([NEW], {"0/a": None, "1/b": word(NEWEST)}, [("warn", "edges of a former release: 0/a. They write")]),
        (
            [OLD],
            {"0/a": word(NEWEST)},
            [("fail", "edge 0/a writes clicks that worker 1 cannot read"), ("warn", "workers of a former")],
        ),
    ],
)
def test_doctor_names_those_that_differ(
    workers: list[Worker], edges: Mapping[str, Word | None], lines: list[tuple[str, str]]
) -> None:
    found = findings(workers, edges)
    assert [finding.level for finding in found] == [level for level, _ in lines]
    for finding, (level, text) in zip(found, lines, strict=True):
        assert finding.text.startswith(text)
        assert bool(finding.advice) == (level != "ok")


def test_word_names_the_versions_of_this_release() -> None:
    assert tuple(WORD.clicks) == VERSIONS
    assert str(WORD) == "clicks=1,2 postbacks=1,2"
