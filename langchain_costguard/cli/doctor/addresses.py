"""The addresses of providers, as their clients read them from the environment: in a trial, none of them leads there."""

from __future__ import annotations

import os
from collections.abc import Mapping
from urllib.parse import urlsplit, urlunsplit

NOWHERE = ".costguard.invalid"
"""No such name is ever resolved. https://www.rfc-editor.org/rfc/rfc2606#section-2"""
KEY = "sk-costguard-doctor"
_KEYS = (
    "OPENAI_API_KEY", "AZURE_OPENAI_API_KEY", "ANTHROPIC_API_KEY", "GOOGLE_API_KEY", "GEMINI_API_KEY",
    "MISTRAL_API_KEY", "GROQ_API_KEY", "COHERE_API_KEY", "CO_API_KEY", "XAI_API_KEY", "DEEPSEEK_API_KEY",
    "TOGETHER_API_KEY", "FIREWORKS_API_KEY", "OPENROUTER_API_KEY", "PERPLEXITY_API_KEY", "PPLX_API_KEY",
)  # fmt: skip
_OPENAI = {"OPENAI_BASE_URL": "https://api.openai.com/v1", "OPENAI_API_BASE": "https://api.openai.com/v1"}
_ANTHROPIC = {"ANTHROPIC_BASE_URL": "https://api.anthropic.com", "ANTHROPIC_API_URL": "https://api.anthropic.com"}
_OTHERS = {
    "GOOGLE_GEMINI_BASE_URL": "https://generativelanguage.googleapis.com",
    "GROQ_BASE_URL": "https://api.groq.com",
    "GROQ_API_BASE": "https://api.groq.com",
    "MISTRAL_BASE_URL": "https://api.mistral.ai",
    "CO_API_URL": "https://api.cohere.com",
    "DEEPSEEK_API_BASE": "https://api.deepseek.com/v1",
}


def keys() -> dict[str, str]:
    """A key that nobody knows, for every provider: what gets out all the same is not paid."""
    return dict.fromkeys(_KEYS, KEY)


def nowhere(env: Mapping[str, str]) -> dict[str, str]:
    """Addresses that lead nowhere, and still tell which provider was meant."""
    known = {**_OPENAI, **_ANTHROPIC, **_OTHERS}
    return {name: _unresolved(env.get(name) or url) for name, url in known.items()}


def fake(openai: str, anthropic: str) -> dict[str, str]:
    """Addresses of a fake provider, for the clients it can answer."""
    proxies = {name: ",".join(filter(None, [os.environ.get(name), "127.0.0.1"])) for name in ("NO_PROXY", "no_proxy")}
    return {**dict.fromkeys(_OPENAI, openai), **dict.fromkeys(_ANTHROPIC, anthropic), **proxies}


def meant(host: str) -> str:
    """The host that an address stood for."""
    return host.removesuffix(NOWHERE)


def _unresolved(url: str) -> str:
    parts = urlsplit(url)
    if (parts.hostname or "").endswith(NOWHERE):
        return url
    port = f":{parts.port}" if parts.port else ""
    return urlunsplit(parts._replace(netloc=f"{parts.hostname}{NOWHERE}{port}"))
