"""A context policy in a hand-written graph: a node before the one that calls the model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from langchain_core.language_models import BaseChatModel
from langchain_core.runnables import RunnableBinding

from langchain_costguard.context.context import Context
from langchain_costguard.metering.settings import check_guard
from langchain_costguard.steering.flow import Flow, adrive, drive, no_calls
from langchain_costguard.steering.layers.fetching import fetch_tool
from langchain_costguard.steering.layers.shaping import shown
from langchain_costguard.steering.layers.windows import Windows
from langchain_costguard.steering.requests import ChatRequest
from langchain_costguard.steering.seams.states import messages_of
from langchain_costguard.steering.surroundings import Here

if TYPE_CHECKING:
    from langchain_core.tools import BaseTool

    from langchain_costguard.guard import CostGuard

KEY = "llm_input_messages"
"""Where LangGraph's prebuilt agent looks for what a ``pre_model_hook`` has prepared."""


class ContextNode:
    """A node that writes what the model is to see to ``llm_input_messages``; the thread's messages stay as they are.

    The next node calls the model with ``state["llm_input_messages"]``, a key that the graph's state has to have,
    without a reducer. It is a ``pre_model_hook``, too. What the calls come to is read in the messages of the state.

    Args:
        guard: Whose prices, estimates and report.
        context: What is chosen; default: ``Context()``.
        model: The model that the next node calls, with its tools bound if it has any. None: the one that answered last.
        key: The state's key of what the model is to see.
        messages_key: The state's key of the messages.

    Attributes:
        fetch_result: The tool that returns the whole of a result that was cut: bind it to the model, and give it to the
            ``ToolNode``.

    Raises:
        ValueError: names the argument.
    """

    def __init__(
        self,
        guard: CostGuard,
        context: Context | None = None,
        *,
        model: Any = None,
        key: str = KEY,
        messages_key: str = "messages",
    ) -> None:
        check_guard(guard)
        bound = model.bound if isinstance(model, RunnableBinding) else model
        if bound is not None and not isinstance(bound, BaseChatModel):
            raise ValueError(f"model: {model!r} must be the chat model that the next node calls, or None")
        if context is not None and not isinstance(context, Context):
            raise ValueError(f"context: {context!r} is no Context, such as Context(), or None")
        self.guard = guard
        self.windows = Windows(context or Context(), guard)
        self.key = key
        self.messages_key = messages_key
        self.fetch_result: BaseTool = fetch_tool(self.windows)
        self.windows.given = True
        self._model = bound
        self._settings = dict(model.kwargs) if isinstance(model, RunnableBinding) else {}

    def __call__(self, state: Any) -> Any:
        """Prepare what the model is to see."""
        return drive(self._flow(state), no_calls)

    async def acall(self, state: Any) -> Any:
        """As a call, on an event loop; for ``RunnableLambda(node, afunc=node.acall)`` where the stash is a file or a
        server."""
        return await adrive(self._flow(state), no_calls, self.guard.aside)

    def _flow(self, state: Any) -> Flow[Any]:
        here = Here(self.guard, "context")
        request = ChatRequest(self._model, messages_of(state, self.messages_key), self._settings)
        view = yield from shown(self.windows, here, request)
        return {self.key: view}
