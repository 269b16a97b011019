"""What a hit of the exact cache takes beside one of LangChain's own: ``python tests/benchmarks/bench_cache_hits.py``.

Both answer the same 48 KB conversation of 61 messages, through the same client, in the same run. The key is that of a
conversation of which all but one message was seen before, as in an agent's next turn.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable
from typing import Any

from langchain_core.caches import InMemoryCache
from langchain_core.language_models.chat_models import BaseChatModel
from langchain_core.load import dumps
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, SystemMessage, ToolMessage

from langchain_costguard import CostGuard
from langchain_costguard.caching import MemoryCache
from langchain_costguard.caching.question import Question, parameters_of
from langchain_costguard.observe.tables import table
from langchain_costguard.steering import SteeredModel, steer
from langchain_costguard.testing import FakeProvider

ROUNDS = 60


def conversation() -> list[BaseMessage]:
    """61 messages and 48 KB: questions, tool calls with their results, answers with usage and metadata."""
    text = "The ledger holds what was reserved, and settles it when the provider reports. " * 14
    usage: Any = {"input_tokens": 900, "output_tokens": 60, "total_tokens": 960}
    found: list[BaseMessage] = [SystemMessage("You are careful.")]
    for turn in range(15):
        call: Any = {"name": "search", "args": {"query": f"entry {turn}", "limit": 5}, "id": f"call_{turn}"}
        found += [
            HumanMessage(f"{turn}: {text}"),
            AIMessage("", tool_calls=[call], usage_metadata=usage, response_metadata={"model_name": "gpt-4o"}),
            ToolMessage(f"{turn}. {text}", tool_call_id=f"call_{turn}"),
            AIMessage(f"{turn}) {text}", usage_metadata=usage, response_metadata={"model_name": "gpt-4o"}),
        ]
    return found


def microseconds(run: Callable[[], Any]) -> tuple[float, float]:
    """The 10th percentile and the median of many rounds."""
    taken = []
    for _ in range(ROUNDS):
        start = time.perf_counter()
        run()
        taken.append((time.perf_counter() - start) * 1e6)
    taken.sort()
    return taken[ROUNDS // 10], taken[ROUNDS // 2]


def hits() -> list[list[str]]:
    """Hits through the model, of LangChain's cache and ours, in turn."""
    messages = conversation()
    with FakeProvider("An answer of a few words.") as provider:
        theirs: BaseChatModel = provider.openai(temperature=0, cache=InMemoryCache())
        ours = SteeredModel(provider.openai(temperature=0), steer(CostGuard(), cache=MemoryCache()))
        loop = asyncio.new_event_loop()
        for model in (theirs, ours):
            model.invoke(messages)
        rows = [("LangChain's InMemoryCache, invoke", microseconds(lambda: theirs.invoke(messages)), "")]
        rows += [("MemoryCache, invoke", microseconds(lambda: ours.invoke(messages)), "<= 1/10")]
        rows += [("MemoryCache, ainvoke", microseconds(lambda: loop.run_until_complete(ours.ainvoke(messages))), "")]
        rows += [("MemoryCache, stream", microseconds(lambda: list(ours.stream(messages))), "")]
        assert len(provider.requests) == 2
        loop.close()
    return _rows(rows)


def keys() -> list[list[str]]:
    """The keys alone: LangChain's of a prompt and its model, and ours with one message it has not seen."""
    messages = conversation()
    os.environ.setdefault("OPENAI_API_KEY", "unused")
    with FakeProvider() as provider:
        model: Any = provider.openai(temperature=0)
    rules, new = MemoryCache().rules, iter([HumanMessage(f"And {number}?") for number in range(ROUNDS + 1)])

    def theirs() -> Any:
        return dumps([m.model_copy(update={"id": None}) for m in messages]), model._get_llm_string()

    def ours() -> Any:
        asked = [*messages[:-1], next(new)]
        return Question(messages=asked, model="gpt-4o", parameters=parameters_of(model).encode()).key(rules)

    ours()
    return _rows([("LangChain's key", microseconds(theirs), ""), ("one new message", microseconds(ours), "<= 1/40")])


def _rows(timed: list[tuple[str, tuple[float, float], str]]) -> list[list[str]]:
    base = timed[0][1]
    return [
        [name, f"{p10:.0f}", f"{median:.0f}", f"1/{base[0] / p10:.0f}", f"1/{base[1] / median:.0f}", target]
        for name, (p10, median), target in timed
    ]


if __name__ == "__main__":
    body = [*hits(), *keys()]
    print(table(["48 KB, 61 messages", "p10 us", "median us", "p10 ratio", "median ratio", "target"], body, left=1))
