"""Where a flow runs: whose call it is, in which node of which graph, and what has happened in it so far."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from langchain_core.runnables.config import var_child_runnable_config

from langchain_costguard.events.steered import Interrupted, Steered
from langchain_costguard.metering.admission import STRICT, spending_reserve
from langchain_costguard.metering.seams.watching import attached
from langchain_costguard.steering import asking
from langchain_costguard.vocabulary.errors import BudgetExceededError, CostGuardError

if TYPE_CHECKING:
    from langchain_costguard.guard import CostGuard
    from langchain_costguard.metering.budgets.headroom import Headroom
    from langchain_costguard.steering.flow import Call
    from langchain_costguard.vocabulary.scope import Scope

_NOTHING: Mapping[str, Any] = {}
_NUMBERED = ("seq:step:", "map:key:", "graph:step:", "branch:", "langsmith:")


@contextmanager
def paying(guard: CostGuard, call: Call) -> Iterator[None]:
    """What surrounds a call that a flow wants made."""
    with attached(guard), spending_reserve(call.last):
        yield


class Here:
    """One flow's surroundings. Looked up as they are needed: most calls pass without any of it."""

    __slots__ = (
        "_asked", "_config", "_headroom", "_metadata", "_scope", "asked", "facts", "guard", "leave", "name", "out",
        "paid", "path",
    )  # fmt: skip

    def __init__(self, guard: CostGuard, name: str, config: Mapping[str, Any] | None = None) -> None:
        around: Any = var_child_runnable_config.get() or _NOTHING
        config = _within(around, config) if config else around
        self.guard = guard
        self.name = name
        self._config = config
        if (configurable := config.get("configurable")) and "__pregel_scratchpad" in configurable:
            asking.begin(configurable)
        self._metadata: Mapping[str, Any] = config.get("metadata") or _NOTHING
        self.path: str = self._metadata.get("langgraph_checkpoint_ns") or ""
        """The node's task, as ``research:<task>|model:<task>``; empty outside a graph."""
        self._headroom: Headroom | None = None
        self._scope: Scope | None = None
        self.paid = 0
        """Calls of this flow that were answered: what a node that starts again would pay again."""
        self.asked = ""
        """The question that was put to a person last, in this execution of the node."""
        self.leave: Any = None
        """What a person said of the tool call in this flow."""
        self._asked: dict[str, int] = {}
        self.facts: Mapping[str, Any] = _NOTHING
        """What traces are to show of the model's run."""
        self.out = False
        """Whether the caller has seen part of the reply already, which then cannot be asked for again."""

    @property
    def scope(self) -> Scope:
        """Who is spending."""
        if self._scope is None:
            self._scope = self.guard.whose(self._config)
        return self._scope

    @property
    def tags(self) -> tuple[str, ...]:
        """The tags of the call that somebody gave it, without those by which the hosts number their steps."""
        return tuple(tag for tag in self._config.get("tags") or () if not tag.startswith(_NUMBERED))

    @property
    def metadata(self) -> Mapping[str, Any]:
        """The metadata of the call, without the mark by which a wrapped model is known."""
        return {key: value for key, value in self._metadata.items() if key != STRICT}

    @property
    def headroom(self) -> Headroom:
        """What the budgets had left as the flow began."""
        if self._headroom is None:
            self._headroom = self.guard.headroom(self.scope)
        return self._headroom

    @property
    def streamed(self) -> bool:
        """Whether somebody is shown the reply as it comes; by LangChain's own mark of a handler that passes it on."""
        handlers = getattr(self._config.get("callbacks"), "handlers", ())
        return any(hasattr(handler, "tap_output_iter") for handler in handlers)

    @property
    def in_graph(self) -> bool:
        """Whether a graph runs this, which alone can pause."""
        return "__pregel_scratchpad" in (self._config.get("configurable") or _NOTHING)

    def tell(self, event: type[Steered], why: str, *, name: str = "", saved: int = 0, **facts: Any) -> None:
        """Tell the guard's sinks and report what was done."""
        self.guard.tell(event(self.guard.now(), self.scope, name or self.name, why, saved, **facts))

    def refused_step(self) -> CostGuardError | None:
        """The refusal of the step this flow is in, where it was left to us."""
        guard = self.guard
        if not self.path:
            return None
        guard.deferrals.steer(self.path)
        if guard.deferrals.pending and (kept := guard.deferrals.take(self.path)) is not None:
            return kept
        if guard.meter.ledger.counts_steps and guard not in getattr(self._config.get("callbacks"), "handlers", ()):
            return guard.count_step(self._metadata, self.scope)
        return None

    def step_again(self) -> None:
        """Count the step that was refused, now that there may be room for it; it stays refused where there is not."""
        self.guard.count_step(self._metadata, self.scope, again=True)

    def ask(self, payload: dict[str, Any]) -> Any:
        """Pause the graph until a person answers ``payload``; returns the answer. What precedes it in the node runs
        again then, so nothing may have been paid."""
        what, configurable = asking.named(payload), self._config["configurable"]
        nth = self._asked[what] = self._asked.get(what, -1) + 1
        self.asked = f"{what}#{nth}"
        answer = asking.kept(configurable, what, nth)
        if answer is not None:
            return answer
        try:
            pause = asking.Paused(what, payload)
            if asking.beside(configurable) is not None:
                raise pause
            return asking.put(configurable, pause)
        except BaseException:
            self.tell(Interrupted, payload["message"])
            raise

    def can_ask(self, error: CostGuardError) -> bool:
        """Whether a person can be asked about a refusal: in a graph, about a budget that can be given more, and before
        anything was paid."""
        if not self.in_graph or self.paid or self.out or not isinstance(error, BudgetExceededError):
            return False
        plans = [plan for plan in self.guard.meter.ledger.plans if plan.budget.label == error.budget]
        return not any(plan.fleeting or plan.budget.per == "call" for plan in plans)


def _within(around: Mapping[str, Any], config: Mapping[str, Any]) -> Mapping[str, Any]:
    """A call's own config, with what the runnable around it says besides."""
    both = {**around, **{key: value for key, value in config.items() if value is not None}}
    for key in ("metadata", "configurable"):
        both[key] = {**(around.get(key) or _NOTHING), **(config.get(key) or _NOTHING)}
    both["tags"] = [*(around.get("tags") or ()), *(config.get("tags") or ())]
    if getattr(both.get("callbacks"), "parent_run_id", None) is None and around.get("callbacks") is not None:
        both["callbacks"] = around["callbacks"]
    return both
