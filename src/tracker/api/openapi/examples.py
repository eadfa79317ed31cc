"""Examples of bodies for the API's document, made from the examples of their fields."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Schema = Mapping[str, Any]

_SIMPLEST = {"string": "", "integer": 1, "number": 1, "boolean": True, "null": None}


def example(schema: Schema, named: Mapping[str, Schema]) -> Any:
    """A value that a schema allows, its own example first. `named` has the schemas of its references."""
    if "$ref" in schema:
        return example(named[schema["$ref"].rpartition("/")[2]], named)
    if schema.get("examples"):
        return schema["examples"][0]
    if "default" in schema:
        return schema["default"]
    choices = schema.get("anyOf") or schema.get("oneOf") or schema.get("allOf")
    if choices:
        return example(choices[0], named)
    if "const" in schema or "enum" in schema:
        return schema["const"] if "const" in schema else schema["enum"][0]
    return _of_type(schema, named)


def _of_type(schema: Schema, named: Mapping[str, Schema]) -> Any:
    if "properties" in schema:
        return _of_object(schema, named)
    type_ = schema.get("type", "object")
    if type_ == "array":
        return [example(schema["items"], named)]
    if type_ == "object":
        return {}
    if type_ == "integer" and "minimum" in schema:
        return schema["minimum"]
    return _SIMPLEST[type_ if isinstance(type_, str) else type_[0]]


def _of_object(schema: Schema, named: Mapping[str, Schema]) -> dict[str, Any]:
    """The required fields and those with a default. An object without any, a patch, gets its first."""
    fields, required = schema["properties"], schema.get("required", ())
    shown = {
        name: field["default"] if "default" in field else example(field, named)
        for name, field in fields.items()
        if name in required or "default" in field
    }
    return shown or {name: example(field, named) for name, field in list(fields.items())[:1]}
