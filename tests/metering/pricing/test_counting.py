"""Anthropic's ``count_tokens`` endpoint as a counter: asked beside the call, never in its way."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from langchain_anthropic import ChatAnthropic
from langchain_core.messages import BaseMessage, HumanMessage, SystemMessage

from langchain_costguard import CostGuard, ModelRef
from langchain_costguard.metering.pricing.tokenizers import AnthropicCounter
from tests.loopback import Answering, Listener

CLAUDE = "claude-sonnet-4-6"
ASKED: list[BaseMessage] = [SystemMessage("Be brief."), HumanMessage("Which berth is free?")]
Answer = Callable[[int], tuple[int, Any]]


@contextmanager
def endpoint(answer: Answer) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """The endpoint on loopback: its URL, and what it was asked; ``answer`` has the number of the request."""
    asked: list[dict[str, Any]] = []

    class Handler(Answering):
        def do_POST(self) -> None:
            asked.append({"path": self.path, **json.loads(self.body())})
            status, told = answer(len(asked))
            self.answer(told, status)

    with Listener(Handler) as server:
        yield server.url, asked


def counter(url: str, **more: Any) -> AnthropicCounter:
    return AnthropicCounter(ChatAnthropic(model=CLAUDE, base_url=url, api_key="sk-none"), **more)  # type: ignore[call-arg]


def counted() -> None:
    """Wait for what is counted in the background."""
    for thread in threading.enumerate():
        if thread.name == "costguard-count":
            thread.join(10)


def test_a_prompt_is_estimated_until_the_endpoint_has_counted_it_and_asked_about_once() -> None:
    with endpoint(lambda number: (200, {"input_tokens": 4_711})) as (url, asked):
        count = counter(url)
        guard = CostGuard(counters={"claude-*": count})
        ref = ModelRef("anthropic", CLAUDE)
        first = guard.estimator.estimate(ref, ASKED).tokens
        counted()
        assert 5 < first < 100
        assert guard.estimator.estimate(ref, ASKED).tokens == 4_711
        counted()
        assert [each["path"] for each in asked] == ["/v1/messages/count_tokens"]
        assert asked[0]["model"] == CLAUDE
        assert asked[0]["messages"] == [{"role": "user", "content": "Which berth is free?"}]
        assert count.count(ASKED) == 4_711  # at once, for who may wait


@pytest.mark.parametrize("status", [400, 429, 500, 529])
def test_an_endpoint_that_refuses_leaves_the_estimate_and_is_asked_again_with_the_next_prompt(status: int) -> None:
    told = {"type": "error", "error": {"type": "overloaded_error", "message": "later"}}
    with endpoint(lambda number: (status, told) if number == 1 else (200, {"input_tokens": 9})) as (url, asked):
        count = counter(url)
        estimate = count(ASKED)
        counted()
        assert len(asked) == 1  # it is not tried again and again
        assert count(ASKED) == estimate
        counted()
        assert count(ASKED) == 9


def test_an_endpoint_that_does_not_answer_keeps_nobody_waiting() -> None:
    over = threading.Event()

    def hang(number: int) -> tuple[int, Any]:
        over.wait(10)
        return 200, {"input_tokens": 1}

    with endpoint(hang) as (url, _):
        count = counter(url, timeout=0.05, estimate=lambda messages: 77)
        assert count(ASKED) == 77
        counted()
        assert count(ASKED) == 77
        over.set()
        counted()


def test_where_no_thread_can_be_had_a_prompt_is_estimated(no_more_threads: Callable[[str], None]) -> None:
    with endpoint(lambda number: (200, {"input_tokens": 9})) as (url, _):
        count = counter(url, estimate=lambda messages: 77)
        no_more_threads("costguard-count")
        assert count(ASKED) == count(ASKED) == 77


def test_a_model_that_counts_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^model: "):
        AnthropicCounter("claude")
