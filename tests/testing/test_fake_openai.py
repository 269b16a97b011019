"""The real ChatOpenAI against the fake provider: both of its endpoints."""

import json

import openai
import pytest
from langchain_core.messages import HumanMessage
from langchain_core.tools import tool

from langchain_costguard.testing import FakeProvider, Reply
from langchain_costguard.vocabulary.usage import Usage

PARIS = [("weather", {"city": "Paris", "unit": "celsius"})]


@tool
def weather(city: str, unit: str) -> str:
    """Tell the weather."""
    return f"{city}: 20 {unit}"


def test_an_answer_arrives_with_its_usage(caller):
    with FakeProvider("one two three") as provider:
        message = caller.ask(provider.openai(), "how are you")

        assert message.content == "one two three"
        assert message.usage_metadata["input_tokens"] == 3
        assert message.usage_metadata["output_tokens"] == 3
        assert message.response_metadata["finish_reason"] == "stop"
        assert provider.requests[0].usage == Usage(input_tokens=3, output_tokens=3)
        assert provider.requests[0].finished


def test_a_stream_arrives_word_by_word_and_ends_with_its_usage(caller):
    with FakeProvider("one two three") as provider:
        chunks = caller.chunks(provider.openai(), "hi")

        assert [chunk.content for chunk in chunks if chunk.content] == ["one ", "two ", "three"]
        assert [c.usage_metadata["output_tokens"] for c in chunks if c.usage_metadata] == [3]
        (request,) = provider.requests
        assert request.streamed
        assert request.finished
        assert request.chunks_sent == 3
        assert request.served["completion_tokens"] == 3


def test_a_stream_that_does_not_ask_for_usage_is_not_told_it(caller):
    with FakeProvider("one two three") as provider:
        whole = caller.read(provider.openai(stream_usage=False), "hi")

        assert whole.content == "one two three"
        assert whole.usage_metadata is None
        assert provider.requests[0].served is None
        assert provider.requests[0].usage == Usage(input_tokens=1, output_tokens=3)


@pytest.mark.parametrize("endpoint", ["chat completions", "responses"])
def test_tool_calls_arrive_whole_and_in_streams(caller, endpoint):
    with FakeProvider(Reply("Let me see.", tool_calls=PARIS)) as provider:
        plain = provider.openai(use_responses_api=endpoint == "responses")
        model = plain.bind_tools([weather])
        for message in (caller.ask(model, "hi"), caller.read(model, "hi")):
            (call,) = message.tool_calls
            assert (call["name"], call["args"]) == PARIS[0]
            assert message.text == "Let me see."
        whole, streamed = provider.requests
        assert whole.usage.output_tokens == streamed.usage.output_tokens == streamed.chunks_sent
        assert [offered.name for offered in whole.tools] == ["weather"]
        assert set(whole.tools[0].schema["properties"]) == {"city", "unit"}


def test_max_tokens_cuts_the_answer_and_its_bill(caller):
    with FakeProvider("one two three four") as provider:
        model = provider.openai(max_tokens=2)
        for message in (caller.ask(model, "hi"), caller.read(model, "hi")):
            assert message.content == "one two "
            assert message.response_metadata["finish_reason"] == "length"
            assert message.usage_metadata["output_tokens"] == 2
        assert provider.usage().output_tokens == 4


def test_stated_token_counts_are_billed_but_never_above_max_tokens():
    with FakeProvider(Reply("short", input_tokens=700, output_tokens=300)) as provider:
        first = provider.openai().invoke("hi")
        second = provider.openai(max_tokens=100).invoke("hi")

        assert (first.usage_metadata["input_tokens"], first.usage_metadata["output_tokens"]) == (700, 300)
        assert second.usage_metadata["output_tokens"] == 100
        assert second.response_metadata["finish_reason"] == "length"


def test_n_choices_are_all_billed():
    with FakeProvider("one two three") as provider:
        result = provider.openai(n=2).generate([[HumanMessage("hi")]])

        assert [generation.text for generation in result.generations[0]] == ["one two three"] * 2
        assert result.llm_output["token_usage"]["completion_tokens"] == 6
        assert provider.usage().output_tokens == 6


def test_a_raw_usage_block_reaches_the_client_and_the_truth(caller):
    block = {
        "prompt_tokens": 1000,
        "completion_tokens": 50,
        "total_tokens": 1050,
        "prompt_tokens_details": {"cached_tokens": 600},
        "completion_tokens_details": {"reasoning_tokens": 40},
    }
    with FakeProvider(Reply("ok", usage=block)) as provider:
        model = provider.openai()
        for message in (caller.ask(model, "hi"), caller.read(model, "hi")):
            assert message.usage_metadata["input_token_details"]["cache_read"] == 600
            assert message.usage_metadata["output_token_details"]["reasoning"] == 40
        assert provider.requests[0].usage == Usage(1000, 50, cache_read=600, reasoning=40)


def test_the_responses_api_answers_and_streams_with_usage(caller):
    with FakeProvider("one two three") as provider:
        model = provider.openai(use_responses_api=True)
        for message in (caller.ask(model, "how are you"), caller.read(model, "how are you")):
            assert message.text == "one two three"
            assert message.usage_metadata["input_tokens"] == 3
            assert message.usage_metadata["output_tokens"] == 3
        assert [request.path for request in provider.requests] == ["/v1/responses"] * 2
        assert provider.requests[1].chunks_sent == 3


def test_the_responses_api_says_that_it_was_cut(caller):
    with FakeProvider("one two three four") as provider:
        model = provider.openai(use_responses_api=True, max_tokens=2)
        for message in (caller.ask(model, "hi"), caller.read(model, "hi")):
            assert message.text == "one two "
            assert message.response_metadata["incomplete_details"] == {"reason": "max_output_tokens"}
            assert message.usage_metadata["output_tokens"] == 2


def test_a_429_raises_the_sdks_rate_limit_error_with_its_retry_after(caller):
    with FakeProvider(Reply(status=429, retry_after=7, error="slow down")) as provider:
        with pytest.raises(openai.RateLimitError, match="slow down") as caught:
            caller.ask(provider.openai(), "hi")

        assert caught.value.response.headers["retry-after"] == "7"
        assert provider.requests[0].status == 429
        assert provider.usage().calls == 0


def test_an_sdk_that_retries_is_seen_to_retry():
    failing = Reply(status=500, retry_after=0.001)
    with FakeProvider([failing, "at last"]) as provider:
        assert provider.openai(max_retries=1).invoke("hi").content == "at last"

        assert [r.headers["x-stainless-retry-count"] for r in provider.requests] == ["0", "1"]
        assert provider.usage().calls == 1


def test_the_model_reported_may_be_another_than_the_one_asked_for():
    with FakeProvider(Reply("ok", model="gpt-4o-2024-08-06")) as provider:
        message = provider.openai(model="gpt-4o").invoke("hi")

        assert message.response_metadata["model_name"] == "gpt-4o-2024-08-06"
        assert provider.requests[0].model == "gpt-4o"


def test_arguments_that_max_tokens_cuts_are_cut_as_a_provider_cuts_them():
    with FakeProvider(Reply(tool_calls=PARIS)) as provider:
        message = provider.openai(max_tokens=2).invoke("hi")

        (call,) = message.invalid_tool_calls
        assert json.dumps(PARIS[0][1]).startswith(call["args"])


def test_arguments_given_as_a_text_are_sent_as_they_are(caller):
    with FakeProvider(Reply(tool_calls=[("weather", '{"city": ')])) as provider:
        message = caller.ask(provider.openai().bind_tools([weather]), "how is it in Paris")

    assert [(call["name"], call["args"]) for call in message.invalid_tool_calls] == [("weather", '{"city": ')]


def test_an_error_carries_its_code(caller):
    failing = FakeProvider(Reply(status=429, code="insufficient_quota"))
    with failing as provider, pytest.raises(openai.RateLimitError) as caught:
        caller.ask(provider.openai(), "hello")

    assert caught.value.code == "insufficient_quota"
