"""Why something cost what it did: trees, hand-offs between agents, parts of a bill, a forecast."""

from langchain_costguard.observe.attribution.attribution import Attribution
from langchain_costguard.observe.attribution.forecast import Forecast
from langchain_costguard.observe.attribution.handoffs import Handoffs
from langchain_costguard.observe.attribution.tree import Tree
from langchain_costguard.observe.attribution.why import Why

__all__ = ["Attribution", "Forecast", "Handoffs", "Tree", "Why"]
