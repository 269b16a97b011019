"""The errors, under the path that checkpoints of version 0.1 have pickled and users import."""

from langchain_costguard.vocabulary.errors import *  # noqa: F403
from langchain_costguard.vocabulary.errors import _rebuild as _rebuild
