"""What agents hand to one another: tokens of one's answers that are another's input, at the price they were paid."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from langchain_costguard.observe.attribution.calls import Given, Paid
from langchain_costguard.observe.tables import Tabular
from langchain_costguard.vocabulary.money import show_all, usd
from langchain_costguard.vocabulary.usage import ModelRef, Usage

Price = Callable[[ModelRef, Usage, float], int | None]
"""What a usage costs (nano-USD) of a model at a time; None where nobody knows."""


class Edge(NamedTuple):
    """From one agent to another: how many messages, how often sent, the tokens and what they cost (nano-USD)."""

    source: str
    target: str
    messages: int
    times: int
    tokens: int
    spent: int


class Handoffs(Tabular):
    """The edges between agents, dearest first, and how much of everything was context sent again.

    Attributes:
        edges: One for each pair of agents.
        again: Input tokens that had been sent, or answered, before in the same session.
        tokens: All input tokens.
        spent_again: What those sent again cost (nano-USD).
        spent: What everything cost.
    """

    NOTHING = "No agent was handed what another said."

    def __init__(self, calls: Iterable[Paid], price: Price) -> None:
        found: dict[tuple[str, str], list[Any]] = {}
        self.again = self.tokens = self.spent_again = self.spent = 0
        for call in calls:
            self.spent += call.charge
            if call.kind == "tool":
                continue
            given = call.given or Given()
            self.tokens += call.usage.input_tokens
            self.again += given.again
            self.spent_again += cost_of_input(call, given.again, price)
            for source, messages, tokens in given.handed:
                edge = found.setdefault((source, call.scope.agent), [set(), 0, 0, 0])
                edge[0] |= set(messages)
                edge[1] += len(messages)
                edge[2] += tokens
                edge[3] += cost_of_input(call, tokens, price)
        edges = (Edge(*pair, len(edge[0]), *edge[1:]) for pair, edge in found.items())
        self.edges = sorted(edges, key=lambda edge: (-edge.spent, -edge.tokens, edge[:2]))

    @property
    def share_again(self) -> float:
        """The share of input tokens that was sent before."""
        return self.again / self.tokens if self.tokens else 0.0

    def to_dicts(self) -> list[dict[str, Any]]:
        """One dictionary an edge: ``source``, ``target``, ``messages``, ``times``, ``tokens``, ``usd`` (a Decimal)."""
        return [{**edge._asdict(), "usd": usd(edge.spent)} for edge in self.edges]

    def __str__(self) -> str:
        return f"{super().__str__()}\n\n{self.share_again:.0%} of the input tokens had been sent or said before."

    def _cells(self) -> tuple[list[str], list[list[str]], int]:
        money = show_all([edge.spent for edge in self.edges])
        body = [
            [edge.source or "-", edge.target or "-", str(edge.messages), str(edge.times), f"{edge.tokens:,}", text]
            for edge, text in zip(self.edges, money, strict=True)
        ]
        return ["from", "to", "messages", "times sent", "tokens", "spent"], body, 2


def cost_of_input(call: Paid, tokens: int, price: Price) -> int:
    """What that many of a call's input tokens cost: what is read from the provider's cache goes first, for it is what
    was sent before."""
    usage = call.usage
    tokens = min(tokens, usage.input_tokens)
    cached = min(tokens, usage.cache_read)
    less = usage._replace(input_tokens=usage.input_tokens - tokens, cache_read=usage.cache_read - cached)
    whole, rest = price(call.model, usage, call.at), price(call.model, less, call.at)
    return max(0, whole - rest) if whole is not None and rest is not None else 0
