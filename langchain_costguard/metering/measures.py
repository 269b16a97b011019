"""How much a model call may take, as far as its request says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from langchain_costguard.metering.calls import Call
from langchain_costguard.metering.meter import Meter
from langchain_costguard.metering.pricing.asks import NOTHING, asks
from langchain_costguard.metering.pricing.blocks import audio_tokens
from langchain_costguard.metering.pricing.cache_writes import kept_for_an_hour, may_write_cache
from langchain_costguard.metering.pricing.offered import extra
from langchain_costguard.metering.reckoning import rates_inside
from langchain_costguard.metering.terms import Terms

if TYPE_CHECKING:
    from langchain_core.messages import BaseMessage

CEILINGS = frozenset(
    ["max_completion_tokens", "max_tokens", "max_output_tokens", "max_tokens_to_sample", "num_predict"]
)
"""What a request's most output tokens are called."""


def measure(
    call: Call,
    terms: Terms,
    metadata: Mapping[str, Any],
    params: Mapping[str, Any],
    prompt: Sequence[BaseMessage] | str,
    meter: Meter,
) -> None:
    """Say at which rates a call is charged, and how many tokens it may take.

    Raises:
        LookupError: the model has no price, and may have none.
    """
    ref = terms.ref
    call.asks = wanted = asks(params, terms.facts)
    call.rates = meter.book.quote(ref, call.started, wanted.tier, wanted.geo)
    if isinstance(prompt, str):
        call.tokens, call.upper = meter.estimator.estimate_text(ref, prompt)
    else:
        call.tokens, call.upper = meter.estimator.estimate(
            ref,
            prompt,
            tools=params.get("tools") or params.get("functions"),
            response_format=params.get("response_format"),
        )
    call.times = wanted.times
    call.asked = _asked(metadata, params)
    call.thinks = _thinks(params)
    call.ceiling = call.allowed = call.asked or terms.limit
    call.writes_cache = may_write_cache(prompt, params, terms.facts) if terms.asks else True
    if call.writes_cache == "1h":
        part = kept_for_an_hour(prompt, params, terms.facts)
        tools = params.get("tools")
        call.hour = None if part is None else meter.estimator.estimate(ref, part, tools=tools).tokens
    if wanted.compaction:  # reads it all once more, and writes as much as an answer
        call.upper, call.times = call.upper + max(call.upper, wanted.compaction), call.times + 1
    if call.rates.input_audio != call.rates.input and not isinstance(prompt, str):
        heard = audio_tokens(prompt)
        call.audio, call.words = heard > 0, max(0, call.tokens - heard)
    if wanted.hosted:
        others = partial(rates_inside, call, meter.book)
        call.asks = wanted._replace(extra=extra(wanted.hosted, call.rates, others, call.upper))
    call.odd = call.asks is not NOTHING or call.audio


def _thinks(params: Mapping[str, Any]) -> int:
    """Output tokens set apart for thinking: Anthropic refuses a ``max_tokens`` that is not above them.
    https://docs.anthropic.com/en/docs/build-with-claude/extended-thinking"""
    thinking = params.get("thinking") or (params.get("additional_model_request_fields") or {}).get("thinking")
    budget = thinking.get("budget_tokens") if isinstance(thinking, dict) else None
    return budget if isinstance(budget, int) and budget > 0 else 0


def _asked(metadata: Mapping[str, Any], params: Mapping[str, Any]) -> int | None:
    """The most output tokens the request allows; the largest figure where several are given, for which of them is sent
    depends on the client: ``ChatOpenAI`` sends what is bound as ``max_completion_tokens`` and says so nowhere else, and
    over the Responses API sends the constructor's figure whatever ``max_tokens`` is bound."""
    asked = metadata.get("ls_max_tokens")
    figures = [asked] if isinstance(asked, int) and asked > 0 else []
    if not CEILINGS.isdisjoint(params):
        figures += [value for key in CEILINGS if isinstance(value := params.get(key), int) and value > 0]
    return max(figures, default=None)
