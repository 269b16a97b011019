"""What is bound in Gemini's words, or is to be in them: ``tests/steering/test_translation.py`` with its real client.

Not part of the default suite: ``.ci/extended clients`` installs the client, and runs this.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import product
from typing import Any

import pytest
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from langchain_google_genai import ChatGoogleGenerativeAI

from langchain_costguard import CostGuard
from langchain_costguard.events import Routed
from langchain_costguard.steering import RoutedModel
from langchain_costguard.testing import FakeProvider, Recorder
from tests.clients.serving import events, serving, whole
from tests.conftest import Caller
from tests.steering.matrix import ASKED, BINDINGS, NOT_HAD, answer, clients, right, search, strictly
from tests.steering.test_translation import CALL, REPLIES, To
from tests.wires import fault

OTHERS = ("chat", "responses", "anthropic")


class Gemini:
    """What a server at Gemini's API was asked, and what it would have refused."""

    def __init__(self) -> None:
        self.asked: list[Any] = []
        self.faults: list[str] = []

    def __call__(self, body: dict[str, Any]) -> tuple[str, str]:
        streamed, _ = body.pop("stream", False), body.pop("path")
        self.asked.append(body)
        if wrong := fault(":generateContent", body):
            self.faults.append(wrong)
        said = answer(body)
        part = {"text": said} if isinstance(said, str) else {"functionCall": {"name": said[0], "args": said[1]}}
        usage = {"promptTokenCount": 10, "candidatesTokenCount": 5, "totalTokenCount": 15}
        reply = {
            "candidates": [{"content": {"role": "model", "parts": [part]}, "finishReason": "STOP"}],
            "usageMetadata": usage,
            "modelVersion": "gemini-2.5-flash",
        }
        return events(reply) if streamed else whole(reply)


@pytest.fixture
def gemini() -> Gemini:
    return Gemini()


@pytest.fixture
def faults() -> list[str]:
    return []


@pytest.fixture
def models(gemini: Gemini, faults: list[str]) -> Iterator[dict[str, Any]]:
    with FakeProvider(strictly(faults)) as provider, serving(gemini) as url:
        google = ChatGoogleGenerativeAI(model="gemini-2.5-flash", google_api_key="k", base_url=url, max_retries=1)
        yield {**clients(provider), "gemini": google}


@pytest.mark.parametrize("binding", BINDINGS)
@pytest.mark.parametrize(("own", "chosen"), [*product(OTHERS, ["gemini"]), *product(["gemini"], (*OTHERS, "gemini"))])
def test_what_is_bound_is_right_at_gemini_and_from_gemini_or_the_model_is_declined(
    own: str, chosen: str, binding: str, models: Any, gemini: Gemini, faults: list[str], call: Caller
) -> None:
    bind, words = BINDINGS[binding]
    recorder = Recorder()
    model = RoutedModel(CostGuard(sinks=[recorder]), To(models[chosen]), default=models[own])
    if own in NOT_HAD.get(binding, ()):
        return
    assert right(binding, call(bind(model, own), ASKED))
    why = [event.why for event in recorder.events if isinstance(event, Routed)]
    schema = own == "gemini" and binding == "JSON"  # its client has no JSON mode: it sends the schema
    taken = chosen in words or own == chosen or schema
    assert len(gemini.asked) == ((chosen if taken else own) == "gemini"), why
    assert taken or "cannot do it: it" in why[0]
    assert [*gemini.faults, *faults] == []


@pytest.mark.parametrize("kind", REPLIES)
def test_a_conversation_goes_on_at_gemini(kind: str, models: Any, gemini: Gemini, call: Caller) -> None:
    provider, blocks = REPLIES[kind]
    reply = AIMessage(blocks, tool_calls=[CALL], response_metadata={"model_provider": provider})
    thread = [HumanMessage("Where?"), reply, ToolMessage("found x", tool_call_id="call_1")]
    for own in (*OTHERS, "gemini"):
        model = RoutedModel(CostGuard(), To(models["gemini"]), default=models[own])
        call(model.bind_tools([search]), thread)
        assert "I look." in json.dumps(gemini.asked[-1])
    assert gemini.faults == []
