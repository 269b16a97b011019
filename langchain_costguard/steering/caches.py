"""The caches of one steering: which of them may answer what, and who is getting which answer in this process."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Union

from langchain_costguard.caching.base import Answers
from langchain_costguard.caching.digests import UnknownValueError, canonical, digest, tools_digest
from langchain_costguard.caching.question import Question, parameters_of, temperature_of
from langchain_costguard.steering.guardrails import Guardrail
from langchain_costguard.steering.here import Here
from langchain_costguard.steering.requests import name_of

if TYPE_CHECKING:
    from langchain_costguard.caching.semantic.cache import SemanticCache

_GIVEN_UP = 1_024
_APART = frozenset({"tools", "temperature", "ls_structured_output_format", "config", "run_name"})
"""Settings of a call that are looked at apart, or only by tracers."""


Cache = Union[Answers, "SemanticCache"]


class Caches:
    """Exact caches, asked in turn, and semantic ones, asked after them.

    Args:
        given: One cache, or several.
        guardrails: What a remembered reply has to pass, as any other.
        salt: What changes the answers besides what is asked: the models of a cascade, the version of a node.

    Raises:
        ValueError: names what is no cache.
    """

    def __init__(self, given: Any, guardrails: Sequence[Guardrail] = (), salt: str = "") -> None:
        each = list(given) if isinstance(given, (list, tuple)) else [given]
        for cache in each:
            if isinstance(cache, type) or not (hasattr(cache, "claim") or hasattr(cache, "look")):
                raise ValueError(f"cache: {cache!r} is no cache, such as MemoryCache() or SemanticCache(embeddings)")
        if not each:
            raise ValueError("cache: [] holds no cache; give one, such as MemoryCache(), or None")
        self.exact: list[Answers] = [cache for cache in each if hasattr(cache, "claim")]
        self.semantic: list[SemanticCache] = [cache for cache in each if hasattr(cache, "look")]
        self.guardrails = tuple(guardrails)
        self.salt = salt
        self._getting: dict[str, Any] = {}
        self._given_up: dict[str, None] = {}
        self._lock = threading.Lock()

    def question(self, here: Here, request: Any) -> Question | None:
        """The request as caches see it; None where nobody can say what its answer depends on."""
        model = getattr(request, "model", None)
        if model is None:
            here.guard.say_once(
                "A cache knows no installed node's model: use SteeredModel in the node, or a CacheNode."
            )
            return None
        settings: Mapping[str, Any] = (
            getattr(request, "model_settings", None) or getattr(request, "settings", None) or {}
        )
        system = getattr(request, "system_message", None)
        asked = [getattr(request, name, None) for name in ("tool_choice", "response_format")]
        rest = {key: value for key, value in settings.items() if key not in _APART}
        try:
            given = canonical([rest, asked]) if rest or any(asked) else ""
            parts = parameters_of(model), given, self.salt, getattr(request, "salt", "")
            parameters = digest(*parts, tools_digest(getattr(request, "tools", None) or settings.get("tools") or ()))
        except UnknownValueError as error:
            here.guard.say_once(f"A cache skips these calls, for it cannot tell them apart: {error}")
            return None
        return Question(
            messages=[system, *request.messages] if system is not None else request.messages,
            model=str(settings.get("model") or name_of(model)),
            parameters=parameters,
            temperature=temperature_of(model, settings),
            scope=here.scope,
            tags=here.tags,
        )

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

    @contextmanager
    def getting(self, key: str) -> Iterator[None]:
        """Note that whoever runs here gets this answer."""
        self._getting[key] = _whoami()
        try:
            yield
        finally:
            self._getting.pop(key, None)

    def gets_it_here(self, key: str) -> bool:
        """Whether whoever runs here gets this answer already, in a stream not read yet, and would wait for itself."""
        return bool(self._getting.get(key) == _whoami())

    def give_up_on(self, key: str) -> None:
        """Note that the answer to this question is none to remember, so that nobody waits for it."""
        with self._lock:
            if len(self._given_up) >= _GIVEN_UP:
                self._given_up.pop(next(iter(self._given_up)))
            self._given_up[key] = None

    def given_up(self, key: str) -> bool:
        """Whether nobody is to wait for the answer to this question."""
        return key in self._given_up


def _allows(here: Here, cache: Any, question: Question) -> bool:
    try:
        return bool(cache.rules.allow(question))
    except Exception as error:  # cache_if is the user's
        here.guard.say_once(f"cache_if failed, and the call is not cached: {type(error).__name__}: {error}")
        return False


def _whoami() -> Any:
    """The thread and the task that run here."""
    try:
        return threading.get_ident(), asyncio.current_task()
    except RuntimeError:
        return threading.get_ident(), None
