"""The refusal in an error."""

from __future__ import annotations

import sys
from typing import Any


def refusal_in(error: BaseException | None) -> Any:
    """The refusal that an error is, was caused by, or was raised while handling; groups are searched, too."""
    if "langchain_costguard.vocabulary.errors" not in sys.modules:
        return None  # then there was none
    from langchain_costguard.vocabulary.errors import CostGuardError

    seen: set[int] = set()
    queue = [error]
    while queue:
        found = queue.pop(0)
        if found is None or id(found) in seen:
            continue
        if isinstance(found, CostGuardError):
            return found
        seen.add(id(found))
        queue += [found.__cause__, found.__context__]
        if isinstance(found, BaseExceptionGroup):
            queue += found.exceptions
    return None
