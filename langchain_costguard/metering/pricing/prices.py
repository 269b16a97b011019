"""The price book: what a model call costs, by user overrides and the public table; unknown is None, never zero."""

from __future__ import annotations

import math
import threading
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from decimal import ROUND_HALF_EVEN, Decimal, InvalidOperation
from typing import Literal

from langchain_costguard.metering.pricing import catalog
from langchain_costguard.metering.pricing.catalog import Priced
from langchain_costguard.metering.pricing.rates import Rates
from langchain_costguard.metering.pricing.sellers import LOCAL
from langchain_costguard.observe.forks import held_over_forks
from langchain_costguard.vocabulary.checks import mapped
from langchain_costguard.vocabulary.usage import ModelRef, Usage

Unpriced = Literal["estimate", "refuse", "free"]

MEMO_SIZE = 4096
"""Models remembered at once; beyond it the memo starts afresh (a model costs 0.1 ms to look up again)."""

_PICO_PER_USD = 10**12
_MOST = 10**6
"""USD. Nothing costs that; what does is a slip, and its rates would be numbers of hundreds of digits."""
_TOKENS = {"1": 1, "1K": 1_000, "1M": 1_000_000}


@dataclass(frozen=True, slots=True)
class Price:
    """A price set by the user: USD per ``per`` tokens, as text, whole number or Decimal.

    What is left out costs as much as that of which it is a part: cached reads and writes as input, and so on.
    """

    input: str | int | Decimal
    output: str | int | Decimal = "0"
    cache_read: str | int | Decimal | None = None
    cache_write: str | int | Decimal | None = None
    cache_write_1h: str | int | Decimal | None = None
    input_audio: str | int | Decimal | None = None
    output_audio: str | int | Decimal | None = None
    per: Literal["1", "1K", "1M"] = "1M"

    def __post_init__(self) -> None:
        if not isinstance(self.per, str) or self.per not in _TOKENS:
            raise ValueError(f"Price.per must be one of {', '.join(map(repr, _TOKENS))}, not {self.per!r}")
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name != "per" and not (value is None and field.name not in ("input", "output")):
                _usd(field.name, value)

    def rates(self, model: str, source: str) -> Rates:
        """The price as rates a token."""

        def pico(name: str, otherwise: int = 0) -> int:
            value = getattr(self, name)
            if value is None:
                return otherwise
            exact = _usd(name, value) * _PICO_PER_USD / _TOKENS[self.per]
            return int(exact.to_integral_value(ROUND_HALF_EVEN))

        plain, output = pico("input"), pico("output")
        write = pico("cache_write", plain)
        return Rates(
            model=model,
            input=plain,
            output=output,
            cache_read=pico("cache_read", plain),
            cache_write=write,
            cache_write_1h=pico("cache_write_1h", write),
            input_audio=pico("input_audio", plain),
            output_audio=pico("output_audio", output),
            output_image=output,
            reasoning=output,
            source=source,
        )


def _usd(name: str, value: object) -> Decimal:
    if isinstance(value, float):
        raise ValueError(f"Price.{name} must be exact: write {value!r} as text, {str(value)!r}")
    if isinstance(value, bool) or not isinstance(value, str | int | Decimal):
        raise ValueError(f"Price.{name} must be text, a whole number or a Decimal, not {value!r}")
    try:
        usd = Decimal(value)
    except InvalidOperation:
        raise ValueError(f"Price.{name} must be a number of USD, not {value!r}") from None
    if not usd.is_finite() or not 0 <= usd <= _MOST:
        raise ValueError(f"Price.{name} must be a number of USD from zero to a million, not {value!r}")
    return usd


class PriceBook:
    """Prices of models. A look-up is memoised together with the time it holds for; any thread may ask.

    ``prices`` are the user's own and win: their key is ``"model"``, ``"provider:model"`` or ``"provider/model"``.
    ``aliases`` say what a gateway's own names stand for: ``{"cheap": "openai:gpt-4o-mini"}``. ``unpriced`` says what
    ``quote`` makes of a model that nobody knows.
    """

    def __init__(
        self,
        prices: Mapping[str, Price] | None = None,
        *,
        unpriced: Unpriced = "estimate",
        aliases: Mapping[str, str] | None = None,
    ) -> None:
        if unpriced not in ("estimate", "refuse", "free"):
            raise ValueError(f"unpriced must be 'estimate', 'refuse' or 'free', not {unpriced!r}")
        mapped("prices", {} if prices is None else prices, '{"my-model": Price("1")}')
        mapped("aliases", {} if aliases is None else aliases, '{"cheap": "openai:gpt-4o-mini"}')
        for key, price in (prices or {}).items():
            if not isinstance(key, str) or not key.strip():
                raise ValueError(f"prices: a key must name a model, not {key!r}")
            if not isinstance(price, Price):
                raise ValueError(f"prices[{key!r}] must be a Price, not {price!r}")
        self.unpriced = unpriced
        self._own = {key.strip().lower(): price for key, price in (prices or {}).items()}
        self.aliases = dict(aliases or {})
        self._aliases = _checked_aliases(aliases or {})
        self._memo: dict[_Key, Priced] = {}
        self._fallbacks: dict[tuple[str, str | None], Priced] = {}
        self._lock = held_over_forks(threading.Lock())

    def changed(self, prices: Mapping[str, Price] | None, aliases: Mapping[str, str] | None) -> PriceBook:
        """A book with these prices and aliases; None leaves those that there are."""
        own = self._own if prices is None else prices
        return PriceBook(own, unpriced=self.unpriced, aliases=self.aliases if aliases is None else aliases)

    def rates(self, model: ModelRef, at: float, tier: str | None = None, geo: str | None = None) -> Rates | None:
        """The model's rates at a time (seconds since the epoch), service tier and place; None means unknown."""
        return self.entry(model, at, tier, geo).rates

    def entry(self, model: ModelRef, at: float, tier: str | None = None, geo: str | None = None) -> Priced:
        """The same, with the time that the rates hold for."""
        entry = self._memo.get((model.provider, model.name, model.seller, tier, geo))
        if entry is not None and entry[0] <= at < entry[1]:
            return entry
        return self._look_up(model, at, tier, geo)

    def quote(self, model: ModelRef, at: float, tier: str | None = None, geo: str | None = None) -> Rates:
        """Rates to charge at in any case; LookupError for an unknown model where ``unpriced`` is ``"refuse"``."""
        rates = self.rates(model, at, tier, geo)
        if rates is not None:
            return rates
        among = catalog.choosing(model.seller or model.provider, model.name)
        if among is not None:
            return self.fallback(model, at, among)
        if self.unpriced == "refuse":
            raise LookupError(f"no price is known for {model}")
        if self.unpriced == "free":
            return Rates(model=model.name, source="no price known; counted as free", estimated=True)
        return self.fallback(model, at)

    def fallback(self, model: ModelRef, at: float, among: str | None = None) -> Rates:
        """Stand-in rates for an unknown model: the dearest known of its provider, flagged ``estimated``. With ``among``
        the provider chooses a model itself, one with this in its name."""
        provider = model.seller or model.provider
        entry = self._fallbacks.get((provider, among))
        if entry is None or entry.rates is None or not entry.since <= at < entry.until:
            found = catalog.dearest(provider, at, among) or catalog.dearest(provider, at) or catalog.dearest("", at)
            assert found is not None, "the price table is empty"
            entry = Priced(at, found[1], found[0])
            with self._lock:
                if len(self._fallbacks) >= MEMO_SIZE:
                    self._fallbacks.clear()
                self._fallbacks[provider, among] = entry
        assert entry.rates is not None
        return entry.rates

    def price(self, model: ModelRef, usage: Usage, at: float) -> int | None:
        """What the usage costs in nano-USD; None where the model's price is unknown."""
        rates = self.rates(model, at, usage.tier, usage.geo)
        return None if rates is None else rates.charge(usage)

    def billed(self, requested: ModelRef, reported: str | None, at: float, provider: str | None = None) -> ModelRef:
        """The model to charge for: the one the provider reports, unless the user priced the one asked for.

        A reported name that no table knows (a gateway's own) does not displace a known one. ``provider`` is whose
        client has answered: that of a model around another one, whose own name says nothing.
        """
        if not reported or reported == requested.name or self._override(requested) is not None:
            return requested
        actual = ModelRef(requested.provider, reported, requested.seller)
        if self._override(actual) is None and self.rates(actual, at) is None:
            alias = self._aliases.get(requested.name.lower())
            if alias is not None:
                actual = ModelRef(alias.provider, reported)
            elif provider and not requested.seller and not catalog.is_known(requested.provider):
                actual = ModelRef(provider, reported)
        known = self._override(actual) is not None or self.rates(actual, at) is not None
        return actual if known else requested

    def near(self, model: ModelRef) -> list[str]:
        """Names that are known and may have been meant, nearest first."""
        return catalog.near(model.seller or model.provider, model.name)

    def _override(self, model: ModelRef) -> tuple[str, Price] | None:
        if not self._own:
            return None
        name, names = model.name.lower(), (model.provider.lower(), model.seller.lower())
        keys = [f"{provider}{mark}{name}" for provider in names if provider for mark in ":/"]
        for key in (*keys, name):
            if key in self._own:
                return key, self._own[key]
        return None

    def _look_up(self, model: ModelRef, at: float, tier: str | None, geo: str | None) -> Priced:
        own, alias = self._override(model), self._aliases.get(model.name.lower())
        if own is not None:
            entry = Priced(-math.inf, math.inf, own[1].rates(model.name, f"set by the user: prices[{own[0]!r}]"))
        elif alias is not None and alias != model:
            found = self.entry(alias, at, tier, geo)
            rates = found.rates
            named = None if rates is None else replace(rates, source=f"alias of {alias}: {rates.source}")
            entry = Priced(found.since, found.until, named)
        elif (seller := model.seller or model.provider) == LOCAL or catalog.is_free(seller, model.name):
            source = _RUNS_HERE if seller == LOCAL else "given away: the name ends in :free"
            entry = Priced(-math.inf, math.inf, Rates(provider=seller, model=model.name, source=source))
        else:
            listing = catalog.find(seller, model.name)
            entry = catalog.priced(listing, at, tier, geo) if listing else Priced(-math.inf, math.inf, None)
        with self._lock:
            if len(self._memo) >= MEMO_SIZE:
                self._memo.clear()
            self._memo[model.provider, model.name, model.seller, tier, geo] = entry
        return entry


_Key = tuple[str, str, str, "str | None", "str | None"]
_RUNS_HERE = "runs on a machine of one's own; free unless priced"


def _checked_aliases(aliases: Mapping[str, str]) -> dict[str, ModelRef]:
    found = {}
    for name, meaning in aliases.items():
        provider, mark, model = meaning.partition(":") if isinstance(meaning, str) else ("", "", "")
        if not isinstance(name, str) or not name.strip() or not mark or not provider.strip() or not model.strip():
            raise ValueError(f"aliases[{name!r}]: {meaning!r} must be a model as 'provider:model'")
        found[name.strip().lower()] = ModelRef(provider.strip(), model.strip())
    return found


def warm() -> None:
    """Import the price table now (a quarter of a second) rather than at the first price."""
    catalog.warm()


def is_warm() -> bool:
    """Whether a price can be told without reading any file."""
    return catalog.is_warm()
