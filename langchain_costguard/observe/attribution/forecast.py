"""Where spending is going: when a budget ends at this rate, and what the month will have cost."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from math import sqrt

from langchain_costguard.observe.attribution.calls import Paid
from langchain_costguard.observe.witness import AccountLine
from langchain_costguard.vocabulary.money import show

_HOUR = 3_600


@dataclass(frozen=True, slots=True)
class Forecast:
    """What happens if the last hour goes on.

    Attributes:
        per_hour: Nano-USD in an hour, by the time that was seen of the last one.
        ends: When (epoch seconds) the first budget of money ends; None where none does before its window.
        budget: Which.
        feature: The feature that spends most now: the one that ends it.
        month: Nano-USD that this calendar month (UTC) will have cost: what was seen, and the rest of it at this rate.
        low, high: An interval that holds 19 of 20 months like it, by how much hours differ; equal to ``month`` where
            fewer than three hours were seen.
    """

    per_hour: int
    ends: float | None
    budget: str
    feature: str
    month: int
    low: int
    high: int

    def __str__(self) -> str:
        text = f"At {show(self.per_hour)} an hour the month will have cost {show(self.month)}"
        text += f" ({show(self.low)} to {show(self.high)})."
        if self.ends is None:
            return f"{text} No budget ends before its window does."
        when = datetime.fromtimestamp(self.ends, UTC).strftime("%Y-%m-%d %H:%M UTC")
        most = f", and feature {self.feature} is what ends it" if self.feature else ""
        return f"{text} Budget {self.budget} ends at {when}{most}."


def forecast(calls: Iterable[Paid], accounts: Iterable[AccountLine], windows: dict[str, float], now: float) -> Forecast:
    """A forecast from what was paid, in the order of time; ``windows`` say when each budget's window ends."""
    paid = list(calls)
    recent = [call for call in paid if call.at > now - _HOUR]
    seen = min(_HOUR, max(60.0, now - paid[0].at)) if paid else _HOUR
    rate = sum(call.charge for call in recent) / seen
    features = Counter[str]()
    for call in recent:
        features[call.scope.feature] += call.charge
    ends, budget = None, ""
    for line in accounts:
        if line.measure != "usd" or not rate:
            continue
        at = now + max(0, line.cap - line.spent - line.held) / rate
        if at < windows.get(line.budget, float("inf")) and (ends is None or at < ends):
            ends, budget = at, line.budget
    month, spread = _month(paid, rate, now)
    top = features.most_common(1)[0][0] if features else ""
    return Forecast(round(rate * _HOUR), ends, budget, top, month, max(0, month - spread), month + spread)


def _month(paid: list[Paid], rate: float, now: float) -> tuple[int, int]:
    today = datetime.fromtimestamp(now, UTC)
    began = today.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    following = began.replace(year=began.year + began.month // 12, month=began.month % 12 + 1)
    spent = sum(call.charge for call in paid if call.at >= began.timestamp())
    left = following.timestamp() - now
    hours = Counter[int]()
    for call in paid:
        hours[int((now - call.at) // _HOUR)] += call.charge
    series = [hours[n] for n in range(max(hours, default=0) + 1)]
    spread = 0.0
    if len(series) >= 3:
        mean = sum(series) / len(series)
        spread = 1.96 * sqrt(sum((x - mean) ** 2 for x in series) / (len(series) - 1) * left / _HOUR)
    return round(spent + rate * left), round(spread)
