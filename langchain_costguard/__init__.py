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
    from .budgets.budget import Budget as Budget
    from .budgets.switch import KillSwitch as KillSwitch
    from .errors import AgentHaltedError as AgentHaltedError
    from .errors import BudgetExceededError as BudgetExceededError
    from .errors import CostGuardError as CostGuardError
    from .errors import StoreUnavailableError as StoreUnavailableError
    from .errors import UnpricedModelError as UnpricedModelError
    from .guard import CostGuard as CostGuard
    from .observe.report import Report as Report
    from .pricing.prices import Price as Price
    from .scope import Scope as Scope
    from .stores.memory import MemoryStore as MemoryStore
    from .stores.redis import RedisStore as RedisStore
    from .stores.sqlite import SQLiteStore as SQLiteStore
    from .usage import ModelRef as ModelRef
    from .usage import Usage as Usage

_HOMES = {
    "AgentHaltedError": "errors",
    "Budget": "budgets.budget",
    "BudgetExceededError": "errors",
    "CostGuard": "guard",
    "CostGuardError": "errors",
    "KillSwitch": "budgets.switch",
    "MemoryStore": "stores.memory",
    "ModelRef": "usage",
    "Price": "pricing.prices",
    "RedisStore": "stores.redis",
    "Report": "observe.report",
    "SQLiteStore": "stores.sqlite",
    "Scope": "scope",
    "StoreUnavailableError": "errors",
    "UnpricedModelError": "errors",
    "Usage": "usage",
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
