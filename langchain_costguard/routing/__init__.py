"""Routing: the cheapest model that will do, for every step. A router chooses; it never counts money.

A router takes a ``RouteRequest`` and returns a ``Route``; any callable that does is one. Use it as middleware
(``steer(guard, router=...)``), as a chat model (``RoutedModel``) or as a node (``RouterNode``), which are in
``langchain_costguard.steering``.
"""

from langchain_costguard.routing.abilities import able
from langchain_costguard.routing.affinity import PrefixRouter
from langchain_costguard.routing.budget import BudgetRouter
from langchain_costguard.routing.cascade import Agreement, Cascade, Judge, LogProbs, Parses, Verifier
from langchain_costguard.routing.choice import ChoiceRouter
from langchain_costguard.routing.classifier import ClassifierRouter
from langchain_costguard.routing.records import Record
from langchain_costguard.routing.route import Route, Router, RouteRequest
from langchain_costguard.routing.runlog import RunLog
from langchain_costguard.routing.semantic import Examples, SemanticRouter
from langchain_costguard.routing.static import StaticRouter
from langchain_costguard.routing.tiers import tiers

__all__ = [
    "Agreement",
    "BudgetRouter",
    "Cascade",
    "ChoiceRouter",
    "ClassifierRouter",
    "Examples",
    "Judge",
    "LogProbs",
    "Parses",
    "PrefixRouter",
    "Record",
    "Route",
    "RouteRequest",
    "Router",
    "RunLog",
    "SemanticRouter",
    "StaticRouter",
    "Verifier",
    "able",
    "tiers",
]
