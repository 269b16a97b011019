"""Jupyter: ``%load_ext langchain_costguard`` gives ``%%costguard --usd 0.10`` and ``%costguard attach``."""
