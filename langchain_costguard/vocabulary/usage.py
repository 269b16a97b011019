"""Token counts of one model call, and the reference by which its model is known."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple


@dataclass(frozen=True, slots=True)
class ModelRef:
    """A model as a call names it: LangChain's ``ls_provider`` and ``ls_model_name``.

    ``seller`` is whose price holds where that is not the client's own provider: the one whose host is asked.
    """

    provider: str
    name: str
    seller: str = ""

    def __str__(self) -> str:
        return f"{self.provider}:{self.name}" if self.provider else self.name


class Usage(NamedTuple):
    """Token counts of one call, in inclusive buckets as in LangChain's ``usage_metadata``.

    ``cache_read``, ``cache_write`` and ``input_audio`` are parts of ``input_tokens``; ``cache_write_1h`` is a part
    of ``cache_write``; ``reasoning``, ``output_audio``, ``output_image`` and ``citations`` are parts of
    ``output_tokens``.
    """

    input_tokens: int = 0
    output_tokens: int = 0
    cache_read: int = 0
    cache_write: int = 0
    cache_write_1h: int = 0
    reasoning: int = 0
    input_audio: int = 0
    output_audio: int = 0
    output_image: int = 0
    web_searches: int = 0
    tier: str | None = None
    """Service tier as the price tables name it (``flex``, ``priority``, ``batch``); None is the standard one."""
    file_searches: int = 0
    containers: int = 0
    """Sandboxes that the provider started for its code interpreter."""
    citations: int = 0
    """Tokens of cited pages that Perplexity's deep research bills."""
    geo: str | None = None
    """Where inference was asked to run (Anthropic's ``inference_geo``), if not anywhere."""
    search_context: str | None = None
    """How much of the web was put before the model (Perplexity's ``low``, ``medium``, ``high``)."""
    others: tuple[tuple[str, Usage], ...] = ()
    """What other models used inside this very call (Anthropic's advisor), by name; on top of the counts above."""

    @property
    def total_tokens(self) -> int:
        """Input and output tokens together."""
        return self.input_tokens + self.output_tokens

    def plus(self, other: Usage) -> Usage:
        """Both together, at the tier of this one."""
        counts = {name: getattr(self, name) + getattr(other, name) for name in _COUNTS}
        return self._replace(**counts, others=self.others + other.others)


_COUNTS = tuple(name for name in Usage._fields if name not in ("tier", "geo", "search_context", "others"))
