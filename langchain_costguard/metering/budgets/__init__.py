"""Budgets, the ledger that applies them, and the kill switch."""
