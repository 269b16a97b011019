"""The shortest prompt that a provider's cache keeps, by model."""

from __future__ import annotations

import re
from functools import lru_cache

_MINIMUMS = (
    (r"sonnet-5[-.]5|(opus|fable|mythos)-5", 512),
    (r"opus-4[-.]7|mythos-preview|haiku-3|3[-.]5-haiku|3-haiku", 2_048),
    (r"opus-4[-.][56](?!\d)|haiku-4", 4_096),
)
LEAST = 1_024
"""OpenAI's minimum for every model, and that of most of Anthropic's."""


@lru_cache(maxsize=1_000)
def least_tokens(model: str) -> int:
    """Tokens below which a prompt of the model is not kept, as documented in October 2026.

    https://platform.claude.com/docs/en/build-with-claude/prompt-caching#cache-limitations
    https://platform.openai.com/docs/guides/prompt-caching
    """
    return next((tokens for pattern, tokens in _MINIMUMS if re.search(pattern, model)), LEAST)
