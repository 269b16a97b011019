"""Routing by a table of steps, tasks and agents."""

from __future__ import annotations

from typing import Any

import pytest
from langchain_core.language_models import FakeListChatModel
from langchain_core.messages import HumanMessage

from langchain_costguard.routing.route import RouteRequest
from langchain_costguard.routing.static import StaticRouter
from langchain_costguard.vocabulary.scope import Scope

MINI, BIG = "openai:gpt-4o-mini", "openai:gpt-4o"


def asked(**scope: str) -> RouteRequest:
    return RouteRequest(messages=[HumanMessage("Hello")], scope=Scope(**scope))


@pytest.mark.parametrize("dimension", ["step", "task", "agent"])
def test_a_step_a_task_and_an_agent_have_their_model(dimension: str) -> None:
    router = StaticRouter({"classify": MINI}, default=BIG)
    route = router(asked(**{dimension: "classify"}))
    assert route.model == MINI
    assert route.why == f"the table has it for the {dimension} classify"


def test_everything_else_gets_the_default() -> None:
    router = StaticRouter({"classify": MINI}, default=BIG)
    assert router(asked(step="write", agent="author")).model == BIG
    assert router(asked()).model == BIG


def test_the_step_goes_before_the_task_and_the_task_before_the_agent() -> None:
    router = StaticRouter({"a": "openai:a", "b": "openai:b", "c": "openai:c"}, default=BIG)
    assert router(asked(step="a", task="b", agent="c")).model == "openai:a"
    assert router(asked(step="other", task="b", agent="c")).model == "openai:b"


@pytest.mark.parametrize("kind", ["step", "node"])
def test_a_name_may_say_what_it_is_the_name_of(kind: str) -> None:
    router = StaticRouter({f"{kind}:research": MINI, "agent:research": "openai:other"}, default=BIG)
    assert router(asked(step="research")).model == MINI
    assert router(asked(agent="research")).model == "openai:other"
    assert router(asked(task="research")).model == BIG


def test_models_may_be_instances() -> None:
    model = FakeListChatModel(responses=["hi"])
    router = StaticRouter({"classify": model}, default=BIG)
    assert router(asked(step="classify")).model is model
    assert router.models == (model, BIG)


def test_each_model_is_listed_once() -> None:
    assert StaticRouter({"a": MINI, "b": MINI, "c": BIG}, default=BIG).models == (MINI, BIG)


def test_the_saving_is_told_by_the_dearest_model_of_the_table() -> None:
    router = StaticRouter({"classify": MINI}, default=BIG)
    assert router(asked(step="classify")).dearest == BIG
    assert StaticRouter({"a": BIG}, default=BIG)(asked()).dearest is None
    assert StaticRouter({"a": "nowhere:one"}, default="nowhere:two")(asked()).dearest is None


@pytest.mark.parametrize(
    ("table", "default", "named"),
    [
        ({}, BIG, "table: {}"),
        ([("a", BIG)], BIG, "table:"),
        ({"": BIG}, BIG, "table: ''"),
        ({3: BIG}, BIG, "table: 3"),
        ({"a": ""}, BIG, "table['a']: ''"),
        ({"a": 7}, BIG, "table['a']: 7"),
        ({"a": BIG}, None, "default: None"),
    ],
)
def test_a_bad_table_is_named(table: Any, default: Any, named: str) -> None:
    with pytest.raises(ValueError) as error:
        StaticRouter(table, default=default)
    assert str(error.value).startswith(named)
