"""What a client is told of the bill and does not pass on, overheard where a wrapped model converts what it receives.

Streams of ``ChatOpenAI`` lose a gateway's cost, those of ``ChatAnthropic`` the iterations and the lifetimes of what was
cached, and ``ChatCohere`` passes on what Cohere counts in the place of what it bills.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import wraps
from typing import Any

Heard = dict[str, Any]
"""The provider's own usage block, as far as it was told."""


def _of_chunk(chunk: Any) -> Any:
    return chunk.get("usage") if isinstance(chunk, Mapping) else None


def _of_event(event: Any) -> Any:
    return getattr(getattr(event, "message", event), "usage", None)


def _of_response(response: Any) -> Any:
    return getattr(response, "usage", None)


_CONVERSIONS: dict[str, Callable[[Any], Any]] = {
    # https://github.com/langchain-ai/langchain/blob/master/libs/partners/openai/langchain_openai/chat_models/base.py
    "_convert_chunk_to_generation_chunk": _of_chunk,
    # https://github.com/langchain-ai/langchain/blob/master/libs/partners/anthropic/langchain_anthropic/chat_models.py
    "_make_message_chunk_from_anthropic_event": _of_event,
    # https://github.com/langchain-ai/langchain-cohere/blob/main/libs/cohere/langchain_cohere/chat_models.py
    "_get_generation_info_v2": _of_response,
}
"""Methods by which clients convert what they receive, and where in it the usage is."""

_PASSED_ON = frozenset({
    "completion_tokens", "completion_tokens_details", "prompt_tokens", "prompt_tokens_details", "total_tokens",
})  # fmt: skip
"""A block of these alone is passed on in full."""


def listening(cls: type, heard_now: Callable[[], Heard | None]) -> dict[str, Any]:
    """The conversions of a client's class, each noting in ``heard_now()`` the usage that passes through it."""
    return {
        name: _noting(getattr(cls, name), usage_in, heard_now)
        for name, usage_in in _CONVERSIONS.items()
        if hasattr(cls, name)
    }


def is_heard(cls: type) -> bool:
    """Whether this is a client of LangChain's own, which keeps nothing of its calls in itself, and drops something."""
    return cls.__module__.startswith("langchain_") and any(hasattr(cls, name) for name in _CONVERSIONS)


def _noting(original: Any, usage_in: Callable[[Any], Any], heard_now: Callable[[], Heard | None]) -> Any:
    @wraps(original)
    def convert(self: Any, received: Any, *args: Any, **kwargs: Any) -> Any:
        heard = heard_now()
        if heard is not None and (usage := _plainly(usage_in(received))) and not usage.keys() <= _PASSED_ON:
            # Anthropic's first event has what was cached and for how long, its last one all the counts.
            heard.update({key: value for key, value in usage.items() if value is not None})
        return original(self, received, *args, **kwargs)

    return convert


def _plainly(usage: Any) -> Mapping[str, Any]:
    """A usage block as plain data, be it a client's own type."""
    dump = getattr(usage, "model_dump", None) or getattr(usage, "dict", None)
    plain = dump() if callable(dump) else usage
    return plain if isinstance(plain, Mapping) else {}
