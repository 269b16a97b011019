"""What a bill is made of: parts that add up to it, to the nano-dollar."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from langchain_costguard.observe.attribution.calls import Given, Paid
from langchain_costguard.observe.attribution.handoffs import Price
from langchain_costguard.observe.tables import Tabular
from langchain_costguard.vocabulary.money import show, show_all, usd
from langchain_costguard.vocabulary.usage import ModelRef, Usage

PARTS = {
    "retries": "the same request, made again",
    "loops": "steps that repeat an earlier one",
    "tier": "a dearer model than the cheapest used here",
    "uncached prefix": "what was sent before, and not read from the provider's cache",
    "history": "what was sent before, as far as a cache would not have saved it",
    "hand-offs": "what other agents had said",
    "documents": "what tools and retrieval brought",
    "reasoning": "thinking that nobody reads",
    "tools": "tools' fees",
    "the rest": "new questions, and answers",
}

NOBODY_LOOKED = (
    "What the calls were given is not known: of a guard with sinks=[Attribution()], it and its log tell history, "
    "hand-offs, documents, retries and loops apart."
)


class Why(Tabular):
    """The parts of a bill. ``str()`` begins with one sentence; the parts add up to ``spent`` (nano-USD).

    Attributes:
        parts: nano-USD by part, in the order of ``PARTS``, those of nothing left out.
        looked: Whether anybody looked at what the calls were given. If not, history, hand-offs, documents, retries and
            loops are in the rest.
    """

    MONEY = ("usd",)
    NOTHING = "Nothing was spent."

    def __init__(self, calls: Sequence[Paid], price: Price, whose: str = "This") -> None:
        self.spent = sum(call.charge for call in calls)
        found = dict.fromkeys(PARTS, 0)
        found["tools"] = sum(call.charge for call in calls if call.kind == "tool")
        models = {call.model for call in calls if call.kind != "tool"}
        for call in calls:
            if call.kind == "tool":
                continue
            given = call.given or Given()
            if given.retry:
                found["retries"] += call.charge
            elif given.loop:
                found["loops"] += call.charge
            else:
                for part, amount in _parts(call, given, models, price).items():
                    found[part] += amount
        self.looked = any(call.given is not None for call in calls) or not models
        self.parts = {part: amount for part, amount in found.items() if amount}
        self._whose = whose

    @property
    def sentence(self) -> str:
        """The bill in one sentence: its two greatest parts besides the rest."""
        if not self.spent:
            return self.NOTHING
        large = ((a, p) for p, a in self.parts.items() if p != "the rest" and a * 100 > self.spent)
        told = sorted(large, reverse=True)[:2]
        parts = " and ".join(f"{amount / self.spent:.0%} {part} ({PARTS[part]})" for amount, part in told)
        return f"{self._whose} cost {show(self.spent)}" + (
            f": {parts}." if parts else ": all of it new questions and answers."
        )

    def to_dicts(self) -> list[dict[str, Any]]:
        """One dictionary a part: ``part``, ``what``, ``nano_usd``, ``usd`` (a Decimal) and ``share``."""
        return [
            {"part": p, "what": PARTS[p], "nano_usd": a, "usd": usd(a), "share": a / self.spent if self.spent else 0.0}
            for p, a in self.parts.items()
        ]

    def __str__(self) -> str:
        if not self.spent:
            return self.NOTHING
        return f"{self.sentence}\n\n{super().__str__()}" + ("" if self.looked else f"\n\n{NOBODY_LOOKED}")

    def _cells(self) -> tuple[list[str], list[list[str]], int]:
        if not self.parts:
            return ["part", "what it is", "spent", "share"], [], 2
        money = show_all([*self.parts.values(), self.spent])
        body = [
            [part, PARTS[part], text, f"{amount / self.spent:.1%}"]
            for (part, amount), text in zip(self.parts.items(), money, strict=False)
        ]
        return ["part", "what it is", "spent", "share"], [*body, ["total", "", money[-1], "100.0%"]], 2


def _parts(call: Paid, given: Given, models: set[ModelRef], price: Price) -> dict[str, int]:
    """The parts of one call. Each is the difference that it makes to the price of what is left: they add up."""
    at, usage = call.at, call.usage
    prices = {model: known for model in models if (known := price(model, usage, at)) is not None}
    whole = prices.get(call.model)
    if whole is None or whole <= 0:
        return {"the rest": call.charge}
    cheapest = min(prices, key=lambda model: (prices[model], model != call.model))
    found = {"tier": whole - prices[cheapest]}
    left, taken = usage, prices[cheapest]

    def take(part: str, less: Usage) -> None:
        nonlocal left, taken
        now = price(cheapest, less, at)
        if now is not None and now <= taken:
            found[part] = found.get(part, 0) + taken - now
            left, taken = less, now

    if usage.reasoning:
        take("reasoning", left._replace(output_tokens=left.output_tokens - usage.reasoning, reasoning=0))
    handed = sum(one.tokens for one in given.handed)
    kinds = {"history": given.history, "hand-offs": handed, "documents": given.documents}
    fresh = max(0, kinds["history"] - usage.cache_read)
    fresh = min(fresh, left.input_tokens - left.cache_read - left.cache_write)
    if fresh > 0:
        take("uncached prefix", left._replace(cache_read=left.cache_read + fresh))
    for kind, counted in kinds.items():
        tokens = min(counted, left.input_tokens)
        read = min(tokens, left.cache_read)
        if tokens:
            take(kind, left._replace(input_tokens=left.input_tokens - tokens, cache_read=left.cache_read - read))
    found["the rest"] = call.charge - sum(found.values())
    return found
