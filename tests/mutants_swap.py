"""Another code for functions that are loaded: in their place, so that whoever holds them runs it."""

from __future__ import annotations

import ast
import gc
import importlib
import sys
from functools import cache
from types import FunctionType, ModuleType
from typing import Any

PLAIN = (int, float, str, tuple, frozenset, bool, type(None))


def swap(name: str, source: str) -> None:
    """Put what ``source`` defines into the module of that name."""
    module = importlib.import_module(name)
    fresh = ModuleType(name)
    fresh.__dict__.update({key: vars(module)[key] for key in ("__file__", "__package__", "__spec__", "__loader__")})
    exec(compile(source, str(module.__file__), "exec"), fresh.__dict__)
    seen: set[int] = set()
    for key, new in vars(fresh).items():
        old = vars(module).get(key)
        if key.startswith("__") or old is None:
            continue
        if isinstance(old, PLAIN) and old != new:
            for other in list(sys.modules.values()):
                if vars(other).get(key) is old if hasattr(other, "__dict__") else False:
                    setattr(other, key, new)
            if isinstance(old, tuple):  # other constants are shared with who knows whom
                _as_default(old, new)
        elif getattr(new, "__module__", name) == name:
            _replace(old, new, seen)


def _replace(old: Any, new: Any, seen: set[int]) -> None:
    if id(old) in seen or old is new:
        return
    seen.add(id(old))
    if isinstance(old, FunctionType) and isinstance(new, FunctionType):
        if len(old.__code__.co_freevars) == len(new.__code__.co_freevars):
            old.__code__ = new.__code__
        old.__defaults__, old.__kwdefaults__ = new.__defaults__, new.__kwdefaults__
    for part in ("__func__", "__wrapped__", "fget", "fset", "func"):
        if hasattr(old, part) and hasattr(new, part):
            _replace(getattr(old, part), getattr(new, part), seen)
    if isinstance(old, type) or type(old).__module__.startswith("langchain_costguard"):
        others = _parts(new)
        for key, each in _parts(old).items():
            if key in others and isinstance(old, type) and isinstance(each, PLAIN) and not key.startswith("__"):
                setattr(old, key, others[key])
            elif key in others and not key.startswith("__doc"):
                _replace(each, others[key], seen)


def _as_default(old: Any, new: Any) -> None:
    """What functions of ours take where nothing is given."""
    for each in functions():
        if any(value is old for value in each.__defaults__ or ()):
            each.__defaults__ = tuple(new if value is old else value for value in each.__defaults__ or ())
        named = each.__kwdefaults__ or {}
        if any(value is old for value in named.values()):
            each.__kwdefaults__ = {key: new if value is old else value for key, value in named.items()}


@cache
def functions() -> list[FunctionType]:
    """Ours that are loaded: to be asked for before ``gc.freeze`` hides them."""
    found = [each for each in gc.get_objects() if isinstance(each, FunctionType)]
    return [each for each in found if (each.__module__ or "").startswith("langchain_costguard")]


def _parts(owner: Any) -> dict[str, Any]:
    slots = {key: getattr(owner, key, None) for key in getattr(type(owner), "__slots__", ())}
    return {**slots, **getattr(owner, "__dict__", {})}


def statement(text: str, line: int) -> range:
    """The lines of the statement that a line is part of; of one with a body, those before it."""
    best = range(line, line + 1)
    for node in _statements(text):
        body = getattr(node, "body", None)
        end = body[0].lineno - 1 if isinstance(body, list) and body else node.end_lineno or node.lineno
        if node.lineno <= line <= max(end, node.lineno):
            best = range(node.lineno, max(end, node.lineno) + 1)
    return best


def in_function(text: str, line: int) -> bool:
    """Whether a line is in the body of a function."""
    functions = (node for node in _statements(text) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))
    return any(node.body[0].lineno <= line <= (node.end_lineno or 0) for node in functions)


@cache
def _statements(text: str) -> list[ast.stmt]:
    return [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.stmt)]
