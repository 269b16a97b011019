"""A week of a small fleet: four agents, two features, a few dozen users.

The sizes are those that Microsoft published of an hour of Azure's LLM traffic (Splitwise, ISCA 2024,
https://github.com/Azure/AzurePublicDataset): requests of code assistants read some 2,000 tokens and write 28,
conversations read 1,150 and write 211, both with a long tail; and they come in bursts. Days and nights are added here.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any

from langchain_costguard.testing.provider import FakeProvider
from langchain_costguard.testing.replies import Reply
from langchain_costguard.testing.requests import Request
from langchain_costguard.vocabulary.errors import BudgetExceededError

AGENTS = {
    "coder": ("ide", "gpt-4o", 2048, 28),
    "reviewer": ("ide", "gpt-4o", 2048, 28),
    "support": ("chat", "gpt-4o-mini", 1155, 211),
    "research": ("chat", "gpt-4o", 1155, 211),
}
"""By agent: its feature, its model, and how many tokens a call of it reads and writes on average."""
MOST = 512
"""Tokens that a call may write."""
Session = tuple[datetime, str, str]
"""When which agent of which user starts."""


class Week:
    """The fleet's clock and its dice; ``clock`` is the time of the guards that watch it."""

    def __init__(self, seed: int = 2024) -> None:
        self.dice = Random(seed)
        self.now = datetime(2026, 11, 2, tzinfo=UTC)

    def clock(self) -> float:
        """Epoch seconds, where the fleet is."""
        return self.now.timestamp()

    def sessions(self, first: datetime) -> list[Session]:
        """Those of a week: in bursts, by day, and fewer at its end."""
        found = []
        for day in range(7):
            for _ in range(round(12 * (1.0 if day < 5 else 0.3))):
                at = first + timedelta(days=day, hours=max(0.0, min(23.0, self.dice.gauss(13, 3))))
                agent = self.dice.choice(list(AGENTS))
                start = at + timedelta(seconds=self.dice.expovariate(1 / 90))
                found.append((start, agent, f"user-{self.dice.randrange(24)}"))
        return sorted(found)

    def run(
        self,
        guard: Any,
        provider: FakeProvider,
        sessions: list[Session],
        *,
        stuck: int | None = None,
        say: Callable[[str], object] = print,
    ) -> int:
        """Run sessions, a few calls each; how many were stopped. The one of number ``stuck`` asks 60 times."""
        stopped = 0
        for number, (at, agent, user) in enumerate(sessions):
            feature, name, read, written = AGENTS[agent]
            model = provider.openai(model=name, max_tokens=MOST)
            calls = 60 if number == stuck else self.dice.randrange(1, 6)
            with guard.scope(agent=agent, user=user, feature=feature, session=f"{at:%d}-{number}"):
                try:
                    for call in range(calls):
                        self.now = at + timedelta(seconds=20 * call)
                        model.invoke(self._prompt(read, written), {"callbacks": [guard]})
                except BudgetExceededError as refusal:
                    stopped += 1
                    say(f"{at:%A}, call {call + 1} of {calls} of {agent}: {refusal}")
        return stopped

    def _prompt(self, read: int, written: int) -> str:
        """A prompt of about as many tokens as the first, that asks for as many as the second."""
        size = self._size(read)
        return f"{size} {min(self._size(written), MOST)} " + "a " * size

    def _size(self, mean: float) -> int:
        """Tokens with a long tail, of this mean."""
        return max(1, round(mean * self.dice.lognormvariate(-0.5, 1)))


def answer(request: Request) -> Reply:
    """What a model of the fleet says: nothing, of the length that it is told."""
    read, written, *_ = request.messages[-1]["content"].split(" ", 2)
    return Reply("Done.", input_tokens=int(read), output_tokens=int(written))
