"""What a kill switch's document says: who is to stop, and why, in the forms that the field writes it.

A brake that nobody understands must not look like one that is off: what cannot be read is an error, which the switch
takes for no answer at all.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from difflib import get_close_matches
from typing import Any

ALL = "*"
"""The flag that halts every agent; an agent's own flag is its name."""
STOPPED = "stopped by the kill switch"

_STOPS = frozenset({
    "halt", "halted", "stop", "stopped", "kill", "killed", "disable", "disabled", "pause", "paused", "block", "blocked",
    "suspend", "suspended",
})  # fmt: skip
_ALL = frozenset(["global", "all", "everything", "killswitch", "shutdown", "emergency", "maintenance"])
"""Words that stop all by themselves: nobody gives them to an agent."""
_BETWEEN = frozenset(
    {"switch", "is", "e", "on", "enabled", "active", "engaged", "mode", "brake", "system", "agents", "globally"}
)
"""Words that stand beside those in a name: ``killSwitchEnabled``, ``stop_all_agents``."""
_RUNS = frozenset({"enabled", "active", "running", "allowed"})
_STATES = frozenset({"status", "state"})
_SWITCHED = _RUNS | _STATES | {"on", "value", "engaged"}
_SAYS = ("reason", "message", "why", "note")
_AGENT = ("agent", "agent_name", "agent_id")
_NAME = ("name", *_AGENT, "id")
_BESIDE = frozenset({*_SAYS, *_NAME, "version", "updated_at", "created_at", "timestamp", "since", "by", "updated_by"})
_AROUND = frozenset({"data", "result", "config", "flags", "settings", "value", "body", "payload"})
_OTHER = _AROUND | frozenset({"error", "errors", "detail", "details", "code", "title", "type", "success", "ok"})
"""Words of an answer that is about something else, such as an error: no agent is called so."""
_YES = frozenset({"true", "yes", "on", "1", "enabled", "active", "engaged", "armed"})
_NO = frozenset({"", "false", "no", "0", "none", "null"})
_OFF = _NO | frozenset({"off", "inactive", "disabled", "disengaged", "disarmed", "ok", "normal", "allowed", "running"})
_GOES = _NO | frozenset({"ok", "active", "running", "enabled", "allowed", "normal"})


def halts_in(answer: Any) -> Mapping[str, str]:
    """Agent name (``"*"`` for all) to reason.

    Understood are: a bool; a reason; names of agents; a mapping of agent to reason, bool or its state
    (``{"halted": true, "reason": ...}``, ``{"enabled": false}``); a document with a stop for all (``kill_switch``,
    ``global``, ``haltAll``, ...) and agents (``disabled_agents``, ``agents``, ...) as names, mappings or objects, also
    within ``data`` or ``config``.

    Raises:
        TypeError: it is none of these.
    """
    if isinstance(answer, Mapping):
        return dict(_document(answer))
    if isinstance(answer, (list, tuple, set, frozenset)):
        return dict(_listed(answer))
    word = answer.strip().lower() if isinstance(answer, str) else ""
    reason = STOPPED if word in ("true", "yes", "on", "1") else _stops(answer, STOPPED, _NO)
    return {ALL: reason} if reason else {}


def _document(said: Mapping[Any, Any]) -> Iterator[tuple[str, str]]:
    words = {str(key).lower() for key in said}
    if words and words <= _BESIDE | _STOPS | _RUNS | _STATES and words & set(_AGENT):
        yield from _listed([said])
        return
    if _is_state(said):
        if words - _BESIDE <= _RUNS:
            raise TypeError(f"{said!r} does not say whether the switch or the agents are on")
        if reason := _state(said):
            yield ALL, reason
        return
    if words and words <= _BESIDE | {"code", "status"}:
        raise TypeError(f"{said!r} says neither who is to stop nor that nobody is")
    default = _reason(said)
    for key, value in said.items():
        name, named, everyone = str(key), _names_agents(key), _stops_all(key)
        if (named and not isinstance(value, bool)) or (everyone and isinstance(value, (list, tuple))):
            yield from _named(value, default)
        elif everyone or name == ALL:
            if isinstance(value, Mapping):
                yield from _switch(value, default)
            elif reason := _stops(value, default, _GOES if name == ALL else _OFF):
                yield ALL, reason
        elif name.lower() in _AROUND and isinstance(value, Mapping):
            yield from _document(value)
        elif name.lower() in _OTHER or (named and value):
            raise TypeError(f"{name!r} is no agent")
        elif name.lower() not in _BESIDE and not named:
            if name.lower() in _RUNS:
                raise TypeError(f"{name!r} does not say of whom")
            if reason := _stops(value, STOPPED, _GOES):
                yield name, reason


def _switch(said: Mapping[Any, Any], default: str) -> Iterator[tuple[str, str]]:
    """What the document of a switch says: whether it is on, and for whom; for all where it names nobody."""
    telling = [value for key, value in said.items() if str(key).lower() in _SWITCHED | _STOPS]
    if not any(isinstance(value, (bool, int, str)) for value in telling):
        yield from _document(said)
        return
    reason = _reason(said, default)
    if any(_stops(value, reason, _OFF) for value in telling):
        named = [halt for key, value in said.items() if _names_agents(key) for halt in _named(value, reason)]
        yield from named or [(ALL, reason)]


def _words(key: Any) -> set[str]:
    """The words of a name: ``killSwitch``, ``kill-switch`` and ``KILL_SWITCH`` are two each."""
    return {word.lower() for word in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[^\W_]+", str(key))}


def _stops_all(key: Any) -> bool:
    words = _words(key)
    return words <= _STOPS | _ALL | _BETWEEN and not words.isdisjoint(_STOPS | _ALL)


def _names_agents(key: Any) -> bool:
    words = _words(key)
    return "agents" in words and words <= _STOPS | _BETWEEN | {"all"} and words != {"agents", "all"}


def _named(value: Any, default: str) -> Iterator[tuple[str, str]]:
    if isinstance(value, Mapping):
        for name, state in value.items():
            if reason := _stops(state, default, _GOES):
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


def _stops(value: Any, default: str, goes: frozenset[str]) -> str:
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
        return _state(value)
    raise TypeError(f"{value!r} says neither stop nor go on")


def _is_state(said: Mapping[Any, Any]) -> bool:
    """Whether a mapping is about one thing: nothing in it is the name of an agent."""
    words = {str(key).lower() for key in said}
    telling = {word for word in words if word in _RUNS | _STATES or _stops_all(word)}
    return (
        bool(telling) and words <= telling | _BESIDE and not any(isinstance(v, (list, Mapping)) for v in said.values())
    )


def _state(said: Mapping[Any, Any]) -> str:
    """Why this one is stopped."""
    reason, stops = _reason(said), False
    for key, value in said.items():
        word = str(key).lower()
        if word in _STATES:
            stops |= bool(_stops(value, reason, _GOES | {"off"}))
        elif word in _RUNS:
            stops |= not _stops(value, reason, _NO | {"off"})
        elif _stops_all(key):
            stops |= bool(_stops(value, reason, _OFF))
    return reason if stops else ""


def _reason(said: Mapping[Any, Any], default: str = STOPPED) -> str:
    return next((str(said[key]) for key in _SAYS if said.get(key)), default)


def near(name: str, seen: Iterable[str]) -> str:
    """``; did you mean 'research'?`` for a name that nobody has been seen under; empty where none is like it."""
    found = get_close_matches(name, list(seen), n=3)
    return f"; did you mean {' or '.join(map(repr, found))}?" if found else ""
