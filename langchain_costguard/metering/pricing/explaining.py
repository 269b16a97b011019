"""What the price book would charge for a model, and where the price is from, in lines for a person to read."""

from __future__ import annotations

from decimal import Decimal

from langchain_costguard.metering.pricing.prices import PriceBook
from langchain_costguard.metering.pricing.rates import Rates
from langchain_costguard.vocabulary.usage import ModelRef


def explain(book: PriceBook, name: str, at: float, tier: str | None = None) -> list[tuple[str, str]]:
    """Pairs of a label and a text for ``costguard prices``; prices are USD per million tokens.

    ``name`` is a model, or ``provider:model``. Where the book refuses unknown models, an unknown one has the one line
    that says so.
    """
    ref = parse(name)
    try:
        rates = book.quote(ref, at, tier)
    except LookupError as error:
        return [("model", str(ref)), ("price", str(error))]
    rows = [("model", rates.model or ref.name)]
    if rates.provider:
        rows.append(("provider", rates.provider))
    rows += _prices(rates, "")
    for start, beyond in rates.tiers:
        rows += _prices(beyond, f", beyond {start:,} input tokens")
    if rates.web_search:
        rows.append(("web search", f"${usd(rates.web_search, 10**9)} each"))
    if rates.request:
        rows.append(("request", f"${usd(rates.request, 10**9)} each"))
    if rates.file_search:
        rows.append(("file search", f"${usd(rates.file_search, 10**9)} each"))
    if rates.container:
        rows.append(("code container", f"${usd(rates.container, 10**9)} each"))
    rows += [("source", rates.source), ("estimated", "yes" if rates.estimated else "no")]
    if rates.estimated and (near := book.near(ref)):
        rows.append(("did you mean", ", ".join(near)))
    return rows


def parse(name: str) -> ModelRef:
    """A model as a person writes it: ``gpt-4o``, ``openai:gpt-4o``; a slash belongs to the model's own name."""
    provider, mark, model = name.strip().partition(":")
    if provider == "ft":  # one of OpenAI's that was fine-tuned
        return ModelRef("openai", name.strip())
    if mark and model and "/" not in provider and "." not in provider and " " not in provider:
        return ModelRef(provider, model)
    return ModelRef("", name.strip())


def usd(amount: int, per: int) -> str:
    """The amount over ``per`` as a plain decimal number, with two places at least."""
    value = Decimal(amount) / per
    text = f"{value.normalize():f}"
    whole, _, places = text.partition(".")
    return f"{whole}.{places.ljust(2, '0')}"


def _prices(rates: Rates, when: str) -> list[tuple[str, str]]:
    rows = [("input" + when, rates.input), ("output" + when, rates.output)]
    parts = (
        ("cached read", rates.cache_read, rates.input),
        ("cache write, 5 min", rates.cache_write, rates.input),
        ("cache write, 1 h", rates.cache_write_1h, rates.cache_write),
        ("audio input", rates.input_audio, rates.input),
        ("audio output", rates.output_audio, rates.output),
        ("image output", rates.output_image, rates.output),
        ("reasoning", rates.reasoning, rates.output),
    )
    rows += [(name + when, price) for name, price, same in parts if price != same]
    return [(name, f"${usd(price, 10**6)} per 1M tokens") for name, price in rows]
