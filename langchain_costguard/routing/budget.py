"""Routing by what is left of the budgets: the fuller they are, the cheaper the model."""

from __future__ import annotations

import inspect
import math
import time
from collections.abc import Awaitable, Callable, Mapping
from functools import cached_property
from typing import Any

from langchain_costguard.metering.pricing.prices import PriceBook
from langchain_costguard.routing.route import Route, Router, RouteRequest
from langchain_costguard.routing.tiers import Spec, blended, checked_model, distinct


class BudgetRouter:
    """A cheaper model as the fullest budget fills; below the first level, the default, or what another router says.

    From a level on, a wrapped router still chooses, but not what costs more than the level's model: the cheaper of the
    two is taken, and the level's where a price is unknown. It never refuses. ``models`` begins with the default and
    goes on level by level: what to try next, where a budget has no room for the one chosen.

    Args:
        levels: ``{0.7: mid, 0.9: nano}``: from 70 % of any budget on, and from 90 %.
        default: The model below the first level.
        router: Chooses in its place; give one of the two.
        prices: By which models are compared; the public table by default.

    Raises:
        ValueError: names the field and the value.
    """

    def __init__(
        self,
        levels: Mapping[float, Spec],
        *,
        default: Spec | None = None,
        router: Router | None = None,
        prices: PriceBook | None = None,
    ) -> None:
        self.levels = _levels(levels)
        if (default is None) == (router is None):
            raise ValueError(f"default: {default!r} and router: {router!r}: give exactly one of them")
        if router is not None and not callable(router):
            raise ValueError(f"router: {router!r} must be callable: it takes a RouteRequest and returns a Route")
        self.default = None if default is None else checked_model("default", default)
        self.router = router
        if prices is not None and not isinstance(prices, PriceBook):
            raise ValueError(f"prices: {prices!r} is no PriceBook")
        self.prices = prices or PriceBook()

    def __call__(self, request: RouteRequest) -> Route:
        """The model for the budgets as they stand."""
        return self._within(request, self._default if self.router is None else self.router(request))

    @property
    def aroute(self) -> Callable[[RouteRequest], Awaitable[Route]] | None:
        """The same, by the wrapped router's asynchronous side; None where it has none."""
        return None if self._awaited is None else self._aroute

    async def _aroute(self, request: RouteRequest) -> Route:
        assert self._awaited is not None
        return self._within(request, await self._awaited(request))

    def _within(self, request: RouteRequest, inner: Route) -> Route:
        headroom = request.headroom()
        share = 0.0 if headroom is None else headroom.share
        level = next(((least, model) for least, model in self.levels if share >= least), None)
        if level is None:
            return inner
        least, model = level
        if self.router is not None and not self._is_cheaper(model, inner.model):
            return inner
        fullest = headroom.fullest if headroom is not None else None
        of = f"of {fullest.budget}" if fullest is not None else "of a budget"
        why = f"{share:.0%} {of} is used, and from {least:.0%} on it is this model"
        return Route(model, why, inner.score, inner.dearest or inner.model)

    @cached_property
    def models(self) -> tuple[Spec, ...]:
        """All that may be chosen, in the order in which the budgets' filling brings them."""
        first = (self.default,) if self.default is not None else tuple(getattr(self.router, "models", ()))
        return distinct([*first, *(model for _, model in reversed(self.levels))])

    @cached_property
    def _default(self) -> Route:
        assert self.default is not None
        return Route(self.default, "the budgets have room", dearest=self.default)

    @cached_property
    def _awaited(self) -> Callable[[RouteRequest], Awaitable[Route]] | None:
        found: Any = getattr(self.router, "aroute", None)
        return self.router if found is None and inspect.iscoroutinefunction(self.router) else found

    def _is_cheaper(self, model: Spec, than: Spec) -> bool:
        if model is than or model == than:
            return False
        now = time.time()
        one, other = (blended(each, self.prices, now) for each in (model, than))
        return one is None or other is None or one < other


def _levels(levels: Any) -> list[tuple[float, Spec]]:
    """The levels, highest first."""
    if not isinstance(levels, Mapping) or not levels:
        raise ValueError(f'levels: {levels!r} must map shares to models, such as {{0.9: "openai:gpt-5-nano"}}')
    for share, model in levels.items():
        number = isinstance(share, (int, float)) and not isinstance(share, bool)
        if not number or not math.isfinite(share) or not 0 < share <= 1:
            raise ValueError(f"levels: {share!r} must be a share above 0, at most 1")
        checked_model(f"levels[{share!r}]", model)
    return sorted(levels.items(), key=lambda level: -level[0])
