"""What becomes of long results and of those that are said again: cut, referred to, kept aside, and left alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from langchain.agents import create_agent
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, ToolMessage
from langchain_core.tools import tool

from langchain_costguard import CostGuard
from langchain_costguard.context import Context
from langchain_costguard.context.stash import Stash, opened
from langchain_costguard.steering import SteeredModel, steer
from langchain_costguard.testing import FakeProvider, Reply
from langchain_costguard.testing.requests import Request
from tests.conftest import Caller
from tests.servers import Server

PAGE = "\n".join(f"Berth {n} is {n * 7 % 30} feet wide." for n in range(60))
QUIET: dict[str, Any] = {"loops": None, "breaker": None}


@tool
def look(page: str) -> str:
    """Read a page of the harbour's book."""
    return f"Page {page}\n{PAGE}"


def thread(*pages: str, status: Any = "success", name: str = "look") -> list[BaseMessage]:
    """A thread in which these pages were read one after another."""
    messages: list[BaseMessage] = [HumanMessage("Which berth?")]
    for at, page in enumerate(pages):
        messages.append(AIMessage("", tool_calls=[{"name": name, "args": {"page": page}, "id": f"c{at}"}]))
        messages.append(ToolMessage(look.invoke({"page": page}), tool_call_id=f"c{at}", name=name, status=status))
    return messages


def results(provider: FakeProvider) -> list[str]:
    return [m["content"] for m in provider.requests[-1].messages if m["role"] == "tool"]


def steered(provider: FakeProvider, context: Context, *, bound: bool = True) -> SteeredModel:
    steering = steer(CostGuard(), context=context, **QUIET)
    model = provider.openai()
    return SteeredModel(model.bind_tools([look, *([steering.fetch_result] if bound else [])]), steering)


def test_a_result_that_is_said_again_is_sent_as_a_reference_to_the_first(provider: FakeProvider, call: Caller) -> None:
    call(steered(provider, Context()), thread("a", "b", "a", "a"))
    first, other, again, once_more = results(provider)
    assert first == look.invoke({"page": "a"})
    assert other == look.invoke({"page": "b"})
    assert again == once_more
    assert again.startswith('[Word for word an earlier result above, which begins "Page a Berth 0 is 0 feet wide.')
    assert len(again) < len(first) / 3


@pytest.mark.parametrize(
    ("context", "messages"),
    [
        (Context(), thread("a", "a", status="error")),
        (Context(cap=None), thread("a", "a")),
        (Context(exclude_tools=["look"]), thread("a", "a")),
        (Context(), thread("a", "a", name="fetch_result")),
        (Context(), thread("a", "b")),
    ],
)
def test_what_is_exempt_is_sent_again(
    context: Context, messages: list[BaseMessage], provider: FakeProvider, call: Caller
) -> None:
    call(steered(provider, context), messages)
    assert results(provider) == [m.text for m in messages if isinstance(m, ToolMessage)]


def test_the_reference_leads_to_the_whole_and_the_state_keeps_it(provider_of: Any, call: Caller) -> None:
    def reply(request: Request) -> Reply:
        if request.number <= 2:
            return Reply("", tool_calls=[("look", {"page": "a"})])
        id = str(request.messages).rpartition("fetch_result(id=")[2].strip("\\\"'")[:10]
        return Reply("", tool_calls=[("fetch_result", {"id": id})]) if request.number == 3 else Reply("done")

    provider = provider_of(reply)
    guard = CostGuard()
    agent = create_agent(provider.openai(), [look], middleware=steer(guard, context=Context(), **QUIET))
    state = call(agent, {"messages": [HumanMessage("Which berth?")]})
    first, again, fetched = (m.text for m in state["messages"] if isinstance(m, ToolMessage))
    assert first == again == fetched == look.invoke({"page": "a"})
    assert [len(text) < 300 for text in results(provider)] == [False, True, False]
    assert guard.report().contexts.total.cut > 0


@pytest.mark.parametrize("cap", [100, 1_500])
def test_nothing_is_cut_that_the_model_has_no_tool_to_fetch(
    cap: int, provider: FakeProvider, call: Caller, caplog: pytest.LogCaptureFixture
) -> None:
    messages = thread("a", "b", "a")
    call(steered(provider, Context(cap=cap), bound=False), messages)
    assert results(provider) == [m.text for m in messages if isinstance(m, ToolMessage)]
    assert [record.message.count("fetch_result") for record in caplog.records].count(2) == 1


@pytest.mark.parametrize("asked", [{"server": True}, {}])
def test_where_the_provider_clears_results_none_is_referred_to(
    asked: dict[str, Any], provider: FakeProvider, call: Caller
) -> None:
    edits = {"edits": [{"type": "clear_tool_uses_20250919"}]}
    own: Any = {} if asked else {"context_management": edits, "betas": ["context-management-2025-06-27"]}
    steering = steer(CostGuard(), context=Context(**asked), **QUIET)
    model = provider.anthropic(model="claude-sonnet-4-6", **own)
    call(SteeredModel(model.bind_tools([look, steering.fetch_result]), steering), thread("a", "a"))
    assert str(provider.requests[-1].messages).count("Berth 59 is") == 2


@pytest.mark.parametrize("kind", ["memory", "sqlite", "redis"])
def test_a_stash_keeps_texts_by_owner_until_their_time_is_over(
    kind: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    server: Server | None = request.getfixturevalue("server") if kind == "redis" else None
    place = {"memory": None, "sqlite": str(tmp_path / "stash.db")}.get(kind, server and server.url)
    stash = opened(place)
    other = stash if kind == "memory" else opened(place)
    now = CostGuard().now()
    stash.put("user\0anna", [("r1", "secret \ud800 \U0001f600"), ("r2", "")], now=now, ttl=60.0)
    stash.put_json("user\0anna", "record", [{"version": 1}], now=now, ttl=60.0)
    assert other.get("user\0anna", "r1", now=now + 9) == "secret \ud800 \U0001f600"
    assert other.get("user\0anna", "r2", now=now + 9) == ""
    assert other.get_json("user\0anna", "record", now=now) == [{"version": 1}]
    assert other.get("user\0olga", "r1", now=now) is None
    assert other.get("user\0anna", "r1", now=now + 61) is None
    assert isinstance(stash, Stash)
    assert stash.quick is (kind == "memory")


@pytest.mark.parametrize("address", ["u:hunter2@host:6379", "u:hunter2@host:6379/0"])
def test_an_address_without_its_scheme_makes_no_file_of_a_password(
    address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=r"store: .*begins with redis://") as caught:
        Context(store=address)
    assert "hunter2" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []
