"""The provider's own cache of prompts: where to mark one, for how long, and what keeps it from being found again."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from langchain_costguard.caching.prompt.findings import Findings as Findings
    from langchain_costguard.caching.prompt.linter import lint_prompts as lint_prompts
    from langchain_costguard.caching.prompt.promptcache import PromptCache as PromptCache

_HOMES = {"Findings": "findings", "PromptCache": "promptcache", "lint_prompts": "linter"}

__all__ = [*_HOMES]  # noqa: PLE0604 - one list of names, not two


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        value = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
