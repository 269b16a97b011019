"""Keeps LangChain from logging our refusals as errors of a callback."""

from __future__ import annotations

import logging
import re

from langchain_costguard.errors import CostGuardError


def quiet_refusals() -> None:
    """LangChain logs every exception of a callback; a refusal is told by us, in a line of its own."""
    names = "|".join(cls.__name__ for cls in _subclasses(CostGuardError))
    ours = re.compile(rf"Error in \w+\.on_\w+ callback: ({names})\(")
    logging.getLogger("langchain_core.callbacks.manager").addFilter(
        lambda record: ours.match(record.getMessage()) is None
    )


def _subclasses(cls: type[CostGuardError]) -> list[type[CostGuardError]]:
    return [cls, *(found for sub in cls.__subclasses__() for found in _subclasses(sub))]
