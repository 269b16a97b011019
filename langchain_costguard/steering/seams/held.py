"""What whoever streams an agent sees of a reply before it has passed: nothing; and whether it has seen any of one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from langchain_core.callbacks import BaseCallbackManager
from langchain_core.language_models import BaseChatModel
from langgraph.constants import TAG_NOSTREAM

from langchain_costguard.metering.runs import shown

if TYPE_CHECKING:
    from langchain_costguard.steering.surroundings import Here


@contextmanager
def watched(here: Here) -> Iterator[None]:
    """Note whether the reply is on its way to whoever streams the agent: then it cannot be asked for again."""
    if not here.streamed:
        yield
        return
    seen: list[None] = []
    token = shown.set(seen)
    try:
        yield
    finally:
        shown.reset(token)
        here.out |= bool(seen)


def held_back(model: Any) -> Any:
    """The model, whose reply nobody sees before it has passed: not token by token, nor as its run ends. LangGraph shows
    what the node returns."""
    if not isinstance(model, BaseChatModel):
        return model
    changes: dict[str, Any] = {"disable_streaming": True, "tags": [*(model.tags or ()), TAG_NOSTREAM]}
    if getattr(model, "streaming", None):
        changes["streaming"] = False
    return model.model_copy(update=changes)


def unseen(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """The config, in which nobody sees a model's reply before its node returns it: for nodes whose model is their own.
    By LangChain's own mark of a handler that passes on what it hears."""
    manager = config.get("callbacks")
    if not isinstance(manager, BaseCallbackManager):
        return config
    manager = manager.copy()
    for handler in [each for each in manager.handlers if hasattr(each, "tap_output_iter")]:
        manager.remove_handler(handler)
    return {**config, "callbacks": manager}
