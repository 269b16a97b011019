"""``steer()``: the policies of one agent, chosen once."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Literal, overload

from langchain_costguard.caching.prompt.promptcache import PromptCache
from langchain_costguard.context.context import Context
from langchain_costguard.routing.cascade import Cascade
from langchain_costguard.routing.route import Router
from langchain_costguard.routing.runlog import RunLog
from langchain_costguard.steering.layers.approval import Approval
from langchain_costguard.steering.layers.caches import Cache
from langchain_costguard.steering.layers.guardrails import Guardrail
from langchain_costguard.steering.layers.unsticking import Rung
from langchain_costguard.steering.policies.breaker import Breaker
from langchain_costguard.steering.policies.loops import LoopDetector
from langchain_costguard.steering.policies.retries import Retry
from langchain_costguard.steering.steering import Steering
from langchain_costguard.vocabulary.money import Money
from langchain_costguard.vocabulary.slips import forgiving

if TYPE_CHECKING:
    from langchain.agents.middleware import AgentMiddleware

    from langchain_costguard.guard import CostGuard


@forgiving(
    retries="retry=Retry(attempts=...)",
    max_retries="retry=Retry(attempts=...)",
    attempts="retry=Retry(attempts=...)",
    circuit_breaker="breaker=Breaker()",
    budget="CostGuard(Budget(...)), and steer that guard",
    usd="CostGuard(Budget(usd=...)), and steer that guard",
    approve="approve_tools={'send_*'}",
    model="steer(guard, router=...), or give the agent another model",
)
def steer(
    guard: CostGuard,
    *,
    breaker: Breaker | None = Breaker(),  # noqa: B008 - frozen
    model_breaker: Breaker | None = None,
    retry: Retry | None = Retry(),  # noqa: B008 - frozen
    loops: LoopDetector | None = LoopDetector(),  # noqa: B008 - frozen
    on_loop: Sequence[Rung] = ("nudge", "end"),
    on_exceeded: Literal["end", "raise", "interrupt"] = "end",
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
) -> Steered:
    """The middleware that keeps an agent within its budgets, and ends it gracefully when it must.

    ``create_agent(model, tools, middleware=steer(guard))`` needs no callback besides: the guard meters whatever the
    agent calls. Put it last (innermost), so that it sees every attempt that other middleware makes.

    Args:
        guard: Whose budgets, store and report.
        breaker: The circuit of each tool. None: tools are called however often they fail.
        model_breaker: The circuit of each model; off by default.
        retry: How failures of models (and of the tools it names) are treated, by class. None: they are not.
        loops: What tells that the agent repeats itself. None: nothing does.
        on_loop: What is done about it, the first time, the second time and so on: ``"nudge"`` (a message asks the
            model to reconsider), ``"interrupt"`` (a person is asked), ``"end"``, ``"raise"`` (``StuckLoopError``).
        on_exceeded: What a refusal leads to: ``"end"`` (a final reply that says why), ``"raise"``, or ``"interrupt"``
            (a person may grant more; needs a checkpointer).
        approve_tools: Tools a person has to allow: names such as ``{"send_email", "delete_*"}``, or a predicate on the
            call and its price.
        tool_errors: What a tool that raises leads to: ``"tell"`` answers the agent where the failure may pass (rate
            limit, timeout, server, connection; after the retries it may have) or where it can mend its call, and raises
            the rest; ``"raise"`` raises all, which is the host's way and ends the run.
        guardrails: Callables that see each reply before it is acted on: ``valid_json(Schema)``, ``max_tool_calls(3)``.
        throttle_at: Share of a budget from which on calls are delayed, up to 5 s.
        usd_per_minute: Rate of spending (of this guard, in this process) above which calls are delayed.
        router: Chooses the model for each request; one that fails leaves the agent's own.
        cascade: Cheaper models to try first, and what tells whether their reply will do.
        runs: Where what the router or the cascade does is put on record, prompts and all, to train a router from.
        cache: Remembers answers, and gives them again: ``MemoryCache()``, or ``[MemoryCache(), SemanticCache(...)]``.
        prompt_cache: Keeps prompts in the provider's own cache where that pays.
        context: What goes into the window, and when it pays to take something out: ``Context()``.

    Raises:
        ValueError: names the field and the value.
    """
    return Steered(
        guard,
        breaker=breaker,
        model_breaker=model_breaker,
        retry=retry,
        loops=loops,
        on_loop=on_loop,
        on_exceeded=on_exceeded,
        approve_tools=approve_tools,
        tool_errors=tool_errors,
        guardrails=guardrails,
        throttle_at=throttle_at,
        usd_per_minute=usd_per_minute,
        router=router,
        cascade=cascade,
        runs=runs,
        cache=cache,
        prompt_cache=prompt_cache,
        context=context,
    )


class Steered(Steering, Sequence["AgentMiddleware[Any, Any]"]):
    """What ``steer()`` returns: the policies and, as a sequence, the middleware of ``create_agent``.

    The middleware is made when it is asked for: chains and graphs need no ``langchain``.
    """

    _middleware: AgentMiddleware[Any, Any] | None = None

    @property  # type: ignore[misc]
    def __class__(self) -> type:
        """Beside others in a list of middleware, it stands for its own: an agent asks for the class of each.

        Where no agent was ever imported, nobody can ask.
        """
        return type(self[0]) if "langchain.agents.middleware" in sys.modules else type(self)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") or "langchain.agents.middleware" not in sys.modules:
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        return getattr(self[0], name)

    def __len__(self) -> int:
        return 1

    @overload
    def __getitem__(self, index: int) -> AgentMiddleware[Any, Any]: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[AgentMiddleware[Any, Any]]: ...
    def __getitem__(self, index: int | slice) -> Any:
        if self._middleware is None:
            from langchain_costguard.steering.seams.middleware import CostGuardMiddleware

            self._middleware = CostGuardMiddleware(self)
        return [self._middleware][index]

    def __iter__(self) -> Iterator[AgentMiddleware[Any, Any]]:
        yield self[0]

    def __bool__(self) -> bool:
        return True

    def __add__(self, other: Any) -> list[Any]:
        return [*self, *other]

    def __radd__(self, other: Any) -> list[Any]:
        return [*other, *self]
