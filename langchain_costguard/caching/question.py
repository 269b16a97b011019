"""A request as caches see it: what would change its answer, and who asks."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from functools import lru_cache
from operator import itemgetter
from types import NoneType
from typing import TYPE_CHECKING, Any, cast

from langchain_core.messages import BaseMessage, HumanMessage, SystemMessage

from langchain_costguard.caching.digests import canonical, digest, digests
from langchain_costguard.vocabulary.scope import Scope

if TYPE_CHECKING:
    from langchain_costguard.caching.rules import Rules

_DATED = re.compile(r"[-@](20\d\d-?[01]\d-?[0-3]\d|[01]\d[0-3]\d|latest)$")

_MODELS = 64
_models: dict[int, tuple[Any, Any, str]] = {}
"""Models by their ids, with their settings when these were last read."""

# fmt: off
_IRRELEVANT = frozenset({
    "async_client", "cache", "callback_manager", "callbacks", "client", "custom_get_token_ids",
    "default_request_timeout", "disable_streaming", "http_async_client", "http_client", "include_response_headers",
    "max_retries", "metadata", "model", "model_id", "model_name", "name", "profile", "prompt_cache_options",
    "rate_limiter", "request_timeout", "root_async_client", "root_client", "stream_usage", "streaming", "tags",
    "timeout", "verbose",
})
# fmt: on
"""Fields of a chat model that do not change its answer; the model's name is told apart."""
_WHO = frozenset({
    "authorization", "api-key", "x-api-key", "cookie", "helicone-auth", "http-referer", "referer", "x-title",
    "user-agent", "x-request-id", "x-session-id", "x-trace-id", "traceparent", "tracestate",
})  # fmt: skip
"""Headers that say who asks, or which request it is. Any other counts: a beta, or a gateway's route."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What a model is asked, by whom.

    Attributes:
        messages: The conversation, the system message first.
        model: The model's name.
        temperature: As the request has it; None where it does not say.
        parameters: The digest of tools, response format, and whatever else of model and call changes the answer.
        scope: Who asks.
        tags: The tags of the call.
    """

    messages: Sequence[BaseMessage]
    model: str
    parameters: bytes
    temperature: float | None = None
    scope: Scope = field(default_factory=Scope)
    tags: tuple[str, ...] = ()
    _digests: list[bytes] = field(default_factory=list, repr=False, compare=False)

    @property
    def prompt(self) -> str:
        """The text of the last message, where that is the user's and nothing but text; else an empty text."""
        last = self.messages[-1] if self.messages else None
        return text_of(last) if isinstance(last, HumanMessage) else ""

    @property
    def context(self) -> str:
        """The digest of the turns before the last message, in hex; an empty text where there are none."""
        turns = [
            each for message, each in zip(self.messages[:-1], self.digests, strict=False) if not _instructs(message)
        ]
        return digest(*turns).hex() if turns else ""

    @property
    def digests(self) -> list[bytes]:
        """The messages' digests."""
        if not self._digests:
            self._digests.extend(digests(self.messages))
        return self._digests

    def read(self) -> Question:
        """Itself, its messages digested.

        Raises:
            UnknownValueError: a message holds a value nobody can tell from others of its class.
        """
        self._digests[:] = self.digests
        return self

    def certain(self, deterministic: bool) -> bool:
        """Whether the same question has the same answer: at temperature 0, or at none where that is declared to be."""
        return deterministic if self.temperature is None else self.temperature == 0

    def key(self, rules: Rules) -> str:
        """64 hex digits of all that changes the answer, and of the tenant."""
        return digest(rules.tenant(self.scope), self.model, self._parameters, b"".join(self.digests)).hex()

    def setting(self, rules: Rules) -> str:
        """64 hex digits of what two prompts must share so that one's answer may do for the other: the tenant, the
        model's family, the instructions, the parameters, and the name beside the user's message."""
        told = [each for message, each in zip(self.messages, self.digests, strict=True) if _instructs(message)]
        last = self.messages[-1] if self.messages else HumanMessage("")
        speaker = str(last.name or last.additional_kwargs.get("name") or "")
        return digest(rules.tenant(self.scope), family(self.model), self._parameters, speaker, *told).hex()

    @property
    def _parameters(self) -> bytes:
        return self.parameters if self.temperature is None else self.parameters + repr(float(self.temperature)).encode()


@lru_cache(maxsize=512)
def family(model: str) -> str:
    """A model's name without its date: ``gpt-4o-2024-08-06`` is a ``gpt-4o``."""
    return _DATED.sub("", model)


def text_of(message: BaseMessage) -> str:
    """A message's text, where it is nothing but text."""
    content = message.content
    if isinstance(content, str):
        return content
    texts = [block if isinstance(block, str) else block.get("text") for block in content]
    plain = all(isinstance(block, str) or block.get("type") == "text" for block in content)
    return "".join(str(text or "") for text in texts) if plain else ""


def parameters_of(model: Any) -> str:
    """A chat model's own settings, as JSON."""
    own = vars(model)
    names, settings = _fields(cast("Any", type(model)))
    known = _models.get(id(model))
    try:
        if known is not None and known[0] is model and known[1] == settings(own):
            return known[2]
    except KeyError:  # a model that was not constructed with all of its fields
        pass
    said: dict[str, Any] = {}
    for name in names:
        value = own.get(name)
        if value is None or isinstance(value, (str, int, float, bool)):
            said[name] = value
            continue
        if name == "default_headers":
            value = {header.lower(): text for header, text in value.items() if header.lower() not in _WHO}
        try:
            said[name] = canonical(value)
        except (TypeError, ValueError):  # a client, a cursor: LangChain's own key leaves them out as well
            said[name] = type(value).__qualname__
    found = canonical([type(model).__qualname__, said])
    plain = (str, int, float, bool, NoneType, dict, list, tuple)
    if len(_models) >= _MODELS:
        _models.clear()
    if all(isinstance(own.get(name, own), plain) for name in names):  # of others nobody knows whether they changed
        _models[id(model)] = model, deepcopy(settings(own)), found
    return found


@lru_cache(maxsize=64)
def _fields(model: Any) -> tuple[tuple[str, ...], Callable[[Any], Any]]:
    """The names of a class' settings, and what gets them all of an object's fields."""
    known = getattr(model, "model_fields", {})
    names = tuple(name for name in known if name not in _IRRELEVANT and not name.endswith("api_key"))
    return names, itemgetter(*names) if names else lambda own: ()


def temperature_of(model: Any, settings: Mapping[str, Any]) -> float | None:
    """The temperature of a call: its own, or its model's.

    Ollama's and Google's models take it in ``options`` and in ``generation_config``, too, and what OpenAI's is given as
    ``extra_body`` goes over all else.
    """
    own = vars(model)
    over, beside = (settings.get("extra_body"), own.get("extra_body")), (own.get("model_kwargs"),)
    for given in (*over, settings, settings.get("options"), settings.get("generation_config"), own, *beside):
        if isinstance(given, Mapping) and given.get("temperature") is not None:
            return float(given["temperature"])
    return None


def _instructs(message: BaseMessage) -> bool:
    return isinstance(message, SystemMessage) or getattr(message, "role", "") in ("system", "developer")
