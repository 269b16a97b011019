"""The tool by which a model gets at the whole of a result that was cut."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from langchain_core.tools import BaseTool, StructuredTool

from langchain_costguard.caching.base import CacheError
from langchain_costguard.context.birth import FETCH, part_of
from langchain_costguard.events.steered import Refetched
from langchain_costguard.metering.pricing.shapes import count_by_shape
from langchain_costguard.steering.layers.windows import owner
from langchain_costguard.steering.surroundings import Here

if TYPE_CHECKING:
    from langchain_costguard.steering.layers.windows import Windows

PART = 4_000
"""Tokens of one part."""
_DESCRIPTION = (
    "Returns the whole of an earlier tool result of which only the beginning and the end are shown. "
    "Give the id that stands where the rest was left out; of a long result, part 1, 2 and so on."
)


def fetch_tool(windows: Windows) -> BaseTool:
    """The tool, for one steering."""

    def fetch_result(id: str, part: int = 1) -> str:
        return _fetched(windows, id, part)

    async def afetch_result(id: str, part: int = 1) -> str:
        if windows.chosen.stash.quick:
            return _fetched(windows, id, part)
        import asyncio

        return await asyncio.to_thread(_fetched, windows, id, part)

    return StructuredTool.from_function(fetch_result, afetch_result, name=FETCH, description=_DESCRIPTION)


def _fetched(windows: Windows, id: str, part: Any) -> str:
    here, guard = Here(windows.guard, FETCH), windows.guard
    try:
        text = windows.chosen.stash.get(owner(here.scope), id.strip(), now=guard.now())
    except CacheError as error:
        guard.say_once("The whole of a tool result could not be fetched", error)
        return "The store of results does not answer. Go on without it, or call the tool again that gave the result."
    if text is None:
        return f"No result is kept under the id {id!r} (any more). Call the tool again that gave it."
    shown, parts = part_of(text, part, PART, count_by_shape)
    windows.refetched += 1
    here.tell(Refetched, f"the whole of a result was asked for: part {part} of {parts}", tokens=count_by_shape(shown))
    return shown if parts == 1 else f"Part {min(max(1, part), parts)} of {parts}:\n{shown}"
