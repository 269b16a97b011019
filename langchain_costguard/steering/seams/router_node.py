"""Routing at the other seams: a drop-in chat model, and a node that writes its choice to the state."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from langgraph.types import Command

from langchain_costguard.metering.settings import check_guard
from langchain_costguard.routing.route import Router
from langchain_costguard.steering.flow import Flow, adrive, drive, no_calls
from langchain_costguard.steering.layers.fleet import Fleet, fleet_of, label
from langchain_costguard.steering.layers.routing import choose
from langchain_costguard.steering.seams.model import SteeredModel
from langchain_costguard.steering.seams.states import node_request
from langchain_costguard.steering.steering import Steering
from langchain_costguard.steering.surroundings import Here
from langchain_costguard.vocabulary.checks import mapped

if TYPE_CHECKING:
    from langchain_costguard.guard import CostGuard


class RoutedModel:
    """``RoutedModel(guard, router, default=model)``: a chat model whose calls go to the models the router chooses.

    It is a ``SteeredModel`` with a router and no other policy, of the class of ``default``: ``bind_tools`` and the like
    go on as before. For more policies: ``SteeredModel(model, steer(guard, router=router, ...))``.

    Raises:
        ValueError: names the argument, or the model that cannot be had.
    """

    def __new__(cls, guard: CostGuard, router: Router, *, default: Any) -> Any:
        """Return a copy of the default model."""
        steering = Steering(guard, router=router, breaker=None, retry=None, loops=None, on_exceeded="raise")
        return SteeredModel(fleet_of(router, guard).model(default, "default"), steering)


class RouterNode:
    """A node that writes the router's choice to the state, and can pick the next node by it.

    The state gets ``{key: name of the model, key + "_why": one sentence}``.

    Args:
        guard: Whose budgets the router may ask about, and whose report tells of its choices.
        router: Chooses.
        default: What is written where the router fails.
        key: The state's key of the choice.
        goto: The next node by the model's name; then the node needs no edge of its own. A model given by its name goes
            by that; a chat model by the ``name`` it was given, or else by its provider's (``"gpt-4o"``).
        messages_key: The state's key of the messages.

    Raises:
        ValueError: names the argument, or the model that cannot be had.
    """

    def __init__(
        self,
        guard: CostGuard,
        router: Router,
        *,
        default: Any,
        key: str = "model",
        goto: Mapping[str, str] | None = None,
        messages_key: str = "messages",
    ) -> None:
        check_guard(guard)
        self.guard = guard
        self.router = router
        self.fleet = fleet_of(router, guard)
        mapped("goto", {} if goto is None else goto, '{"openai:gpt-5-mini": "cheap"}')
        self.default = self.fleet.model(default, "default")
        self.default_name = label(default)
        self.key = key
        self.goto = dict(goto or {})
        self.messages_key = messages_key
        names = dict.fromkeys([*_names(self.fleet), self.default_name])
        missing = [name for name in names if self.goto and name not in self.goto]
        if missing:
            raise ValueError(f"goto: {self.goto!r} has no node for {', '.join(map(repr, missing))}")

    def __call__(self, state: Any) -> Any:
        """Choose."""
        return self._update(drive(self._flow(state), no_calls))

    async def acall(self, state: Any) -> Any:
        """Choose, on an event loop; for ``RunnableLambda(node, afunc=node.acall)`` where the router is a coroutine."""
        return self._update(await adrive(self._flow(state), no_calls, self.guard.aside))

    def _flow(self, state: Any) -> Flow[tuple[str, str]]:
        here = Here(self.guard, "router")
        request = node_request(state, self.messages_key)
        return choose(self.router, self.fleet, here, request, self.default, self.default_name, self.goto)

    def _update(self, choice: tuple[str, str]) -> Any:
        name, why = choice
        update = {self.key: name, f"{self.key}_why": why}
        return Command(update=update, goto=self.goto[name]) if self.goto else update


def _names(fleet: Fleet) -> list[str]:
    """What the router's models are called, each once."""
    names: dict[str, Any] = {}
    for spec in fleet.specs:
        model, name = fleet.model(spec), label(spec)
        if names.setdefault(name, model) is not model:
            raise ValueError(
                f"router: two models are called {name!r}, and the state could not tell which is meant: "
                f"give one of them another name, such as {type(model).__name__}(..., name='other')"
            )
    return list(names)
