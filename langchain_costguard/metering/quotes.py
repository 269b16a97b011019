"""What a call would cost, said before it is made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import TYPE_CHECKING, Any, NamedTuple

from langchain_costguard.metering.amounts import amounts
from langchain_costguard.metering.budgets.ledger import USD
from langchain_costguard.metering.pricing.explaining import parse
from langchain_costguard.vocabulary.money import usd
from langchain_costguard.vocabulary.usage import Usage

if TYPE_CHECKING:
    from langchain_costguard.metering.admission import Admission


class Quote(NamedTuple):
    """What a call would cost, in USD.

    ``least`` is the prompt alone, ``expected`` the prompt with ``output_tokens`` of answer, ``most`` what would be held
    for it: the prompt with the estimator's stated error, and the longest answer that it may have.
    """

    least: Decimal
    expected: Decimal
    most: Decimal
    input_tokens: int
    output_tokens: int
    model: str
    source: str
    """Where the price is from."""
    estimated: bool
    """The price is a stand-in: nobody knows the model's own."""


def quote(
    admission: Admission,
    model: Any,
    messages: Any,
    tools: Sequence[Any],
    output_tokens: int,
    settings: Mapping[str, Any],
) -> Quote:
    """What a call of ``model`` (a chat model, or ``"provider:name"``) with these messages would cost.

    Raises:
        ValueError: ``messages`` are none.
        UnpricedModelError: the model has no price, and may have none.
    """
    from langchain_core.messages import convert_to_messages

    prompt = convert_to_messages([messages] if isinstance(messages, str) else messages)
    params: dict[str, Any] = dict(settings)
    if isinstance(model, str):
        ref, client = parse(model), None
        metadata = {"ls_provider": ref.provider, "ls_model_name": ref.name}
    else:
        model, bound = getattr(model, "bound", model), getattr(model, "kwargs", None) or {}
        params = {**bound, **params}
        metadata, client = dict(model._get_ls_params(**params)), getattr(model, "_serialized", None)
    if tools:
        params["tools"] = [*(params.get("tools") or ()), *tools]
    call = admission.foresee(metadata, params, prompt, client)
    likely = min(output_tokens, call.ceiling) * call.times
    rates = call.rates
    return Quote(
        usd(rates.charge(Usage(call.tokens, tier=call.asks.tier))),
        usd(rates.charge(Usage(call.tokens, likely, tier=call.asks.tier))),
        usd(amounts(call, call.ceiling)[0][USD]),
        call.tokens,
        likely,
        str(call.ref),
        rates.source,
        rates.estimated,
    )
