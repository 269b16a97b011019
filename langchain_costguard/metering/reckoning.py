"""What a reply is charged for: the usage it reports, put right where a client or a server has it wrong."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, NamedTuple

from langchain_costguard.metering.calls import Call, Stream
from langchain_costguard.metering.pricing.bills import BILLING, told_cost, told_model, written_cost
from langchain_costguard.metering.pricing.images import DEFAULT_MODEL, KNOWN_MODEL
from langchain_costguard.metering.pricing.offered import DRAWS
from langchain_costguard.metering.pricing.prices import PriceBook
from langchain_costguard.metering.pricing.rates import Rates
from langchain_costguard.metering.pricing.reading import (
    from_usage_metadata,
    parts,
    raw_usages,
    reported_model,
    reported_provider,
    says_tier,
    usage_of,
)
from langchain_costguard.metering.pricing.sellers import is_among
from langchain_costguard.metering.unsaid import with_unsaid
from langchain_costguard.vocabulary.usage import ModelRef, Usage


class Reckoning(NamedTuple):
    """What a reply says, ready to be paid."""

    usage: Usage | None
    """None where it says nothing that can be."""
    estimated: bool = False
    """A part of the counts is not the provider's."""
    model: str | None = None
    provider: str | None = None
    cost: int | None = None
    """The provider's own bill, in nano-USD, where it is one."""


NOTHING = Reckoning(None)


def reckon(call: Call, response: Any, trusted: frozenset[str], count: Callable[[str], int]) -> Reckoning:
    """Read a reply to this call. ``count`` counts the tokens of a text as the call's model does.

    ``trusted`` are the hosts, besides those of providers that bill in their replies, whose stated cost is believed.
    """
    drawing = next((offer.model for offer in call.asks.hosted if offer.tool == DRAWS), DEFAULT_MODEL)
    usage, guessed = usage_of(response, drawing), False
    stream = call.stream
    if usage is not None and stream is not None and stream.repeats:
        usage = _last_told(usage, stream)
    cost = told_cost(response) if _believed(call, trusted) else written_cost(response)
    if usage is not None:
        usage = _as_asked(call, usage, response)
        usage = _heard(call, usage)
        message, blocks = parts(response)
        raw = [found for block in blocks for found in raw_usages(block)]
        usage, guessed = with_unsaid(call, usage, getattr(message, "content", None), raw, count)
        usage, counted = _billed_units(call, usage, raw)
        guessed = guessed or counted
        if cost is None or usage.total_tokens:
            usage, missing = _possible(call, usage, response, count)
            guessed = guessed or missing
    elif cost is not None:
        usage, guessed = Usage(call.tokens, count(text_of(call, response))), True
    name = (told_model(response) if cost is not None else None) or reported_model(response)
    return Reckoning(usage, guessed, name, reported_provider(response), cost)


def _believed(call: Call, trusted: frozenset[str]) -> bool:
    """Whether a cost that the reply states is the bill of who is asked."""
    if trusted and call.url is not None and is_among(call.url, trusted):
        return True
    return (call.ref.seller or call.ref.provider).lower() in BILLING


def _last_told(usage: Usage, stream: Stream) -> Usage:
    """The usage of a stream whose every piece has told all of it so far: LangChain has added them up.

    https://github.com/langchain-ai/langchain/issues/30429
    """
    last = from_usage_metadata(stream.usage) if isinstance(stream.usage, Mapping) else None
    if last is None:
        return usage
    return last._replace(
        tier=usage.tier,
        geo=usage.geo,
        web_searches=usage.web_searches,
        file_searches=usage.file_searches,
        containers=usage.containers,
    )


def _as_asked(call: Call, usage: Usage, response: Any) -> Usage:
    """The usage at the tier and in the place that were asked for, where the reply does not say: streams lose both."""
    asked = call.asks
    if asked.geo and usage.geo is None:
        usage = usage._replace(geo=asked.geo)
    if asked.tier and usage.tier is None and not says_tier(response):
        usage = usage._replace(tier=asked.tier)
    return usage


def _heard(call: Call, usage: Usage) -> Usage:
    """Input tokens of audio, where the client has dropped the split: all but those of the text."""
    if not call.audio or usage.input_audio or call.rates.input_audio == call.rates.input:
        return usage
    return usage._replace(input_audio=max(0, usage.input_tokens - usage.cache_read - call.words))


def _billed_units(call: Call, usage: Usage, raw: list[Mapping[str, Any]]) -> tuple[Usage, bool]:
    """Outside of streams ``ChatCohere`` drops what is billed and passes on what the model has read, Cohere's template
    of 500 tokens and more included: the input is then what the prompt is likely to have, and no more than was read.

    https://docs.cohere.com/docs/how-does-cohere-pricing-work
    """
    if call.ref.provider != "cohere" or call.stream is not None or any("billed_units" in block for block in raw):
        return usage, False
    return usage._replace(input_tokens=min(usage.input_tokens, call.tokens)), True


def _possible(call: Call, usage: Usage, response: Any, count: Callable[[str], int]) -> tuple[Usage | None, bool]:
    """The usage, if it can be: no prompt has 0 tokens, and no text; whether a count was put in its place.

    Servers and gateways send blocks of zeros: https://github.com/langchain-ai/langchain-aws/issues/916.
    """
    no_input = usage.input_tokens == 0 and call.tokens > 0
    no_output = usage.output_tokens == 0 and bool(text_of(call, response))
    if no_input and usage.output_tokens == 0:
        return None, True
    if no_input:
        usage = usage._replace(input_tokens=call.upper)
    if no_output:
        held = call.ceiling * call.times if call.asked is not None and call.hold is not None else 0
        usage = usage._replace(output_tokens=max(held, count(text_of(call, response))))
    return usage, no_input or no_output


def text_of(call: Call, response: Any) -> str:
    """What has come: the text of all replies, and the tools they call."""
    if call.stream is not None and call.stream.parts:
        return call.stream.text()
    generations = getattr(response, "generations", None) or [[]]
    found = []
    for generation in generations[0]:
        found.append(getattr(generation, "text", "") or "")
        message = getattr(generation, "message", None)
        found += [f"{made.get('name')}{made.get('args')}" for made in getattr(message, "tool_calls", None) or ()]
        extra = getattr(message, "additional_kwargs", None)
        found.append(str(extra.get("reasoning_content") or "") if isinstance(extra, Mapping) else "")
    return "".join(found)


def with_others(call: Call, usage: Usage, book: PriceBook) -> tuple[Usage, int, bool]:
    """The usage with that of other models that were asked inside the call, what those cost, and whether a price had to
    stand in for theirs."""
    cost, estimated = 0, False
    for name, used in usage.others:
        rates = rates_inside(call, book, name, used)
        cost, estimated = cost + rates.charge(used), estimated or rates.estimated
        usage = usage.plus(used)
    return usage, cost, estimated


def rates_inside(call: Call, book: PriceBook, name: str, used: Usage | None = None) -> Rates:
    """The rates of another model that the provider asks inside a call; those of a kin where that has no price."""
    ref, tier, geo = ModelRef(call.ref.provider, name, call.ref.seller), used and used.tier, used and used.geo
    known = book.rates(ref, call.started, tier, geo)
    if known is None and name.startswith("gpt-image"):
        kin = book.rates(ModelRef(ref.provider, KNOWN_MODEL, ref.seller), call.started, tier, geo)
        known = None if kin is None else replace(kin, estimated=True)
    return known or book.quote(ref, call.started, tier, geo)


def guess(call: Call, output: int | None) -> tuple[Usage, int]:
    """Usage and charge of a reply that says nothing: so much output, as it was seen, or (None) all that was held."""
    if output is not None:
        usage = Usage(input_tokens=call.tokens, output_tokens=output)
        return usage, call.rates.charge(usage)
    held = call.ceiling * call.times if call.hold is not None and call.hold.limits else 0
    usage = Usage(input_tokens=call.upper, output_tokens=held)
    return usage, max(call.held, call.rates.charge(usage))
