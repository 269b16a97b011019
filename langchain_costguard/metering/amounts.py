"""What a model call can take at the most, and what an account that refuses it could still pay."""

from __future__ import annotations

from langchain_costguard.metering.budgets.budget import MEASURES
from langchain_costguard.metering.budgets.ledger import USD, Amounts, Denial
from langchain_costguard.metering.calls import Call
from langchain_costguard.metering.pricing.minimums import least_tokens
from langchain_costguard.vocabulary.calendar import window_at

_HOLDS_SETTLE = 1.0
"""Seconds after which calls under way are likely to have settled."""


def amounts(call: Call, output: int) -> tuple[Amounts, Amounts]:
    """What a call can take at the most with so many output tokens a reply, and what each one more would take."""
    n, upper, extra = call.times, call.upper, call.asks.extra
    rate, made = call.rates.output_rate(upper), output * n
    usd = call.rates.ceiling(upper, made, cache_write=call.writes_cache, audio=call.audio) + extra.usd
    given, made = upper + extra.input, made + extra.output
    fixed = (usd, given + made, given, made, 1, 0, 0 if call.scope.step else 1, 0)
    return fixed, (rate * n, n, 0, n, 0, 0, 0, 0)


def wait_of(denial: Denial, now: float) -> float | None:
    """In how many seconds the same call may fit; None where that is not to be expected."""
    budget = denial.account.budget
    if denial.refusal.by_holds:
        return _HOLDS_SETTLE
    return window_at(budget.window, budget.tz, now)[1] - now if budget.window else None


def affordable(call: Call, denial: Denial) -> int:
    """Output tokens the refusing account could pay for if nothing were held."""
    account, refusal, times = denial.account, denial.refusal, call.times
    left = account.cap - account.reserve - refusal.spent
    rate = call.rates.output_rate(call.upper)
    measure = MEASURES[account.measure]
    if measure == "usd":
        rest = left - amounts(call, 0)[0][USD]
        return rest // (rate * times) if rate and rest >= 0 else (call.ceiling if rest >= 0 else -1)
    if measure == "tokens":
        return (left - call.upper - call.asks.extra.input - call.asks.extra.output) // times
    if measure == "output_tokens":
        return left // times
    return call.ceiling if refusal.by_holds else -1


def cacheable(call: Call, tokens: int) -> int:
    """The input tokens, where the provider could have had them in its cache: it charges less for what it has there, and
    they are as many as it keeps."""
    rates = call.rates
    return tokens if rates.cache_read < rates.input and tokens >= least_tokens(call.ref.name) else 0
