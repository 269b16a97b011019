"""Budgets that hold for LangChain and LangGraph agents."""
