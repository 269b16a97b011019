"""In an agent that is streamed: what is held back is not shown, what was shown is not said again."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from langchain.agents import create_agent

from langchain_costguard import CostGuard
from langchain_costguard.steering import Retry, steer
from langchain_costguard.testing import FakeProvider, Reply
from tests.conftest import PRICES, Caller

GO: Any = {"messages": [("user", "go")]}


def no_secret(reply: Any) -> str | None:
    return "It names the secret." if "SECRET" in str(reply.text) else None


async def _events(agent: Any) -> str:
    shown = ""
    async for event in agent.astream_events(GO, version="v2"):
        if event["event"] == "on_chat_model_stream":
            shown += str(event["data"]["chunk"].text)
    return shown


@pytest.mark.parametrize("kind", ["openai", "anthropic"])
def test_a_reply_that_does_not_pass_is_not_shown(kind: str, stream: Caller) -> None:
    with FakeProvider(["The SECRET is 1234.", "I cannot say.", "The SECRET again", "No."]) as provider:
        model = getattr(provider, kind)()
        agent = create_agent(model, [], middleware=steer(CostGuard(), guardrails=[no_secret]))
        shown = "".join(str(piece.text) for piece, _ in stream(agent, GO, None, stream_mode="messages"))
        assert shown == "I cannot say."
        assert "SECRET" not in asyncio.run(_events(agent))


@pytest.mark.parametrize("kind", ["openai", "anthropic"])
def test_a_reply_that_broke_off_in_view_is_not_begun_again(kind: str, stream: Caller) -> None:
    with FakeProvider([Reply("one two three four five six", cut=3), Reply("all of it")]) as provider:
        model = getattr(provider, kind)(max_retries=0)
        agent = create_agent(model, [], middleware=steer(CostGuard(prices=PRICES), retry=Retry(base=0.01, most=0.1)))
        shown = ""
        try:
            for piece, _ in stream(agent, GO, None, stream_mode="messages"):
                shown += str(piece.text)
        except Exception:
            assert shown
        assert "all of it" not in shown
