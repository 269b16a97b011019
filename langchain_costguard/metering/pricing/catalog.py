"""The public price table (genai-prices), read once per model into integer rates."""

from __future__ import annotations

import functools
import math
from datetime import UTC, datetime, time, timedelta
from decimal import ROUND_HALF_EVEN, Decimal
from importlib.metadata import version
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

from langchain_costguard.metering.pricing.rates import Rates
from langchain_costguard.metering.pricing.supplements import (
    CONTAINER,
    by_context,
    faster,
    fine_tuned,
    missing,
    nearer,
    suffix,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from genai_prices.data_snapshot import DataSnapshot
    from genai_prices.types import ModelInfo, Provider

PICO_PER_USD_MTOK = 1_000_000
"""1 USD per million tokens is 1e-6 USD a token, which is 1e6 pico-USD."""

NANO_PER_USD_THOUSAND = 1_000_000
"""1 USD per thousand searches or requests is 1e-3 USD each, which is 1e6 nano-USD."""

ALIASES = {
    "anthropic-bedrock": "aws",
    "anthropic_bedrock": "aws",
    "azure_ai": "azure",
    "azure_openai": "azure",
    "azureml": "azure",
    "bedrock": "aws",
    "bedrock_converse": "aws",
    "fireworks_ai": "fireworks",
    "gemini": "google",
    "mistralai": "mistral",
    "nvidia_ai_endpoints": "nvidia",
    "together_ai": "together",
    "togetherai": "together",
    "vertex_ai": "google",
}
"""LangChain's ``ls_provider`` where genai-prices' own matching does not find the provider by it."""

UNKNOWN_PROVIDER = ("anthropic", "google")
"""Whose dearest model stands in where the provider itself is unknown. OpenAI is left out: its "pro" models cost eight
times as much as the dearest model of anyone else, and a hold at that price would refuse nearly every call."""


class Listing(NamedTuple):
    """One model of the table, and how it was found."""

    provider: Provider
    model: ModelInfo
    extra: Mapping[str, Decimal] = MappingProxyType({})
    """Prices that the table does not give, or not for this name."""


class Priced(NamedTuple):
    """Rates and the time they hold for, in seconds since the epoch: ``since`` <= t < ``until``."""

    since: float
    until: float
    rates: Rates | None


def warm() -> None:
    """Import the table, and read what it is called from its package's files, now (a quarter of a second) rather than at
    the first price."""
    _snapshot()
    _table_name()


def is_warm() -> bool:
    """Whether a price can be told without reading any file."""
    return bool(_table_name.cache_info().currsize)


def _snapshot() -> DataSnapshot:
    from genai_prices.data_snapshot import get_snapshot

    return get_snapshot()


@functools.cache
def _table_name() -> str:
    return f"genai-prices {version('genai-prices')}"


def find(provider: str, name: str) -> Listing | None:
    """The listing of a model at a provider: itself, or as a reseller of the vendor's table; None where it lists none.

    Another provider's price of that name is not this one's. Where no provider is named, a model is found by its name
    alone: at the vendor whose naming it follows, in OpenRouter's table (``vendor/model``), at the vendor before the
    slash or colon, and then in any provider's table.
    """
    snapshot = _snapshot()
    provider, name = _routed(provider, name)
    known = _provider(provider)
    if known is None and provider:
        return None
    tuned = fine_tuned(name)
    if tuned is not None and known is not None and known.id in ("openai", "azure"):
        base = find(provider, tuned[0])
        return base._replace(extra=tuned[1]) if base is not None else None
    for ref in _spellings(name):
        if known is None:
            found = next(_by_name(snapshot, ref), None)
        else:
            model = known.find_model(ref, all_providers=snapshot.providers)
            found = Listing(known, model, missing(known.id, ref)) if model is not None else None
        if found is not None:
            return found
    plain = suffix(name) if known is None or known.id == "openrouter" else None
    listing = find(provider, plain[0]) if plain is not None else None
    return listing._replace(extra={**listing.extra, **plain[1]}) if plain is not None and listing is not None else None


def is_free(provider: str, name: str) -> bool:
    """Whether a gateway gives a model away: OpenRouter's names say so."""
    name = name.strip().lower()
    return (name.endswith(":free") or name == "openrouter/free") and provider_id(provider) in ("openrouter", "")


def choosing(provider: str, name: str) -> str | None:
    """What the models have in their names among which the provider itself chooses one for each call, asked for by this
    name; None where the name is that of a model.

    https://openrouter.ai/docs/features/model-routing, https://docs.aws.amazon.com/bedrock/latest/userguide/
    prompt-routing.html, https://learn.microsoft.com/azure/ai-foundry/openai/concepts/model-router
    """
    name, seller = name.strip().lower(), provider_id(provider)
    if seller == "aws" and "prompt-router/" in name:
        return name.rpartition("default-prompt-router/")[2].partition(":")[0] if "default-" in name else ""
    chooses = (seller == "openrouter" and name.startswith("openrouter/")) or (
        seller == "azure" and name.startswith("model-router")
    )
    return "" if chooses else None


def _provider(name: str) -> Provider | None:
    from genai_prices.data_snapshot import find_provider_by_id

    wanted = name.strip().lower()
    return find_provider_by_id(_snapshot().providers, ALIASES.get(wanted, wanted)) if wanted else None


def provider_id(name: str) -> str:
    """What the table calls a provider; the name as it is where it has none."""
    known = _provider(name)
    return name if known is None else known.id


def is_known(provider: str) -> bool:
    """Whether the table knows a provider."""
    return _provider(provider) is not None


def _routed(provider: str, name: str) -> tuple[str, str]:
    """Provider and model of a name in LiteLLM's manner: ``groq/llama-3.3-70b`` is Groq's."""
    if provider.strip().lower() not in ("litellm", "litellm-proxy"):
        return provider, name
    head, mark, rest = name.partition("/")
    return (head, rest) if mark and rest else ("", name)


def _spellings(name: str) -> Iterator[str]:
    """The name, and the name without what frameworks put around it."""
    name = name.strip()
    yield name
    if name.startswith(
        "arn:"
    ):  # https://docs.aws.amazon.com/service-authorization/latest/reference/list_amazonbedrock.html
        yield name.rpartition("/")[2]
    for prefix in ("models/", "publishers/google/models/", "accounts/fireworks/models/"):
        if name.startswith(prefix):
            yield name.removeprefix(prefix)


def _by_name(snapshot: DataSnapshot, ref: str) -> Iterator[Listing]:
    """The listings of a model of that name, best first."""
    for provider, spelling in _tables(snapshot, ref):
        if model := provider.find_model(spelling, all_providers=snapshot.providers):
            yield Listing(provider, model, missing(provider.id, spelling))


def _tables(snapshot: DataSnapshot, ref: str) -> Iterator[tuple[Provider, str]]:
    lowered = ref.lower()
    for provider in snapshot.providers:
        if provider.model_match is not None and provider.model_match.is_match(lowered):
            yield provider, ref
            break
    if "/" in ref:
        yield from ((provider, ref) for provider in snapshot.providers if provider.id == "openrouter")
    for mark in ("/", ":"):
        vendor, found, rest = ref.partition(mark)
        if found and rest and vendor and (named := _provider(vendor)) is not None:
            yield named, rest
    yield from ((provider, ref) for provider in snapshot.providers)


def priced(
    listing: Listing, at: float, tier: str | None = None, geo: str | None = None, *, stand_in: str = ""
) -> Priced:
    """The rates of a listing at a time, service tier and place, and how long they hold."""
    model = listing.model
    when = datetime.fromtimestamp(at, UTC)
    since, until = _interval(_constraints(model), when)
    # A variant belongs to the provider that lists it: a reseller does not inherit its vendor's service tiers.
    context = _context(tier) if any(model is own for own in listing.provider.models) else None
    plain = model.get_prices(when, None).__dict__
    at_tier = model.get_prices(when, context).__dict__ if context else plain
    prices: dict[str, Any] = {k: v for k, v in at_tier.items() if v is not None}
    prices = {**listing.extra, **prices, **(listing.extra if "input_mtok" in listing.extra else {})}
    if "input_mtok" not in prices:
        return Priced(since, until, None)
    source = stand_in or _source(listing)
    naming = {"provider": listing.provider.id, "model": model.id, "source": source}
    rates = _rates(prices, naming, estimated=bool(stand_in))
    factor = nearer(listing.provider.id, geo) * (faster(model.id, tier) if at_tier == plain else 1)
    return Priced(since, until, rates.times(factor) if factor != 1 else rates)


def near(provider: str, name: str) -> list[str]:
    """Names that the table has and a mistyped one may mean, nearest first."""
    from difflib import get_close_matches

    provider, name = _routed(provider, name)
    known = _provider(provider)
    pool = [known] if known is not None else [p for p in _snapshot().providers if p.model_match is not None]
    names = (model.id for each in pool for model in each.models if not model.deprecated)
    return get_close_matches(name.strip().lower(), [*dict.fromkeys(n for n in names if n[0] != "@")], n=3, cutoff=0.7)


def _source(listing: Listing) -> str:
    return f"{_table_name()}, {listing.provider.id}: {listing.model.id}"


def _context(tier: str | None) -> dict[str, str] | None:
    """The request facts by which genai-prices selects a variant; one word stands for all three of its keys."""
    return {"service_tier": tier, "processing": tier, "speed": tier} if tier else None


def _rates(prices: Mapping[str, Any], naming: Mapping[str, str], *, estimated: bool) -> Rates:
    starts = sorted({tier.start for price in prices.values() for tier in getattr(price, "tiers", ())})
    beyond = tuple((start, _flat(prices, start, naming, estimated=estimated)) for start in starts)
    return _flat(prices, -1, naming, tiers=beyond, estimated=estimated)


def _flat(
    prices: Mapping[str, Any],
    start: int,
    naming: Mapping[str, str],
    *,
    tiers: tuple[tuple[int, Rates], ...] = (),
    estimated: bool,
) -> Rates:
    """The rates of one tier: that which begins at ``start`` input tokens, -1 for the lowest."""

    def pico(key: str, otherwise: int = 0) -> int:
        price = prices.get(key)
        return otherwise if price is None else _whole(_in_tier(price, start) * PICO_PER_USD_MTOK)

    def nano(key: str) -> int:
        price = prices.get(key)
        return 0 if price is None else _whole(_in_tier(price, start) * NANO_PER_USD_THOUSAND)

    plain, output = pico("input_mtok"), pico("output_mtok")
    write = pico("cache_write_mtok", plain)
    return Rates(
        **naming,
        input=plain,
        output=output,
        cache_read=pico("cache_read_mtok", plain),
        cache_write=write,
        cache_write_1h=pico("cache_write_1h_mtok", write),
        input_audio=pico("input_audio_mtok", plain),
        output_audio=pico("output_audio_mtok", output),
        output_image=pico("output_image_mtok", output),
        reasoning=pico("output_reasoning_mtok", output),
        web_search=nano("web_searches_kcount"),
        grounded_once=naming["provider"] == "google" and naming["model"].startswith(("gemini-1", "gemini-2")),
        file_search=nano("storage_searches_kcount"),
        container=CONTAINER.get(naming["provider"], 0),
        citation=pico("output_citation_mtok", output),
        request=nano("requests_kcount"),
        request_by_context=by_context(naming["provider"], naming["model"]),
        tiers=tiers,
        estimated=estimated,
    )


def _in_tier(price: Any, start: int) -> Decimal:
    if isinstance(price, Decimal):
        return price
    at: Decimal = price.base
    for tier in price.tiers:
        if tier.start <= start:
            at = tier.price
    return at


def _whole(amount: Decimal) -> int:
    return int(amount.to_integral_value(ROUND_HALF_EVEN))


def _constraints(model: ModelInfo) -> list[Any]:
    prices = model.prices if isinstance(model.prices, list) else []
    return [each.constraint for each in (*prices, *(model.price_variants or ())) if each.constraint is not None]


def _interval(constraints: Iterable[Any], when: datetime) -> tuple[float, float]:
    """From the last to the next moment at which one of the constraints may change its answer."""
    since, until, now = -math.inf, math.inf, when.timestamp()
    for moment in (m for constraint in constraints for m in _moments(constraint, when)):
        if moment <= now:
            since = max(since, moment)
        else:
            until = min(until, moment)
    return since, until


def _moments(constraint: Any, when: datetime) -> list[float]:
    start_date = getattr(constraint, "start_date", None)
    if start_date is not None:
        return [datetime.combine(start_date, time(), UTC).timestamp()]
    times = [t for t in (getattr(constraint, "start_time", None), getattr(constraint, "end_time", None)) if t]
    days = [when.date() + timedelta(days=d) for d in (-1, 0, 1)]
    moments = [datetime.combine(day, t, t.tzinfo or UTC).timestamp() for day in days for t in times]
    # A constraint of a kind not known here is asked again every hour.
    return moments or [when.timestamp() // 3600 * 3600, when.timestamp() // 3600 * 3600 + 3600]


def dearest(provider: str, at: float, among: str | None = None) -> tuple[Rates, float] | None:
    """The dearest model sold by the token (input and output price added) at a provider, and until when.

    Models marked deprecated and models without both token prices (embeddings, speech, images) are left out. Where the
    provider is unknown the dearest of ``UNKNOWN_PROVIDER`` stands in. With ``among`` the provider chooses a model
    itself: one of those with this in their names.
    """
    providers, known = _snapshot().providers, _provider(provider)
    pool = [known] if known is not None else [p for p in providers if p.id in UNKNOWN_PROVIDER]
    best: Priced | None = None
    until = math.inf
    for listing in (Listing(p, m) for p in pool for m in p.models if not m.deprecated and (among or "") in m.id):
        why = _stand_in(listing, provider, known) if among is None else _chosen(listing)
        candidate = priced(listing, at, stand_in=why)
        until = min(until, candidate.until)
        rates = candidate.rates
        if rates is not None and rates.output and (best is None or _sum(rates) > _sum(best.rates)):
            best = candidate
    return (best.rates, until) if best is not None and best.rates is not None else None


def _sum(rates: Rates | None) -> int:
    return 0 if rates is None else rates.input + rates.output


def _chosen(listing: Listing) -> str:
    return (
        f"{listing.provider.id} chooses the model; held as {listing.model.id}, the dearest it may choose in "
        f"{_table_name()}, and charged as the one that answers"
    )


def _stand_in(listing: Listing, provider: str, known: Provider | None) -> str:
    where = known.id if known is not None else " and ".join(UNKNOWN_PROVIDER)
    why = "" if known is not None else f", the provider {provider!r} being unknown" if provider else ""
    return (
        f"no price known{why}; charged as {listing.provider.id}: {listing.model.id}, "
        f"the dearest of {where} in {_table_name()}"
    )
