"""The output tokens of a picture that a hosted tool draws, by its quality and size, where nobody counts them.

https://platform.openai.com/docs/guides/image-generation#cost-and-latency
"""

from __future__ import annotations

import re

DEFAULT_MODEL = "gpt-image-2.6-sunburst"
"""https://platform.openai.com/docs/api-reference/responses/create, of the tool ``image_generation``."""
KNOWN_MODEL = "gpt-image-1"
"""The dearest of those the table has: stands in for one that it lacks."""

_TOKENS = {
    "low": {"1024x1024": 272, "1024x1536": 408, "1536x1024": 400},
    "medium": {"1024x1024": 1_056, "1024x1536": 1_584, "1536x1024": 1_568},
    "high": {"1024x1024": 4_160, "1024x1536": 6_240, "1536x1024": 6_208},
}
"""Of ``gpt-image-1``, ``-1.5`` and ``-1-mini``."""
_AXIS = {"low": 16, "medium": 48, "high": 96}
_SIZE = re.compile(r"(\d{2,5})x(\d{2,5})")


def picture_tokens(model: str, quality: str | None, size: str | None) -> int:
    """Output tokens of one picture; the dearest of those it may be, where quality or size are left to the provider."""
    quality = quality if quality in _AXIS else "high"
    if model.startswith(("gpt-image-1", "chatgpt-image")):
        by_size = _TOKENS[quality]
        return by_size.get(size or "", max(by_size.values()))
    found = _SIZE.fullmatch(size or "")
    return _by_area(_AXIS[quality], *map(int, found.groups())) if found else _by_area(_AXIS[quality], 1024, 1024)


def _by_area(axis: int, width: int, height: int) -> int:
    """What OpenAI's own calculator makes of it, from ``gpt-image-2`` on."""
    long, short = max(width, height), max(1, min(width, height))
    patches = axis * ((2 * axis * short + long) // (2 * long))
    return -(-patches * (2_000_000 + width * height) // 4_000_000)
