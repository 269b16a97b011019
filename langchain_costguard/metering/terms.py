"""What is known of a model before any call of it, looked up once."""

from __future__ import annotations

import re
from collections.abc import Mapping
from math import ceil, inf
from typing import Any

from langchain_costguard.metering.budgets.accounts import Accounts
from langchain_costguard.metering.pricing.asks import NOTHING, asks, cache_marks
from langchain_costguard.metering.pricing.cache_writes import asks_to_write_cache
from langchain_costguard.metering.pricing.catalog import is_known
from langchain_costguard.metering.pricing.families import family_of
from langchain_costguard.metering.pricing.limits import output_limit
from langchain_costguard.metering.pricing.minimums import least_tokens
from langchain_costguard.metering.pricing.prices import PriceBook
from langchain_costguard.metering.pricing.rates import PICO_PER_NANO, Rates
from langchain_costguard.metering.pricing.sellers import base_url, client_of, host_of, is_private, seller
from langchain_costguard.metering.pricing.shapes import MARGIN as SHAPE_MARGIN
from langchain_costguard.vocabulary.usage import ModelRef

UNKNOWN_OUTPUT = 32_768
"""Output tokens assumed at most, where neither the request nor the model's profile states a maximum."""
_KEPT_MODELS = 1_000
_NOTHING: Mapping[str, Any] = {}
_SHOWN = ("ollama",)
_SHOWN_URL = re.compile(r"\b(?:base_url|endpoint|\w*api_base|\w*api_url)='(https?://[^']+)'")


class Terms:
    """The terms of one model.

    Attributes:
        ref: The model.
        client: The client that asks, in LangChain's serialized form; ``facts`` are its fields, ``url`` where it sends
            to, as far as it says. ``usual`` says that none of its fields decides the price.
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
        "answers", "asks", "base", "cacheable", "client", "facts", "input", "known", "limit", "most", "output",
        "per_call", "per_char", "per_message", "per_unit", "rates", "ref", "request", "since", "until", "url", "usual",
    )  # fmt: skip

    def __init__(
        self, ref: ModelRef, client: Any = None, facts: Mapping[str, Any] = _NOTHING, url: str | None = None
    ) -> None:
        self.ref = ref
        self.client = client  # kept, so that its id stays its own
        self.facts = facts
        self.url = url
        self.usual = asks({}, facts) is NOTHING and not any(cache_marks({}, facts))
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
    """The terms of the models that a guard has met, by provider, name and client; bounded in number.

    Args:
        book: Says whether a seller has a model.
        local: Hosts of the user's own machines, whose models cost nothing.
    """

    def __init__(self, book: PriceBook, local: frozenset[str]) -> None:
        self._book = book
        self._local = local
        self.known: dict[tuple[str, str, int], Terms] = {}
        self._refs: dict[tuple[str, str, str | None], ModelRef] = {}

    def renew(self, book: PriceBook) -> None:
        """Look everything up anew, in this book."""
        self._book = book
        self.known.clear()
        self._refs.clear()

    def of(self, provider: str, name: str, client: Any, at: float) -> Terms:
        """The terms of a model, as this client (in LangChain's serialized form) asks for it."""
        found = self.known.get((provider, name, id(client)))
        if found is None or found.client is not client:
            found = self._look(provider, str(name), client, at)
            if len(self.known) > _KEPT_MODELS:
                self.known.clear()
            self.known[provider, name, id(client)] = found
        return found

    def _look(self, provider: str, name: str, client: Any, at: float) -> Terms:
        facts = client.get("kwargs") if isinstance(client, Mapping) else None
        facts = facts if isinstance(facts, Mapping) else _NOTHING
        url = base_url(facts)
        if url is None and isinstance(client, Mapping) and (provider in _SHOWN or is_known(provider)):
            shown = _SHOWN_URL.search(str(client.get("repr") or ""))
            url = shown[1] if shown else None
        ref = self._refs.get((provider, name, url))
        if ref is None:
            if len(self._refs) > _KEPT_MODELS:
                self._refs.clear()
            ref = self._refs[provider, name, url] = self._ref(provider, name, url, at)
        return Terms(ref, client, facts, url)

    def _ref(self, provider: str, name: str, url: str | None, at: float) -> ModelRef:
        """The model with whoever sells it: an OpenAI-compatible server that is not OpenAI's, and whose models OpenAI
        does not have, is nobody we know."""
        ref = ModelRef(provider, name, seller(client_of(provider, name), url, self._local))
        if provider == "openai" and url is not None and is_private(url) and self._book.rates(ref, at) is None:
            return ModelRef(provider, name, host_of(url))
        return ref
