"""The policies of one agent, composed into the flow of each model and tool call."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

from langchain_core.language_models import BaseChatModel

from langchain_costguard.caching.prompt.promptcache import PromptCache
from langchain_costguard.context.context import Context
from langchain_costguard.metering.settings import check_guard
from langchain_costguard.routing.cascade import Cascade
from langchain_costguard.routing.route import Router
from langchain_costguard.routing.runlog import RunLog
from langchain_costguard.steering.flow import Asking, Call, Flow
from langchain_costguard.steering.layers.approval import Approval, approving, checked_approval
from langchain_costguard.steering.layers.attempts import breaking, retrying, throttling
from langchain_costguard.steering.layers.caches import Cache, Caches
from langchain_costguard.steering.layers.cascading import cascading, checking_last, retrying_last
from langchain_costguard.steering.layers.checking import checking
from langchain_costguard.steering.layers.circuits import Circuits
from langchain_costguard.steering.layers.ending import OnExceeded, ending
from langchain_costguard.steering.layers.fetching import fetch_tool
from langchain_costguard.steering.layers.fleet import fleet_of
from langchain_costguard.steering.layers.guardrails import Guardrail
from langchain_costguard.steering.layers.prompt_caching import PromptCaching, prompt_caching
from langchain_costguard.steering.layers.recalling import caching
from langchain_costguard.steering.layers.routing import routing
from langchain_costguard.steering.layers.shaping import shaping
from langchain_costguard.steering.layers.spending_rate import Rate
from langchain_costguard.steering.layers.stand_in import StandIn
from langchain_costguard.steering.layers.tiers import Tiers
from langchain_costguard.steering.layers.tools import breaking_tool, refusing, retrying_tool, telling
from langchain_costguard.steering.layers.unsticking import Rung, checked_ladder, unsticking
from langchain_costguard.steering.layers.windows import Windows
from langchain_costguard.steering.policies.breaker import Breaker
from langchain_costguard.steering.policies.loops import LoopDetector
from langchain_costguard.steering.policies.pace import Pace
from langchain_costguard.steering.policies.retries import Retry, classify, sdk_retries
from langchain_costguard.steering.requests import Reply
from langchain_costguard.steering.surroundings import Here
from langchain_costguard.vocabulary.checks import listed
from langchain_costguard.vocabulary.money import Money, nano

if TYPE_CHECKING:
    from langchain_core.tools import BaseTool

    from langchain_costguard.guard import CostGuard

_KEPT_MODELS = 16

_Layer = Callable[[Here, Asking, Any], Flow[Any]]


class Steering:
    """The chosen policies of one agent: what nodes and models are given. The arguments are those of ``steer``."""

    def __init__(
        self,
        guard: CostGuard,
        *,
        breaker: Breaker | None = Breaker(),  # noqa: B008 - frozen
        model_breaker: Breaker | None = None,
        retry: Retry | None = Retry(),  # noqa: B008 - frozen
        loops: LoopDetector | None = LoopDetector(),  # noqa: B008 - frozen
        on_loop: Sequence[Rung] = ("nudge", "end"),
        on_exceeded: OnExceeded = "end",
        approve_tools: Approval | None = None,
        tool_errors: Literal["tell", "raise"] = "tell",
        guardrails: Sequence[Guardrail] = (),
        throttle_at: float | None = None,
        usd_per_minute: Money | None = None,
        router: Router | None = None,
        cascade: Cascade | None = None,
        runs: RunLog | None = None,
        cache: Cache | Sequence[Cache] | None = None,
        prompt_cache: PromptCache | None = None,
        context: Context | None = None,
    ) -> None:
        _check_kinds(guard, breaker=(breaker, Breaker), model_breaker=(model_breaker, Breaker), retry=(retry, Retry))
        _check_kinds(guard, loops=(loops, LoopDetector), runs=(runs, RunLog), prompt_cache=(prompt_cache, PromptCache))
        _check_kinds(guard, context=(context, Context))
        _check_choices(on_exceeded, guardrails, router, cascade, runs)
        self.guard = guard
        self.retry = retry
        self.loops = loops
        self.ladder = checked_ladder(on_loop)
        self.on_exceeded: OnExceeded = on_exceeded
        self.approve_tools = checked_approval(approve_tools)
        if tool_errors not in ("tell", "raise"):
            raise ValueError(f"tool_errors: {tool_errors!r} is not 'tell' or 'raise'")
        self.tool_errors = tool_errors
        self.guardrails = tuple(guardrails)
        circuits = partial(Circuits, store=guard.store, clock=guard.now)
        self.tool_circuits = None if breaker is None else circuits(breaker, prefix="tool")
        self.model_circuits = None if model_breaker is None else circuits(model_breaker, prefix="model")
        self.pace, self._rate = _pace(guard, throttle_at, usd_per_minute)
        self._router = None if router is None else (router, fleet_of(router, guard, retry), runs)
        self._tiers = None if cascade is None else Tiers(cascade, guard, runs, retry)
        self._caches = None if cache is None else Caches(cache, self.guardrails, self._tiers)
        self._prompts = None if prompt_cache is None else PromptCaching(prompt_cache, guard)
        self.windows = None if context is None else Windows(context, guard)
        self._fetch: BaseTool | None = None
        self._model_layers = self._layers_of_models()
        self._tool_layers = self._layers_of_tools()
        self._strict: dict[int, tuple[Any, Any]] = {}
        self._lock = threading.Lock()

    # The flows

    def model_flow(self, request: Any, name: str = "", here: Here | None = None) -> Flow[Reply]:
        """The policies around one request to a model, the outermost first."""
        here = here or Here(self.guard, name)
        return _composed(self._model_layers, here)(request)

    def tool_flow(self, request: Any) -> Flow[Any]:
        """The policies around one tool call."""
        here = Here(self.guard, request.tool_call["name"])
        return _composed(self._tool_layers, here)(request)

    def strict(self, model: Any) -> Any:
        """The model as the guard wraps it: admitted call by call, its output limited to what is affordable."""
        found = self._strict.get(id(model))
        if found is not None and found[0] is model:
            return found[1]
        wrapped = model
        if isinstance(model, StandIn):
            return model
        if isinstance(model, BaseChatModel):
            self._report_retries(model)
            wrapped = self.guard.wrap(model)
        with self._lock:
            if len(self._strict) >= _KEPT_MODELS:
                self._strict.clear()
            self._strict[id(model)] = model, wrapped
        return wrapped

    @property
    def holds_streams(self) -> bool:
        """Whether a streamed reply is shown only once it has passed."""
        return bool(self.guardrails) or (self._tiers is not None and self._tiers.holds_streams)

    @property
    def fetch_result(self) -> BaseTool:
        """The tool that returns the whole of a result that was cut. ``create_agent`` has it from the middleware; bind
        it, and run it, where a graph or a chain calls its own tools.

        Raises:
            ValueError: there is no context policy.
        """
        if self.windows is None:
            raise ValueError("context: None cuts nothing, so nothing is to be fetched: steer(guard, context=Context())")
        if self._fetch is None:
            self._fetch = fetch_tool(self.windows)
            self.windows.given = True
        return self._fetch

    def _layers_of_models(self) -> list[_Layer]:
        layers: list[_Layer] = [partial(ending, self.on_exceeded)]
        if self.loops is not None:
            layers.append(partial(unsticking, self.loops, self.ladder))
        if self.windows is not None:
            how = self.retry.classify if self.retry is not None else classify
            later = self._router is not None or self._tiers is not None
            layers.append(partial(shaping, self.windows, how, later))
        if self._router is not None:
            layers.append(partial(routing, *self._router))
        if self._caches is not None:
            layers.append(partial(caching, self._caches))
        if self.pace is not None:
            layers.append(partial(throttling, self.pace, self._rate))
        if self._tiers is not None:
            layers.append(partial(cascading, self._tiers))
        if self.guardrails or (self.retry is not None and self.retry.repairs):
            repairs = self.retry.repairs if self.retry is not None else 0
            how = self.retry.classify if self.retry is not None else classify
            each = self._tiers is not None and partial(checking_last, self._tiers)
            layers.append(partial(each or checking, self.guardrails, repairs, how, self.on_exceeded))
        if self.retry is not None:
            once = self._tiers is not None and partial(retrying_last, self._tiers)
            layers.append(partial(once or retrying, self.retry))
        if self.model_circuits is not None:
            layers.append(partial(breaking, self.model_circuits))
        if self._prompts is not None:
            layers.append(partial(prompt_caching, self._prompts))
        return layers

    def _layers_of_tools(self) -> list[_Layer]:
        layers: list[_Layer] = [partial(refusing, self.on_exceeded)]
        if self.tool_errors == "tell":
            layers.append(partial(telling, self.retry))
        if self.approve_tools is not None:
            layers.append(partial(approving, self.approve_tools))
        if self.tool_circuits is not None:
            layers.append(partial(breaking_tool, self.tool_circuits))
        if self.retry is not None and self.retry.tools:
            layers.append(partial(retrying_tool, self.retry))
        return layers

    def _report_retries(self, model: Any) -> None:
        ours, theirs = self.retry.attempts if self.retry is not None else 1, sdk_retries(model)
        if ours > 1 and theirs:
            self.guard.say_once(
                f"{type(model).__name__} retries {theirs} times by itself in each of the {ours} attempts that steering "
                f"makes: a failing call may be sent {ours * (theirs + 1)} times. Give the model max_retries=0."
            )

    def __repr__(self) -> str:
        layers = (
            ("breaker", self.tool_circuits), ("model_breaker", self.model_circuits), ("retry", self.retry),
            ("loops", self.loops), ("approve_tools", self.approve_tools), ("guardrails", self.guardrails),
            ("throttle", self.pace or self._rate), ("router", self._router), ("cascade", self._tiers),
            ("cache", self._caches), ("prompt_cache", self._prompts),
        )  # fmt: skip
        on = ", ".join(name for name, policy in layers if policy)
        return f"steer({self.guard!r}, on_exceeded={self.on_exceeded!r}, with {on or 'no policies'})"


def _composed(layers: Sequence[_Layer], here: Here) -> Asking:
    def innermost(request: Any) -> Flow[Any]:
        answer = yield Call(request, facts=here.facts)
        here.paid += 1
        return answer

    ask: Asking = innermost
    for layer in reversed(layers):
        ask = partial(layer, here, ask)
    return ask


def _check_kinds(guard: Any, **given: tuple[Any, type]) -> None:
    check_guard(guard)
    for field, (value, kind) in given.items():
        if value is not None and not isinstance(value, kind):
            raise ValueError(f"{field}: {value!r} is no {kind.__name__}, such as {kind.__name__}(), or None")


def _check_choices(on_exceeded: Any, guardrails: Any, router: Any, cascade: Any, runs: Any) -> None:
    if on_exceeded not in ("end", "raise", "interrupt"):
        raise ValueError(f"on_exceeded: {on_exceeded!r} is not 'end', 'raise' or 'interrupt'")
    listed("guardrails", guardrails, "callables that take the reply", callable)
    if router is not None and cascade is not None:
        raise ValueError(f"cascade: {cascade!r} chooses the model, and so does the router: give one of them")
    if runs is not None and router is None and cascade is None:
        raise ValueError(f"runs: {runs!r} records what a router or a cascade does: give one of them")


def _pace(guard: CostGuard, throttle_at: float | None, usd_per_minute: Money | None) -> tuple[Pace | None, Rate | None]:
    """What calls are delayed by, and what counts how fast money goes."""
    if throttle_at is None and usd_per_minute is None:
        return None, None
    most = None if usd_per_minute is None else nano(usd_per_minute, "usd_per_minute")
    rate = None if most is None else Rate(guard.now)
    if rate is not None:
        guard.add_sink(rate)
    return Pace(throttle_at=throttle_at, nano_per_minute=most), rate
