"""Routing by a table: a step, task or agent has its model."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property

from langchain_costguard.routing.route import Route, RouteRequest
from langchain_costguard.routing.tiers import Spec, checked_model, dearest, distinct


class StaticRouter:
    """The model by a table from the name of a step (a LangGraph node), task or agent, looked up in this order.

    A name may say which it is: ``"agent:research"`` means no step of that name, and goes before a plain ``"research"``.

    Args:
        table: ``{"classify": "openai:gpt-5-mini", "agent:research": "anthropic:claude-sonnet-4-6"}``.
        default: The model of everything else.

    Raises:
        ValueError: names what is wrong with the table.
    """

    quick = True
    """It looks a name up: not worth a thread."""

    def __init__(self, table: Mapping[str, Spec], *, default: Spec) -> None:
        if not isinstance(table, Mapping) or not table:
            raise ValueError(f'table: {table!r} must map names to models, such as {{"classify": "openai:gpt-5-mini"}}')
        for name, model in table.items():
            if not isinstance(name, str) or not name.strip():
                raise ValueError(f"table: {name!r} is not the name of a step, task or agent")
            checked_model(f"table[{name!r}]", model)
        self.table = dict(table)
        self.default = checked_model("default", default)

    def __call__(self, request: RouteRequest) -> Route:
        """The model for the request's scope."""
        scope, table = request.scope, self.table
        for kind, name in (("step", scope.step), ("node", scope.step), ("task", scope.task), ("agent", scope.agent)):
            if not name:
                continue
            model = table.get(f"{kind}:{name}") or table.get(name)
            if model is not None:
                return Route(model, f"the table has it for the {kind} {name}", dearest=self._dearest)
        return Route(self.default, "it is the table's default", dearest=self._dearest)

    @cached_property
    def models(self) -> tuple[Spec, ...]:
        """All that may be chosen."""
        return distinct([*self.table.values(), self.default])

    @cached_property
    def _dearest(self) -> Spec | None:
        return dearest(self.models)
