"""What the caches of exact answers have in common: their rules, and the face that LangChain knows."""

from __future__ import annotations

import logging
import time
from abc import abstractmethod
from collections.abc import Callable, Iterable, Sequence
from contextvars import ContextVar
from typing import Any, NamedTuple, Self, TypeVar, Unpack

from langchain_core.caches import BaseCache
from langchain_core.outputs import Generation, LLMResult
from langchain_core.runnables.config import var_child_runnable_config

from langchain_costguard.caching.digests import digest
from langchain_costguard.caching.entry import Entry, Stock, Wanted
from langchain_costguard.caching.exact.generations import from_text, may_keep, to_text
from langchain_costguard.caching.exact.told import messages_in, normal, told
from langchain_costguard.caching.question import Question
from langchain_costguard.caching.rules import Options, Rules
from langchain_costguard.metering.calls import Asked, asked_here, listeners
from langchain_costguard.metering.frames import asking_run, is_running
from langchain_costguard.metering.pricing.reading import usage_of
from langchain_costguard.vocabulary import scope as scopes
from langchain_costguard.vocabulary.checks import timed
from langchain_costguard.vocabulary.scope import Scope

T = TypeVar("T")
log = logging.getLogger("langchain_costguard")
listeners.append(__name__)
_FACE = "langchain"
"""Keeps the keys of this face apart from those of steering, whose entries hold a reply and no generations."""


class Asker(NamedTuple):
    """Who asks, the tags of the call, and the call itself where a guard has admitted it."""

    scope: Scope
    tags: tuple[str, ...]
    asked: Asked | None

    def looked_up(self, prompt: str) -> None:
        """A cache is asked this; if it does not know, the model's answer will be brought with the very same text."""
        if self.asked is not None:
            self.asked.prompts = (*self.asked.prompts, prompt)


_known: ContextVar[Asker | None] = ContextVar("costguard_asker", default=None)
"""Who asks, where the cache looks on another thread, from which LangChain's call cannot be seen."""


def asker(prompt: str | None = None) -> Asker:
    """Whoever makes the model call that is under way in this context; with ``prompt``, the one that looked it up."""
    known = _known.get()
    if known is not None:
        return known
    manager = asking_run()
    asked = asked_here(prompt, None if manager is None else manager.run_id)
    noted = asked is not None and any(text is prompt for text in asked.prompts)
    if asked is not None and (manager is not None or noted or is_running(asked.call.run_id)):
        return Asker(asked.call.scope, tuple(asked.tags), asked)
    config = var_child_runnable_config.get() or {}
    if manager is None:
        manager = config.get("callbacks")
    metadata = {**(getattr(manager, "metadata", None) or {}), **(config.get("metadata") or {})}
    tags = (*(getattr(manager, "tags", None) or ()), *(config.get("tags") or ()))
    return Asker(scopes.resolve(metadata, tags, config, trace="", model="", session=""), tags, None)


class _Ask(NamedTuple):
    """One question as LangChain puts it: the key of its answer, whose that is, the model's name, and who asks."""

    key: str
    tenant: str
    model: str
    asker: Asker


class ExactCache(BaseCache):
    """A cache of exact answers, for ``steer(guard, cache=...)`` and for ``set_llm_cache(...)``.

    As LangChain's own it is asked before ``invoke``, ``ainvoke`` and ``batch``; LangChain asks no cache before a
    stream. It then remembers only what has the same answer each time: calls at temperature 0, and those that state no
    temperature where that is declared ``deterministic``. What it is told of the model is one text; one that is not
    LangChain's is kept as it is, for whoever made it up calls the cache himself.

    LangChain says nothing of who asks. The user (or feature) is that of the guard attached to the call, else of
    ``guard.scope(...)``, else of the enclosing chain's or graph's config. Of a model called on its own with no guard
    attached, what its config says cannot be seen: attach one, or use ``guard.scope``.

    Whatever goes wrong is logged once and skipped; a call never fails because of its cache.
    """

    rules: Rules

    def __init__(self, *, clock: Callable[[], float] = time.time, **options: Unpack[Options]) -> None:
        self.rules = Rules(**options)
        timed("clock", clock)
        self.clock = clock
        self._complained: set[str] = set()

    def __deepcopy__(self, memo: Any) -> Self:
        """A copied model goes on with the same cache."""
        return self

    # How answers are kept

    @abstractmethod
    def get(self, key: str, *, now: float) -> Entry | None:
        """The answer, if there is one and it has not expired; the one asked for last is forgotten last."""

    @abstractmethod
    def put(self, key: str, entry: Entry, *, now: float) -> None:
        """Remember an answer; an earlier one under this key is replaced."""

    @abstractmethod
    def claim(self, key: str, holder: str, *, until: float, now: float) -> bool:
        """Take it upon oneself to get the answer, until then at the longest; false while another has."""

    @abstractmethod
    def release(self, key: str, holder: str) -> None:
        """Let others have a try; does nothing where the claim is not (or no more) the holder's."""

    @abstractmethod
    def forget(self, wanted: Wanted) -> int:
        """Forget these answers; returns how many."""

    @abstractmethod
    def stock(self, *, now: float) -> Iterable[Stock]:
        """What is held, by feature and model."""

    # The face that LangChain knows

    def lookup(self, prompt: str, llm_string: str) -> list[Generation] | None:
        """The remembered answer to this prompt, for whoever asks here."""
        return self._safely(self._look, prompt, llm_string)

    def update(self, prompt: str, llm_string: str, return_val: Sequence[Generation]) -> None:
        """Remember the answer, where the rules allow it."""
        self._safely(self._keep, prompt, llm_string, return_val)

    async def alookup(self, prompt: str, llm_string: str) -> list[Generation] | None:
        """The same, on a thread of its own."""
        token = _known.set(asker())
        try:
            return await super().alookup(prompt, llm_string)  # type: ignore[return-value]
        finally:
            _known.reset(token)

    async def aupdate(self, prompt: str, llm_string: str, return_val: Sequence[Generation]) -> None:
        """The same, on a thread of its own."""
        token = _known.set(asker(prompt))
        try:
            await super().aupdate(prompt, llm_string, return_val)
        finally:
            _known.reset(token)

    def clear(self, **kwargs: Any) -> None:
        """Forget everything, or the answers of one ``tag``, ``feature``, ``model`` or ``tenant``, or made ``before``.

        Raises:
            ValueError: an argument there is not.
            CacheError: the cache did not answer.
        """
        try:
            wanted = Wanted(**kwargs)
        except TypeError:
            raise ValueError(f"clear: {', '.join(kwargs)} are not among {', '.join(Wanted._fields)}") from None
        self.forget(wanted)

    def _look(self, prompt: str, llm_string: str) -> list[Generation] | None:
        ask = self._ask(asker(), prompt, llm_string)
        if ask is None:
            return None
        ask.asker.looked_up(prompt)
        entry = self.get(ask.key, now=self.clock())
        return None if entry is None else from_text(entry.reply)

    def _keep(self, prompt: str, llm_string: str, generations: Sequence[Generation]) -> None:
        ask = self._ask(asker(prompt), prompt, llm_string)
        if ask is None or not may_keep(generations, self.rules.tool_calls):
            return
        scope, now = ask.asker.scope, self.clock()
        entry = Entry(
            reply=to_text(generations),
            model=ask.model or scope.model,
            feature=scope.feature,
            tenant=ask.tenant,
            tags=ask.asker.tags,
            created=now,
            expires=now + self.rules.ttl,
            cost=_cost(ask.asker, generations),
        )
        self.put(ask.key, entry, now=now)

    def _ask(self, who: Asker, prompt: str, llm_string: str) -> _Ask | None:
        """The question, where it may be answered from memory."""
        said, rules = told(llm_string), self.rules
        question = Question(
            messages=messages_in(prompt) if rules.cache_if else (),
            model=said.model,
            parameters=digest(llm_string),
            temperature=said.temperature if said.readable else 0.0,
            scope=who.scope,
            tags=who.tags,
        )
        if said.vague or not rules.allow(question):
            return None
        tenant = rules.tenant(who.scope)
        key = digest(_FACE, tenant, question.parameters, normal(prompt)).hex()
        return _Ask(key, tenant, said.model, who)

    def _read_entry(self, text: str | bytes) -> Entry | None:
        """The entry of a line that was kept; one that cannot be read is none, and soon replaced."""
        try:
            return Entry.from_json(text)
        except ValueError as error:
            self._complain("entry", f"an entry cannot be read, and is passed over ({error})")
            return None

    def _complain(self, kind: str, text: str) -> None:
        if kind not in self._complained:
            self._complained.add(kind)
            log.warning("%s: %s (said once)", type(self).__name__, text)

    def _safely(self, verb: Callable[..., T], *args: Any) -> T | None:
        try:
            return verb(*args)
        except Exception as error:
            self._complain(f"{verb.__name__}: {type(error).__name__}", f"{error}; going on without it")
            return None


def _cost(who: Asker, generations: Sequence[Generation]) -> int:
    """Nano-USD that the answer cost, where a guard knows its price; else 0."""
    if who.asked is None:
        return 0
    usage = usage_of(LLMResult(generations=[list(generations)]))
    return who.asked.call.rates.charge(usage) if usage is not None else 0
