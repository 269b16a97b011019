"""A tool result that repeats an earlier one word for word is sent as a reference to it: nothing is lost, and no cached
prefix changes. Agents read the same file, page or record again more often than they know."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from langchain_core.messages import BaseMessage, ToolMessage

from langchain_costguard.context.birth import FETCH

_BEGINNING = 60
_WORTH = 3
"""A reference has to be so many times shorter than what it stands for."""

Known = Callable[[BaseMessage], tuple[str, BaseMessage]]
"""The id of a result, empty where it is always sent whole; and what is sent where the same is shown above."""


def reference(text: str, id: str) -> str | None:
    """What is sent in the place of a text that is shown above; None where that would not be much shorter."""
    begins = " ".join(text[:_BEGINNING].split())
    told = f'[Word for word an earlier result above, which begins "{begins}". {FETCH}(id="{id}", part=1) returns it.]'
    return told if _WORTH * len(told) <= len(text) else None


def without_repeats(shown: Sequence[BaseMessage], known: Known) -> list[BaseMessage]:
    """The messages with a reference for each result that one above has word for word.

    Of what is shown, not of the thread: the first of two is whole again once a compaction has taken the one before it.
    """
    seen: set[str] = set()
    messages = list(shown)
    for at, message in enumerate(messages):
        if isinstance(message, ToolMessage):
            id, short = known(message)
            if id in seen:
                messages[at] = short
            elif id:
                seen.add(id)
    return messages
