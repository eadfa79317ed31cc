"""The events of the log, as its calls in the sources name them. Prints the table of the logs page."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
_LEVELS = {
    "info": "info",
    "warning": "warning",
    "error": "error",
    "exception": "error",
    "critical": "critical",
}


class Event(NamedTuple):
    """A kind of log line. `message` has a place `{field}` for each field that it shows."""

    name: str
    level: str
    fields: tuple[str, ...]
    message: str
    where: str


def events() -> list[Event]:
    """Every log call, by name. Calls that cannot be read have no name."""
    paths = [path for folder in ("src/tracker", "workers") for path in sorted((ROOT / folder).rglob("*.py"))]
    return sorted(event for path in paths for event in _of(path))


def table() -> str:
    """The page's table."""
    seen = {(event.name, event.level, event.fields, event.message): event for event in events()}.values()
    rows = [
        f"| `{event.name}` | {event.level} | {', '.join(f'`{field}`' for field in event.fields)} "
        f"| {event.message.replace('|', '&#124;')} |"
        for event in seen
    ]
    return "\n".join(["| event | level | fields | message |", "|---|---|---|---|", *rows])


def _of(path: Path) -> Iterator[Event]:
    tree = ast.parse(path.read_text())
    texts = {
        node.targets[0].id: node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name)
    }
    for call in filter(_is_log_call, ast.walk(tree)):
        assert isinstance(call, ast.Call)
        assert isinstance(call.func, ast.Attribute)
        template, *arguments = call.args
        if isinstance(template, ast.Name):
            template = texts.get(template.id, template)
        fields = _fields(arguments)
        yield Event(
            fields.pop("event", ""),
            _LEVELS[call.func.attr],
            tuple(fields),
            _message(template),
            f"{path.relative_to(ROOT)}:{call.lineno}",
        )


def _is_log_call(node: ast.AST) -> bool:
    return (
        isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr in _LEVELS
        and ast.unparse(node.func.value).split(".")[-1] in ("logger", "_logger", "_log", "logging")
    )


def _fields(arguments: list[ast.expr]) -> dict[str, str]:
    if not (len(arguments) == 1 and isinstance(arguments[0], ast.Dict)):
        return {}
    pairs = zip(arguments[0].keys, arguments[0].values, strict=True)
    return {ast.literal_eval(key): ast.unparse(value).strip("'") for key, value in pairs if key is not None}


def _message(template: ast.expr) -> str:
    if isinstance(template, ast.JoinedStr):
        parts = [
            value.value if isinstance(value, ast.Constant) else "…"
            for value in template.values
            if isinstance(value, ast.Constant | ast.FormattedValue)
        ]
        text = "".join(map(str, parts))
    else:
        text = template.value if isinstance(template, ast.Constant) else "…"
    return re.sub(r"%\((\w+)\)[.\d]*[a-z]", r"{\1}", str(text))


if __name__ == "__main__":
    print(table())
