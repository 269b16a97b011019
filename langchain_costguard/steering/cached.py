"""Caching in steering: a question that was answered before is answered from memory, and one that was not, once."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple
from uuid import uuid4

from langchain_core.messages import AIMessage

from langchain_costguard.caching.entry import Entry
from langchain_costguard.caching.keepable import keepable
from langchain_costguard.caching.replies import decoded, encoded
from langchain_costguard.errors import CostGuardError
from langchain_costguard.events import Recalled, WouldRecall
from langchain_costguard.money import usd
from langchain_costguard.pricing.reading import from_usage_metadata
from langchain_costguard.steering.caches import Caches
from langchain_costguard.steering.checking import objection
from langchain_costguard.steering.flow import Asking, Call, Flow, Run, Sleep
from langchain_costguard.steering.here import Here
from langchain_costguard.steering.recalled import StandIn
from langchain_costguard.steering.requests import Reply
from langchain_costguard.steering.routed import ref_of

if TYPE_CHECKING:
    from langchain_costguard.caching.base import Answers
    from langchain_costguard.caching.question import Question
    from langchain_costguard.caching.semantic.cache import SemanticCache

_PATIENCE = 120.0
"""Seconds for which others wait for an answer that one of them is getting."""
_FIRST_PAUSE, _LONGEST_PAUSE = 0.005, 0.2
"""Seconds between two looks at whether it has come."""
_NOTHING_SPENT = {"input_tokens": 0, "output_tokens": 0, "total_tokens": 0}


def caching(caches: Caches, here: Here, ask: Asking, request: Any) -> Flow[Reply]:
    """Answer from memory, or ask and remember. Whatever goes wrong with a cache, the model is asked."""
    question = caches.question(here, request)
    exact, similar = ([], []) if question is None else caches.allowed(here, question)
    if question is None or not (exact or similar):
        reply: Reply = yield from ask(request)
        return reply
    return (yield from _Asked(caches, here, question, exact, similar).answered(ask, request))


class _Hit(NamedTuple):
    entry: Entry
    message: AIMessage
    kind: str
    why: str
    score: float | None = None
    reasons: tuple[str, ...] = ()


class _Asked:
    """One question, and the caches that may answer it."""

    def __init__(
        self, caches: Caches, here: Here, question: Question, exact: list[Answers], similar: list[SemanticCache]
    ) -> None:
        self.caches = caches
        self.here = here
        self.question = question
        self.exact = exact
        self.similar = similar
        self.looked: list[tuple[SemanticCache, Any, Any]] = []
        """The semantic caches without an answer to give, the question's vector, and their verdict."""

    def answered(self, ask: Asking, request: Any) -> Flow[Reply]:
        """The reply, from memory or the model."""
        hit = yield from self._known()
        if hit is None:
            hit = yield from self._alike()
        if hit is None and self.exact:
            return (yield from self._together(ask, request))
        return (yield from self._given(hit, ask, request))

    def _together(self, ask: Asking, request: Any) -> Flow[Reply]:
        """Of all who ask this at once, one gets the answer, and the others are given it: across processes where the
        cache is shared. Where the one fails, another tries."""
        first, holder, pause = self.exact[0], uuid4().hex, _FIRST_PAUSE
        key = self.question.key(first.rules)
        while not self.caches.given_up(key):
            now = self.here.guard.now()
            claim = partial(first.claim, until=now + _PATIENCE, now=now)
            claimed = yield from self._safely(first, claim, key, holder, otherwise=True)
            try:
                hit = yield from self._known()  # somebody may have been there first
                if hit is not None or claimed:
                    with self.caches.getting(key):
                        return (yield from self._given(hit, ask, request))
            finally:
                if claimed:
                    self._release(first, key, holder)
            if self.caches.gets_it_here(key):
                break
            yield Sleep(pause)
            pause = min(_LONGEST_PAUSE, pause * 2)
        return (yield from self._given(None, ask, request))

    def _known(self) -> Flow[_Hit | None]:
        """The answer to this very question."""
        for cache in self.exact:
            now = self.here.guard.now()
            entry = yield from self._safely(cache, partial(cache.get, now=now), self.question.key(cache.rules))
            if entry is not None:
                why = f"the same question was answered {_ago(now - entry.created)} ago"
                hit = yield from self._passed(entry, "exact", why)
                if hit is not None:
                    return hit
        return None

    def _alike(self) -> Flow[_Hit | None]:
        """The answer to a question that comes to the same."""
        here, name = self.here, self.question.model
        for cache in self.similar:
            vector = yield from self._embedded(cache)
            if vector is None:
                continue
            now = here.guard.now()
            verdict = yield from self._safely(cache, partial(cache.look, now=now), self.question, vector)
            if verdict is None:
                continue
            if verdict.entry is None:
                self.looked.append((cache, vector, verdict))
                continue
            why = f"a question that comes to the same was answered {_ago(now - verdict.entry.created)} ago"
            if cache.shadow:
                self.looked.append((cache, vector, verdict))
                here.tell(WouldRecall, why, name=name, score=verdict.score, reasons=verdict.reasons)
                continue
            hit = yield from self._passed(verdict.entry, "semantic", why, verdict.score, verdict.reasons)
            if hit is not None:
                return hit
        return None

    def _embedded(self, cache: SemanticCache) -> Flow[Any]:
        embeddings = cache.embeddings
        try:
            return (yield Run(embeddings.embed_query, (self.question.prompt,), embeddings.aembed_query))
        except CostGuardError:  # no room for an embedding is none for the model either, whose refusal says so
            return None
        except Exception as error:
            self._failed(cache, error)
            return None

    def _passed(self, entry: Entry, kind: str, why: str, *more: Any) -> Flow[_Hit | None]:
        """The hit, if it can be read, and passes the guardrails of today."""
        try:
            message = decoded(entry.reply)
        except ValueError as error:
            self.here.guard.say_once(f"An answer in the cache cannot be read, and is skipped: {error}")
            return None
        problem, _ = yield from objection(self.caches.guardrails, Reply(message))
        return None if problem else _Hit(entry, message, kind, why, *more)

    def _given(self, hit: _Hit | None, ask: Asking, request: Any) -> Flow[Reply]:
        """The remembered reply, through the seam's own way of making calls, so that it is streamed, bound and parsed as
        any other; else the model's, which is remembered."""
        if hit is not None:
            stand_in = StandIn.of(request.model, _shown(hit), self.question.model)
            try:
                reply: Reply = yield Call(request.override(model=stand_in))
            except CostGuardError:
                raise
            except Exception as error:
                if self.here.out:
                    raise
                self.here.guard.say_once(f"An answer in the cache will not do: {type(error).__name__}: {error}")
            else:
                facts = {"kind": hit.kind, "score": hit.score, "reasons": hit.reasons}
                self.here.tell(Recalled, hit.why, name=self.question.model, saved=hit.entry.cost, **facts)
                return reply
        reply = yield from ask(request)
        if reply.message is not None and not (reply.ended or reply.before):
            yield from self._remember(reply.message, request.model)
        return reply

    def _remember(self, message: AIMessage, model: Any) -> Flow[None]:
        question, now = self.question, self.here.guard.now()
        try:
            text = encoded(message)
        except (TypeError, ValueError) as error:
            self.here.guard.say_once(f"A reply of {question.model} is none to remember: {error}")
            return
        cost = self._cost(model, message)
        for cache in self.exact:
            key = question.key(cache.rules)
            if keepable(message, tool_calls=cache.rules.tool_calls):
                entry = _entry(question, cache, text, now, cost)
                yield from self._safely(cache, partial(cache.put, now=now), key, entry)
            else:
                self.caches.give_up_on(key)
        for similar, vector, verdict in self.looked:
            if keepable(message, tool_calls=similar.rules.tool_calls):
                entry = _entry(question, similar, text, now, cost, prompt=question.prompt, context=question.context)
                yield from self._safely(similar, partial(similar.keep, now=now), question, vector, entry)
                if similar.shadow:
                    yield from self._safely(similar, similar.compare, question, verdict, entry)

    def _cost(self, model: Any, message: AIMessage) -> int:
        """Nano-USD that the reply took; 0 where nobody knows."""
        usage = from_usage_metadata(message.usage_metadata) if message.usage_metadata else None
        guard = self.here.guard
        try:
            return 0 if usage is None else guard.meter.book.quote(ref_of(model), guard.now()).charge(usage)
        except LookupError:
            return 0

    def _safely(self, cache: Any, verb: Callable[..., Any], *args: Any, otherwise: Any = None) -> Flow[Any]:
        """What a cache says; where it fails, it is skipped. One that neither waits nor computes for long is asked on
        the spot, others on a thread where an event loop would be blocked."""
        try:
            if getattr(cache, "quick", False):
                return verb(*args)
            return (yield Run(verb, args))
        except Exception as error:
            self._failed(cache, error)
            return otherwise

    def _release(self, cache: Answers, key: str, holder: str) -> None:
        try:
            cache.release(key, holder)
        except Exception as error:
            self._failed(cache, error)

    def _failed(self, cache: Any, error: Exception) -> None:
        self.here.guard.say_once(f"{type(cache).__name__} failed, and is skipped: {type(error).__name__}: {error}")


def _entry(question: Question, cache: Any, text: str, now: float, cost: int, **more: str) -> Entry:
    return Entry(
        reply=text,
        model=question.model,
        feature=question.scope.feature,
        tenant=cache.rules.tenant(question.scope),
        tags=question.tags,
        created=now,
        expires=now + cache.rules.ttl,
        cost=cost,
        **more,
    )


def _shown(hit: _Hit) -> AIMessage:
    """The message under a new id, with what it saved instead of what it spent."""
    facts: dict[str, Any] = {"cache": hit.kind, "saved_usd": str(usd(hit.entry.cost)), "why": hit.why}
    if hit.message.usage_metadata:
        facts["saved_usage"] = dict(hit.message.usage_metadata)
    if hit.score is not None:
        facts |= {"score": hit.score, "reasons": list(hit.reasons)}
    said = {**hit.message.response_metadata, "costguard": facts}
    changes = {"id": f"recalled-{uuid4()}", "usage_metadata": dict(_NOTHING_SPENT), "response_metadata": said}
    return hit.message.model_copy(update=changes)


def _ago(seconds: float) -> str:
    for unit, size in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{max(0.0, seconds):.0f} s"
