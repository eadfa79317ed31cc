"""What the sources of compiled modules keep to, so that both forms behave the same (hatch_build.py)."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from hatch_build import MODULES, PACKAGE

COMPILED = [PACKAGE / room / f"{name}.py" for room, names in MODULES.items() for name in names.split()]


@pytest.mark.parametrize("path", COMPILED, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_compiled_module_makes_no_slice_objects(path: Path) -> None:
    """`data[slice_]` raises there: mypyc takes it for an index of bytes, mypy for an item of a tuple."""
    calls = [node for node in ast.walk(ast.parse(path.read_bytes())) if isinstance(node, ast.Call)]
    assert not [call.lineno for call in calls if ast.unparse(call.func) == "slice"]


@pytest.mark.parametrize("path", COMPILED, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_compiled_module_awaits_nothing_in_a_handler(path: Path) -> None:
    """All coroutines of a thread share one handled exception there.

    A coroutine that is paused in `except` or `finally` goes on with another one's exception
    (https://github.com/mypyc/mypyc/issues/1114).
    """
    handlers = [
        statement
        for node in ast.walk(ast.parse(path.read_bytes()))
        if isinstance(node, ast.Try)
        for statement in (*(line for handler in node.handlers for line in handler.body), *node.finalbody)
    ]
    awaits = [node for handler in handlers for node in ast.walk(handler) if isinstance(node, ast.Await)]
    assert not [node.lineno for node in awaits]


@pytest.mark.parametrize("path", COMPILED, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_compiled_module_leaves_no_context_by_an_await(path: Path) -> None:
    """`async with` awaits the context's end in a handler. The end of a timeout never pauses."""
    contexts = [
        item.context_expr
        for node in ast.walk(ast.parse(path.read_bytes()))
        if isinstance(node, ast.AsyncWith)
        for item in node.items
    ]
    never_pause = ("asyncio.timeout(", "asyncio.timeout_at(")
    assert not [context.lineno for context in contexts if not ast.unparse(context).startswith(never_pause)]


@pytest.mark.parametrize("path", COMPILED, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_compiled_module_has_no_asynchronous_generator(path: Path) -> None:
    functions = [
        node for node in ast.walk(ast.parse(path.read_bytes())) if isinstance(node, ast.AsyncFunctionDef)
    ]
    yields = [node for function in functions for node in ast.walk(function) if isinstance(node, ast.Yield)]
    assert not [node.lineno for node in yields]
