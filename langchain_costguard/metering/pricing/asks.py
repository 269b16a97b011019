"""What a request asks for, besides its messages, that decides its price: told before the call, for the hold."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from langchain_costguard.metering.pricing.dialects import geography, normal_tier
from langchain_costguard.metering.pricing.offered import Extra, Offer, offers

COMPACTION_TRIGGER = 150_000
"""Input tokens at which Anthropic compacts a conversation, where the request does not say.
https://platform.claude.com/docs/en/build-with-claude/compaction"""

_INSIDE = ("model_kwargs", "extra_body")
_TELLING = frozenset(
    [
        *_INSIDE, "service_tier", "speed", "inference_geo", "n", "candidate_count", "best_of", "context_management",
        "tools", "search_parameters",
    ]
)  # fmt: skip
_HELD = frozenset({"priority", "fast", "ultrafast", "us"})
"""What costs more than the usual; what costs less is held at the usual price, for it may not be granted."""


class Asks(NamedTuple):
    """What a request asks for."""

    tier: str | None = None
    geo: str | None = None
    times: int = 1
    """Replies asked for."""
    compaction: int = 0
    """Input tokens that the provider may read once more, to compact the conversation; 0 where it may not."""
    hosted: tuple[Offer, ...] = ()
    """Tools that the provider runs."""
    extra: Extra = Extra()
    """What those may take, once the rates are known."""


NOTHING = Asks()


def asks(params: Mapping[str, Any], facts: Mapping[str, Any]) -> Asks:
    """What a call with these parameters asks for, of a client with these fields; what is stated more nearly wins."""
    if _TELLING.isdisjoint(params) and _TELLING.isdisjoint(facts):
        return NOTHING
    layers = list(_layers(params, facts))
    tier = normal_tier(_stated(layers, "speed")) or normal_tier(_stated(layers, "service_tier"))
    found = Asks(
        tier if tier in _HELD else None,
        geography(_stated(layers, "inference_geo")),
        max(1, *(_whole(_stated(layers, name)) for name in ("n", "candidate_count", "best_of"))),
        _compaction(_stated(layers, "context_management")),
        tuple(offers(_stated(layers, "tools"), _stated(layers, "search_parameters"))),
    )
    return NOTHING if found == NOTHING else found


def cache_marks(params: Mapping[str, Any], facts: Mapping[str, Any]) -> Iterator[Any]:
    """What the request says of caching outside its messages: at the top level, wherever that is put, and at tools."""
    for layer in _layers(params, facts):
        yield layer.get("cache_control")
        tools = layer.get("tools")
        for tool in tools if isinstance(tools, list | tuple) else ():
            if isinstance(tool, Mapping):
                yield tool.get("cache_control")


def _layers(params: Mapping[str, Any], facts: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    for source in (params, facts):
        for name in reversed(_INSIDE):
            inside = source.get(name)
            if isinstance(inside, Mapping) and inside:
                yield inside
                body = inside.get("extra_body")
                if isinstance(body, Mapping):
                    yield body
        yield source


def _stated(layers: Iterable[Mapping[str, Any]], name: str) -> Any:
    return next((layer[name] for layer in layers if layer.get(name) is not None), None)


def _whole(value: Any) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) else 1


def _compaction(management: Any) -> int:
    edits = management.get("edits") if isinstance(management, Mapping) else None
    for edit in edits if isinstance(edits, list | tuple) else ():
        if isinstance(edit, Mapping) and str(edit.get("type")).startswith("compact"):
            trigger = edit.get("trigger")
            value = trigger.get("value") if isinstance(trigger, Mapping) else None
            return value if isinstance(value, int) and value > 0 else COMPACTION_TRIGGER
    return 0
