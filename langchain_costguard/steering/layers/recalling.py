"""Caching in steering: a question that was answered before is answered from memory, and one that was not, once."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from langchain_core.messages import AIMessage

from langchain_costguard.caching.entry import Entry
from langchain_costguard.caching.keepable import keepable
from langchain_costguard.caching.replies import decoded, encoded
from langchain_costguard.events.steered import Recalled, WouldRecall
from langchain_costguard.steering.flow import Asking, Call, Flow, Run, Sleep
from langchain_costguard.steering.layers.caches import Caches
from langchain_costguard.steering.layers.checking import objection
from langchain_costguard.steering.layers.fleet import ref_of
from langchain_costguard.steering.layers.single_flight import Claim, gets_it_here, getting
from langchain_costguard.steering.layers.stand_in import Hit, StandIn, shown
from langchain_costguard.steering.requests import Reply, used_in
from langchain_costguard.steering.surroundings import Here
from langchain_costguard.vocabulary.errors import CostGuardError
from langchain_costguard.vocabulary.scope import TAGS
from langchain_costguard.vocabulary.usage import ModelRef

if TYPE_CHECKING:
    from langchain_costguard.caching.base import Answers
    from langchain_costguard.caching.question import Question
    from langchain_costguard.caching.semantic.cache import SemanticCache

_FIRST_PAUSE, _LONGEST_PAUSE = 0.005, 0.2
"""Seconds between two looks at whether it has come."""


def caching(caches: Caches, here: Here, ask: Asking, request: Any) -> Flow[Reply]:
    """Answer from memory, or ask and remember. Whatever goes wrong with a cache, the model is asked."""
    question = caches.question(here, request)
    exact, similar = ([], []) if question is None else caches.allowed(here, question)
    if question is None or not (exact or similar):
        reply: Reply = yield from ask(request)
        return reply
    return (yield from _Asked(caches, here, question, exact, similar).answered(ask, request))


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
        first, pause = self.exact[0], _FIRST_PAUSE
        key = self.question.key(first.rules)
        while not self.caches.given_up(key):
            claim, closed = Claim(first, key), False
            try:
                claimed = yield from self._safely(first, claim.take, self.here.guard.now(), otherwise=True)
                hit = yield from self._known()  # somebody may have been there first
                if hit is not None or claimed:
                    with getting(key):
                        return (yield from self._given(hit, ask, request))
            except GeneratorExit:
                closed = True  # nothing can be waited for any more
                raise
            finally:
                if closed:
                    self._at_once(first, claim.drop)
                elif claim.taken:
                    yield from self._let_go(first, claim)
            if gets_it_here(key):
                break
            yield Sleep(pause)
            pause = min(_LONGEST_PAUSE, pause * 2)
        return (yield from self._given(None, ask, request))

    def _known(self) -> Flow[Hit | None]:
        """The answer to this very question."""
        for cache in self.exact:
            now = self.here.guard.now()
            entry = yield from self._safely(cache, partial(cache.get, now=now), self.question.key(cache.rules))
            if entry is not None:
                why = f"the same question was answered {_ago(now - entry.created)} ago"
                hit = yield from self._passed(cache, entry, "exact", why)
                if hit is not None:
                    return hit
        return None

    def _alike(self) -> Flow[Hit | None]:
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
            hit = yield from self._passed(cache, verdict.entry, "semantic", why, verdict.score, verdict.reasons)
            if hit is not None:
                return hit
            self.looked.append((cache, vector, verdict))
        return None

    def _embedded(self, cache: SemanticCache) -> Flow[Any]:
        embeddings, guard, scope = cache.embeddings, self.here.guard, self.here.scope
        whose = {tag: name for tag in TAGS if (name := getattr(scope, tag))}

        def embed(text: str) -> Any:  # embeddings see nothing of the config that says who asks
            with guard.scope(**whose):
                return embeddings.embed_query(text)

        async def aembed(text: str) -> Any:
            with guard.scope(**whose):
                return await embeddings.aembed_query(text)

        try:
            return (yield Run(embed, (self.question.prompt,), aembed))
        except CostGuardError:  # no room for an embedding is none for the model either, whose refusal says so
            return None
        except Exception as error:
            self._failed(cache, error)
            return None

    def _passed(self, cache: Any, entry: Entry, kind: str, why: str, *more: Any) -> Flow[Hit | None]:
        """The hit, if it can be read, is one this cache may give, and passes the guardrails of today."""
        try:
            message = decoded(entry.reply)
        except ValueError as error:
            self.here.guard.say_once(f"An answer in the cache cannot be read, and is skipped: {error}")
            return None
        if not keepable(message, tool_calls=cache.rules.tool_calls):
            return None
        try:
            problem, _ = yield from objection(self.caches.guardrails, Reply(message))
        except CostGuardError:
            raise
        except Exception:  # the guardrail will say so of the model's reply, too, where that is dealt with
            return None
        return None if problem else Hit(entry, message, kind, why, *more)

    def _given(self, hit: Hit | None, ask: Asking, request: Any) -> Flow[Reply]:
        """The remembered reply, through the seam's own way of making calls, so that it is streamed, bound and parsed as
        any other; else the model's, which is remembered."""
        if hit is not None:
            stand_in = StandIn.of(request.model, shown(hit), self.question.model)
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
        if reply.ended:
            return reply
        if reply.message is None or reply.before:
            self._give_up()
            return reply
        try:
            yield from self._remember(reply.message, request.model)
        except Exception as error:  # a paid reply is not to be lost for that
            self._failed(self, error)
        return reply

    def _remember(self, message: AIMessage, model: Any) -> Flow[None]:
        question, now = self.question, self.here.guard.now()
        try:
            text = encoded(message)
        except (TypeError, ValueError) as error:
            self.here.guard.say_once(f"A reply of {question.model} is none to remember: {error}")
            self._give_up()
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

    def _give_up(self) -> None:
        for cache in self.exact:
            self.caches.give_up_on(self.question.key(cache.rules))

    def _cost(self, model: Any, message: AIMessage) -> int:
        """Nano-USD that the reply took, by the price of the model that says it made it, for a cascade has several; 0
        where nobody knows."""
        used = used_in(message)
        if used is None:
            return 0
        facts, asked, guard = message.response_metadata, ref_of(model), self.here.guard
        made = ModelRef(facts.get("model_provider") or asked.provider, facts.get("model_name") or asked.name)
        for ref in (made, asked):
            try:
                return guard.meter.book.quote(ref, guard.now()).charge(used)
            except LookupError:
                continue
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

    def _let_go(self, cache: Answers, claim: Claim) -> Flow[None]:
        try:
            yield from self._safely(cache, claim.drop)
        except GeneratorExit:  # the thread that was to do it may never have begun
            self._at_once(cache, claim.drop)
            raise

    def _at_once(self, cache: Any, verb: Callable[[], Any]) -> None:
        try:
            verb()
        except Exception as error:
            self._failed(cache, error)

    def _failed(self, cache: Any, error: Exception) -> None:
        """Say so once, whatever the numbers of requests and ports in the texts of later errors of this kind."""
        name = "The cache" if cache is self else type(cache).__name__
        if self.caches.news(f"{name}: {type(error).__name__}"):
            self.here.guard.say_once(f"{name} failed, and is skipped: {type(error).__name__}: {error}")


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


def _ago(seconds: float) -> str:
    for unit, size in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{max(0.0, seconds):.0f} s"
