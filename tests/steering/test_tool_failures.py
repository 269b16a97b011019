"""A tool that fails: what the agent is told, what opens its circuit, and when it is called again."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from langchain.agents import create_agent
from langchain.agents.middleware import AgentMiddleware
from langchain_core.messages import ToolMessage
from langchain_core.tools import StructuredTool, ToolException, tool
from langgraph.prebuilt import ToolNode, create_react_agent

from langchain_costguard import Budget, CostGuard
from langchain_costguard.steering import Retry, guarded_tools, install, steer
from langchain_costguard.steering.policies.answers import answered_with
from langchain_costguard.testing import FakeProvider, Reply, Request
from tests.conftest import PRICES, Caller

GO: Any = {"messages": [("user", "go")]}


def searching(request: Request) -> Reply:
    last = request.messages[-1]
    return (
        Reply(f"It said: {last['content']}") if last["role"] == "tool" else Reply(tool_calls=[("search", {"q": "x"})])
    )


def failing(error: Exception) -> Any:
    @tool
    def search(q: str) -> str:
        """Search."""
        raise error

    return search


@pytest.mark.parametrize("error", [TimeoutError("too slow"), ConnectionError("reset"), ConnectionResetError("by peer")])
def test_a_failure_that_may_pass_is_told_to_the_agent_and_closes_the_tool_in_time(error: Any, call: Caller) -> None:
    with FakeProvider(searching) as provider:
        guard = CostGuard(prices=PRICES)
        agent = create_agent(provider.openai(), [failing(error)], middleware=steer(guard))
        for _ in range(5):
            assert "search failed. " in call(agent, GO)["messages"][-1].text
        assert "search failed. " not in call(agent, GO)["messages"][-1].text
        assert guard.report().actions.times("CircuitOpened") == 1


@pytest.mark.parametrize(
    ("error", "policies"),
    [(PermissionError("no"), {}), (RuntimeError("a bug"), {}), (TimeoutError("slow"), {"tool_errors": "raise"})],
)
def test_what_a_person_has_to_see_to_is_raised(error: Exception, policies: Any, call: Caller) -> None:
    with FakeProvider(searching) as provider:
        agent = create_agent(provider.openai(), [failing(error)], middleware=steer(CostGuard(), **policies))
        with pytest.raises(type(error)):
            call(agent, GO)


SAID = [
    ("Error executing tool search: 503 Service Unavailable", "told", "closed"),
    ("Error code: 429 - too many requests", "told", "closed"),
    ("Timed out while waiting for the server", "told", "closed"),
    ("MCP error -32602: Invalid params", "told", "open"),
    ("1 validation error for searchArguments: Field required", "told", "open"),
    ("HTTP 400 Bad Request", "told", "open"),
    ("Error code: 401 - unauthorized", "raised", "closed"),
    ("something odd", "raised", "closed"),
]
"""What a server said, whether the agent is told of it, and whether the tool stays open to others."""


@pytest.mark.parametrize(("said", "then", "others"), SAID)
@pytest.mark.parametrize("how", ["steer", "install", "guarded_tools"])
def test_a_tool_exception_is_taken_at_its_words(how: str, said: str, then: str, others: str, call: Caller) -> None:
    """As MCP servers' errors come, raised or as a message, of which only the text is left."""
    with FakeProvider(searching) as provider:
        guard, model, tools = CostGuard(prices=PRICES), provider.openai(), [failing(ToolException(said))]
        if how == "steer":
            agent: Any = create_agent(model, tools, middleware=steer(guard))
        elif how == "install":
            agent = install(create_react_agent(model, tools), guard)
        else:
            agent = create_react_agent(model, guarded_tools(tools, guard))
        for _ in range(6):
            try:
                told = said.split(":")[0] in call(agent, GO)["messages"][-1].text
            except ToolException:
                told = False
            assert told is (then == "told") or guard.report().actions.times("ShortCircuited")
        assert guard.report().actions.times("ShortCircuited") == (others == "closed")


def test_an_unknown_way_is_refused() -> None:
    with pytest.raises(ValueError, match="tool_errors: 'hide' is not 'tell' or 'raise'"):
        steer(CostGuard(), tool_errors="hide")  # type: ignore[arg-type]


@pytest.mark.parametrize("how", ["steer", "install"])
def test_malformed_calls_of_some_close_nobody_elses_tool(how: str, call: Caller) -> None:
    @tool
    def lookup(order: int) -> str:
        """Look an order up."""
        return f"order {order}: shipped"

    def reply(request: Request) -> Reply:
        last = request.messages[-1]
        if last["role"] == "tool":
            return Reply(str(last["content"]))
        bad = "bad" in str(last["content"])
        return Reply(tool_calls=[("lookup", {"order": "A-17" if bad else 17})])

    with FakeProvider(reply) as provider:
        guard, model = CostGuard(prices=PRICES), provider.openai()
        agent = create_agent(model, [lookup], middleware=steer(guard))
        if how == "install":
            agent = install(create_react_agent(model, [lookup]), guard)
        for _ in range(6):
            call(agent, {"messages": [("user", "bad")]})
        assert call(agent, {"messages": [("user", "good")]})["messages"][-1].text == "order 17: shipped"


def handled(search: Callable[[str], str]) -> Any:
    """As the MCP adapters make tools."""

    def run(q: str) -> str:
        """Search."""
        try:
            return search(q)
        except ConnectionError as error:
            raise ToolException(str(error)) from error

    return StructuredTool.from_function(run, name="search", handle_tool_error=True)


@pytest.mark.parametrize("how", ["raised", "raised in words", "handled by the tool", "handled by the node"])
def test_a_tool_is_called_again_however_its_failure_comes_back(how: str, call: Caller) -> None:
    tries: list[str] = []

    def search(q: str) -> str:
        """Search."""
        tries.append(q)
        if len(tries) < 3:
            raise (ToolException if how == "raised in words" else ConnectionError)("connection reset by peer")
        return "found"

    with FakeProvider(searching) as provider:
        guard, model, retry = CostGuard(prices=PRICES), provider.openai(), Retry(tools=["search"], base=0.01, most=0.05)
        made = handled(search) if how == "handled by the tool" else StructuredTool.from_function(search)
        agent = create_agent(model, [made], middleware=steer(guard, retry=retry))
        if how == "handled by the node":
            graph = create_react_agent(model, ToolNode([made], handle_tool_errors=True))
            agent = install(graph, guard, policies=steer(guard, retry=retry))
        assert call(agent, GO)["messages"][-1].text == "It said: found"
        assert len(tries) == 3


class Before(AgentMiddleware[Any, Any]):
    """A hook before each model call."""

    seen = 0

    def before_model(self, state: Any, runtime: Any) -> None:
        self.seen += 1


@pytest.mark.parametrize("how", ["steer", "steer, with a hook", "install", "install on create_agent", "react v1"])
@pytest.mark.parametrize("beside", [False, True])
def test_a_refused_tool_whose_result_ends_the_run_is_for_the_model(how: str, beside: bool, call: Caller) -> None:
    def search(q: str) -> str:
        """Search."""
        return "found"

    def reply(request: Request) -> Reply:
        if request.messages[-1]["role"] == "tool" or not beside:
            return searching(request)
        return Reply(tool_calls=[("search", {"q": c}) for c in "ab"])

    with FakeProvider(reply) as provider:
        guard, model = CostGuard(Budget(tool_calls=2), prices=PRICES), provider.openai()
        made, hook = StructuredTool.from_function(search, return_direct=True), Before()
        if how.startswith("steer"):
            agent = create_agent(model, [made], middleware=[*steer(guard), *([hook] if "hook" in how else [])])
        elif how == "install on create_agent":
            agent = install(create_agent(model, [made]), guard, model="model")
        else:
            agent = install(create_react_agent(model, [made], version="v1" if how == "react v1" else "v2"), guard)
        with guard.scope(session="s"):
            for _ in range(1 if beside else 2):
                assert call(agent, GO)["messages"][-1].text == "found"
            answer = call(agent, GO)["messages"][-1].text
            assert answer.startswith("It said: The budget for tool calls is used up.")
        assert hook.seen == (len(provider.requests) if "hook" in how else 0)


class After(AgentMiddleware[Any, Any]):
    """A hook after the run."""

    seen = 0

    def after_agent(self, state: Any, runtime: Any) -> None:
        self.seen += 1


@pytest.mark.parametrize("how", ["steer", "install"])
def test_a_hook_after_the_run_runs_once_though_a_tool_that_ends_it_is_refused(how: str, call: Caller) -> None:
    def search(q: str) -> str:
        """Search."""
        return "found"

    with FakeProvider(searching) as provider:
        guard, hook = CostGuard(Budget(tool_calls=1), prices=PRICES), After()
        made = StructuredTool.from_function(search, return_direct=True)
        agent = create_agent(provider.openai(), [made], middleware=[*(steer(guard) if how == "steer" else ()), hook])
        if how == "install":
            agent = install(agent, guard, model="model")
        with guard.scope(session="s"):
            assert call(agent, GO)["messages"][-1].text == "found"
            assert "The budget for tool calls is used up" in call(agent, GO)["messages"][-1].text
        assert hook.seen == 2


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("Error invoking tool 'x' with kwargs {'order': 'A'} with error:\n order: Input should be", "validation"),
        ("Error: y is not a valid tool, try one of [x].", "validation"),
        ("Error code: 400 - {'error': {'message': 'bad'}}", "validation"),
        ("HTTP 404 Not Found", "validation"),
        ("400 Bad Request: the response was filtered by the content filter", "refusal"),
        ("Error code: 429 - rate limit reached", "rate_limit"),
        ("Error code: 429 - insufficient_quota", "quota"),
        ("HTTPStatusError: Server error '503 Service Unavailable' for url", "server"),
        ("the request timed out", "timeout"),
        ("ToolException('connection reset by peer')", "server"),
        ("ValueError('boom 3')", "unknown"),
    ],
)
def test_the_words_of_an_error_tell_its_class(text: str, kind: str) -> None:
    assert answered_with(ToolMessage(text, tool_call_id="1", status="error")) == kind
