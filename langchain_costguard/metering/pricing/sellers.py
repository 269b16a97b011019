"""Who sells a model: the host that a request goes to says so first, then the client."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Mapping
from urllib.parse import urlsplit

from langchain_costguard.vocabulary.checks import is_text, listed
from langchain_costguard.vocabulary.urls import without_password

LOCAL = "local"
"""The seller of models that run on machines of one's own: they cost nothing by the token."""

_URLS = (
    "openai_api_base", "base_url", "azure_endpoint", "anthropic_api_url", "groq_api_base", "xai_api_base", "api_base",
    "fireworks_api_base", "together_api_base", "deepseek_api_base", "openrouter_api_base", "mistral_api_url",
    "endpoint", "endpoint_url", "api_endpoint",
)  # fmt: skip
"""What clients call the address that they send requests to."""

_IN_PROCESS = frozenset({
    "llamacpp", "chatllamacpp", "mlx", "mlxpipeline", "huggingfacepipeline", "huggingface_pipeline", "gpt4all",
    "ctransformers", "llamafile", "openvino", "weightonlyquantpipeline", "exllamav2", "vllm_in_process",
})  # fmt: skip
"""Clients, by LangChain's ``ls_provider``, that run the model in this very process."""

_HOSTS: tuple[tuple[str, str], ...] = (
    (r"(^|\.)together\.(ai|xyz)$", "together"),
    (r"(^|\.)aiplatform\.googleapis\.com$|(^|-)aiplatform\.googleapis\.com$", "google"),
    (r"bedrock[a-z-]*\.[a-z0-9-]+\.amazonaws\.com$", "aws"),
    (r"(^|\.)oai\.helicone\.ai$", "openai"),
    (r"(^|\.)anthropic\.helicone\.ai$", "anthropic"),
    (r"^models\.(inference\.ai\.azure\.com|github\.ai)$", "azure"),
)
"""Hosts of sellers that the public table does not know by address."""


def base_url(facts: object) -> str | None:
    """The address a client sends to, of its fields or of its serialized form; None where it is not said."""
    if not isinstance(facts, Mapping):
        return None
    for key in _URLS:
        url = facts.get(key)
        if isinstance(url, str) and url:
            return url
    return None


def host_of(url: str) -> str:
    """Host and, where it is stated, port: ``gpu-1:8000``; what is no URL is taken for a host."""
    parts = urlsplit(url if "//" in url else f"//{url}")
    return parts.netloc.rpartition("@")[2].lower()


def hosts(field: str, urls: Iterable[str]) -> frozenset[str]:
    """Hosts as a user names them.

    Raises:
        ValueError: names ``field`` and what is no host.
    """
    what = "addresses, such as ['http://gpu-1:8000']"
    shown = [without_password(url) for url in urls] if isinstance(urls, (list, tuple)) else without_password(urls)
    try:
        listed(field, urls, what, lambda url: is_text(url) and bool(host_of(url.strip())))
    except ValueError:
        raise ValueError(f"{field}: {shown!r} must be a list of {what}") from None
    return frozenset(host_of(url.strip()) for url in urls)


def is_among(url: str, named: frozenset[str]) -> bool:
    """Whether an address is one of those named, with its port or (where none was named) with any."""
    host = host_of(url)
    return host in named or host.rpartition(":")[0] in named


def is_private(url: str) -> bool:
    """Whether a host is this machine or one of a private network. That alone does not say who sells: gateways to paid
    models stand there, too."""
    name = (urlsplit(url if "//" in url else f"//{url}").hostname or "").rstrip(".")
    try:
        address = ipaddress.ip_address(name)
    except ValueError:
        return "." not in name or name.endswith((".local", ".localhost", ".internal", ".lan", ".svc"))
    return address.is_private or address.is_loopback or address.is_unspecified


def client_of(provider: str, name: str) -> str:
    """Whose dialect is spoken: LiteLLM says it in the model's name, ``ollama_chat/qwen3:8b``."""
    head, mark, _ = name.partition("/")
    return head.removesuffix("_chat") if mark and provider == "litellm" and head.startswith("ollama") else provider


def seller(provider: str, url: str | None, local: frozenset[str] = frozenset()) -> str:
    """Who sells what ``provider``'s client asks for at this address; empty where the client's word stands.

    A public host that nobody knows is a seller nobody knows, and is named by its host.
    """
    client = provider.strip().lower()
    if url is None:
        return LOCAL if client in _IN_PROCESS or client == "ollama" else ""
    if local and is_among(url, local):
        return LOCAL
    if is_private(url):
        return LOCAL if client == "ollama" else ""
    known = _by_host(url)
    if known is None:
        return host_of(url)
    return "" if client and known == _id(client) else known


def _by_host(url: str) -> str | None:
    from genai_prices.data_snapshot import get_snapshot

    full = url if "//" in url else f"https://{url}"
    host = (urlsplit(full).hostname or "").lower()
    for pattern, name in _HOSTS:
        if re.search(pattern, host):
            return name
    for provider in get_snapshot().providers:
        if re.match(provider.api_pattern, re.sub(r"^\w+://", "https://", full)):
            return provider.id
    return None


def _id(client: str) -> str:
    from langchain_costguard.metering.pricing.catalog import provider_id

    return provider_id(client)
