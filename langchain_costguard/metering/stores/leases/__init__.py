"""Leases: a slice of each account of a shared store, spent in this process."""
