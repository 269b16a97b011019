"""What a model cannot be asked for, whoever's words it is in: told before anything is paid."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from langchain_core.messages import AIMessage, BaseMessage, ToolMessage

from langchain_costguard.steering.translation.bound import Bound
from langchain_costguard.steering.translation.dialects import FAMILY, forces, name_of, profile_of, thinks
from langchain_costguard.steering.translation.formats import JSON

_THOUGHTS = ("thinking", "redacted_thinking")


def objection(
    bound: Bound,
    model: Any,
    dialect: str,
    settings: Mapping[str, Any],
    messages: Sequence[BaseMessage],
    *,
    native: bool,
) -> str:
    """Why a model cannot take a request, as the end of a sentence about it; empty where nothing is known against it.

    ``settings`` are those it would have in its own words, as far as they are there; ``native`` says that the request is
    in its words already.
    """
    found = [*_any(bound, model, native=native)]
    if dialect == "anthropic":
        found += _claude(bound, thinks(model, settings if native else {}), messages)
    if dialect == "gemini" and bound.form is not None and bound.tools and not name_of(model).startswith("gemini-3"):
        found.append("it cannot call tools and keep to a form at once")
    if dialect in FAMILY and bound.form == JSON and not native and not _mentions_json(messages):
        found.append("its JSON mode wants the word 'json' in the messages")
    return found[0] if found else ""


def _any(bound: Bound, model: Any, *, native: bool) -> Iterator[str]:
    profile = profile_of(model)
    if bound.tools and bound.choice.forced and not forces(model):
        yield "it cannot be made to call a tool"
    if bound.form is not None and bound.form != JSON and profile.get("structured_output") is False:
        yield "it cannot be held to a schema"
    temperature = bound.plain.get("temperature")
    if temperature not in (None, 1) and profile.get("temperature") is False:
        yield "its temperature cannot be set"
    levels = profile.get("reasoning_effort_levels")
    known = native and not profile if levels is None else bound.effort in levels
    if bound.effort and not known and not (bound.effort == "none" and not profile.get("reasoning_output")):
        yield f"it has no reasoning effort {bound.effort!r}"


def _claude(bound: Bound, thinking: Mapping[str, Any], messages: Sequence[BaseMessage]) -> Iterator[str]:
    """https://platform.claude.com/docs/en/build-with-claude/extended-thinking#feature-compatibility"""
    if not bound.tools and any(isinstance(m, ToolMessage) or getattr(m, "tool_calls", None) for m in messages):
        yield "it takes no conversation with tool calls in it where no tools are given"
    if (bound.plain.get("temperature") or 0) > 1:
        yield "its temperature is 1 at the most"
    if not thinking:
        return
    if bound.tools and bound.choice.forced:
        yield "it cannot be made to call a tool while it thinks"
    if bound.plain.get("temperature") not in (None, 1) or "top_k" in bound.plain:
        yield "its sampling cannot be set while it thinks"
    most, budget = bound.plain.get("max_tokens"), thinking.get("budget_tokens")
    if isinstance(most, int) and isinstance(budget, int) and most <= budget:
        yield f"it may think for {budget:,} tokens, and the reply is to have {most:,} at the most"
    if thinking["type"] == "enabled" and not _may_go_on(messages):
        yield "it goes on from its own thoughts only, and the last step was another model's"


def _may_go_on(messages: Sequence[BaseMessage]) -> bool:
    """Whether the step under way, if there is one, began with Claude's own thoughts."""
    if not messages or not isinstance(messages[-1], ToolMessage):
        return True
    last = next((m for m in reversed(messages) if isinstance(m, AIMessage)), None)
    first = last.content[0] if last is not None and isinstance(last.content, list) and last.content else None
    return isinstance(first, dict) and first.get("type") in _THOUGHTS


def _mentions_json(messages: Sequence[BaseMessage]) -> bool:
    """https://platform.openai.com/docs/guides/structured-outputs#json-mode"""
    return any("json" in str(message.text).lower() for message in messages)
