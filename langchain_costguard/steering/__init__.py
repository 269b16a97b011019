"""Steering: keeps an agent from reaching its budgets, and ends it gracefully when it must. Never counts money.

Each policy is written once and offered at three seams: ``steer()`` for ``create_agent(middleware=...)``, nodes and
``install()`` for LangGraph graphs, ``SteeredModel`` for chains.
"""

from langchain_costguard.policies.breaker import Breaker
from langchain_costguard.policies.loops import LoopDetector
from langchain_costguard.policies.retries import ErrorKind, Retry
from langchain_costguard.steering.cache_node import CacheNode
from langchain_costguard.steering.guardrails import Stop, max_tool_calls, parses, valid_json
from langchain_costguard.steering.install import install
from langchain_costguard.steering.model import SteeredModel
from langchain_costguard.steering.nodes import BudgetGate, StuckLoopNode, guarded_tools
from langchain_costguard.steering.router import RoutedModel, RouterNode
from langchain_costguard.steering.steer import steer
from langchain_costguard.steering.steering import Steering
from langchain_costguard.vocabulary.errors import CircuitOpenError, ReplyRejectedError, StuckLoopError

__all__ = [
    "Breaker",
    "BudgetGate",
    "CacheNode",
    "CircuitOpenError",
    "ErrorKind",
    "LoopDetector",
    "ReplyRejectedError",
    "Retry",
    "RoutedModel",
    "RouterNode",
    "SteeredModel",
    "Steering",
    "Stop",
    "StuckLoopError",
    "StuckLoopNode",
    "guarded_tools",
    "install",
    "max_tool_calls",
    "parses",
    "steer",
    "valid_json",
]
