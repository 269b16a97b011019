"""What a ``Context`` has seen, in this process: one per steering, entered from many threads."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage

from langchain_costguard.caching.base import CacheError
from langchain_costguard.caching.prompt.prompt import Schemas
from langchain_costguard.context.birth import FETCH
from langchain_costguard.context.counting import Sizes, scale
from langchain_costguard.context.horizon import Horizon
from langchain_costguard.context.messages import by_user, key_of
from langchain_costguard.context.record import Record
from langchain_costguard.context.shaping import Born, Plan, Shaper, Situation
from langchain_costguard.context.summary import cached_price, summary_price
from langchain_costguard.context.timing import Prices
from langchain_costguard.metering.pricing.limits import output_limit
from langchain_costguard.metering.pricing.minimums import least_tokens
from langchain_costguard.routing.abilities import profile_of
from langchain_costguard.steering.flow import Flow, Run
from langchain_costguard.steering.layers.fleet import Fleet, ref_of
from langchain_costguard.steering.requests import last_ai
from langchain_costguard.vocabulary.usage import ModelRef

if TYPE_CHECKING:
    from langchain_costguard.context.context import Context
    from langchain_costguard.context.summary import Making
    from langchain_costguard.guard import CostGuard
    from langchain_costguard.steering.surroundings import Here
    from langchain_costguard.vocabulary.scope import Scope
    from langchain_costguard.vocabulary.usage import Usage

_UNFETCHABLE = (
    f"Long tool results are sent whole: the model has no tool {FETCH!r} to ask for what would be cut out of them. Bind "
    "`steer(...).fetch_result` to it, and give it to the node that runs the tools."
)

T = TypeVar("T")

STATE = "costguard_context"
"""The private key of an agent's state that has the record."""
_THREADS = 2_000
_STASHED = 20_000
_RECORDS = 4
"""Edits of one thread that are remembered: after time travel an older one may hold again."""
FIVE_MINUTES, HOUR = 300.0, 3_600.0
"""How long a prompt is kept where nothing else is known: https://platform.openai.com/docs/guides/prompt-caching says
five to ten minutes, Anthropic five or, where that is paid for, sixty."""
_LEAST_REFETCHES = 0.5
"""Fetches again that are expected of a compaction at the least: a model may also do without, and worse."""
_UNCACHED = 2
"""Calls in a row that read nothing from the provider's cache, after which there is taken to be none."""


@dataclass(slots=True)
class Thread:
    """What is known of one thread."""

    records: list[Record] = field(default_factory=list)
    scale: float = 1.0
    ref: ModelRef | None = None
    at: float | None = None
    lifetime: float = FIVE_MINUTES
    misses: int = 0
    look: tuple[int, Prices | None, float] = (0, None, 0.0)
    """A version, prices, and the calls after that version before which at those prices no compaction is due."""
    due: int = -1
    """The version at which a compaction was due last, whether it was made or not."""
    dues: int = 0
    making: Making | None = None
    told: Shaped | None = None
    """What a ``ContextNode`` prepared last, whose answer it sees only in the next state."""


@dataclass(slots=True)
class Shaped:
    """A request as it is to be sent, and what is kept until its answer is there. Tokens are estimates, scaled."""

    request: Any
    record: Record = Record()  # noqa: RUF009 - frozen
    old: Record = Record()  # noqa: RUF009 - frozen
    thread: Thread = field(default_factory=Thread)
    key: str = ""
    ref: ModelRef | None = None
    now: Situation | None = None
    born: list[BaseMessage] = field(default_factory=list)
    again: bool = False
    """Whether results are sent whole though the same is shown above."""
    plan: Plan | None = None
    deferred: Plan | None = None
    """A compaction that waits for its summary by a model."""
    by_model: bool = False
    raw: tuple[int, int] = (0, 0)
    """Tokens of the thread as it is, and of them those that the call before had."""
    sent: tuple[int, int] = (0, 0)
    unscaled: int = 0


class Windows:
    """The threads of one steering, and what each call of them is to see."""

    def __init__(self, chosen: Context, guard: CostGuard) -> None:
        self.chosen = chosen
        self.guard = guard
        self.shaper = Shaper(chosen)
        self.horizon = Horizon()
        self.refetched = 0
        self.compactions = 0
        self.given = False
        """Whether the tool that fetches was handed out, to be bound where no middleware can add it."""
        self._summarizer: Any = None
        self._sizes = Sizes(guard.estimator)
        self._schemas = Schemas()
        self._threads: OrderedDict[str, Thread] = OrderedDict()
        self._stashed: dict[tuple[str, str], float] = {}
        self._lock = threading.Lock()

        if isinstance(chosen.summary, str):
            self.summarizer()  # a name that means nothing is said here, not after an hour

    def summarizer(self) -> Any:
        """The chosen model for summaries, as the guard wraps it.

        Raises:
            ValueError: it cannot be had.
        """
        if self._summarizer is None:
            try:
                model = Fleet((), self.guard).model(self.chosen.summary)
            except ValueError as error:
                raise ValueError(str(error).replace("router:", "summary:", 1)) from None
            self._summarizer = self.guard.wrap(model)
        return self._summarizer

    # Whose

    def thread(self, here: Here, messages: Sequence[BaseMessage]) -> tuple[str, Thread]:
        """The thread of a request: its session, its agent, and the message it begins with."""
        scope = here.scope
        first = next((key_of(m) for m in messages if by_user(m)), "")
        key = f"{scope.session}\0{scope.agent}\0{first}"
        with self._lock:
            thread = self._threads.setdefault(key, Thread())
            self._threads.move_to_end(key)
            if len(self._threads) > _THREADS:
                self._threads.popitem(last=False)
        return key, thread

    def record(self, here: Here, request: Any, key: str, thread: Thread) -> Flow[Record]:
        """The edit that holds for the messages as they are: of the state where there is one, else the newest stashed
        one that is about them."""
        state = getattr(request, "state", None)
        if has_state(request):
            kept = state.get(STATE) if isinstance(state, dict) else None
            found = [Record.from_dict(kept)] if kept else []
        else:
            if not self.chosen.stash.quick or not thread.records:
                thread.records = (yield from self._load(here, key)) or thread.records
            found = list(thread.records)
        return next((each for each in found if self.shaper.holds(each, request.messages)), Record())

    def _with_stash(self, job: Callable[[], T]) -> Flow[T]:
        """What a job on the stash returns: done here where nothing waits for it, else where waiting is allowed."""
        return job() if self.chosen.stash.quick else (yield Run(job))

    def _load(self, here: Here, key: str) -> Flow[list[Record]]:
        def load() -> list[Record]:
            read = self.chosen.stash.get_json(owner(here.scope), f"record\0{key}", now=self.guard.now())
            return [Record.from_dict(each) for each in read or ()]

        try:
            return (yield from self._with_stash(load))
        except (CacheError, ValueError) as error:
            self.guard.say_once("An edit of a thread could not be read, and the thread is sent as it is", error)
            return []

    def save(self, here: Here, shaped: Shaped) -> Flow[None]:
        """Remember the edit of a thread that has no state."""
        thread, stash = shaped.thread, self.chosen.stash
        thread.records = [shaped.record, *(each for each in thread.records if each.version)][:_RECORDS]
        value = [each.to_dict() for each in thread.records]

        def put() -> None:
            now, whose = self.guard.now(), owner(here.scope)
            stash.put_json(whose, f"record\0{shaped.key}", value, now=now, ttl=self.chosen.ttl)

        try:
            yield from self._with_stash(put)
        except CacheError as error:
            self.guard.say_once("An edit of a thread could not be kept beyond this process", error)

    def born(self, here: Here, request: Any, cap: int) -> Flow[Born]:
        """The thread with long results cut, once their wholes are kept. Where they cannot be, or where the model has no
        tool that fetches them, nothing is cut."""
        messages, stash, whose, now = request.messages, self.chosen.stash, owner(here.scope), self.guard.now()
        fresh = now - self.chosen.ttl / 2
        born = self.shaper.born(messages, cap)
        if not self._fetchable(request):
            if born.wholes:
                self.guard.say_once(_UNFETCHABLE)
            return Born(list(messages), again=True)
        wholes = [each for each in born.wholes if self._stashed.get((whose, each[0]), 0.0) < fresh]
        if not wholes:
            return born

        def put() -> None:
            stash.put(whose, wholes, now=now, ttl=self.chosen.ttl)

        try:
            yield from self._with_stash(put)
        except CacheError as error:
            self.guard.say_once("The wholes of long tool results could not be kept, so they are not cut", error)
            return Born(list(messages), again=True)
        if len(self._stashed) > _STASHED:
            self._stashed.clear()
        self._stashed.update(((whose, id), now) for id, _ in wholes)
        return born

    def _fetchable(self, request: Any) -> bool:
        tools = getattr(request, "tools", None) or (getattr(request, "settings", None) or {}).get("tools")
        return self.given if tools is None else any(_tool_name(tool) == FETCH for tool in tools)

    # What it depends on

    def ref(self, request: Any, thread: Thread, *, chosen_later: bool) -> ModelRef | None:
        """The model that will be called: where a router is yet to choose it, the one that answered last."""
        model = getattr(request, "model", None)
        if model is not None and not (chosen_later and thread.ref is not None):
            return ref_of(model)
        if thread.ref is not None:
            return thread.ref
        last = last_ai(request.messages)
        name = last.response_metadata.get("model_name") if last is not None else None
        return ModelRef(last.response_metadata.get("model_provider") or "", name) if last and name else None

    def situation(self, request: Any, ref: ModelRef, thread: Thread, window: int | None) -> Situation:
        """What a decision depends on."""
        system = getattr(request, "system_message", None)
        tools = getattr(request, "tools", None) or (getattr(request, "settings", None) or {}).get("tools") or ()
        estimate = self.guard.estimator.estimate
        head = [system] if system is not None else []
        overhead = estimate(ref, head, tools=self._schemas(tools) if tools else None).tokens
        refetches = max(_LEAST_REFETCHES, (1 + self.refetched) / (1 + self.compactions))
        prices = self._prices(ref, thread)
        return Situation(
            prices=prices,
            overhead=overhead,
            scale=thread.scale,
            window=window,
            refetches=refetches,
            summary=partial(self._summary, prices),
            expects=self.horizon.expected,
        )

    def _summary(self, prices: Prices, gone: int, prompt: int) -> int:
        """Nano-USD for a summary: nothing for a digest or a function; of a model's, see ``summarizing``."""
        chosen = self.chosen.summary
        if chosen is None or (callable(chosen) and not isinstance(chosen, BaseChatModel)):
            return 0
        rates = Fleet((), self.guard).rates(self.summarizer())
        return min(summary_price(rates, gone), cached_price(prices, prompt))

    def _prices(self, ref: ModelRef, thread: Thread) -> Prices:
        now = self.guard.now()
        book = self.guard.meter.book
        rates = book.rates(ref, now) or book.fallback(ref, now)
        if thread.misses >= _UNCACHED:
            return Prices(rates.input, rates.input, rates.output, 0.0)
        cold = thread.at is not None and (now - thread.at >= thread.lifetime or thread.ref != ref)
        return Prices(rates.cache_write, rates.cache_read, rates.output, 0.0 if cold else 1.0)

    def window(self, model: Any) -> int | None:
        """The tokens that a prompt may have; None where nobody knows."""
        if self.chosen.window is not None or model is None:
            return self.chosen.window
        most = profile_of(model).get("max_input_tokens")
        if not isinstance(most, int) or most <= 0:
            return None
        limit: Any = getattr(model, "max_tokens", None)
        output = limit if isinstance(limit, int) else min(output_limit(ref_of(model)) or 0, most // 10)
        return max(1_000, int(most * 0.9) - output)

    def sizes(self, ref: ModelRef, messages: Sequence[BaseMessage]) -> list[int]:
        """The tokens of each message."""
        return self._sizes.of(ref, messages)

    def due(self, thread: Thread, version: int) -> None:
        """A compaction of this version of the thread is due: what follows is counted once."""
        if thread.due != version:
            thread.due, thread.dues = version, thread.dues + 1
            self.horizon.due()

    # What came of it

    def learn(self, shaped: Shaped, usage: Usage | None, message: AIMessage) -> None:
        """Take from a reply how long its prompt was, and whether it is kept by the provider."""
        thread = shaped.thread
        self.horizon.called(thread.dues)
        thread.at = self.guard.now()
        thread.ref = _answering(message, shaped.ref)
        if usage is None or shaped.ref is None:
            return
        thread.scale = scale(usage.input_tokens, shaped.unscaled)
        if usage.cache_read or usage.cache_write:
            thread.misses = 0
            thread.lifetime = HOUR if usage.cache_write_1h else FIVE_MINUTES
        elif usage.input_tokens >= least_tokens(shaped.ref.name):
            thread.misses += 1


def owner(scope: Scope) -> str:
    """Who may fetch: the user, or where nobody is named the session."""
    return f"user\0{scope.user}" if scope.user else f"session\0{scope.session}"


def has_state(request: Any) -> bool:
    """Whether the request is an agent's, whose state keeps the record."""
    return hasattr(request, "model_settings") and hasattr(request, "state")


def with_warned(record: Record, levels: Sequence[float]) -> Record:
    """The record, with these warnings given."""
    return replace(record, warned=(*record.warned, *map(str, levels)))


def _answering(message: AIMessage, asked: ModelRef | None) -> ModelRef | None:
    """The model that answered, by the name it is asked by where that is its own with a version behind it."""
    name = message.response_metadata.get("model_name") or ""
    if not name or (asked is not None and (name.startswith(asked.name) or asked.name.startswith(name))):
        return asked
    return ModelRef(message.response_metadata.get("model_provider") or (asked.provider if asked else ""), name)


def _tool_name(tool: Any) -> str:
    if isinstance(tool, dict):
        return str(tool.get("name") or (tool.get("function") or {}).get("name") or "")
    return str(getattr(tool, "name", ""))
