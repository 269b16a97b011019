"""The chat model that a call comes to, under what is bound to it and what the call configures."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from langchain_core.language_models import BaseChatModel
from langchain_core.runnables import RunnableBinding
from langchain_core.runnables.config import ensure_config, merge_configs
from langchain_core.runnables.configurable import DynamicRunnable


def concrete(model: Any) -> tuple[BaseChatModel, Mapping[str, Any]] | None:
    """The chat model, and the arguments bound to it, as a call made here would have it; None where only the call itself
    can say: for a model made from its config (``init_chat_model(configurable_fields=...)``), with fallbacks or retries.
    """
    bound: dict[str, Any] = {}
    config = None
    while not isinstance(model, BaseChatModel):
        config = ensure_config() if config is None else config
        if isinstance(model, RunnableBinding):
            bound = {**model.kwargs, **bound}
            config = merge_configs(model.config, config)
            model = model.bound
        elif isinstance(model, DynamicRunnable):
            model, config = model.prepare(config)
        else:
            return None
    return model, bound
