"""Requests as they were recorded: lines of JSON in the shapes that OpenAI, Anthropic and LangChain write."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, NamedTuple

_WHEN = ("at", "timestamp", "time", "ts", "created_at", "created", "start_time")
_INSIDE = ("request", "body", "payload", "params", "invocation_params", "kwargs", "inputs")
_ROLES = {"human": "user", "ai": "assistant", "humanmessage": "user", "aimessage": "assistant", "developer": "system"}


class Part(NamedTuple):
    """A part of a prompt, as its provider reads it: a tool, or a message."""

    where: str
    role: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One request.

    Attributes:
        at: Epoch seconds; None where nobody says.
        feature: What it was made for.
        model: The model's name, its provider in front where that is known (``anthropic:claude-sonnet-4-6``).
        tools, messages: The prompt, the system message first among the messages.
    """

    at: float | None
    feature: str
    model: str
    tools: Sequence[Part]
    messages: Sequence[Part]


def read_lines(lines: Sequence[str]) -> tuple[list[Record], list[str]]:
    """The records of JSON lines, and a sentence for each line that is none."""
    records, skipped = [], []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            records.append(record_of(json.loads(line)))
        except (ValueError, RecursionError) as error:
            what = f"no JSON ({error})" if isinstance(error, json.JSONDecodeError) else str(error)
            skipped.append(f"line {number}: {what}")
    return records, skipped


def record_of(row: Any) -> Record:
    """The record of one request.

    Raises:
        ValueError: names the field that is missing, or is of no known shape.
    """
    if isinstance(row, Record):
        return row
    if not isinstance(row, Mapping):
        raise ValueError(f"{str(row)[:40]!r} must be an object")
    inside: Mapping[str, Any] = next(
        (row[k] for k in _INSIDE if isinstance(row.get(k), Mapping) and _speaks(row[k])), {}
    )
    body = row if _speaks(row) else inside
    if not body:
        raise ValueError("messages: missing; a record has 'model' and 'messages' (or 'input', or 'prompt')")
    both = {**row, **body}
    model = both.get("model") or both.get("model_name") or both.get("model_id")
    if not isinstance(model, str):
        raise ValueError(f"model: {model!r} must be a name")
    said = row.get("metadata")
    metadata: Mapping[str, Any] = said if isinstance(said, Mapping) else {}
    feature = row.get("feature") or metadata.get("feature") or row.get("agent") or row.get("name") or ""
    when = next((row[key] for key in _WHEN if row.get(key) is not None), None)
    tools = both.get("tools") or both.get("functions") or []
    if not isinstance(tools, list):
        raise ValueError(f"tools: {str(tools)[:40]!r} must be a list")
    return Record(
        at=_seconds(when),
        feature=str(feature),
        model=model,
        tools=tuple(tool_part(tool, number) for number, tool in enumerate(tools, 1)),
        messages=tuple(_messages(both)),
    )


def _speaks(row: Mapping[str, Any]) -> bool:
    return any(row.get(key) for key in ("messages", "input", "prompt"))


def _seconds(when: Any) -> float | None:
    if when is None:
        return None
    if isinstance(when, (int, float)) and not isinstance(when, bool) and math.isfinite(when) and when > 0:
        return when / 1000 if when > 1e11 else float(when)
    try:
        found = datetime.fromisoformat(str(when))
    except ValueError:
        raise ValueError(f"at: {when!r} is no time; write it like 2026-01-31T12:00:00Z, or as epoch seconds") from None
    return (found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp()


def tool_part(tool: Any, number: int) -> Part:
    """A tool, its schema in the order it is sent in."""
    said = tool.get("function", tool) if isinstance(tool, Mapping) else {}
    name = said.get("name") or said.get("type") if isinstance(said, Mapping) else None
    return Part(f"tool {number} ({name or 'unnamed'})", "tool schema", _written(tool))


def message_part(role: str, text: str, number: int) -> Part:
    """A message by its role; ``number`` counts all, from 1."""
    return Part("system message" if role == "system" and number == 1 else f"message {number} ({role})", role, text)


def _messages(body: Mapping[str, Any]) -> Iterator[Part]:
    found = [("system", text_of(body[key])) for key in ("system", "instructions") if body.get(key)]
    given = body.get("messages") or body.get("input") or body.get("prompt")
    if isinstance(given, list) and len(given) == 1 and isinstance(given[0], list):
        given = given[0]  # as LangChain's callbacks have them: a list for each prompt
    if isinstance(given, str):
        found.append(("user", given))
    elif isinstance(given, list):
        found += [_message(message) for message in given]
    else:
        raise ValueError(f"messages: {str(given)[:40]!r} must be a list or a text")
    for number, (role, text) in enumerate(found, 1):
        yield message_part(role, text, number)


def _message(message: Any) -> tuple[str, str]:
    if isinstance(message, str):
        return "user", message
    if isinstance(message, (list, tuple)) and len(message) == 2 and isinstance(message[0], str):
        message = {"role": message[0], "content": message[1]}
    if not isinstance(message, Mapping):
        raise ValueError(f"messages: {str(message)[:40]!r} is no message")
    kind = message["id"][-1] if message.get("lc") and isinstance(message.get("id"), list) else None
    said = message.get("kwargs") if kind else message.get("data")
    inner: Mapping[str, Any] = said if isinstance(said, Mapping) else message
    role = str(message.get("role") or kind or message.get("type") or inner.get("type") or "")
    role = role.lower().removesuffix("chunk")
    role = _ROLES.get(role, role.removesuffix("message"))
    if not role:
        raise ValueError(f"messages: {str(message)[:40]!r} has no role")
    text = text_of(inner.get("content", inner.get("output")))
    calls = inner.get("tool_calls") or ({k: inner[k] for k in ("name", "arguments") if k in inner} or None)
    return role, text + (f"\n{_written(calls)}" if calls and role != "user" else "")


def text_of(content: Any) -> str:
    """A message's text; of other blocks, what they are as JSON."""
    if content is None:
        return ""
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        return _written(content)
    return "\n".join(_block(block) for block in content)


def _block(block: Any) -> str:
    if isinstance(block, str):
        return block
    if isinstance(block, Mapping):
        if isinstance(block.get("text"), str):
            return str(block["text"])
        block = {key: value for key, value in block.items() if key != "cache_control"}
    return _written(block)


def _written(value: Any) -> str:
    """As JSON, its keys in the order they came in."""
    return json.dumps(value, ensure_ascii=False, default=str)
