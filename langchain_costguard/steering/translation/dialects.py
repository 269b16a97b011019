"""Whose words a chat model's client takes, and what is known of the model that decides what may be asked of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_CLIENTS = {
    "BaseChatOpenAI": "openai",
    "ChatAnthropic": "anthropic",
    "ChatGoogleGenerativeAI": "gemini",
}
"""Clients by the name of their class, or of one they inherit from: none of their packages need be installed."""
FAMILY = ("openai", "responses")
"""One client with two APIs, which translates between them what both have."""
FORMATS = ("ChatFireworks", "ChatGroq", "ChatMistralAI")
"""Other clients that take OpenAI's ``response_format``."""
_FORCES_NOTHING = ("claude-fable-5-1", "claude-opus-5-5", "claude-sonnet-5-5")
"""As langchain-anthropic has it, ``_supports_forced_tool_choice``."""
PROVIDERS = {"openai": "openai", "responses": "openai", "anthropic": "anthropic", "gemini": "google_genai"}
"""What replies say of where they are from, ``response_metadata["model_provider"]``."""


def dialect_of(model: Any, settings: Mapping[str, Any] | None = None) -> str:
    """``openai``, ``responses``, ``anthropic``, ``gemini``, or the class of a client with words of its own.

    OpenAI's client decides between its two APIs by what it is asked for.
    """
    names = [cls.__name__ for cls in type(model).__mro__]
    known = next((_CLIENTS[name] for name in names if name in _CLIENTS), "")
    if known == "openai":
        by_client = getattr(model, "_use_responses_api", None)
        payload = {**(getattr(model, "model_kwargs", None) or {}), **(settings or {})}
        return "responses" if callable(by_client) and by_client(payload) else "openai"
    return known or f"{type(model).__module__}.{type(model).__qualname__}"


def class_name(dialect: str) -> str:
    """The class of a client with words of its own."""
    return dialect.rpartition(".")[2]


def name_of(model: Any) -> str:
    """The model's name without what some clients put before it."""
    name = getattr(model, "model_name", None) or getattr(model, "model", None) or ""
    return str(name).removeprefix("models/")


def profile_of(model: Any) -> Mapping[str, Any]:
    """What LangChain knows of a model; empty where that is nothing."""
    profile = getattr(model, "profile", None)
    return profile if isinstance(profile, Mapping) else {}


def thinks(model: Any, settings: Mapping[str, Any]) -> Mapping[str, Any]:
    """How Claude is set to think in a call; empty where it is not."""
    how = settings.get("thinking") or getattr(model, "thinking", None)
    return how if isinstance(how, Mapping) and how.get("type") in ("enabled", "adaptive") else {}


def forces(model: Any) -> bool:
    """Whether the model can be made to call a tool."""
    return profile_of(model).get("tool_choice") is not False and not name_of(model).startswith(_FORCES_NOTHING)
