"""The real ChatAnthropic against the fake provider."""

import anthropic
import pytest

from langchain_costguard.testing import FakeProvider, Reply, stuck_in_a_loop
from langchain_costguard.vocabulary.usage import Usage

pytestmark = pytest.mark.filterwarnings("ignore:The model 'claude:DeprecationWarning")

CACHED = {
    "input_tokens": 100,
    "cache_read_input_tokens": 1000,
    "cache_creation_input_tokens": 300,
    "cache_creation": {"ephemeral_5m_input_tokens": 200, "ephemeral_1h_input_tokens": 100},
    "output_tokens": 50,
    "output_tokens_details": {"thinking_tokens": 20},
    "server_tool_use": {"web_search_requests": 2},
    "service_tier": "standard",
}


def test_an_answer_arrives_whole_and_in_a_stream_with_its_usage(caller):
    with FakeProvider("one two three") as provider:
        model = provider.anthropic()
        for message in (caller.ask(model, "how are you"), caller.read(model, "how are you")):
            assert message.text == "one two three"
            assert message.usage_metadata["input_tokens"] == 3
            assert message.usage_metadata["output_tokens"] == 3
            assert message.response_metadata["stop_reason"] == "end_turn"
        assert provider.requests[1].chunks_sent == 3
        assert provider.usage().output_tokens == 6


def test_cache_details_reach_the_client_and_the_truth(caller):
    with FakeProvider(Reply("ok", usage=CACHED)) as provider:
        message = caller.ask(provider.anthropic(), "hi")

        assert message.usage_metadata["input_tokens"] == 1400
        details = message.usage_metadata["input_token_details"]
        assert details["cache_read"] == 1000
        assert details["ephemeral_5m_input_tokens"] == 200
        assert details["ephemeral_1h_input_tokens"] == 100
        assert provider.requests[0].usage == Usage(
            input_tokens=1400,
            output_tokens=50,
            cache_read=1000,
            cache_write=300,
            cache_write_1h=100,
            reasoning=20,
            web_searches=2,
        )


def test_a_stream_tells_cache_writes_without_their_lifetime_as_the_real_one_does(caller):
    with FakeProvider(Reply("ok", usage=CACHED)) as provider:
        whole = caller.read(provider.anthropic(), "hi")

        assert whole.usage_metadata["input_tokens"] == 1400
        details = whole.usage_metadata["input_token_details"]
        assert (details["cache_read"], details["cache_creation"]) == (1000, 300)
        assert "ephemeral_1h_input_tokens" not in details


def test_tool_use_arrives_whole_and_in_a_stream(caller):
    tool = {"name": "weather", "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}}}
    with FakeProvider(Reply("Let me see.", tool_calls=[("weather", {"city": "Paris"})])) as provider:
        model = provider.anthropic().bind_tools([tool])
        for message in (caller.ask(model, "hi"), caller.read(model, "hi")):
            (call,) = message.tool_calls
            assert (call["name"], call["args"]) == ("weather", {"city": "Paris"})
            assert message.response_metadata["stop_reason"] == "tool_use"
        whole, streamed = provider.requests
        assert whole.usage.output_tokens == streamed.usage.output_tokens == streamed.chunks_sent
        assert [offered.name for offered in whole.tools] == ["weather"]


def test_max_tokens_cuts_the_answer(caller):
    with FakeProvider("one two three four") as provider:
        model = provider.anthropic(max_tokens=2)
        for message in (caller.ask(model, "hi"), caller.read(model, "hi")):
            assert message.text == "one two "
            assert message.response_metadata["stop_reason"] == "max_tokens"


def test_errors_are_in_anthropics_words():
    replies = [Reply(status=429, retry_after=3), Reply(status=529)]
    with FakeProvider(replies) as provider:
        with pytest.raises(anthropic.RateLimitError) as limited:
            provider.anthropic().invoke("hi")
        with pytest.raises(anthropic.APIStatusError) as overloaded:
            provider.anthropic().invoke("hi")

        assert limited.value.response.headers["retry-after"] == "3"
        assert overloaded.value.body["error"]["type"] == "overloaded_error"


def test_a_loop_also_sticks_on_this_wire():
    schema = {"type": "object", "properties": {"q": {"type": "string"}}, "required": ["q"]}
    with FakeProvider(stuck_in_a_loop()) as provider:
        model = provider.anthropic().bind_tools([{"name": "search", "input_schema": schema}])

        calls = [model.invoke("hi").tool_calls[0] for _ in range(2)]
        assert calls[0]["args"] == calls[1]["args"] == {"q": "the same again"}
        assert calls[0]["id"] != calls[1]["id"]
