"""The seams in a hand-written graph: a ``ToolNode``, a node that unsticks an agent, and a gate before what costs."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from decimal import Decimal
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

from langchain_core.tools import BaseTool
from langgraph.graph import END
from langgraph.prebuilt import ToolNode
from langgraph.types import Command

from langchain_costguard.metering.budgets.grants import RECORDED
from langchain_costguard.metering.settings import check_guard
from langchain_costguard.metering.stores.base import MAX_AMOUNT, Claim, StoreError
from langchain_costguard.steering.layers.approval import Approval
from langchain_costguard.steering.layers.ending import OnExceeded, ended, granted
from langchain_costguard.steering.layers.unsticking import Rung, checked_ladder, found, resolve
from langchain_costguard.steering.policies.breaker import Breaker
from langchain_costguard.steering.policies.loops import LoopDetector, nudges
from langchain_costguard.steering.policies.retries import Retry
from langchain_costguard.steering.requests import Reply
from langchain_costguard.steering.sayings import CHECKING, spoken, told
from langchain_costguard.steering.seams.states import messages_of
from langchain_costguard.steering.seams.tools import asteer_tool, side_by_side, steer_tool
from langchain_costguard.steering.steering import Steering
from langchain_costguard.steering.surroundings import Here
from langchain_costguard.vocabulary.checks import listed
from langchain_costguard.vocabulary.errors import CostGuardError, StuckLoopError
from langchain_costguard.vocabulary.money import Money, nano, usd

if TYPE_CHECKING:
    from langchain_costguard.guard import CostGuard

KEPT = "gate-need:|"
"""With a gate's task after it: the account that keeps what the gate asked for."""


def guarded_tools(
    tools: Sequence[Any],
    guard: CostGuard,
    *,
    breaker: Breaker | None = Breaker(),  # noqa: B008 - frozen
    retry: Retry | None = None,
    approve_tools: Approval | None = None,
    on_exceeded: OnExceeded = "end",
    tool_errors: Literal["tell", "raise"] = "tell",
    handle_tool_errors: Any = None,
    messages_key: str = "messages",
    name: str = "tools",
) -> ToolNode:
    """A ``ToolNode`` whose calls are metered and steered; a drop-in.

    Args:
        tools: As ``ToolNode`` takes them.
        guard: Whose budgets, store and report.
        breaker: The circuit of each tool.
        retry: Names the tools that may be called again, and when: ``Retry(tools={"search"})``.
        approve_tools: As in ``steer``.
        on_exceeded: What a refused tool call leads to: a message to the agent, the exception, or a question to
            a person.
        tool_errors: As in ``steer``, of the failures that the node would raise.
        handle_tool_errors: As ``ToolNode`` takes it; None leaves the node's own default.
        messages_key: The state's key of the messages.
        name: As ``ToolNode`` takes it.

    Raises:
        ValueError: names the field and the value.
    """
    steering = Steering(
        guard, breaker=breaker, retry=retry, approve_tools=approve_tools, on_exceeded=on_exceeded,
        tool_errors=tool_errors, loops=None,
    )  # fmt: skip
    listed("tools", tools, "tools", lambda tool: callable(tool) or isinstance(tool, BaseTool))
    given = {} if handle_tool_errors is None else {"handle_tool_errors": handle_tool_errors}
    sync, asynchronous = partial(steer_tool, steering), partial(asteer_tool, steering)
    node = ToolNode(
        tools, name=name, messages_key=messages_key, wrap_tool_call=sync, awrap_tool_call=asynchronous, **given
    )
    return side_by_side(node, steering)  # type: ignore[no-any-return]


class StuckLoopNode:
    """A node between the tools and the model: tells an agent that it repeats itself, and ends the run if it goes on.

    The first answer is a message in the state that the model sees next. To end the run a node has to choose what comes
    after it: with ``goto`` (the model's node) it does, and needs no edge of its own. Without, the rung ``"end"`` raises
    ``StuckLoopError``.

    Args:
        guard: Whose report and sinks tell of it.
        loops: What tells a loop.
        on_loop: The ladder: ``"nudge"``, ``"interrupt"``, ``"end"``, ``"raise"``; the last rung stays.
        goto: The node that comes next.
        messages_key: The state's key of the messages.

    Raises:
        ValueError: names the field and the value.
    """

    def __init__(
        self,
        guard: CostGuard,
        loops: LoopDetector | None = None,
        *,
        on_loop: Sequence[Rung] = ("nudge", "end"),
        goto: str | None = None,
        messages_key: str = "messages",
    ) -> None:
        check_guard(guard)
        self.guard = guard
        self.loops = loops or LoopDetector()
        self.ladder = checked_ladder(on_loop)
        self.goto = goto
        self.key = messages_key

    def __call__(self, state: Any) -> Any:
        """Look at the last tool calls in the state."""
        messages = messages_of(state, self.key)
        loop = found(self.loops, messages)
        if loop is None:
            return Command(goto=self.goto) if self.goto else {}
        here = Here(self.guard, "unstick")
        rung = self.ladder[min(nudges(messages), len(self.ladder) - 1)]
        if (rung == "end" and self.goto is None) or (rung == "interrupt" and not here.in_graph):
            rung = "raise"
        answer = resolve(loop, rung, here, messages)
        if not isinstance(answer, Reply):
            # Two messages, for a user may not speak right after a result at every provider.
            update = {self.key: [spoken(CHECKING, note="loop"), told(answer, "loop")]}
            return Command(update=update, goto=self.goto) if self.goto else update
        if self.goto is None:
            raise StuckLoopError(f"The agent is stuck: {loop.why}", tool=loop.tool, kind=loop.kind)
        return Command(update={self.key: [answer.message]}, goto=END)


class BudgetGate:
    """A node before what costs: when the budgets have no room for the next call, it asks a person, then goes on.

    Nothing is paid in it, so nothing is paid twice when the graph resumes. It cannot know what the node after it costs:
    it asks for what that one ``needs``, or else for half as much again as the dearest call of the session took in this
    process.

    Args:
        guard: Whose budgets.
        on_exceeded: ``"interrupt"`` asks; ``"raise"`` raises ``BudgetExceededError``; ``"end"`` ends the run with a
            reply, and needs ``goto``.
        needs: USD that the node after it may take.
        goto: The node that comes next; then the gate needs no edge of its own.
        messages_key: The state's key of the messages.

    Raises:
        ValueError: names the field and the value.
    """

    def __init__(
        self,
        guard: CostGuard,
        *,
        on_exceeded: OnExceeded = "interrupt",
        needs: Money | None = None,
        goto: str | None = None,
        messages_key: str = "messages",
    ) -> None:
        if on_exceeded not in ("end", "raise", "interrupt"):
            raise ValueError(f"on_exceeded: {on_exceeded!r} is not 'end', 'raise' or 'interrupt'")
        if on_exceeded == "end" and goto is None:
            raise ValueError("goto: a gate that ends the run chooses what comes after it; name the next node")
        check_guard(guard)
        self.guard = guard
        self.on_exceeded: OnExceeded = on_exceeded
        self.needs = None if needs is None else usd(nano(needs, "needs"))
        self.goto = goto
        self.key = messages_key
        guard.deferrals.steer("gate")  # of the outermost graph: known before the first step that may be refused

    def __call__(self, state: Any) -> Any:
        """Look whether the budgets have room."""
        here = Here(self.guard, "gate")
        refused = self._refusal(here)
        while refused is not None and self.on_exceeded == "interrupt" and here.can_ask(refused):
            self._keep_need(here)
            if not granted(here, refused):
                break
            refused = self._refusal(here)
        if refused is None:
            return Command(goto=self.goto) if self.goto else {}
        if self.goto is None or self.on_exceeded == "raise":
            raise refused
        reply = ended(here, refused, messages_of(state, self.key))
        return Command(update={self.key: [reply.message]}, goto=END)

    def _refusal(self, here: Here) -> CostGuardError | None:
        kept = here.refused_step()
        if kept is not None:
            return kept
        return self.guard.would_refuse(here.scope, usd=self._need(here))

    def _need(self, here: Here) -> Decimal | None:
        """What to ask the budgets for. A process that resumes this node asks for no less than the one that paused it,
        which may have known of dearer calls: else it would go on without looking at the answer."""
        store = self.guard.store
        if self.needs is not None:
            return self.needs
        need = self._expected(here)
        if here.path and store.shared:
            with suppress(StoreError):
                need = max(need, store.read([KEPT + here.path], now=self.guard.now())[0].spent)
        return usd(need) if need else None

    def _expected(self, here: Here) -> int:
        """Nano-USD: half as much again as the dearest call took, for the history grows."""
        return self.guard.meter.dearest.get(here.scope.session, 0) * 3 // 2

    def _keep_need(self, here: Here) -> None:
        store, now = self.guard.store, self.guard.now()
        need = self._expected(here)
        if self.needs is None and need and here.path and store.shared:
            claim = Claim(KEPT + here.path, MAX_AMOUNT, 0, ttl=RECORDED)
            with suppress(StoreError):
                kept = store.read([claim.account], now=now)[0].spent
                store.settle([claim], [0], [max(0, need - kept)], until=int(now) + 1, now=now)
