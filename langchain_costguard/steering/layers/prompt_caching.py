"""Before each call to a model: its prompt is marked for the provider's cache. After it: what came of that is noted."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, NamedTuple, cast
from urllib.parse import urlsplit

from langchain_costguard.caching.prompt.book import Kind, PrefixBook, Used
from langchain_costguard.caching.prompt.breakpoints import DOCUMENTED, Costs, Place, Ttl, plan
from langchain_costguard.caching.prompt.gaps import UNLIKELY, Odds, prior
from langchain_costguard.caching.prompt.marks import mark_message, mark_tools, ttl_of
from langchain_costguard.caching.prompt.prompt import SYSTEM, TOOLS, Prompt, Schemas, measured, prompt_of
from langchain_costguard.caching.prompt.rates import HitRate
from langchain_costguard.caching.prompt.watching import Watching, sentence
from langchain_costguard.events.steered import PromptBroken, PromptCacheFell
from langchain_costguard.metering.pricing.minimums import least_tokens
from langchain_costguard.steering.flow import Asking, Flow, Run
from langchain_costguard.steering.layers.fleet import ref_of
from langchain_costguard.steering.requests import used_in

if TYPE_CHECKING:
    from langchain_core.messages import BaseMessage

    from langchain_costguard.caching.prompt.promptcache import PromptCache
    from langchain_costguard.guard import CostGuard
    from langchain_costguard.steering.requests import Reply
    from langchain_costguard.steering.surroundings import Here
    from langchain_costguard.vocabulary.scope import Scope
    from langchain_costguard.vocabulary.usage import ModelRef

_MOST_FEATURES = 1_000
_FACTS = ("kind", "where", "start", "end", "tokens", "per_day")


class _Sent(NamedTuple):
    """What is kept of a request until its answer is there."""

    request: Any
    ref: ModelRef
    prompt: Prompt | None = None
    gaps: Mapping[str, tuple[Kind, float | None]] = {}
    marks: Mapping[str, Ttl] = {}


class PromptCaching:
    """What a ``PromptCache`` has seen, in this process: one per steering, entered from many threads."""

    def __init__(self, chosen: PromptCache, guard: CostGuard) -> None:
        self.chosen = chosen
        self._guard = guard
        self._book = PrefixBook()
        self._schemas = Schemas()
        self._rates: dict[tuple[str, str], HitRate] = {}
        self._lock = threading.Lock()
        self.watching = Watching(guard.meter.book) if chosen.warn else None

    def sent(self, here: Here, request: Any) -> _Sent:
        """The request as it is to be sent."""
        model = request.model
        ref = ref_of(model)
        if self.chosen.ttl is not None and _is(model, "ChatAnthropic"):
            return self._marked(here.scope, request, ref)
        if self.chosen.key is not None and self._takes_key(model):
            return _Sent(_keyed(request, _key(here.scope, self.chosen.key)), ref)
        return _Sent(request, ref)

    def answered(self, here: Here, sent: _Sent, reply: Reply) -> None:
        """Note what the provider kept and found."""
        usage = used_in(reply.message)
        if usage is None or reply.ended:
            return
        now = self._guard.now()
        if sent.prompt is not None:
            kept = bool(usage.cache_read or usage.cache_write)
            for place, (kind, gap) in sent.gaps.items():
                prefix = sent.prompt.prefixes[_order(sent.prompt, place)]
                self._book.note(kind, prefix, gap, Used(now, sent.marks.get(place) if kept else None))
        if usage.cache_read or usage.input_tokens >= least_tokens(sent.ref.name):
            self._count(here, sent.ref, usage.cache_read, usage.input_tokens)

    # Anthropic

    def _marked(self, scope: Scope, request: Any, ref: ModelRef) -> _Sent:
        prompt = prompt_of(request, self._schemas)
        minimum = self.chosen.min_tokens or least_tokens(ref.name)
        count = self._guard.estimator.estimate
        tokens = count(ref, [*prompt.head, *prompt.rest], tools=prompt.schemas).tokens
        if tokens < minimum or not prompt.rest:
            return _Sent(request, ref)
        prompt = measured(prompt)
        gaps = self._gaps(scope, prompt, ref)
        before_any = self._prior(scope, request, prompt)
        places = [self._place(prompt, "newest", tokens, gaps, before_any)] if "newest" in gaps else []
        if prompt.tools:
            places.append(self._place(prompt, "tools", count(ref, [], tools=prompt.schemas).tokens, gaps, before_any))
        if prompt.head:
            before = count(ref, list(prompt.head), tools=prompt.schemas).tokens
            places.append(self._place(prompt, "system", before, gaps, before_any))
        if (end := self._end_before(prompt)) is not None:
            before = count(ref, [*prompt.head, *prompt.rest[: end + 1]], tools=prompt.schemas).tokens
            kept = self._book.kept(prompt.prefixes[SYSTEM + 1 + end], self._guard.now())
            places.append(Place("history", SYSTEM + 1 + end, before, UNLIKELY, kept))
        fixed = None if self.chosen.ttl == "auto" else self.chosen.ttl
        marks = plan(places, prompt.given, self._costs(ref), minimum, fixed)
        marked, done = _with_marks(request, prompt, {p.name: p.order for p in places if p.name in marks}, marks)
        set_here: dict[str, Ttl] = {name: marks[name] for name in done}
        if prompt.automatic:
            set_here["newest"] = ttl_of(prompt.automatic)
        return _Sent(marked, ref, prompt, gaps, set_here)

    def _gaps(self, scope: Scope, prompt: Prompt, ref: ModelRef) -> dict[str, tuple[Kind, float | None]]:
        """The places that are kept for other requests: the kind of each, and when it was last sent."""
        now, prefixes = self._guard.now(), prompt.prefixes
        feature = _feature(scope)
        found: dict[str, tuple[Kind, float | None]] = {}
        if prompt.tools:
            found["tools"] = Kind("tools", ref.name, feature), self._book.gap(prefixes[:1], now)
        if prompt.head:
            found["system"] = Kind("system", ref.name, feature), self._book.gap(prefixes[1:2], now)
        if (newest := prompt.newest) is not None:
            kind = Kind("newest", ref.name, feature, scope.session)
            found["newest"] = kind, self._book.gap(prefixes[SYSTEM + 1 : SYSTEM + 2 + newest], now)
        return found

    def _prior(self, scope: Scope, request: Any, prompt: Prompt) -> Odds:
        settings: Mapping[str, Any] = getattr(request, "settings", None) or {}
        choice = getattr(request, "tool_choice", None) or settings.get("tool_choice")
        kind = choice.get("type") if isinstance(choice, Mapping) else choice
        named = scope.session != self._guard.session
        forced = kind not in (None, "auto", "none")
        return prior(tools=bool(prompt.tools), forced=forced, talks=prompt.before is not None, named=named)

    def _place(
        self, prompt: Prompt, name: str, tokens: int, gaps: Mapping[str, tuple[Kind, float | None]], expected: Odds
    ) -> Place:
        kind, gap = gaps[name]
        order = _order(prompt, name)
        kept = self._book.kept(prompt.prefixes[order], self._guard.now())
        return Place(name, order, tokens, self._book.odds(kind, gap, expected), kept)

    def _end_before(self, prompt: Prompt) -> int | None:
        """Where the request before this one ended, as far as it is known; else where it must have."""
        for at in range((prompt.newest or 0) - 1, -1, -1):
            if self._book.used(prompt.prefixes[SYSTEM + 1 + at]) is not None:
                return at
        before = prompt.before
        return before if before != prompt.newest else None

    def _costs(self, ref: ModelRef) -> Costs:
        rates = self._guard.meter.book.rates(ref, self._guard.now())
        if rates is None or rates.cache_read >= rates.input:
            return DOCUMENTED
        return Costs(rates.input, rates.cache_read, rates.cache_write, rates.cache_write_1h)

    # OpenAI

    def _takes_key(self, model: Any) -> bool:
        """Whether the model's host knows ``prompt_cache_key``: others refuse a parameter that they do not know."""
        if not _is(model, "ChatOpenAI", "AzureChatOpenAI"):
            return False
        client = getattr(model, "root_client", None) or getattr(model, "root_async_client", None)
        host = urlsplit(str(getattr(client, "base_url", ""))).hostname or ""
        return host == "api.openai.com" or host.endswith(".api.openai.com") or host in self.chosen.openai_hosts

    # Any

    def watch(self, watching: Watching, here: Here, request: Any) -> None:
        """Look for what keeps the prompt out of the cache, and tell what is new."""
        ref, feature, prompt = ref_of(request.model), _feature(here.scope), prompt_of(request, self._schemas)
        for found in watching.see(prompt, model=str(ref), feature=feature, now=self._guard.now()):
            why = sentence(found)
            here.guard.say_once(f"The prompt{f' of {feature}' if feature else ''} to {ref.name} is not cached: {why}.")
            facts: dict[str, Any] = {name: getattr(found, name) for name in _FACTS}
            here.tell(PromptBroken, why, name=ref.name, **facts)

    def _count(self, here: Here, ref: ModelRef, cached: int, cacheable: int) -> None:
        key = _feature(here.scope), ref.name
        with self._lock:
            if len(self._rates) >= _MOST_FEATURES and key not in self._rates:
                self._rates.pop(next(iter(self._rates)))
            fall = self._rates.setdefault(key, HitRate()).add(cached, cacheable)
        if fall is not None:
            why = (
                f"{fall.now:.0%} of the prompts' tokens came from the provider's cache lately, {fall.before:.0%} before"
            )
            here.tell(PromptCacheFell, why, name=ref.name, before=fall.before, now=fall.now)


def prompt_caching(caching: PromptCaching, here: Here, ask: Asking, request: Any) -> Flow[Reply]:
    """Mark the prompt for the provider's cache. A node of ``install()`` is left alone: its model is its own."""
    if getattr(request, "model", None) is None:
        untouched: Reply = yield from ask(request)
        return untouched
    try:
        if caching.watching is not None:  # long prompts take long to compare: not on an event loop
            yield Run(caching.watch, (caching.watching, here, request))
        sent = caching.sent(here, request)
    except Exception as error:  # what is only to save money fails no call
        here.guard.say_once("The prompt cache left a request as it is", error)
        sent = _Sent(request, ref_of(request.model))
    reply: Reply = yield from ask(sent.request)
    try:
        caching.answered(here, sent, reply)
    except Exception as error:  # the reply is paid
        here.guard.say_once("What came of a marked prompt was not noted", error)
    return reply


def _is(model: Any, *names: str) -> bool:
    """Whether a model is of a class by one of these names, whose package need not be installed."""
    return any(cls.__name__ in names for cls in type(model).__mro__)


def _feature(scope: Scope) -> str:
    return scope.feature or scope.agent or scope.step


def _order(prompt: Prompt, place: str) -> int:
    if place == "newest":
        assert prompt.newest is not None
        return SYSTEM + 1 + prompt.newest
    return TOOLS if place == "tools" else SYSTEM


def _with_marks(
    request: Any, prompt: Prompt, orders: Mapping[str, int], ttls: Mapping[str, Ttl]
) -> tuple[Any, list[str]]:
    """A copy of the request with these marks, and those that could be set."""
    changes: dict[str, Any] = {}
    done: list[str] = []
    messages, own = list(request.messages), getattr(request, "system_message", None)
    offset = len(messages) - len(prompt.rest)
    for name, order in orders.items():
        if name == "tools":
            tools = mark_tools(prompt.tools, ttls[name])
            if tools is not None:
                done.append(name)
                changes |= _tools(request, tools)
            continue
        at = offset - 1 if name == "system" else offset + order - SYSTEM - 1
        marked = mark_message(messages[at] if at >= 0 else cast("BaseMessage", own), ttls[name])
        if marked is None:
            continue
        done.append(name)
        if at >= 0:
            messages[at] = marked
            changes["messages"] = messages
        else:
            changes["system_message"] = marked
    return (request.override(**changes) if changes else request), done


def _tools(request: Any, tools: list[Any]) -> dict[str, Any]:
    return {"tools": tools} if hasattr(request, "tools") else {"settings": {**request.settings, "tools": tools}}


def _keyed(request: Any, key: str) -> Any:
    """A copy of the request with the key, unless it or its model has one."""
    name = "model_settings" if hasattr(request, "model_settings") else "settings"
    settings: Mapping[str, Any] = getattr(request, name) or {}
    own = (
        settings,
        settings.get("extra_body"),
        *(getattr(request.model, f, None) for f in ("model_kwargs", "extra_body")),
    )
    if any("prompt_cache_key" in given for given in own if given):
        return request
    return request.override(**{name: {**settings, "prompt_cache_key": key}})


def _key(scope: Scope, by: str) -> str:
    """Names nobody: what is sent is a digest."""
    who = "" if by == "feature" else getattr(scope, by)
    return blake2b(f"{_feature(scope)}\0{by}\0{who}".encode(), digest_size=16).hexdigest()
