"""Who asks LangChain's cache, which is told nothing but prompt and model."""

from __future__ import annotations

from typing import NamedTuple

from langchain_core.runnables.config import var_child_runnable_config

from langchain_costguard.metering.calls import Asked, asked_here
from langchain_costguard.vocabulary import scope as scopes
from langchain_costguard.vocabulary.scope import Scope


class Asker(NamedTuple):
    """Who asks, the tags of the call, and the call itself where a guard has admitted it."""

    scope: Scope
    tags: tuple[str, ...]
    asked: Asked | None

    def looked_up(self, prompt: str) -> None:
        """A cache is asked this; if it does not know, the model's answer will be brought with the very same text."""
        if self.asked is not None:
            self.asked.prompts = (*self.asked.prompts, prompt)


def asker(prompt: str | None = None) -> Asker:
    """Whoever makes the model call that is under way in this context; with ``prompt``, the one that looked it up."""
    asked = asked_here(prompt)
    if asked is not None:
        return Asker(asked.call.scope, tuple(asked.tags), asked)
    config = var_child_runnable_config.get()
    if config is None:
        return Asker(scopes.resolve({}, None, None, trace="", model="", session=""), (), None)
    manager = config.get("callbacks")
    metadata = {**(getattr(manager, "metadata", None) or {}), **(config.get("metadata") or {})}
    tags = (*(getattr(manager, "tags", None) or ()), *(config.get("tags") or ()))
    return Asker(scopes.resolve(metadata, tags, config, trace="", model="", session=""), tags, None)
