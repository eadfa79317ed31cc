"""The table of roles in the docs, made from the code: `python -m tests.docs.roles` prints it."""

from __future__ import annotations

from collections.abc import Iterator

from tracker.domain.access import ROLES, Rights, every_rights


def table() -> str:
    """The table in Markdown. A line for each role and kind of owner."""
    return "\n".join(["| role | owners | scopes | sees |", "|---|---|---|---|", *_lines()])


def _lines() -> Iterator[str]:
    for rights in every_rights():
        if rights.hides_money:
            continue
        who = f"`{rights.role}`: {ROLES[rights.role].about}"
        yield f"| {' | '.join((who, _owners(rights), _scopes(rights), _sight(rights)))} |"


def _owners(rights: Rights) -> str:
    return f"some {rights.owner}s" if rights.owner else "none"


def _scopes(rights: Rights) -> str:
    return ", ".join(f"`{scope}`" for scope in rights.scopes)


def _sight(rights: Rights) -> str:
    seen = f"their rows, with the columns of {rights.owner}s" if rights.owner else "all rows"
    return f"{seen}. Money may be hidden" if ROLES[rights.role].may_hide_money else seen


if __name__ == "__main__":
    print(table())
