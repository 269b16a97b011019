"""What the user chooses about the provider's prompt cache."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, Literal

from langchain_costguard.vocabulary.checks import is_text, listed

Key = Literal["feature", "user", "session"]


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptCache:
    """Keep prompts in the provider's cache where that pays: ``steer(guard, prompt_cache=PromptCache())``.

    For ``ChatAnthropic`` and what derives from it (``ChatAnthropicBedrock``), breakpoints (``cache_control``) are set
    where they are expected to be read again; those that are there already stay, and are not repeated. For
    ``ChatOpenAI`` at OpenAI's own hosts, calls of one kind are sent to one machine (``prompt_cache_key``). Of other
    models (``ChatBedrockConverse`` and its ``cachePoint`` too) the hits are counted, no more.

    Args:
        ttl: How long Anthropic keeps a prompt: ``"5m"``, ``"1h"``, or by the gaps observed between calls. None: no
            breakpoints.
        key: Which of a feature's calls (an agent's, where it has no name) share OpenAI's ``prompt_cache_key``: all of
            them, those of a ``"user"``, or those of a ``"session"``. One key should see some 15 calls a minute at the
            most. None: no key. https://platform.openai.com/docs/guides/prompt-caching
        min_tokens: The shortest prompt that Anthropic keeps; None: as documented for the model.
        warn: Watch for what changes in a prompt that could be kept, and say so (once each) in the log and as an event.
        openai_hosts: Hosts besides OpenAI's own that take a ``prompt_cache_key``, such as those of a gateway, or
            of Azure (``AzureChatOpenAI``), whose older API versions refuse it.

    Raises:
        ValueError: names the field and the value.
    """

    ttl: Literal["auto", "5m", "1h"] | None = "auto"
    key: Key | None = "user"
    min_tokens: int | None = None
    warn: bool = False
    openai_hosts: Collection[str] = ()

    def __post_init__(self) -> None:
        if self.ttl not in ("auto", "5m", "1h", None):
            raise ValueError(f"ttl: {self.ttl!r} is not 'auto', '5m', '1h' or None")
        if self.key not in ("feature", "user", "session", None):
            raise ValueError(f"key: {self.key!r} is not 'feature', 'user', 'session' or None")
        least: Any = self.min_tokens
        if least is not None and (isinstance(least, bool) or not isinstance(least, int) or least < 1):
            raise ValueError(f"min_tokens: {least!r} must be a whole number of tokens from 1, or None")
        if not isinstance(self.warn, bool):
            raise ValueError(f"warn: {self.warn!r} must be True or False")
        what = "host names, such as ['llm.example.com']"
        listed("openai_hosts", self.openai_hosts, what, lambda host: is_text(host) and "/" not in host)
