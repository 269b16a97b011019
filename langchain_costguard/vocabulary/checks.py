"""What an argument may be: one sentence for each mistake, with the field, the value and what to give instead."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Collection, Mapping
from typing import Any

_NAME_MAX = 255
"""Bytes in a file's name, on the file systems of today."""


def is_text(value: Any) -> bool:
    """Whether it is a text with something in it."""
    return isinstance(value, str) and bool(value)


def kind(value: Any) -> str:
    """What was given, in few words: a plain value itself, of anything else its class."""
    plain = value is None or isinstance(value, (str, bytes, int, float, type))
    return repr(value) if plain else f"a {type(value).__name__}"


def listed(field: str, value: Any, what: str, each: Callable[[Any], bool] = is_text) -> None:
    """Raise unless it is a list (or tuple, or set) of what it has to be: a text alone is none, an iterator is used up
    by looking at it."""
    given = isinstance(value, Collection) and not isinstance(value, (str, bytes, Mapping))
    if not given or not all(map(each, value)):
        raise ValueError(f"{field}: {value!r} must be a list of {what}")


def mapped(field: str, value: Any, what: str) -> None:
    """Raise unless it is a mapping; ``what`` is an example of one."""
    if not isinstance(value, Mapping):
        raise ValueError(f"{field}: {value!r} must be a mapping such as {what}")


def called(field: str, value: Any, what: str = "callable") -> None:
    """Raise unless it can be called and answers at once: nobody here would await a coroutine."""
    if not callable(value):
        raise ValueError(f"{field}: {value!r} must be {what}")
    if inspect.iscoroutinefunction(value) or inspect.iscoroutinefunction(getattr(value, "__call__", None)):  # noqa: B004
        raise ValueError(f"{field}: {value!r} is a coroutine function, which nobody would await; give a plain function")


def timed(field: str, value: Any) -> None:
    """Raise unless it is a clock: a function without arguments that tells seconds."""
    what = "a function that returns seconds, such as time.time"
    called(field, value, what)
    try:
        seconds = value()
    except TypeError:  # it wants arguments
        seconds = None
    if isinstance(seconds, bool) or not isinstance(seconds, (int, float)):
        raise ValueError(f"{field}: {value!r} must be {what}")


def filed(field: str, value: Any, instead: str = "") -> str:
    """The path of a file.

    Raises:
        ValueError: it names none; ``instead`` says what to take where no file is wanted.
    """
    path = os.fspath(value) if isinstance(value, (str, os.PathLike)) else None
    if not isinstance(path, str) or path in ("", ":memory:") or "\0" in path:
        raise ValueError(f"{field}: {value!r} names no file{instead and f'; {instead}'}")
    try:
        longest = max(map(len, os.fsencode(path).split(os.sep.encode())))
    except UnicodeError:
        raise ValueError(f"{field}: {value!r} cannot be the name of a file") from None
    if longest > _NAME_MAX:
        raise ValueError(f"{field}: {value!r} has a name of {longest} bytes; {_NAME_MAX} are the most")
    return path
