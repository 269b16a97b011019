"""The chat model without a provider."""

from concurrent.futures import ThreadPoolExecutor

import pytest
from langchain.agents import create_agent
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.tools import tool

from langchain_costguard.testing import Reply, ScriptedChatModel


@tool
def search(query: str) -> str:
    """Search the web."""
    return f"nothing about {query}"


class Starts(BaseCallbackHandler):
    def __init__(self):
        self.metadata = []

    def on_chat_model_start(self, serialized, messages, *, metadata=None, **kwargs):
        self.metadata.append(metadata)


def test_it_answers_in_order_and_says_what_it_used(caller):
    model = ScriptedChatModel(replies=["one two three", Reply("four", input_tokens=99)], usage=(10, None))

    first, second, third = (caller.ask(model, "hi") for _ in range(3))
    assert [first.content, second.content, third.content] == ["one two three", "four", "four"]
    assert (first.usage_metadata["input_tokens"], first.usage_metadata["output_tokens"]) == (10, 3)
    assert second.usage_metadata["input_tokens"] == 99
    assert model.calls == 3


def test_it_streams_its_pieces_and_ends_with_the_usage(caller):
    model = ScriptedChatModel(replies=[Reply(chunks=5)], usage=(10, 200))

    chunks = caller.chunks(model, "hi")
    assert [chunk.content for chunk in chunks if chunk.content] == [f"word{i} " for i in range(4)] + ["word4"]
    assert [c.usage_metadata["output_tokens"] for c in chunks if c.usage_metadata] == [200]
    assert caller.read(model, "hi").response_metadata["model_name"] == "gpt-4o"


def test_max_tokens_cuts_it_and_is_told_to_callbacks(caller):
    model, starts = ScriptedChatModel(replies=["one two three"]), Starts()

    message = caller.ask(model.bind(max_tokens=2), "hi", config={"callbacks": [starts]})
    assert message.content == "one two "
    assert message.usage_metadata["output_tokens"] == 2
    assert message.response_metadata["finish_reason"] == "length"
    assert starts.metadata[0]["ls_max_tokens"] == 2


def test_it_reports_the_provider_and_model_it_is_told_to_be(caller):
    model, starts = ScriptedChatModel(provider="anthropic", model="claude-sonnet-4-6"), Starts()

    caller.ask(model, "hi", config={"callbacks": [starts]})
    assert starts.metadata[0]["ls_provider"] == "anthropic"
    assert starts.metadata[0]["ls_model_name"] == "claude-sonnet-4-6"


def test_its_tool_calls_drive_a_real_agent(caller):
    script = [Reply("Searching.", tool_calls=[("search", {"query": "cats"})]), "Nothing found."]
    model = ScriptedChatModel(replies=script)

    state = caller.ask(create_agent(model, [search]), {"messages": [("user", "find cats")]})
    assert [message.type for message in state["messages"]] == ["human", "ai", "tool", "ai"]
    assert state["messages"][2].content == "nothing about cats"


def test_its_tool_calls_arrive_in_streams(caller):
    model = ScriptedChatModel(replies=[Reply(tool_calls=[("search", {"query": "a long enough question"})])])

    (call,) = caller.read(model.bind_tools([search]), "hi").tool_calls
    assert (call["name"], call["args"]) == ("search", {"query": "a long enough question"})


def test_each_reply_is_given_once_whatever_the_threads():
    model = ScriptedChatModel(replies=[f"reply {i}" for i in range(200)])

    with ThreadPoolExecutor(16) as pool:
        messages = list(pool.map(model.invoke, ["hi"] * 200))
    assert len({message.content for message in messages}) == 200


def test_it_needs_at_least_one_reply():
    with pytest.raises(ValueError, match="replies"):
        ScriptedChatModel(replies=[])
