"""What is known of a model before any call of it, looked up once."""

from __future__ import annotations

from langchain_costguard.metering.pricing.cache_writes import asks_to_write_cache
from langchain_costguard.metering.pricing.limits import output_limit
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
    """

    __slots__ = ("asks", "limit", "ref")

    def __init__(self, ref: ModelRef) -> None:
        self.ref = ref
        self.limit = output_limit(ref) or UNKNOWN_OUTPUT
        self.asks = asks_to_write_cache(ref)


class TermsBook:
    """The terms of the models that a guard has met, by provider and name; bounded in number."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, str], Terms] = {}

    def of(self, provider: str, name: str) -> Terms:
        """The model's terms."""
        found = self._known.get((provider, name))
        if found is None:
            if len(self._known) > _KEPT_MODELS:
                self._known.clear()
            found = self._known[provider, name] = Terms(ModelRef(provider, str(name)))
        return found
