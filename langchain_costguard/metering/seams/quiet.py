"""Keeps LangChain from logging our refusals as errors of a callback."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable

from langchain_costguard.vocabulary.errors import CostGuardError


def quiet_refusals(where: Callable[[], object] = lambda: True) -> None:
    """LangChain logs every exception of a callback; a refusal is told by us. ``where`` says whether to keep quiet."""
    names = "|".join(cls.__name__ for cls in _subclasses(CostGuardError))
    ours = re.compile(rf"Error in \w+\.on_\w+ callback: ({names})\(")
    logging.getLogger("langchain_core.callbacks.manager").addFilter(
        lambda record: not (where() and ours.match(record.getMessage()))
    )


def _subclasses(cls: type[CostGuardError]) -> list[type[CostGuardError]]:
    return [cls, *(found for sub in cls.__subclasses__() for found in _subclasses(sub))]
