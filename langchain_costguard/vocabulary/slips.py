"""Words that people write for others: what they most likely meant, said in the error."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Mapping
from difflib import get_close_matches
from functools import wraps
from typing import Any, TypeVar

T = TypeVar("T", bound=Callable[..., Any])

MEANT: Mapping[str, str] = {
    # values of `per`, `window` and the names of scopes
    "users": "user", "user_id": "user", "customer": "user", "tenant": "user", "tenant_id": "user",
    "sessions": "session", "session_id": "session", "thread": "session", "thread_id": "session",
    "conversation": "session", "conversation_id": "session", "chat": "session",
    "agents": "agent", "agent_id": "agent", "agent_name": "agent", "node": "step", "nodes": "step", "steps": "step",
    "run": "trace", "run_id": "trace", "trace_id": "trace", "request": "trace", "total": "all", "global": "all",
    "process": "all", "models": "model", "features": "feature", "tasks": "task", "calls": "call",
    "hourly": "hour", "1h": "hour", "60m": "hour", "daily": "day", "24h": "day", "1d": "day", "today": "day",
    "weekly": "week", "7d": "week", "1w": "week", "monthly": "month", "30d": "month", "1m": "month",
}  # fmt: skip
"""Other words for values: what they are here, where that is one of those asked for."""


def near(word: object, known: Collection[str]) -> str | None:
    """The known word that another one most likely stands for."""
    if not isinstance(word, str):
        return None
    text = word.strip().lower().replace("-", "_")
    if text in known:
        return text
    meant = MEANT.get(text)
    if meant in known:
        return meant
    close = get_close_matches(text, known, n=1)
    return close[0] if close else None


def hint(word: object, known: Collection[str], *, quoted: bool = True) -> str:
    """``; did you mean 'day'?``, or nothing."""
    found = near(word, known)
    if found is None or found == word:
        return ""
    return f"; did you mean {found!r}?" if quoted else f"; did you mean {found}?"


def forgiving(**meant: str) -> Callable[[T], T]:
    """Have a class or function tell a person what to write for an argument that it does not have.

    ``meant`` says it for words that people use: ``threshold="failures=3"``. For others the nearest name is found.
    """

    def of(target: T) -> T:
        if isinstance(target, type):
            target.__init__ = _checked(target.__init__, target.__name__, meant)  # type: ignore[misc]
            return target
        made: T = _checked(target, target.__name__, meant)
        return made

    return of


def _checked(function: Any, name: str, meant: Mapping[str, str]) -> Any:
    known = [
        parameter.name
        for parameter in inspect.signature(function).parameters.values()
        if parameter.kind in (parameter.KEYWORD_ONLY, parameter.POSITIONAL_OR_KEYWORD) and parameter.name != "self"
    ]

    @wraps(function)
    def checked(*args: Any, **fields: Any) -> Any:
        for field in fields:
            if field not in known:
                raise ValueError(unknown(name, field, fields[field], known, meant))
        return function(*args, **fields)

    return checked


def unknown(name: str, field: str, value: object, known: Collection[str], meant: Mapping[str, str]) -> str:
    """The sentence for an argument that ``name`` does not have."""
    remedy = f"; write {meant[field]}" if field in meant else hint(field, known, quoted=False)
    return f"{field}={value!r}: {name} has no {field!r}{remedy or f'; it has {_listed(known)}'}"


def _listed(known: Collection[str]) -> str:
    return ", ".join(known)
