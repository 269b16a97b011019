"""Token counts of one model call, and the reference by which its model is known."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple


@dataclass(frozen=True, slots=True)
class ModelRef:
    """A model as a call names it: LangChain's ``ls_provider`` and ``ls_model_name``."""

    provider: str
    name: str

    def __str__(self) -> str:
        return f"{self.provider}:{self.name}" if self.provider else self.name


class Usage(NamedTuple):
    """Token counts of one call, in inclusive buckets as in LangChain's ``usage_metadata``.

    ``cache_read``, ``cache_write`` and ``input_audio`` are parts of ``input_tokens``; ``cache_write_1h`` is a part
    of ``cache_write``; ``reasoning``, ``output_audio`` and ``output_image`` are parts of ``output_tokens``.
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

    @property
    def total_tokens(self) -> int:
        """Input and output tokens together."""
        return self.input_tokens + self.output_tokens
