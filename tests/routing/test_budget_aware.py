"""Routing by how full the budgets are."""

from __future__ import annotations

from typing import Any

import pytest
from langchain_core.messages import HumanMessage

from langchain_costguard import Price
from langchain_costguard.metering.budgets.headroom import Headroom, Room
from langchain_costguard.metering.pricing.prices import PriceBook
from langchain_costguard.routing.budget import BudgetRouter
from langchain_costguard.routing.route import Route, RouteRequest

NANO, MID, FRONTIER = "acme:nano", "acme:mid", "acme:frontier"
BOOK = PriceBook({NANO: Price("1", "2"), MID: Price("3", "4"), FRONTIER: Price("5", "30")})
LEVELS = {0.7: MID, 0.9: NANO}


def full(share: float | None) -> RouteRequest:
    room = Room("day", "usd", int((share or 0) * 1000), 0, 1000, 0, 0, "", 1000)
    headroom = None if share is None else Headroom((room,))
    return RouteRequest(messages=[HumanMessage("Hello")], headroom=lambda: headroom)


class Fixed:
    """A router that always says the same."""

    def __init__(self, model: str) -> None:
        self.models = (model, FRONTIER)

    def __call__(self, request: RouteRequest) -> Route:
        return Route(self.models[0], "it is fixed", 0.25, FRONTIER)


@pytest.mark.parametrize(
    ("share", "model"),
    [(None, FRONTIER), (0.0, FRONTIER), (0.69, FRONTIER), (0.7, MID), (0.89, MID), (0.9, NANO), (1.0, NANO), (3, NANO)],
)
def test_the_fuller_the_budget_the_cheaper_the_model(share: float | None, model: str) -> None:
    router = BudgetRouter(LEVELS, default=FRONTIER, prices=BOOK)
    route = router(full(share))
    assert route.model == model
    assert route.dearest == FRONTIER


def test_the_reason_tells_the_share_the_budget_and_the_level() -> None:
    route = BudgetRouter(LEVELS, default=FRONTIER)(full(0.75))
    assert route.why == "75% of day is used, and from 70% on it is this model"


def test_no_budget_at_all_means_room() -> None:
    request = RouteRequest(messages=[HumanMessage("Hello")], headroom=Headroom)
    assert BudgetRouter(LEVELS, default=FRONTIER)(request).model == FRONTIER


def test_the_order_in_which_levels_are_given_does_not_matter() -> None:
    assert BudgetRouter({0.9: NANO, 0.7: MID}, default=FRONTIER)(full(0.95)).model == NANO


def test_models_lead_from_the_default_down_for_what_has_no_room() -> None:
    assert BudgetRouter({0.9: NANO, 0.7: MID}, default=FRONTIER).models == (FRONTIER, MID, NANO)


def test_below_the_first_level_a_wrapped_router_decides() -> None:
    route = BudgetRouter(LEVELS, router=Fixed(MID), prices=BOOK)(full(0.5))
    assert (route.model, route.why, route.score) == (MID, "it is fixed", 0.25)


def test_of_a_wrapped_routers_choice_and_the_levels_the_cheaper_is_taken() -> None:
    assert BudgetRouter(LEVELS, router=Fixed(NANO), prices=BOOK)(full(0.75)).model == NANO
    assert BudgetRouter(LEVELS, router=Fixed(MID), prices=BOOK)(full(0.75)).why == "it is fixed"
    route = BudgetRouter(LEVELS, router=Fixed(FRONTIER), prices=BOOK)(full(0.75))
    assert (route.model, route.dearest) == (MID, FRONTIER)


def test_where_a_price_is_unknown_the_level_wins() -> None:
    assert BudgetRouter(LEVELS, router=Fixed("nowhere:own"), prices=BOOK)(full(0.75)).model == MID


def test_a_wrapped_routers_models_are_listed_with_the_levels() -> None:
    assert BudgetRouter(LEVELS, router=Fixed(MID)).models == (MID, FRONTIER, NANO)


@pytest.mark.parametrize(
    ("levels", "options", "named"),
    [
        ({}, {"default": FRONTIER}, "levels: {}"),
        ([0.7], {"default": FRONTIER}, "levels: [0.7]"),
        ({0: MID}, {"default": FRONTIER}, "levels: 0"),
        ({70: MID}, {"default": FRONTIER}, "levels: 70"),
        ({True: MID}, {"default": FRONTIER}, "levels: True"),
        ({float("nan"): MID}, {"default": FRONTIER}, "levels: nan"),
        ({0.7: None}, {"default": FRONTIER}, "levels[0.7]: None"),
        (LEVELS, {}, "default: None and router: None"),
        (LEVELS, {"default": FRONTIER, "router": Fixed(MID)}, "default: 'acme:frontier' and router:"),
        (LEVELS, {"default": " "}, "default: ' '"),
        (LEVELS, {"router": "x"}, "router: 'x'"),
    ],
)
def test_bad_levels_are_named(levels: Any, options: Any, named: str) -> None:
    with pytest.raises(ValueError) as error:
        BudgetRouter(levels, **options)
    assert str(error.value).startswith(named)
