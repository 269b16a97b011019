"""Counts and models, under the path that users of version 0.1 import."""

from langchain_costguard.vocabulary.usage import *  # noqa: F403
