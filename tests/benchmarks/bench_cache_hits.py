"""What a hit of the exact cache takes beside one of LangChain's own: ``python tests/benchmarks/bench_cache_hits.py``.

Both answer the same 48 KB conversation of 61 messages, through the same client, in the same run. The key is that of a
conversation of which all but one message was seen before, as in an agent's next turn.
"""

from __future__ import annotations

import asyncio
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

ROUNDS, TURN = 400, 20


def conversation(provider: FakeProvider) -> list[BaseMessage]:
    """61 messages and 48 KB: questions, tool calls with their results, answers as a client returns them."""
    text = "The ledger holds what was reserved, and settles it when the provider reports. " * 14
    reply = provider.openai().invoke("What is a ledger?")
    facts: Any = {"usage_metadata": reply.usage_metadata, "response_metadata": reply.response_metadata}
    found: list[BaseMessage] = [SystemMessage("You are careful.")]
    for turn in range(15):
        call: Any = {"name": "search", "args": {"query": f"entry {turn}", "limit": 5}, "id": f"call_{turn}"}
        found += [
            HumanMessage(f"{turn}: {text}", id=f"h{turn}"),
            AIMessage("", id=f"c{turn}", tool_calls=[call], **facts),
            ToolMessage(f"{turn}. {text}", id=f"t{turn}", tool_call_id=f"call_{turn}"),
            AIMessage(f"{turn}) {text}", id=f"a{turn}", **facts),
        ]
    return found


def rows(runs: dict[str, tuple[Callable[[], Any], str]]) -> list[list[str]]:
    """Each run's 10th percentile and median, and their ratios to the first one's. They take turns, twenty rounds at
    a time, so that whatever else the machine does happens to each."""
    taken: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(ROUNDS // TURN):
        for name, (run, _) in runs.items():
            for _ in range(TURN):
                start = time.perf_counter()
                run()
                taken[name].append((time.perf_counter() - start) * 1e6)
    figures = [(sorted(each)[ROUNDS // 10], sorted(each)[ROUNDS // 2]) for each in taken.values()]
    base = figures[0]
    return [
        [name, f"{p10:.0f}", f"{median:.0f}", f"1/{base[0] / p10:.1f}", f"1/{base[1] / median:.1f}", target]
        for (p10, median), (name, (_, target)) in zip(figures, runs.items(), strict=True)
    ]


def hits() -> list[list[str]]:
    """Hits through the model, of LangChain's cache and ours."""
    with FakeProvider("An answer of a few words.") as provider:
        messages = conversation(provider)
        theirs: BaseChatModel = provider.openai(temperature=0, cache=InMemoryCache())
        ours = SteeredModel(provider.openai(temperature=0), steer(CostGuard(), cache=MemoryCache()))
        loop = asyncio.new_event_loop()
        for model in (theirs, ours):
            model.invoke(messages)
        found = rows(
            {
                "LangChain's InMemoryCache, invoke": (lambda: theirs.invoke(messages), ""),
                "MemoryCache, invoke": (lambda: ours.invoke(messages), "<= 1/10"),
                "MemoryCache, ainvoke": (lambda: loop.run_until_complete(ours.ainvoke(messages)), ""),
                "MemoryCache, stream": (lambda: list(ours.stream(messages)), ""),
            }
        )
        assert len(provider.requests) == 3
        loop.close()
    return found


def keys() -> list[list[str]]:
    """The keys alone: LangChain's of a prompt and its model, and ours with one message it has not seen."""
    with FakeProvider("An answer of a few words.") as provider:
        messages = conversation(provider)
        model: Any = provider.openai(temperature=0)
    rules, new = MemoryCache().rules, iter([HumanMessage(f"And {number}?") for number in range(ROUNDS + 1)])

    def theirs() -> Any:
        return dumps([m.model_copy(update={"id": None}) for m in messages]), model._get_llm_string()

    def ours() -> Any:
        asked = [*messages[:-1], next(new)]
        return Question(messages=asked, model="gpt-4o", parameters=parameters_of(model).encode()).key(rules)

    ours()
    return rows({"LangChain's key": (theirs, ""), "the key, one new message": (ours, "<= 1/40")})


if __name__ == "__main__":
    body = [*hits(), *keys()]
    print(table(["48 KB, 61 messages", "p10 us", "median us", "p10 ratio", "median ratio", "target"], body, left=1))
