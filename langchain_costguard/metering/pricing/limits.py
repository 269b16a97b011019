"""The most output tokens a model can produce, as LangChain's own model profiles say."""

from __future__ import annotations

import re
import sys

from langchain_costguard.vocabulary.usage import ModelRef

_PACKAGES = (
    "langchain_openai", "langchain_anthropic", "langchain_google_genai", "langchain_google_vertexai", "langchain_groq",
    "langchain_mistralai", "langchain_deepseek", "langchain_fireworks", "langchain_together", "langchain_xai",
    "langchain_perplexity", "langchain_aws", "langchain_cohere", "langchain_huggingface", "langchain_openrouter",
)  # fmt: skip
"""Integrations that carry profiles; only one that the program has imported by itself is looked into."""

_DATED = re.compile(r"[-@](20\d\d-?\d\d-?\d\d|\d{4})(-v\d+)?(:\d+)?$")
_REGIONAL = re.compile(r"^((us|eu|apac|global)\.)?([a-z0-9]+\.)?(?=claude|nova|llama|mistral)")


def output_limit(ref: ModelRef) -> int | None:
    """The model's maximum of output tokens in one call; None where nobody here knows it."""
    for name in _spellings(ref.name):
        for package in _PACKAGES:
            limit = _profile(package, name)
            if limit is not None:
                return limit
    return None


def _spellings(name: str) -> list[str]:
    plain = name.rsplit("/", 1)[-1]
    spellings = [name, plain, _DATED.sub("", plain), _REGIONAL.sub("", _DATED.sub("", plain))]
    return list(dict.fromkeys(spellings))


def _profile(package: str, name: str) -> int | None:
    module = sys.modules.get(f"{package}.data._profiles")
    profiles = getattr(module, "_PROFILES", None)
    profile = profiles.get(name) if isinstance(profiles, dict) else None
    limit = profile.get("max_output_tokens") if isinstance(profile, dict) else None
    return limit if isinstance(limit, int) and not isinstance(limit, bool) and limit > 0 else None
