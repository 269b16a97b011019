"""What is known of a model before any call of it, looked up once."""

from __future__ import annotations

from math import ceil, inf
from typing import Any

from langchain_costguard.metering.budgets.accounts import Accounts
from langchain_costguard.metering.pricing.cache_writes import asks_to_write_cache
from langchain_costguard.metering.pricing.families import family_of
from langchain_costguard.metering.pricing.limits import output_limit
from langchain_costguard.metering.pricing.minimums import least_tokens
from langchain_costguard.metering.pricing.prices import PriceBook
from langchain_costguard.metering.pricing.rates import PICO_PER_NANO, Rates
from langchain_costguard.metering.pricing.shapes import MARGIN as SHAPE_MARGIN
from langchain_costguard.vocabulary.usage import ModelRef

UNKNOWN_OUTPUT = 32_768
"""Output tokens assumed at most, where neither the request nor the model's profile states a maximum."""
_KEPT_MODELS = 1_000


class Terms:
    """The terms of one model.

    Attributes:
        ref: The model.
        limit: The most output tokens it can give, as far as is known.
        asks: Whether its provider's prompt cache is written to on request only.
        rates: What it charges, from ``since`` until ``until`` (epoch seconds); None before it was asked for.
        most: The input tokens up to which these rates are the only ones; -1 where they are an estimate.
        input, output: What a hold counts for a token, in pico-USD; ``per_unit`` what one more output token takes,
            and ``request`` (nano-USD) what comes on top of a call.
        cacheable: From how many input tokens on the provider may have had a prompt in its cache, at a lower price.
        known: The accounts of calls that say nothing of who makes them.
    """

    __slots__ = (
        "answers", "asks", "base", "cacheable", "input", "known", "limit", "most", "output", "per_call", "per_char",
        "per_message", "per_unit", "rates", "ref", "request", "since", "until",
    )  # fmt: skip

    def __init__(self, ref: ModelRef) -> None:
        self.ref = ref
        self.limit = output_limit(ref) or UNKNOWN_OUTPUT
        self.asks = asks_to_write_cache(ref)
        family = family_of(ref.name)
        spread = 1 + family.margin + SHAPE_MARGIN
        self.per_char = ceil(family.factor * spread)
        self.per_call = ceil(family.per_call * spread)
        self.per_message = ceil(family.per_message * spread) + 1
        self.base = ceil(family.base * spread) + family.slack
        self.rates: Rates | None = None
        self.since = self.until = 0.0
        self.most: float = -1
        self.input = self.output = self.request = 0
        self.per_unit: tuple[int, ...] = ()
        self.cacheable: float = inf
        self.answers: dict[Any, Rates | None] = {}
        self.known: Accounts | None = None

    def refresh(self, book: PriceBook, now: float) -> None:
        """Look the rates up anew."""
        entry = book.entry(self.ref, now)
        rates = self.rates = entry.rates
        self.since, self.until, self.answers = entry.since, entry.until, {}
        if rates is None or rates.estimated:
            self.most = -1
            return
        self.most = rates.tiers[0][0] if rates.tiers else inf
        self.input = rates.input if self.asks else rates.dearest_input
        self.output = rates.dearest_output
        self.request = rates.request
        each = -(-self.output // PICO_PER_NANO)
        self.per_unit = (each, 1, 0, 1, 0, 0, 0, 0)
        self.cacheable = least_tokens(self.ref.name) if rates.cache_read < rates.input else inf

    def charged_by(self, book: PriceBook, reported: str | None, now: float) -> Rates | None:
        """The rates of a reply that names this model, remembered meanwhile; None where they need a closer look."""
        if reported in self.answers:
            return self.answers[reported]
        ref = book.billed(self.ref, reported, now)
        other = self.rates if ref is self.ref else book.entry(ref, now).rates
        same = other is not None and (ref is self.ref or (not other.tiers and not other.estimated))
        if len(self.answers) < _KEPT_MODELS:
            self.answers[reported] = other if same else None
        return other if same else None


class TermsBook:
    """The terms of the models that a guard has met, by provider and name; bounded in number."""

    def __init__(self) -> None:
        self.known: dict[tuple[str, str], Terms] = {}

    def forget(self) -> None:
        """Look everything up anew."""
        self.known.clear()

    def of(self, provider: str, name: str) -> Terms:
        """The model's terms."""
        found = self.known.get((provider, name))
        if found is None:
            if len(self.known) > _KEPT_MODELS:
                self.known.clear()
            found = self.known[provider, name] = Terms(ModelRef(provider, str(name)))
        return found
