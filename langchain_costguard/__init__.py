"""Budgets that hold for LangChain and LangGraph agents: every event metered, refused before it is spent.

::

    from langchain_costguard import Budget, CostGuard

    guard = CostGuard(Budget(per="session", usd="0.50", tool_calls=15))
    agent.invoke(question, config={"callbacks": [guard]})
    print(guard.report())

Names are imported when they are first used, so that ``import langchain_costguard`` costs next to nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from langchain_costguard.guard import CostGuard as CostGuard
    from langchain_costguard.metering.budgets.budget import Budget as Budget
    from langchain_costguard.metering.budgets.switch import KillSwitch as KillSwitch
    from langchain_costguard.metering.fees import ToolFee as ToolFee
    from langchain_costguard.metering.pricing.prices import Price as Price
    from langchain_costguard.metering.seams.serving import refusal_response as refusal_response
    from langchain_costguard.metering.stores.memory import MemoryStore as MemoryStore
    from langchain_costguard.metering.stores.redis import RedisStore as RedisStore
    from langchain_costguard.metering.stores.sqlite import SQLiteStore as SQLiteStore
    from langchain_costguard.observe.report import Report as Report
    from langchain_costguard.observe.spend import Spend as Spend
    from langchain_costguard.vocabulary.errors import AgentHaltedError as AgentHaltedError
    from langchain_costguard.vocabulary.errors import BudgetExceededError as BudgetExceededError
    from langchain_costguard.vocabulary.errors import CostGuardError as CostGuardError
    from langchain_costguard.vocabulary.errors import StoreUnavailableError as StoreUnavailableError
    from langchain_costguard.vocabulary.errors import UnpricedModelError as UnpricedModelError
    from langchain_costguard.vocabulary.errors import UntaggedError as UntaggedError
    from langchain_costguard.vocabulary.scope import Scope as Scope
    from langchain_costguard.vocabulary.usage import ModelRef as ModelRef
    from langchain_costguard.vocabulary.usage import Usage as Usage

_HOMES = {
    "AgentHaltedError": "vocabulary.errors",
    "Budget": "metering.budgets.budget",
    "BudgetExceededError": "vocabulary.errors",
    "CostGuard": "guard",
    "CostGuardError": "vocabulary.errors",
    "KillSwitch": "metering.budgets.switch",
    "MemoryStore": "metering.stores.memory",
    "ModelRef": "vocabulary.usage",
    "Price": "metering.pricing.prices",
    "RedisStore": "metering.stores.redis",
    "Report": "observe.report",
    "SQLiteStore": "metering.stores.sqlite",
    "Scope": "vocabulary.scope",
    "Spend": "observe.spend",
    "StoreUnavailableError": "vocabulary.errors",
    "ToolFee": "metering.fees",
    "UnpricedModelError": "vocabulary.errors",
    "UntaggedError": "vocabulary.errors",
    "Usage": "vocabulary.usage",
    "refusal_response": "metering.seams.serving",
}

__all__ = [*_HOMES]  # noqa: PLE0604 - one list of names, not two


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        value = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])


def load_ipython_extension(shell: Any) -> None:
    """``%load_ext langchain_costguard``: ``%%costguard --usd 0.10`` and ``%costguard attach``."""
    from langchain_costguard.cli.jupyter.magics import load

    load(shell)


def unload_ipython_extension(shell: Any) -> None:
    """``%unload_ext langchain_costguard``."""
    from langchain_costguard.cli.jupyter.magics import unload

    unload(shell)
