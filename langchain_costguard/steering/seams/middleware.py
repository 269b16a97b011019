"""The seam in ``create_agent``: every policy in one middleware, around each model call and each tool call.

Only ``wrap_model_call`` and ``wrap_tool_call``: a hook before or after the model is a node of its own, and costs the
graph a step each time.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from copy import copy
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, NotRequired, cast

from langchain.agents.middleware import AgentMiddleware
from langchain.agents.middleware.types import ExtendedModelResponse, ModelRequest, ModelResponse, PrivateStateAttr
from langchain_core.messages import ToolMessage
from langgraph.types import Command
from langsmith.utils import tracing_is_enabled

from langchain_costguard.steering.flow import Call, adrive, drive
from langchain_costguard.steering.requests import Reply, last_ai, name_of, noted
from langchain_costguard.steering.seams.held import held_back, watched
from langchain_costguard.steering.seams.tools import asteer_tool, back_to, steer_tool
from langchain_costguard.steering.seams.whole_run import loop_entry, state_of
from langchain_costguard.steering.surroundings import Here, paying

if TYPE_CHECKING:
    from langchain_core.messages import AIMessage

    from langchain_costguard.steering.steering import Steering


_CONTEXT = {"costguard_context": NotRequired[Annotated[dict[str, Any], PrivateStateAttr]]}
"""The edit of a thread, which no input and no output has."""


class CostGuardMiddleware(AgentMiddleware[Any, Any]):
    """Steers an agent. Made by ``steer()``."""

    def __init__(self, steering: Steering) -> None:
        super().__init__()
        self.steering = steering
        self.state_schema = state_of(steering.guard, PrivateStateAttr)
        steering.guard.deferrals.steer("model")
        if steering.windows is not None:
            self.state_schema = state_of(steering.guard, PrivateStateAttr, **_CONTEXT)
            self.tools = [steering.fetch_result]
        if tracing_is_enabled():
            self.awrap_model_call = self._traced_model_call  # type: ignore[method-assign]
            self.awrap_tool_call = self._traced_tool_call  # type: ignore[method-assign]

    def wrap_model_call(self, request: ModelRequest[Any], handler: Callable[[Any], Any]) -> Any:
        """Run the model's flow around the call."""
        here = Here(self.steering.guard, name_of(request.model))
        flow = self.steering.model_flow(request, here=here)
        return _response(drive(flow, partial(self._call, handler, here)))

    # `create_agent` makes a LangSmith span of each hook, also where nothing is traced: around a coroutine function that
    # takes two thread hops and a task a call (more than all we do), around a function that returns its coroutine none.
    # https://github.com/langchain-ai/langsmith-sdk/blob/main/python/langsmith/run_helpers.py (async_wrapper)

    def awrap_model_call(self, request: ModelRequest[Any], handler: Callable[[Any], Awaitable[Any]]) -> Any:
        """Run the model's flow around the call; returns a coroutine."""
        return self._traced_model_call(request, handler)

    def awrap_tool_call(self, request: Any, handler: Callable[[Any], Awaitable[Any]]) -> Any:
        """Run the tool's flow around the call; returns a coroutine."""
        return asteer_tool(self.steering, request, handler, _back)

    async def _traced_model_call(self, request: ModelRequest[Any], handler: Callable[[Any], Awaitable[Any]]) -> Any:
        here = Here(self.steering.guard, name_of(request.model))
        flow = self.steering.model_flow(request, here=here)
        return _response(await adrive(flow, partial(self._acall, handler, here), self.steering.guard.aside))

    def wrap_tool_call(self, request: Any, handler: Callable[[Any], Any]) -> Any:
        """Run the tool's flow around the call."""
        return steer_tool(self.steering, request, handler, _back)

    async def _traced_tool_call(self, request: Any, handler: Callable[[Any], Awaitable[Any]]) -> Any:
        return await asteer_tool(self.steering, request, handler, _back)

    def _call(self, handler: Callable[[Any], Any], here: Here, call: Call) -> Reply:
        with paying(self.steering.guard, call), watched(here):
            return _reply(handler(self._strictly(call)))

    async def _acall(self, handler: Callable[[Any], Awaitable[Any]], here: Here, call: Call) -> Reply:
        with paying(self.steering.guard, call), watched(here):
            return _reply(await handler(self._strictly(call)))

    def _strictly(self, call: Call) -> ModelRequest[Any]:
        # As `override` does, which constructs the request anew and takes as long as all the policies together.
        strict: ModelRequest[Any] = copy(call.request)
        model = noted(self.steering.strict(strict.model), call.facts)
        strict.__dict__["model"] = held_back(model) if self.steering.holds_streams else model
        return strict


def _back(message: ToolMessage) -> Any:
    return back_to(loop_entry(), "messages", message)


def _reply(response: Any) -> Reply:
    if isinstance(response, ExtendedModelResponse):
        return _of(response.model_response.result, response)
    if isinstance(response, ModelResponse):
        return _of(response.result, response)
    return Reply(response, ModelResponse(result=[response]))


def _of(result: list[Any], response: Any) -> Reply:
    answered = (
        frozenset(m.tool_call_id for m in result if isinstance(m, ToolMessage)) if len(result) > 1 else frozenset()
    )
    return Reply(last_ai(result), response, answered=answered)


def _response(reply: Reply) -> Any:
    raw, message = reply.raw, cast("AIMessage", reply.message)
    if raw is None:
        # Where an agent has no tools but a response format, only this ends its loop (`_make_model_to_model_edge`).
        response = ModelResponse(result=[*reply.before, message])
        return ExtendedModelResponse(response, Command(update={"jump_to": "end"})) if reply.ended else response
    if not reply.before and not reply.altered:
        return _with_state(raw, reply.state)
    inner = raw.model_response if isinstance(raw, ExtendedModelResponse) else raw
    old = last_ai(inner.result)
    result: list[Any] = [*reply.before, *(message if m is old else m for m in inner.result)]
    changed = ModelResponse(result=result, structured_response=inner.structured_response)
    whole = ExtendedModelResponse(changed, raw.command) if isinstance(raw, ExtendedModelResponse) else changed
    return _with_state(whole, reply.state)


def _with_state(response: Any, state: dict[str, Any]) -> Any:
    """The response, which updates these keys of the agent's state, too."""
    if not state:
        return response
    if not isinstance(response, ExtendedModelResponse):
        return ExtendedModelResponse(response, Command(update=state))
    command = response.command or Command()
    update = {**(command.update or {}), **state} if isinstance(command.update, dict | None) else command.update
    return ExtendedModelResponse(response.model_response, replace(command, update=update))
