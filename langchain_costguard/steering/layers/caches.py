"""The caches of one steering: which of them may answer what."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Union

from langchain_costguard.caching.base import Answers
from langchain_costguard.caching.digests import UnknownValueError, canonical, digest, tools_digest
from langchain_costguard.caching.question import Question, parameters_of, temperature_of
from langchain_costguard.steering.layers.fleet import ref_of
from langchain_costguard.steering.layers.guardrails import Guardrail
from langchain_costguard.steering.requests import concrete, name_of
from langchain_costguard.steering.surroundings import Here

if TYPE_CHECKING:
    from langchain_costguard.caching.semantic.cache import SemanticCache

_GIVEN_UP = 1_024
_APART = frozenset({
    "tools", "temperature", "ls_structured_output_format", "config", "run_name",
    "cache_control", "prompt_cache_key", "prompt_cache_retention", "prompt_cache_options",
})  # fmt: skip
"""Settings of a call that are looked at apart, or only by tracers and the provider's own cache."""


Cache = Union[Answers, "SemanticCache"]


class Caches:
    """Exact caches, asked in turn, and semantic ones, asked after them.

    Args:
        given: One cache, or several.
        guardrails: What a remembered reply has to pass, as any other.
        cascade: What answers in the model's place: its tiers, and what is done with their replies.

    Raises:
        ValueError: names what is no cache.
    """

    def __init__(self, given: Any, guardrails: Sequence[Guardrail] = (), cascade: Any = None) -> None:
        each = list(given) if isinstance(given, (list, tuple)) else [given]
        for cache in each:
            if isinstance(cache, type) or not (hasattr(cache, "claim") or hasattr(cache, "look")):
                raise ValueError(f"cache: {cache!r} is no cache, such as MemoryCache() or SemanticCache(embeddings)")
        if not each:
            raise ValueError("cache: [] holds no cache; give one, such as MemoryCache(), or None")
        self.exact: list[Answers] = [cache for cache in each if hasattr(cache, "claim")]
        self.semantic: list[SemanticCache] = [cache for cache in each if hasattr(cache, "look")]
        self.guardrails = tuple(guardrails)
        self.cascade = cascade
        self._models: tuple[Any, ...] = () if cascade is None else (*cascade.cheap, cascade.last)
        self._given_up: dict[str, None] = {}
        self._failures: set[str] = set()
        self._lock = threading.Lock()

    def question(self, here: Here, request: Any) -> Question | None:
        """The request as caches see it; None where nobody can say what its answer depends on."""
        model = getattr(request, "model", None)
        if model is None:
            here.guard.say_once(
                "A cache knows no installed node's model: use SteeredModel in the node, or a CacheNode."
            )
            return None
        try:
            found = concrete(model)
            if found is not None:
                return self._question(here, request, *found)
            why = f"what a {type(model).__name__} will ask: give the agent the chat model itself"
        except UnknownValueError as error:
            why = str(error)
        except Exception as error:  # whatever is wrong with a call, it is not to fail of its cache
            why = f"{type(error).__name__}: {error}"
        here.guard.say_once(f"A cache skips these calls, for it cannot tell them apart: {why}")
        return None

    def _question(self, here: Here, request: Any, model: Any, bound: Mapping[str, Any]) -> Question:
        own: Mapping[str, Any] = getattr(request, "model_settings", None) or getattr(request, "settings", None) or {}
        settings = {**bound, **own} if bound else own
        system = getattr(request, "system_message", None)
        asked = [getattr(request, name, None) for name in ("tool_choice", "response_format")]
        rest = {key: value for key, value in settings.items() if key not in _APART}
        given = canonical([rest, asked]) if rest or any(asked) else ""
        tools = tools_digest(getattr(request, "tools", None) or settings.get("tools") or ())
        question = Question(
            messages=[system, *request.messages] if system is not None else request.messages,
            model=str(settings.get("model") or name_of(model)),
            parameters=digest(parameters_of(model), given, self._tiers(), getattr(request, "salt", ""), tools),
            temperature=self._temperature(model, settings),
            scope=here.scope,
            tags=here.tags,
        )
        every: list[Any] = [*self.exact, *self.semantic]
        return question.read() if any(question.certain(cache.rules.deterministic) for cache in every) else question

    def _tiers(self) -> str:
        """What changes a cascade's answers besides what is asked."""
        if self.cascade is None:
            return ""
        models = [[str(ref_of(model)), parameters_of(model)] for model in self._models]
        cascade = self.cascade.cascade
        try:
            return canonical([models, cascade.least, cascade.confidence])
        except UnknownValueError:  # a judge's client, a check of the user's
            return canonical([models, cascade.least, type(cascade.confidence).__qualname__])

    def _temperature(self, model: Any, settings: Mapping[str, Any]) -> float | None:
        """The call's; with a cascade, the highest of its tiers', and none where one of them has none."""
        found = [temperature_of(each, settings) for each in (model, *self._models)]
        known = [each for each in found if each is not None]
        return max(known) if len(known) == len(found) else None

    def allowed(self, here: Here, question: Question) -> tuple[list[Answers], list[SemanticCache]]:
        """The caches that may answer a question, and remember the answer."""
        exact = [cache for cache in self.exact if _allows(here, cache, question)]
        similar = [cache for cache in self.semantic if question.prompt.strip() and _allows(here, cache, question)]
        every: list[Any] = [*self.exact, *self.semantic]
        if question.temperature is None and not any(cache.rules.deterministic for cache in every):
            here.guard.say_once(
                f"Nothing of {question.model} is remembered, for its temperature is not set: set temperature=0, or say "
                f"that its answers may be repeated: {type(every[0]).__name__}(deterministic=True)."
            )
        return exact, similar

    def give_up_on(self, key: str) -> None:
        """Note that the answer to this question is none to remember, so that nobody waits for it."""
        with self._lock:
            if len(self._given_up) >= _GIVEN_UP:
                self._given_up.pop(next(iter(self._given_up)))
            self._given_up[key] = None

    def news(self, failure: str) -> bool:
        """Whether this kind of failure is a new one."""
        with self._lock:
            known = failure in self._failures
            self._failures.add(failure)
        return not known

    def given_up(self, key: str) -> bool:
        """Whether nobody is to wait for the answer to this question."""
        return key in self._given_up


def _allows(here: Here, cache: Any, question: Question) -> bool:
    try:
        return bool(cache.rules.allow(question))
    except Exception as error:  # cache_if is the user's
        here.guard.say_once(f"cache_if failed, and the call is not cached: {type(error).__name__}: {error}")
        return False
