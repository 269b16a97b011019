"""Keeps LangChain from logging our refusals as errors of a callback."""

from __future__ import annotations

import logging
import re

from langchain_costguard.vocabulary.errors import CostGuardError

_quiet = False


def quiet_refusals() -> None:
    """LangChain logs every exception of a callback as an error; a refusal is none: whoever catches it tells of it."""
    global _quiet
    if _quiet:
        return
    _quiet = True
    names = "|".join(cls.__name__ for cls in _subclasses(CostGuardError))
    ours = re.compile(rf"Error in \w+\.on_\w+ callback: ({names})\(")
    logging.getLogger("langchain_core.callbacks.manager").addFilter(lambda record: not ours.match(record.getMessage()))


def _subclasses(cls: type[CostGuardError]) -> list[type[CostGuardError]]:
    return [cls, *(found for sub in cls.__subclasses__() for found in _subclasses(sub))]
