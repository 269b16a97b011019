"""A model that takes a request over is asked in its own provider's words, or is declined before anything is paid."""

from __future__ import annotations

from itertools import permutations, product
from typing import Any, ClassVar

import pytest
from langchain.agents import create_agent
from langchain.agents.middleware import AgentMiddleware
from langchain.agents.structured_output import ProviderStrategy
from langchain_anthropic.middleware import AnthropicPromptCachingMiddleware
from langchain_core.language_models import GenericFakeChatModel
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage

from langchain_costguard import CostGuard
from langchain_costguard.events import Escalated, Routed
from langchain_costguard.routing import Cascade, Route, RouteRequest
from langchain_costguard.steering import RoutedModel, SteeredModel, steer
from langchain_costguard.steering.requests import ChatRequest
from langchain_costguard.steering.translation.takeover import declined
from langchain_costguard.testing import FakeProvider, Recorder
from tests.conftest import Caller
from tests.steering.matrix import ASKED, BINDINGS, HOSTED, NOT_HAD, PATHS, City, clients, right, search, strictly

DIALECTS = ("chat", "responses", "anthropic")
GO: Any = {"messages": [HumanMessage("Where?")]}


class To:
    """A router to one model."""

    def __init__(self, model: Any) -> None:
        self.models = (model,)

    def __call__(self, request: RouteRequest) -> Route:
        return Route(self.models[0], "it will do")


@pytest.mark.parametrize(("own", "chosen"), permutations(DIALECTS, 2))
def test_what_is_bound_is_right_at_another_provider_or_the_model_is_declined(
    own: str, chosen: str, call: Caller
) -> None:
    faults: list[str] = []
    with FakeProvider(strictly(faults)) as provider:
        models = clients(provider)
        for binding, (bind, words) in BINDINGS.items():
            if own in NOT_HAD.get(binding, ()):
                continue
            recorder = Recorder()
            model = RoutedModel(CostGuard(sinks=[recorder]), To(models[chosen]), default=models[own])
            asked = len(provider.requests)
            said = call(bind(model, own), ASKED)
            assert right(binding, said), (binding, said)
            (request,) = provider.requests[asked:]
            why = [event.why for event in recorder.events if isinstance(event, Routed)]
            assert request.path == PATHS[chosen if chosen in words else own], (binding, why)
            assert chosen in words or "cannot do it: it" in why[0], (binding, why)
    assert faults == []


CALL = {"name": "search", "args": {"query": "x"}, "id": "call_1", "type": "tool_call"}
REPLIES: dict[str, tuple[str, list[Any]]] = {
    "anthropic": ("anthropic", [
        {"type": "thinking", "thinking": "Hm.", "signature": "c2ln"},
        {"type": "text", "text": "I look."},
        {"type": "tool_use", "id": "call_1", "name": "search", "input": {"query": "x"}},
    ]),
    "anthropic, searched": ("anthropic", [
        {"type": "server_tool_use", "id": "srv_1", "name": "web_search", "input": {"query": "x"}},
        {"type": "web_search_tool_result", "tool_use_id": "srv_1", "content": []},
        {"type": "text", "text": "I look."},
        {"type": "tool_use", "id": "call_1", "name": "search", "input": {"query": "x"}},
    ]),
    "responses": ("openai", [
        {"type": "reasoning", "id": "rs_1", "summary": []},
        {"type": "text", "text": "I look.", "annotations": [], "id": "msg_1"},
        {"type": "function_call", "id": "fc_1", "call_id": "call_1", "name": "search", "arguments": '{"query": "x"}'},
    ]),
    "gemini": ("google_genai", [
        {"type": "thinking", "thinking": "Hm.", "signature": "Z2Vt"},
        {"type": "text", "text": "I look."},
    ]),
}  # fmt: skip
"""Replies of each provider as its client reads them: where they are from, and their blocks."""


@pytest.mark.parametrize("kind", REPLIES)
def test_a_conversation_goes_on_at_whatever_provider(kind: str, call: Caller) -> None:
    provider_name, blocks = REPLIES[kind]
    reply = AIMessage(blocks, tool_calls=[CALL], response_metadata={"model_provider": provider_name})
    thread = [HumanMessage("Where?"), reply, ToolMessage("found x", tool_call_id="call_1")]
    faults: list[str] = []
    with FakeProvider(strictly(faults)) as provider:
        models = clients(provider)
        for own in DIALECTS:
            for chosen in DIALECTS:
                model = RoutedModel(CostGuard(), To(models[chosen]), default=models[own])
                call(model.bind_tools([search]), thread)
                assert provider.requests[-1].path == PATHS[chosen]
                assert "I look." in str(provider.requests[-1].body)
    assert faults == []


AGENTS: dict[str, tuple[str, str, dict[str, Any], bool]] = {
    "a choice of Claude's": ("anthropic", "chat", {"tool_choice": {"type": "tool", "name": "search"}}, True),
    "no choice": ("anthropic", "responses", {"tool_choice": {"type": "none"}}, True),
    "a choice of OpenAI's": (
        "chat", "anthropic", {"tool_choice": {"type": "function", "function": {"name": "search"}}}, True,
    ),
    "any": ("responses", "anthropic", {"tool_choice": "required"}, True),
    "one at a time": ("anthropic", "chat", {"model_settings": {"parallel_tool_calls": False}}, True),
    "stops": ("chat", "anthropic", {"model_settings": {"stop": ["END"], "max_completion_tokens": 50}}, True),
    "a seed": ("chat", "anthropic", {"model_settings": {"seed": 1}}, False),
    "a hosted tool": ("responses", "anthropic", {"tools": [HOSTED["responses"]]}, False),
    "thinking": ("anthropic", "chat", {"model_settings": {"thinking": {"type": "adaptive"}}}, False),
    "a schema": ("anthropic", "chat", {"response_format": ProviderStrategy(City), "tools": []}, True),
}  # fmt: skip
"""Whose words, whose model, what another middleware sets in an agent's request, and whether the model takes it."""


@pytest.mark.parametrize("case", AGENTS)
def test_what_other_middleware_asks_for_goes_with_an_agents_request(case: str, call: Caller) -> None:
    own, chosen, changes, taken = AGENTS[case]
    faults: list[str] = []

    class First(AgentMiddleware[Any, Any]):
        def wrap_model_call(self, request: Any, handler: Any) -> Any:
            return handler(request.override(**changes) if len(request.messages) == 1 else request)

        async def awrap_model_call(self, request: Any, handler: Any) -> Any:
            return await self.wrap_model_call(request, handler)

    with FakeProvider(strictly(faults)) as provider:
        models = clients(provider)
        steering = steer(CostGuard(), router=To(models[chosen]), loops=None)
        middleware = [AnthropicPromptCachingMiddleware(unsupported_model_behavior="ignore"), First(), *steering]
        agent = create_agent(models[own], [search], system_prompt="Be brief.", middleware=middleware)
        call(agent, GO, {"recursion_limit": 30}, interrupt_after=["model"])
        assert provider.requests[0].path == PATHS[chosen if taken else own]
    assert faults == []


DECLINED: dict[str, tuple[str, dict[str, Any], dict[str, Any], str]] = {
    "a tool while it thinks": (
        "anthropic", {"thinking": {"type": "enabled", "budget_tokens": 1024}, "max_tokens": 3000},
        {"tools": [search], "tool_choice": "any"}, "it cannot be made to call a tool while it thinks",
    ),
    "a ceiling below its thoughts": (
        "anthropic", {"thinking": {"type": "enabled", "budget_tokens": 1024}, "max_tokens": 3000},
        {"max_tokens": 100}, "it may think for 1,024 tokens, and the reply is to have 100 at the most",
    ),
    "a temperature": ("openai", {"model": "gpt-5-mini"}, {"temperature": 0.2}, "its temperature cannot be set"),
    "an effort": ("openai", {"model": "gpt-4o"}, {"reasoning_effort": "low"}, "it has no reasoning effort 'low'"),
    "a schema": ("openai", {"model": "gpt-4-turbo"}, {"response_format": City}, "it cannot be held to a schema"),
    "a model by name": ("openai", {"model": "gpt-4o"}, {"model": "gpt-4.1"}, "the call itself asks for 'gpt-4.1'"),
    "who knows": ("anthropic", {}, {"logit_bias": {"1": 1}}, "it has no equal to 'logit_bias'"),
}  # fmt: skip
"""Another model, how it is set up, what is bound to OpenAI's, and why it is not asked: of the same provider, too."""


@pytest.mark.parametrize("case", DECLINED)
def test_a_model_that_cannot_do_what_is_bound_is_declined_in_one_sentence(case: str, call: Caller) -> None:
    kind, fields, bound, why = DECLINED[case]
    recorder = Recorder()
    with FakeProvider('{"name": "Rome"}') as provider:
        own = provider.openai("gpt-4.1")
        router = To(getattr(provider, kind)(**fields))
        model = RoutedModel(CostGuard(sinks=[recorder]), router, default=own)
        tools = bound.pop("tools", None) if (bound := dict(bound)) else None
        call(model.bind_tools(tools, **bound) if tools else model.bind(**bound), "Where?")
        assert [request.model for request in provider.requests] == ["gpt-4.1"]
    assert [event.why for event in recorder.events if isinstance(event, Routed)] == [
        f"gpt-4.1, for the router's choice cannot do it: {why}"
    ]


def test_a_step_that_another_model_began_is_not_given_to_one_that_must_have_thought_first(call: Caller) -> None:
    faults: list[str] = []
    thread = [
        HumanMessage("Where?"),
        AIMessage("", tool_calls=[CALL], response_metadata={"model_provider": "openai"}),
        ToolMessage("found x", tool_call_id="call_1"),
    ]
    with FakeProvider(strictly(faults)) as provider:
        claude = provider.anthropic(max_tokens=3000, thinking={"type": "enabled", "budget_tokens": 1024})
        model = RoutedModel(CostGuard(), To(claude), default=provider.openai()).bind_tools([search])
        call(model, thread)
        call(model, thread[:1])
        assert [request.path for request in provider.requests] == [PATHS["chat"], PATHS["anthropic"]]
    assert faults == []


def test_a_last_tier_that_cannot_take_what_is_bound_leaves_it_to_the_requests_own_model(call: Caller) -> None:
    recorder, faults = Recorder(), list[str]()
    with FakeProvider(strictly(faults)) as provider:
        models = clients(provider)
        cascade = Cascade(tiers=[models["chat"], models["anthropic"]], confidence=None)
        model = SteeredModel(models["responses"], steer(CostGuard(sinks=[recorder]), cascade=cascade))
        call(model.bind_tools([HOSTED["responses"]]), "Where?")
        assert [request.path for request in provider.requests] == [PATHS["responses"]]
    told = [event.why for event in recorder.events if isinstance(event, Escalated)]
    assert told == ["it has no 'web_search', a tool of another provider's"] * 2
    assert faults == []


def test_a_streamed_form_is_read_by_whoever_asked_for_it(stream: Caller) -> None:
    faults: list[str] = []
    with FakeProvider(strictly(faults)) as provider:
        models = clients(provider)
        model = RoutedModel(CostGuard(), To(models["anthropic"]), default=models["chat"])
        assert stream(model.with_structured_output(City), "Where?")[-1] == City(name="Rome")
        assert [request.path for request in provider.requests] == [PATHS["anthropic"]]
    assert faults == []


def test_another_client_binds_tools_itself_and_is_declined_what_it_is_not_known_to_have(call: Caller) -> None:
    class Other(GenericFakeChatModel):
        bound: ClassVar[list[Any]] = []

        def bind_tools(self, tools: Any, *, tool_choice: Any = None, **kwargs: Any) -> Any:
            self.bound.append(tool_choice)
            return self.bind(tools=tools, **kwargs)

    other = Other(messages=iter(["a", "b"]))
    with FakeProvider('{"name": "Rome"}') as provider:
        model = RoutedModel(CostGuard(), To(other), default=provider.openai())
        assert call(model.bind_tools([search], tool_choice="search"), "Where?").text == "a"
        assert call(model.with_structured_output(City, method="json_mode"), "json") == City(name="Rome")
    assert other.bound[-1:] == ["search"]


def test_anything_bound_is_taken_over_or_declined_and_never_an_error() -> None:
    words = ["tool_choice", "thinking", "response_format", "text", "output_config", "stop", "tools", "reasoning", "x"]
    values = [
        None,
        True,
        "any",
        1,
        {},
        {"type": "function"},
        {"mode": "ANY"},
        ["a"],
        {"format": {"type": "json_schema"}},
    ]
    with FakeProvider("c") as provider:
        models = clients(provider)
        for word, value in product(words, values):
            for own, chosen in permutations(models.values(), 2):
                assert isinstance(declined(ChatRequest(own, [HumanMessage("x")], {word: value}), chosen), str)
