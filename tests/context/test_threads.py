"""Whatever a thread holds, the request made of it is one that every provider takes, with the user's task in it."""

from __future__ import annotations

import json
import os
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, SystemMessage, ToolMessage

from langchain_costguard.context import Context
from langchain_costguard.context.messages import text_of
from langchain_costguard.context.record import Record
from langchain_costguard.context.shaping import Shaper, Situation
from langchain_costguard.context.timing import Prices
from langchain_costguard.metering.pricing.shapes import count_by_shape
from langchain_costguard.vocabulary.histories import faults

PRICES = [Prices(3_750_000, 300_000, 15_000_000), Prices(1_000, 1_000, 0, 0.0), Prices(3_750_000, 300_000, 0, 0.0)]
EXAMPLES = int(os.environ.get("COSTGUARD_THREADS", "100"))


def size(message: BaseMessage) -> int:
    return count_by_shape(text_of(message)) + 5


@st.composite
def steps(draw: st.DrawFn, at: int) -> list[BaseMessage]:
    """A reply with no, one or several calls, each with its result: a text, a long one, an error, an image."""
    calls: Any = [{"name": "look", "args": {"n": n}, "id": f"c{at}-{n}"} for n in range(draw(st.integers(0, 3)))]
    thinking = [{"type": "thinking", "thinking": "hm", "signature": f"s{at}"}] if draw(st.booleans()) else []
    text = f"I decided on plan {at} because of part-{at}."
    content: Any = [*thinking, {"type": "text", "text": text}] if thinking else text
    messages: list[BaseMessage] = [AIMessage(content, tool_calls=calls)]
    for call in calls:
        kind = draw(st.sampled_from(["text", "long", "error", "image"]))
        said: Any = f"result {call['id']}\n" * (600 if kind == "long" else 5)
        if kind == "image":
            said = [{"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}]
        status: Any = "error" if kind == "error" else "success"
        messages.append(ToolMessage(said, tool_call_id=call["id"], name="look", status=status))
    return messages


@st.composite
def threads(draw: st.DrawFn) -> list[BaseMessage]:
    """Turns of a user, each with some steps of the model's: what an agent's state holds before a call."""
    thread: list[BaseMessage] = [SystemMessage("Be brief.")] if draw(st.booleans()) else []
    for turn in range(draw(st.integers(1, 4))):
        thread.append(HumanMessage(f"Task {turn}: find item-{turn}."))
        for step in range(draw(st.integers(0, 6))):
            made = draw(steps(turn * 10 + step))
            thread += made
            if len(made) == 1:
                break
        else:
            thread.append(AIMessage(f"Done with {turn}."))
    while isinstance(thread[-1], AIMessage):
        thread.pop()
    return thread


@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))
@given(threads(), st.sampled_from(PRICES), st.sampled_from([None, 2_000, 8_000]), st.integers(1, 6))
def test_every_request_of_a_thread_is_valid_and_has_the_task(
    thread: list[BaseMessage], prices: Prices, window: int | None, keep: int
) -> None:
    shaper, record = Shaper(Context(cap=100, keep=keep, window=window)), Record(cap=100)
    before: tuple[int, list[str]] = (-1, [])
    for at in [n for n, m in enumerate(thread) if isinstance(m, AIMessage)] + [len(thread)]:
        so_far = thread[:at]
        if faults(so_far):  # what the host itself would not send
            continue
        born = shaper.born(so_far, 100).messages
        sizes = list(map(size, born))
        plan, _ = shaper.plan(
            born, sizes, sum(map(size, shaper.view(record, born))), record, Situation(prices=prices, window=window)
        )
        if plan is not None and plan.pays:
            record = shaper.compacted(born, so_far, plan, shaper.digest(born, plan.cut), record)
        view = shaper.view(Record.from_dict(json.loads(json.dumps(record.to_dict()))), born)
        assert faults(view) == []
        assert thread[0] in view
        users = [m for m in so_far if isinstance(m, HumanMessage)]
        assert users[0] in view
        assert users[-1] in view
        assert born[-1] in view
        shown = [m.model_dump_json() for m in view]
        if record.version == before[0]:  # one version, the same bytes
            assert shown[: len(before[1])] == before[1]
        before = record.version, shown
