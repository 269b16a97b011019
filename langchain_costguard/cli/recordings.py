"""Recorded conversations: JSON lines of messages, or a checkpointer's SQLite file."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from langchain_core.load import load
from langchain_core.messages import AIMessage, BaseMessage, convert_to_messages, messages_from_dict

from langchain_costguard.vocabulary.urls import reason

_SQLITE = b"SQLite format 3\0"


class Recorded(NamedTuple):
    """A conversation, and whose it was; empty where that is not said."""

    agent: str
    messages: list[BaseMessage]


def read(path: str, agent: str | None = None) -> list[Recorded]:
    """The conversations in a file in which a model answers, of one agent or of all.

    A line is ``{"agent": ..., "messages": [...]}`` or the list alone; a message as ``dumpd`` or ``messages_to_dict`` of
    langchain-core write it, or as OpenAI's API has it (``{"role": ..., "content": ...}``).

    Raises:
        ValueError: there is no such file, none can be read, or none is of this agent.
    """
    try:
        with Path(path).open("rb") as file:
            checkpoints = file.read(len(_SQLITE)) == _SQLITE
    except OSError as error:
        raise ValueError(f"{path}: {reason(error)}") from None
    found = list(_checkpoints(path) if checkpoints else _lines(path))
    found = [each for each in found if any(isinstance(m, AIMessage) for m in each.messages)]
    if not found:
        raise ValueError(f'{path}: no conversations; a line is one: {{"agent": ..., "messages": [...]}}')
    chosen = [each for each in found if agent is None or each.agent == agent]
    if not chosen:
        names = ", ".join(sorted({each.agent or "(none)" for each in found}))
        raise ValueError(f"--agent: {path} has nothing of {agent!r}; its agents are {names}")
    return chosen


def _lines(path: str) -> Iterator[Recorded]:
    for number, line in enumerate(Path(path).read_text("utf-8-sig", errors="replace").splitlines(), 1):
        if not line.strip():
            continue
        try:
            value: Any = json.loads(line)
            named = value if isinstance(value, dict) else {"messages": value}
            whose = named.get("agent") or (named.get("metadata") or {}).get("agent") or ""
            yield Recorded(str(whose), _messages(named["messages"]))
        except (ValueError, KeyError, TypeError, NotImplementedError) as error:
            raise ValueError(f"{path}, line {number}: no conversation: {error!r}") from None


def _messages(value: list[Any]) -> list[BaseMessage]:
    if value and isinstance(value[0], dict) and "lc" in value[0]:
        return [load(each, allowed_objects="messages") for each in value]
    if value and isinstance(value[0], dict) and "data" in value[0]:
        return messages_from_dict(value)
    return convert_to_messages(value)


def _checkpoints(path: str) -> Iterator[Recorded]:
    """The last state of each thread and of each agent in it."""
    try:
        from langgraph.checkpoint.sqlite import SqliteSaver
    except ImportError:
        raise ValueError(f"{path}: to read checkpoints, pip install langgraph-checkpoint-sqlite") from None
    seen: set[tuple[str, str]] = set()
    with SqliteSaver.from_conn_string(path) as saver:
        for each in saver.list(None):
            named: Any = each.config["configurable"]
            place = str(named["thread_id"]), str(named.get("checkpoint_ns") or "")
            if place in seen:
                continue
            seen.add(place)
            messages = each.checkpoint["channel_values"].get("messages")
            if isinstance(messages, list) and all(isinstance(message, BaseMessage) for message in messages):
                about: Any = each.metadata
                whose = place[1].split("|")[0].split(":")[0] or about.get("lc_agent_name") or about.get("agent") or ""
                yield Recorded(str(whose), messages)
