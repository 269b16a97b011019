"""What people write wrong: each slip ends in an error that says what to write, in one warning, or it works."""

from __future__ import annotations

import subprocess
import sys
import warnings
from collections.abc import Callable
from typing import Any

import pytest
from langchain.agents import create_agent
from langchain.agents.middleware import ModelCallLimitMiddleware
from langchain_core.runnables import RunnableLambda

from langchain_costguard import Budget, BudgetExceededError, CostGuard, MemoryStore, SQLiteStore
from langchain_costguard.metering.unused import misspelt
from langchain_costguard.steering import Breaker, Retry, SteeredModel, steer
from langchain_costguard.testing import ScriptedChatModel
from langchain_costguard.vocabulary.scope import Scope

GUARD = CostGuard()
MODEL = ScriptedChatModel(usage=(10, 5), max_tokens=5)

SAID: dict[str, tuple[Callable[[], Any], str]] = {
    "budgets as a keyword": (lambda: CostGuard(budgets=[Budget(usd="1")]), "write CostGuard(*budgets)"),  # type: ignore[call-arg]
    "an amount for a guard": (lambda: CostGuard(usd="1"), "write CostGuard(Budget(usd='0.50'))"),  # type: ignore[call-arg]
    "an amount for a budget": (lambda: CostGuard("0.50"), "write CostGuard(Budget(usd='0.50'))"),  # type: ignore[arg-type]
    "a misspelt argument": (lambda: CostGuard(stor=None), "did you mean store?"),  # type: ignore[call-arg]
    "dollars": (lambda: Budget(dollars="1"), 'write usd="0.50"'),
    "users": (lambda: Budget(per="users", usd="1"), "did you mean 'user'?"),  # type: ignore[arg-type]
    "a thread": (lambda: Budget(per="thread_id", usd="1"), "did you mean 'session'?"),  # type: ignore[arg-type]
    "a window for a scope": (lambda: Budget(per="day", usd="1"), "write window='day'"),  # type: ignore[arg-type]
    "daily": (lambda: Budget(window="daily", usd="1"), "did you mean 'day'?"),  # type: ignore[arg-type]
    "agents in only": (lambda: Budget(only={"agents": "x"}, usd="1"), "did you mean 'agent'?"),
    "per cent": (lambda: CostGuard(alerts=[70]), "write 0.7 for 70 %"),
    "a scope's id": (lambda: GUARD.scope(user_id="x").__enter__(), "did you mean 'user'?"),
    "retries": (lambda: steer(GUARD, retries=3), "write retry=Retry(attempts=...)"),  # type: ignore[call-arg]
    "a misspelt policy": (lambda: steer(GUARD, loop=None), "did you mean loops?"),  # type: ignore[call-arg]
    "a threshold": (lambda: Breaker(threshold=3), "write failures=5"),  # type: ignore[call-arg]
    "max_retries": (lambda: Retry(max_retries=3), "write attempts="),  # type: ignore[call-arg]
    "a chain to wrap": (lambda: GUARD.wrap(MODEL | RunnableLambda(str)), "wrap the model in it"),
    "the name of a model": (lambda: GUARD.wrap("gpt-4o"), "make the model first"),
    "the guard first": (lambda: SteeredModel(GUARD, MODEL), "write SteeredModel(model, steer(guard))"),  # type: ignore[arg-type]
    "the steering first": (lambda: SteeredModel(steer(GUARD), MODEL), "write SteeredModel(model, steer(guard))"),  # type: ignore[arg-type]
    "a guard for steering": (lambda: SteeredModel(MODEL, GUARD), "write SteeredModel(model, steer(guard))"),  # type: ignore[arg-type]
    "models in a report": (lambda: GUARD.report().by("models"), "did you mean 'model'?"),
    "no list": (lambda: MODEL.invoke("hi", {"callbacks": GUARD}), "callbacks are a list"),  # type: ignore[typeddict-item]
    "the class": (lambda: MODEL.invoke("hi", {"callbacks": [CostGuard]}), "CostGuard is a class"),  # type: ignore[list-item]
}


@pytest.mark.parametrize("slip", SAID)
def test_an_error_says_what_to_write(slip: str) -> None:
    make, remedy = SAID[slip]
    with pytest.raises((ValueError, AttributeError)) as caught:
        make()
    assert remedy in str(caught.value)
    assert len(str(caught.value)) < 400


def test_from_ten_on_an_alert_is_taken_for_per_cent() -> None:
    CostGuard(alerts=[9.5])
    with pytest.raises(ValueError, match=r"write 0\.1 for 10 %"):
        CostGuard(alerts=[10])


@pytest.mark.parametrize("beside", [False, True])
def test_what_steer_returns_is_a_middleware_among_others(beside: bool) -> None:
    guard = CostGuard(Budget(model_calls=1))
    others = [ModelCallLimitMiddleware(run_limit=9)] if beside else []
    agent = create_agent(MODEL, [], middleware=[*others, steer(guard)], name="a")  # type: ignore[list-item]
    question: Any = {"messages": [("user", "hi")]}
    agent.invoke(question)
    assert "budget" in agent.invoke(question)["messages"][-1].text
    assert guard.report().total.calls == 1


def test_a_watch_without_a_block_lasts_until_it_is_stopped() -> None:
    guard = CostGuard(Budget(usd="1"))
    watch = guard.watch()
    MODEL.invoke("seen")
    watch.stop()
    watch.stop()
    MODEL.invoke("not seen")
    with watch:
        MODEL.invoke("seen again")
    MODEL.invoke("not seen")
    assert guard.report().total.calls == 2


def test_a_model_with_tools_bound_is_wrapped_beneath_them() -> None:
    guard = CostGuard(Budget(model_calls=1))
    bound = guard.wrap(MODEL.bind(stop=["x"]))
    bound.invoke("hi")
    with pytest.raises(BudgetExceededError):
        bound.invoke("hi")


def test_a_months_budget_in_memory_is_warned_of_and_others_are_not(tmp_path: Any) -> None:
    with pytest.warns(UserWarning, match=r"forgotten when that ends; keep it with store=SQLiteStore"):
        CostGuard(Budget(usd="1", window="month"), store=MemoryStore())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        CostGuard(Budget(usd="1", window="day"))
        CostGuard(Budget(usd="1", window="month"), store=SQLiteStore(tmp_path / "b.db"))


@pytest.mark.parametrize(
    ("name", "seen", "said"),
    [("reserach", "research", 1), ("research", "research", 0), ("agent-1", "agent-2", 0), ("search", "searcher", 0)],
)
def test_an_agent_that_is_misspelt_in_only_is_told(name: str, seen: str, said: int) -> None:
    budget = Budget(per="agent", usd="1", only={"agent": name})
    assert len(list(misspelt([budget], [Scope(agent=seen)]))) == said


PROGRAM = """
import logging, sys
logging.basicConfig()
from langchain_costguard import Budget, CostGuard
from langchain_costguard.testing import ScriptedChatModel
guard = CostGuard(Budget(model_calls=1, only={"agent": "reserach"}))
if sys.argv[1] == "unused":
    ScriptedChatModel().invoke("hi")
if sys.argv[1] == "used":
    with guard.scope(agent="research"):
        ScriptedChatModel().invoke("hi", {"callbacks": [guard]})
if sys.argv[1] == "refused":
    guard = CostGuard(Budget(model_calls=1))
    for _ in range(2):
        try:
            ScriptedChatModel().invoke("hi", {"callbacks": [guard]})
        except Exception as error:
            print(type(error).__name__)
"""


@pytest.mark.parametrize(
    ("how", "out", "err"),
    [
        ("idle", "", ""),
        ("unused", "", "saw no call: LangChain was used without it. Pass config="),
        ("used", "", "no call of agent 'reserach' was seen, but some of 'research'"),
        ("refused", "BudgetExceededError\n", ""),
    ],
)
def test_a_guard_that_bound_nobody_is_told_at_the_end_and_a_refusal_is_not_logged_as_an_error(
    how: str, out: str, err: str
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, how], capture_output=True, text=True, timeout=120, check=False
    )
    assert (done.returncode, done.stdout) == (0, out)
    assert err in done.stderr
    assert bool(done.stderr) == bool(err)
    assert done.stderr.count("RuntimeWarning") == bool(err)


def test_what_a_user_holds_says_what_it_is_without_a_store_being_asked(tmp_path: Any) -> None:
    store = SQLiteStore(tmp_path / "b.db")
    guard = CostGuard(Budget(usd="0.50"), Budget(per="all", model_calls=4), Budget(tokens=1_000), store=store)
    assert repr(guard) == "CostGuard(3 budgets, SQLiteStore)"
    MODEL.invoke("hi", {"callbacks": [guard]})
    store.close()
    (tmp_path / "b.db").write_bytes(b"broken")
    assert repr(guard) == "CostGuard(3 budgets, SQLiteStore, tightest: all 1 of 4 model calls)"
    assert repr(guard.report()) == str(guard.report())
    assert guard.report().total.usd == guard.report().to_dicts()[0]["usd"]
    assert repr(steer(guard)).startswith("steer(CostGuard(3 budgets")


def test_a_refusal_in_ipython_is_three_lines() -> None:
    from IPython.testing.globalipapp import get_ipython

    shell = get_ipython()
    shell.user_ns["guard"] = CostGuard(Budget(model_calls=1))
    shell.user_ns["model"] = MODEL
    lines: list[str] = []
    shell._showtraceback = lambda kind, error, trace: lines.extend(trace)
    shell.run_cell("for _ in range(2):\n    model.invoke('hi', {'callbacks': [guard]})")
    assert len(lines) == 3
    assert lines[0].startswith("BudgetExceededError: Budget 'session' refused a call to gpt-4o")
    assert lines[1] == "  at line 2 of the cell"
    assert "guard.grant(" in lines[2]


def test_a_refusal_says_which_output_was_assumed() -> None:
    guard = CostGuard(Budget(usd="0.000001"))
    with pytest.raises(
        BudgetExceededError, match="256 output tokens are assumed, as no most is stated: set max_tokens"
    ):
        ScriptedChatModel().invoke("hi", {"callbacks": [guard]})
