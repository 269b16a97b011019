"""Steering: keeps an agent from reaching its budgets, and ends it gracefully when it must. Never counts money.

Each policy is written once and offered at three seams: ``steer()`` for ``create_agent(middleware=...)``, nodes and
``install()`` for LangGraph graphs, ``SteeredModel`` for chains.
"""

from langchain_costguard.steering.layers.guardrails import Stop, max_tool_calls, parses, valid_json
from langchain_costguard.steering.policies.breaker import Breaker
from langchain_costguard.steering.policies.loops import LoopDetector
from langchain_costguard.steering.policies.retries import ErrorKind, Retry
from langchain_costguard.steering.seams.cache_node import CacheNode
from langchain_costguard.steering.seams.context_node import ContextNode
from langchain_costguard.steering.seams.install import install
from langchain_costguard.steering.seams.model import SteeredModel
from langchain_costguard.steering.seams.nodes import BudgetGate, StuckLoopNode, guarded_tools
from langchain_costguard.steering.seams.router_node import RoutedModel, RouterNode
from langchain_costguard.steering.steer import steer
from langchain_costguard.steering.steering import Steering
from langchain_costguard.vocabulary.errors import CircuitOpenError, ReplyRejectedError, StuckLoopError

__all__ = [
    "Breaker",
    "BudgetGate",
    "CacheNode",
    "CircuitOpenError",
    "ContextNode",
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
