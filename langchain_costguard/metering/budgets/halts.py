"""What a kill switch's document says: who is to stop, and why, in the forms that the field writes it.

A brake that nobody understands must not look like one that is off: what cannot be read is an error, which the switch
takes for no answer at all.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from difflib import get_close_matches
from typing import Any

ALL = "*"
"""The flag that halts every agent; an agent's own flag is its name."""
STOPPED = "stopped by the kill switch"

_STOPS = frozenset(
    {
        "halt",
        "halted",
        "stop",
        "stopped",
        "kill",
        "killed",
        "disable",
        "disabled",
        "pause",
        "paused",
        "block",
        "blocked",
    }
)
_STOPS_ALL = _STOPS | frozenset(
    {"kill_switch", "killswitch", "emergency_stop", "halt_all", "stop_all", "kill_all", "global", "all"}
)
_NAMES = frozenset(
    ["agents"] + [f"{what}_agents" for what in ("disabled", "halted", "stopped", "killed", "paused", "blocked")]
)
_RUNS = frozenset({"enabled", "active", "running", "allowed"})
_STATES = frozenset({"status", "state"})
_SAYS = ("reason", "message", "why", "note")
_NAME = ("name", "agent", "agent_name", "agent_id", "id")
_BESIDE = frozenset({*_SAYS, *_NAME, "version", "updated_at", "created_at", "timestamp", "since", "by", "updated_by"})
_YES = frozenset({"true", "yes", "on", "1"})
_NO = frozenset({"", "false", "no", "0", "none", "null"})
_GOES = _NO | frozenset({"ok", "active", "running", "enabled", "allowed", "normal", "off"})


def halts_in(answer: Any) -> Mapping[str, str]:
    """Agent name (``"*"`` for all) to reason.

    Understood are: a bool; a reason; names of agents; a mapping of agent to reason, bool or its state
    (``{"halted": true, "reason": ...}``, ``{"enabled": false}``); a document with a stop for all (``kill_switch``,
    ``global``, ``halt_all``, ...) and agents (``disabled_agents``, ``agents``, ...) as names, mappings or objects.

    Raises:
        TypeError: it is none of these.
    """
    if isinstance(answer, Mapping):
        return dict(_document(answer))
    if isinstance(answer, (list, tuple, set, frozenset)):
        return dict(_listed(answer))
    reason = _stops(answer, STOPPED, _NO)
    return {ALL: reason} if reason else {}


def _document(said: Mapping[Any, Any]) -> Iterator[tuple[str, str]]:
    if _is_state(said):
        if _RUNS.issuperset({str(key).lower() for key in said} - _BESIDE):
            raise TypeError(f"{said!r} does not say whether the switch or the agents are on")
        if reason := _state(said, everyone=True):
            yield ALL, reason
        return
    default = _reason(said)
    for key, value in said.items():
        name = str(key)
        word = name.lower().replace("-", "_")
        if word in _NAMES or (word in _STOPS_ALL and isinstance(value, (list, tuple))):
            yield from _named(value, default)
        elif word in _STOPS_ALL or name == ALL:
            if isinstance(value, Mapping) and not _is_state(value) and value:
                yield from _document(value)
            elif reason := _stops(value, default, _GOES, everyone=True):
                yield ALL, reason
        elif not (word in _BESIDE and _has_stop(said)):
            if word in _RUNS:
                raise TypeError(f"{name!r} does not say of whom")
            if reason := _stops(value, STOPPED, _GOES - {"off"}):
                yield name, reason


def _named(value: Any, default: str) -> Iterator[tuple[str, str]]:
    if isinstance(value, Mapping):
        for name, state in value.items():
            if reason := _stops(state, default, _GOES - {"off"}):
                yield str(name), reason
    elif isinstance(value, (list, tuple)):
        yield from _listed(value, default)
    elif value not in (None, False, ""):
        raise TypeError(f"{value!r} names no agents")


def _listed(said: Any, default: str = STOPPED) -> Iterator[tuple[str, str]]:
    for each in said:
        if isinstance(each, str):
            yield each, default
            continue
        name = next((each[key] for key in _NAME if each.get(key)), None) if isinstance(each, Mapping) else None
        if not isinstance(name, str):
            raise TypeError(f"{each!r} names no agent")
        reason = _state(each) if _is_state(each) else _reason(each, default)
        if reason:
            yield name, reason


def _stops(value: Any, default: str, goes: frozenset[str], *, everyone: bool = False) -> str:
    """Why this says stop; empty where it says go on.

    Raises:
        TypeError: it says neither.
    """
    if isinstance(value, str):
        word = value.strip().lower()
        return "" if word in goes else default if word in _YES else value
    if value is None or value == 0:
        return ""
    if value == 1:
        return default
    if isinstance(value, Mapping) and _is_state(value):
        return _state(value, everyone=everyone)
    raise TypeError(f"{value!r} says neither stop nor go on")


def _is_state(said: Mapping[Any, Any]) -> bool:
    """Whether a mapping is about one thing: nothing in it is the name of an agent."""
    words = {str(key).lower() for key in said}
    telling = words & (_STOPS | _RUNS | _STATES)
    if not telling or not (telling | _BESIDE).issuperset(words):
        return False
    return not any(isinstance(value, (list, Mapping)) for value in said.values())


def _state(said: Mapping[Any, Any], *, everyone: bool = False) -> str:
    """Why this one is stopped. ``enabled`` of a switch means that it stops, of an agent that it does not."""
    reason, stops = _reason(said), False
    for key, value in said.items():
        word = str(key).lower()
        if word in _STATES:
            stops |= bool(_stops(value, reason, _GOES))
        elif word in _STOPS:
            stops |= bool(_stops(value, reason, _NO | {"off"}))
        elif word in _RUNS:
            runs = bool(_stops(value, reason, _NO | {"off"}))
            stops |= runs if everyone else not runs
    return reason if stops else ""


def _has_stop(said: Mapping[Any, Any]) -> bool:
    words = {str(key).lower().replace("-", "_") for key in said}
    return not words.isdisjoint(_STOPS_ALL | _NAMES | {ALL})


def _reason(said: Mapping[Any, Any], default: str = STOPPED) -> str:
    return next((str(said[key]) for key in _SAYS if said.get(key)), default)


def near(name: str, seen: Iterable[str]) -> str:
    """``; did you mean 'research'?`` for a name that nobody has been seen under; empty where none is like it."""
    found = get_close_matches(name, list(seen), n=3)
    return f"; did you mean {' or '.join(map(repr, found))}?" if found else ""
