"""Models that are made when they are first needed: by a request, or by the document.

A start of the API would make two hundred of them. That was a fifth of it.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial, wraps
from typing import ParamSpec, TypeVar

from pydantic import BaseModel

Parameters = ParamSpec("Parameters")
SomeModel = TypeVar("SomeModel", bound=BaseModel)
Later = type[SomeModel] | Callable[[], type[SomeModel]]
"""A model, or what makes it."""


def made_later(
    make: Callable[Parameters, type[SomeModel]],
) -> Callable[Parameters, Callable[[], type[SomeModel]]]:
    """Let a function return what makes its model, instead of the model. It is made once."""

    @wraps(make)
    def later(*values: Parameters.args, **named: Parameters.kwargs) -> Callable[[], type[SomeModel]]:
        return cache(partial(make, *values, **named))

    return later


def model_of(model: Later[SomeModel]) -> type[SomeModel]:
    """The model itself."""
    return model if isinstance(model, type) else model()
