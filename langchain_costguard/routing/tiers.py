"""Models by tier, resolved by price: ``tiers(provider="openai")`` names its ``nano``, ``mid``, and so on.

The rule, in this order:

1. Candidates are the chat models of the provider that LangChain's profiles list as calling tools and not deprecated,
   and whose price is known. The profiles come with the provider's integration, without which no model of it runs.
2. Of each family (the name without its version) the newest counts.
3. Of these, those of the current line: released in the 90 days before the newest one; in the 180 or 365 days before
   it, where that leaves fewer than three.
4. They are ordered by price: three input tokens and one output token. ``nano`` is the cheapest, ``reasoning`` the
   dearest that reasons, ``frontier`` the dearest up to 10 USD per million tokens, and ``mid``, of the others, the
   one nearest to the geometric mean of nano's and frontier's price.

A provider with few models has one for several tiers. Of equal prices the newer model counts.
"""

from __future__ import annotations

import math
import re
import time
from collections.abc import Iterable, Mapping, Sequence
from datetime import date, timedelta
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeAlias, Union, get_args

from langchain_costguard.metering.pricing import catalog
from langchain_costguard.metering.pricing.prices import PriceBook
from langchain_costguard.routing.abilities import profiles
from langchain_costguard.vocabulary.calendar import moment
from langchain_costguard.vocabulary.checks import mapped
from langchain_costguard.vocabulary.usage import ModelRef

if TYPE_CHECKING:
    from langchain_core.language_models import BaseChatModel

Spec: TypeAlias = Union[str, "BaseChatModel"]
"""A model as routers know it: a name for ``init_chat_model``, or a chat model."""

Tier = Literal["nano", "mid", "frontier", "reasoning"]
TIERS: tuple[Tier, ...] = get_args(Tier)

_FRONTIER = 10 * catalog.PICO_PER_USD_MTOK
"""Above it are models for rare, hard questions; as of 2026, twice the price of the dearest everyday ones."""

_LINES = (timedelta(days=90), timedelta(days=180), timedelta(days=365))

_OTHER = re.compile(r"audio|realtime|search|research|computer-use|codex|image|preview|latest")
"""Names that tell of something else than general chat, or of no version."""

_VERSION = re.compile(r"(?<![a-z0-9])v?\d+(?:[.-]\d+)*(?![a-z0-9])")


class _Candidate(NamedTuple):
    name: str
    family: str
    released: date
    reasons: bool
    price: int


def tiers(
    own: Mapping[str, str] | None = None,
    *,
    provider: str = "openai",
    prices: PriceBook | None = None,
    at: float | None = None,
) -> dict[str, str]:
    """The models of all four tiers, as ``init_chat_model`` takes them: ``{"nano": "openai:...", "mid": ...}``.

    Args:
        own: The user's own list, which wins; it need not name all tiers.
        provider: As ``init_chat_model`` calls it.
        prices: The price book to go by.
        at: Whose prices, in seconds since the epoch; now by default.

    Raises:
        ValueError: names a tier there is not, a model that is none, or a provider of whose models too little is known.
    """
    mapped("own", {} if own is None else own, '{"nano": "openai:gpt-5-nano"}')
    if not isinstance(provider, str):
        raise ValueError(f"provider: {provider!r} must be a name such as 'openai'")
    if prices is not None and not isinstance(prices, PriceBook):
        raise ValueError(f"prices: {prices!r} is no PriceBook")
    chosen = dict(own or {})
    for tier, model in chosen.items():
        if tier not in TIERS:
            raise ValueError(f"own: {tier!r} is not one of {', '.join(TIERS)}")
        checked_model(f"own[{tier!r}]", model)
    if set(TIERS) <= chosen.keys():
        return {tier: chosen[tier] for tier in TIERS}
    now = time.time()
    when = now if at is None else moment(at, "at", now=now)
    found = _current(_candidates(provider, prices or PriceBook(), when))
    if not found:
        raise ValueError(
            f"provider: of {provider!r} no chat model is known by profile and price; "
            f"install its LangChain integration, or name all of {', '.join(TIERS)} in own"
        )
    return {tier: chosen.get(tier) or f"{provider}:{model.name}" for tier, model in _by_price(found).items()}


def blended(model: Spec, prices: PriceBook, at: float) -> int | None:
    """A model's price in pico-USD a token, three of input for one of output; None where it is unknown."""
    rates = prices.rates(_ref(model), at)
    return None if rates is None else (3 * rates.input + rates.output) // 4


def dearest(models: Sequence[Spec], prices: PriceBook | None = None, at: float | None = None) -> Spec | None:
    """The model that costs most a token; None where there are no two, or no price is known."""
    book, when = prices or PriceBook(), time.time() if at is None else at
    known = [(price, index) for index, model in enumerate(models) if (price := blended(model, book, when)) is not None]
    return models[max(known)[1]] if known and len(models) > 1 else None


def checked_model(field: str, model: Any) -> Any:
    """The model, if it may be one.

    Raises:
        ValueError: names the field and the value.
    """
    from langchain_core.language_models import BaseChatModel

    if isinstance(model, BaseChatModel) or (isinstance(model, str) and model.strip()):
        return model
    raise ValueError(f"{field}: {model!r} is no model; give a name such as 'openai:gpt-5-mini', or a chat model")


def distinct(models: Iterable[Spec]) -> tuple[Spec, ...]:
    """The models, each once; instances by identity."""
    return tuple({model if isinstance(model, str) else id(model): model for model in models}.values())


def _ref(model: Spec) -> ModelRef:
    if isinstance(model, str):
        provider, mark, name = model.partition(":")
        return ModelRef(provider, name) if mark else ModelRef("", model)
    params = model._get_ls_params()
    return ModelRef(params.get("ls_provider") or "", params.get("ls_model_name") or type(model).__name__)


def _candidates(provider: str, prices: PriceBook, at: float) -> list[_Candidate]:
    found = []
    for name, profile in profiles(provider).items():
        price = blended(f"{provider}:{name}", prices, at) if _is_chat(name, profile) else None
        if price:
            family = re.sub(r"[-.]+", "-", _VERSION.sub("", name)).strip("-")
            released = date.fromisoformat(profile["release_date"])
            found.append(_Candidate(name, family, released, profile.get("reasoning_output") is True, price))
    return found


def _is_chat(name: str, profile: Mapping[str, Any]) -> bool:
    if _OTHER.search(name) or profile.get("status") == "deprecated" or profile.get("tool_calling") is not True:
        return False
    other = profile.get("audio_outputs") is True or profile.get("text_outputs") is False
    return not other and bool(re.fullmatch(r"\d{4}-\d\d-\d\d", str(profile.get("release_date"))))


def _current(candidates: list[_Candidate]) -> list[_Candidate]:
    """The newest of each family, of those that belong to the provider's current line."""
    newest = {each.family: each for each in sorted(candidates, key=lambda c: (c.released, -len(c.name)))}
    found = list(newest.values())
    last = max((each.released for each in found), default=date.min)
    line: list[_Candidate] = []
    for days in _LINES:
        line = [each for each in found if last - each.released <= days]
        if len(line) >= 3:
            break
    return line


def _by_price(found: list[_Candidate]) -> dict[str, _Candidate]:
    ordered = sorted(found, key=lambda c: (c.price, c.released))
    nano = min(ordered, key=lambda c: (c.price, -c.released.toordinal()))
    reasoning = next((each for each in reversed(ordered) if each.reasons), ordered[-1])
    frontier = next((each for each in reversed(ordered) if each.price <= _FRONTIER), nano)
    between = [each for each in ordered if each not in (nano, frontier) and each.price <= frontier.price]
    middle = math.sqrt(nano.price * frontier.price)
    mid = min(between or [nano], key=lambda c: abs(math.log(c.price / middle)))
    return {"nano": nano, "mid": mid, "frontier": frontier, "reasoning": reasoning}
