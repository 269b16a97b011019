"""Odd arguments for every public constructor, and odd command lines: ``python -m tests.fuzz --help``."""
