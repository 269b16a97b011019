"""One process of a small fleet: random calls, streams, broken-off streams, cancelled calls, tool calls and refusals."""

from __future__ import annotations

import asyncio
import random
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

from langchain_core.tools import tool
from langchain_openai import ChatOpenAI

from langchain_costguard import Budget, BudgetExceededError, CostGuard, SQLiteStore
from langchain_costguard.testing import Reply, Request
from tests.conftest import PRICES

BUDGETS = [
    Budget(per="all", usd="1000", model_calls=1_000_000, name="all"),
    Budget(per="user", usd="0.01", only={"user": "poor"}, name="poor"),
]


def answer(request: Request) -> Reply | str:
    """What the provider says."""
    said = str(request.messages[-1]["content"])
    if "fails" in said:
        return Reply(status=400, error="no")
    words = ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"]
    return Reply(" ".join(words[: 2 + request.number % 9]), delay=0.3 if "slow" in said else 0.0)


@tool
def search(query: str) -> str:
    """Search."""
    return query


class Member:
    """One process' guard and model."""

    def __init__(self, url: str, folder: Path, seed: int) -> None:
        self.guard = CostGuard(
            *BUDGETS,
            store=SQLiteStore(folder / "budgets.db"),
            log=folder / "spend.db",
            prices=PRICES,
            tool_prices={"search": "0.0015"},
            session=f"session-{seed}",
        )
        self.model = ChatOpenAI(
            model="gpt-4o", base_url=url, api_key="not-a-key", max_retries=0, max_tokens=64, stream_usage=True
        )  # type: ignore[call-arg]
        self.random = random.Random(seed)

    def one(self) -> None:
        """Something at random."""
        kinds = [self.whole, self.streamed, self.broken, self.used, self.refused, self.failed, self.cancelled]
        kind = self.random.choices(kinds, [40, 20, 12, 15, 8, 4, 1])[0]
        with self.guard.scope(user=f"u{self.random.randrange(20)}", feature=self.random.choice(["search", "chat"])):
            kind({"callbacks": [self.guard]})

    def whole(self, config: Any) -> None:
        self.model.invoke("whole " * self.random.randrange(1, 30), config)

    def streamed(self, config: Any) -> None:
        for _ in self.model.stream("whole, streamed", config):
            pass

    def broken(self, config: Any) -> None:
        pieces = self.model.stream("broken off", config)
        next(pieces)
        pieces.close()  # type: ignore[attr-defined]

    def used(self, config: Any) -> None:
        search.invoke({"query": "May"}, config)

    def refused(self, config: Any) -> None:
        with self.guard.scope(user="poor"), suppress(BudgetExceededError):
            self.model.invoke("whole, of the poor", config, max_tokens=10_000)

    def failed(self, config: Any) -> None:
        with suppress(Exception):
            self.model.invoke("it fails", config)

    def cancelled(self, config: Any) -> None:
        async def hurried() -> None:
            await asyncio.wait_for(self.model.ainvoke("slow", config), 0.05)

        with suppress(TimeoutError):
            asyncio.run(hurried())


def main(url: str, folder: str, seed: str, times: str) -> None:
    """So many things."""
    member = Member(url, Path(folder), int(seed))
    for _ in range(int(times)):
        member.one()


if __name__ == "__main__":
    main(*sys.argv[1:])
