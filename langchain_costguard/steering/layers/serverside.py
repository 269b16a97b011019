"""Clearing of old tool results by the provider itself, at least as much at a time as pays for the rewriting."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from langchain_core.messages import ToolMessage

from langchain_costguard.context.timing import Edit, lot

if TYPE_CHECKING:
    from langchain_costguard.context.context import Context
    from langchain_costguard.steering.layers.windows import Shaped

CLEARING = "clear_tool_uses_20250919"
BETA = "context-management-2025-06-27"
_LEAST = 1_000
_UNKNOWN_TRIGGER = 100_000
"""Anthropic's own default. https://platform.claude.com/docs/en/build-with-claude/context-editing"""


def serves(chosen: Context, model: Any) -> bool:
    """Whether the provider of the model is to do it."""
    return chosen.server and any(cls.__name__ == "ChatAnthropic" for cls in type(model).__mro__)


def clears(chosen: Context, request: Any) -> bool:
    """Whether the provider takes old results out of the prompt, for us or because the user asks for it: what they are
    referred to by would then refer to nothing."""
    model = getattr(request, "model", None)
    return serves(chosen, model) or "context_management" in _settings(request) or bool(_own(model))


def _settings(request: Any) -> Mapping[str, Any]:
    name = "model_settings" if hasattr(request, "model_settings") else "settings"
    return getattr(request, name, None) or {}


def _own(model: Any) -> Any:
    return getattr(model, "context_management", None)


def clear_at_least(shaped: Shaped, sizes: Sequence[int]) -> int:
    """Tokens that have to go at a time, so that the calls to the next clearing pay for the rewriting.

    A clearing rewrites what comes after the first result that goes. With the economic lot n* between two, and a growth
    of g tokens a call, so much has grown by then: n* times g.
    """
    assert shaped.now is not None
    now, born = shaped.now, shaped.born
    results = sum(size for size, message in zip(sizes, born, strict=True) if isinstance(message, ToolMessage))
    calls = max(1, sum(message.type == "ai" for message in born))
    total = sum(sizes) + now.overhead
    edit = Edit(total, total - results, total - results - now.overhead)
    growth = max(1.0, results / calls)
    expected = lot(edit, now.prices, growth)
    return max(_LEAST, int(expected * growth)) if expected != float("inf") else _LEAST


def with_clearing(request: Any, shaped: Shaped, sizes: Sequence[int]) -> Any:
    """The request with the edit asked for, unless it or its model asks for edits itself."""
    settings = _settings(request)
    if "context_management" in settings or _own(request.model):
        return request
    least = clear_at_least(shaped, sizes)
    assert shaped.now is not None
    window = shaped.now.window
    trigger = max(2 * least, 4_000)
    trigger = min(trigger, window if window is not None else _UNKNOWN_TRIGGER)
    edit = {
        "type": CLEARING,
        "trigger": {"type": "input_tokens", "value": trigger},
        "keep": {"type": "tool_uses", "value": 3},
        "clear_at_least": {"type": "input_tokens", "value": least},
    }
    betas = dict.fromkeys([*(getattr(request.model, "betas", None) or ()), *(settings.get("betas") or ()), BETA])
    name = "model_settings" if hasattr(request, "model_settings") else "settings"
    return request.override(**{name: {**settings, "context_management": {"edits": [edit]}, "betas": [*betas]}})
