"""What one model charges: integer rates per token, and the arithmetic on them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Any, Literal

from langchain_costguard.vocabulary.usage import Usage

PICO_PER_NANO = 1_000
"""Rates are pico-USD (1e-12 USD) per token, money is nano-USD (1e-9 USD)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rates:
    """Rates of one model in pico-USD (1e-12 USD) a token, as they hold at one time and service tier.

    A bucket without a price of its own carries the price of the bucket it is a part of, so that every field can be
    multiplied. ``tiers`` are cliffs: beyond ``start`` input tokens *all* tokens cost the rates given there.
    """

    provider: str = ""
    model: str = ""
    input: int = 0
    output: int = 0
    cache_read: int = 0
    cache_write: int = 0
    cache_write_1h: int = 0
    input_audio: int = 0
    output_audio: int = 0
    output_image: int = 0
    reasoning: int = 0
    web_search: int = 0
    """Nano-USD a search."""
    grounded_once: bool = False
    """Searches are billed as one a request, however many there were (Gemini up to 2.5)."""
    file_search: int = 0
    """Nano-USD a search in the provider's file store."""
    container: int = 0
    """Nano-USD a container of the provider's code interpreter."""
    citation: int = 0
    request: int = 0
    """Nano-USD a request."""
    request_by_context: tuple[tuple[str, int], ...] = ()
    """The same by how much of the web the provider put before the model; ``request`` is the dearest of them."""
    tiers: tuple[tuple[int, Rates], ...] = ()
    source: str = ""
    """Where the price is from, in words."""
    estimated: bool = False
    """True where the price is not the one of this model at this provider, but a stand-in."""

    dearest_input: int = field(init=False)
    """Of plain input and five-minute cache writes, the dearer."""
    dearest_output: int = field(init=False)
    """Of the kinds of output, the dearest."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "dearest_input", max(self.input, self.cache_write))
        output = max(self.output, self.output_audio, self.output_image, self.reasoning)
        object.__setattr__(self, "dearest_output", output)
        if not self.citation:
            object.__setattr__(self, "citation", self.output)

    def times(self, factor: Decimal) -> Rates:
        """The same rates with every token so many times as dear."""
        tokens: dict[str, Any] = {name: int(getattr(self, name) * factor) for name in _BY_TOKEN}
        return replace(self, **tokens, tiers=tuple((start, rates.times(factor)) for start, rates in self.tiers))

    def at(self, input_tokens: int) -> Rates:
        """The rates for a call of that many input tokens: the highest tier it is beyond."""
        for start, rates in reversed(self.tiers):
            if input_tokens > start:
                return rates
        return self

    def charge(self, usage: Usage) -> int:
        """What the usage costs, in nano-USD, rounded half to even."""
        tokens = usage.input_tokens
        rates = self.at(tokens) if self.tiers else self
        read, write, audio = usage.cache_read, usage.cache_write, usage.input_audio
        if read or write or audio:
            hour = usage.cache_write_1h
            plain = tokens - read - write - audio
            # Cached audio is in both buckets; what overlaps is billed once, at the cached rate.
            pico = (
                max(0, plain) * rates.input
                + read * rates.cache_read
                + (write - hour) * rates.cache_write
                + hour * rates.cache_write_1h
                + max(0, audio + min(0, plain)) * rates.input_audio
            )
        else:
            pico = tokens * rates.input
        out = usage.output_tokens
        spoken, drawn, thought, cited = usage.output_audio, usage.output_image, usage.reasoning, usage.citations
        if spoken or drawn or cited or (thought and rates.reasoning != rates.output):
            pico += spoken * rates.output_audio + drawn * rates.output_image + thought * rates.reasoning
            pico += cited * rates.citation
            out = max(0, out - spoken - drawn - thought - cited)
        pico += out * rates.output
        nano, rest = pico // PICO_PER_NANO, pico % PICO_PER_NANO
        if rest >= 500 and (rest > 500 or nano & 1):
            nano += 1
        if usage.web_searches or usage.file_searches or usage.containers:
            nano += rates.fees(usage)
        if rates.request_by_context:
            return nano + dict(rates.request_by_context).get(usage.search_context or "", rates.request)
        return nano + rates.request

    def fees(self, usage: Usage) -> int:
        """What the use of hosted tools costs, in nano-USD."""
        searches = min(usage.web_searches, 1) if self.grounded_once else usage.web_searches
        tools = usage.file_searches * self.file_search + usage.containers * self.container
        return searches * self.web_search + tools

    def ceiling(
        self,
        input_tokens: int,
        output_tokens: int,
        *,
        cache_write: bool | Literal["1h"] = True,
        audio: bool = False,
    ) -> int:
        """The most such a call can cost, in nano-USD, rounded up.

        ``cache_write`` says that the request could write to the prompt cache (``"1h"``: for an hour), ``audio`` that
        its input holds audio. Every tier that so many tokens can reach is looked at, and the dearest one counts.
        """
        if not self.tiers and not audio and cache_write != "1h":
            each = self.dearest_input if cache_write else self.input
            return -(-(input_tokens * each + output_tokens * self.dearest_output) // PICO_PER_NANO) + self.request
        dearest = 0
        for rates in self._reachable(input_tokens):
            each = rates.input
            if cache_write:
                each = max(each, rates.cache_write)
            if cache_write == "1h":
                each = max(each, rates.cache_write_1h)
            if audio:
                each = max(each, rates.input_audio)
            dearest = max(dearest, input_tokens * each + output_tokens * rates.dearest_output)
        return -(-dearest // PICO_PER_NANO) + self.request

    def output_rate(self, input_tokens: int) -> int:
        """The most one more output token costs, in nano-USD, rounded up."""
        if not self.tiers:
            return -(-self.dearest_output // PICO_PER_NANO)
        return -(-max(rates.dearest_output for rates in self._reachable(input_tokens)) // PICO_PER_NANO)

    def saved_by_cache(self, usage: Usage) -> int:
        """What the tokens read from the provider's cache saved against the plain input price, in nano-USD."""
        rates = self.at(usage.input_tokens)
        return max(0, usage.cache_read * (rates.input - rates.cache_read)) // PICO_PER_NANO

    def _reachable(self, input_tokens: int) -> Iterator[Rates]:
        yield self
        for start, rates in self.tiers:
            if input_tokens > start:
                yield rates


_BY_TOKEN = (
    "input", "output", "cache_read", "cache_write", "cache_write_1h", "input_audio", "output_audio", "output_image",
    "reasoning", "citation",
)  # fmt: skip
