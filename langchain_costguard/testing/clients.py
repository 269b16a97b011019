"""The real LangChain clients, wired to a fake provider; each package is imported when it is asked for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from langchain_anthropic import ChatAnthropic
    from langchain_openai import ChatOpenAI, OpenAIEmbeddings

# Seconds. The SDKs allow 5 s to connect, which a thousand calls at once on a small machine may need.
_TIMEOUT = 60.0


def openai(url: str, model: str, kwargs: Mapping[str, Any]) -> ChatOpenAI:
    """``ChatOpenAI`` for ``url``; ``kwargs`` win over the defaults."""
    try:
        from langchain_openai import ChatOpenAI
    except ImportError as error:
        raise _missing("langchain-openai", "openai") from error
    defaults = {
        "base_url": url,
        "api_key": "test",
        "max_retries": 0,
        "timeout": _TIMEOUT,
        "stream_usage": True,
    }
    return ChatOpenAI(**{"model": model, **defaults, **kwargs})


def anthropic(url: str, model: str, kwargs: Mapping[str, Any]) -> ChatAnthropic:
    """``ChatAnthropic`` for ``url``; ``kwargs`` win over the defaults."""
    try:
        from langchain_anthropic import ChatAnthropic
    except ImportError as error:
        raise _missing("langchain-anthropic", "anthropic") from error
    defaults = {"base_url": url, "api_key": "test", "max_retries": 0, "timeout": _TIMEOUT}
    return ChatAnthropic(**{"model": model, **defaults, **kwargs})


def embeddings(url: str, model: str, kwargs: Mapping[str, Any]) -> OpenAIEmbeddings:
    """``OpenAIEmbeddings`` for ``url``; texts are sent as text, so that no tokenizer has to be downloaded."""
    try:
        from langchain_openai import OpenAIEmbeddings
    except ImportError as error:
        raise _missing("langchain-openai", "openai") from error
    defaults = {"base_url": url, "api_key": "test", "max_retries": 0, "timeout": _TIMEOUT}
    return OpenAIEmbeddings(**{"model": model, "check_embedding_ctx_length": False, **defaults, **kwargs})


def _missing(package: str, extra: str) -> ImportError:
    return ImportError(f"{package} is not installed: pip install 'langchain-costguard[{extra}]'")
