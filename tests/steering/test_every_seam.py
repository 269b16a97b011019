"""Each policy at each seam, in each way of running it, with each checkpointer: one table, one front door."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from inspect import signature
from pathlib import Path
from typing import Any

import pytest
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from langchain_core.tools import ToolException, tool

from langchain_costguard import Budget, CostGuard
from langchain_costguard.steering import Retry, Steering, max_tool_calls, steer, valid_json
from langchain_costguard.testing import FakeProvider, Reply, Request
from tests.conftest import PRICES
from tests.steering.seams import CHECKPOINTERS, VERBS, Ran, run, valid

QUICK = Retry(base=0.001, most=0.01)
SEAMS = ("create_agent", "graph", "chain")


class Runs:
    """How often the tools of one test ran."""

    def __init__(self) -> None:
        self.search = 0
        self.mail = 0


def tools(runs: Runs) -> list[Any]:
    @tool
    def search(query: str) -> str:
        """Search the web."""
        runs.search += 1
        return f"nothing new about {query}"

    @tool
    def broken(query: str) -> str:
        """Search a service that is down."""
        runs.search += 1
        raise ToolException("HTTP 503: service unavailable")

    @tool
    def send_email(to: str) -> str:
        """Send an e-mail."""
        runs.mail += 1
        return f"sent to {to}"

    broken.handle_tool_error = True
    return [search, broken, send_email]


Script = Callable[[Request], Reply]


def calls(name: str, arguments: Callable[[int], dict[str, Any]], most: int = 99) -> Script:
    """A model that calls a tool ``most`` times, with these arguments, where it is offered one, and then says so."""

    def reply(request: Request) -> Reply:
        made = sum(message.get("role") == "tool" for message in request.body["messages"])
        if not request.tools or made >= most:
            return Reply("that is all I have")
        return Reply(tool_calls=[(name, arguments(made))])

    return reply


def in_order(*replies: Reply) -> Callable[[], Script]:
    def script() -> Script:
        left = list(replies)
        return lambda request: left.pop(0) if len(left) > 1 else left[0]

    return script


def repeated(times: int) -> list[Any]:
    """A history in which the same search was made again and again."""
    history: list[Any] = [HumanMessage("go")]
    for n in range(times):
        history += [
            AIMessage("", tool_calls=[{"name": "search", "args": {"query": "x"}, "id": f"c{n}"}]),
            ToolMessage("nothing", tool_call_id=f"c{n}", name="search"),
        ]
    return history


@dataclass
class Case:
    """A policy, what happens, and what must come of it."""

    name: str
    script: Callable[[], Script]
    policies: dict[str, Any]
    check: Callable[[Ran, dict[str, int], Runs, FakeProvider], None]
    budgets: tuple[Budget, ...] = ()
    answers: tuple[Any, ...] = ()
    messages: list[Any] = field(default_factory=lambda: [HumanMessage("go")])
    seams: tuple[str, ...] = SEAMS


AGENTS = ("create_agent", "graph")
NO_LOOPS: dict[str, Any] = {"loops": None}


def _circuit(ran: Ran, did: dict[str, int], runs: Runs, provider: FakeProvider) -> None:
    assert runs.search == 5
    assert did["CircuitOpened"] == 1
    assert did["ShortCircuited"] == 2
    assert "temporarily unavailable" in ran.tools()[5]
    assert "broken" in ran.tools()[5]


def _retried(ran: Ran, did: dict[str, int], runs: Runs, provider: FakeProvider) -> None:
    assert ran.text == "done after all"
    assert did["Retried"] == 2


def _repaired(ran: Ran, did: dict[str, int], runs: Runs, provider: FakeProvider) -> None:
    assert ran.text == '{"a": 1}'
    assert did["Repaired"] == 1
    assert "must be valid JSON" in str(provider.requests[-1].body["messages"][-1])


def _stopped(ran: Ran, did: dict[str, int], runs: Runs, provider: FakeProvider) -> None:
    assert "did not pass a check" in ran.text
    assert did["Repaired"] == 2
    assert len(provider.requests) == 3


def _few_calls(ran: Ran, did: dict[str, int], runs: Runs, provider: FakeProvider) -> None:
    assert did["Repaired"] == 1
    assert runs.search == 1


def _nudged(ran: Ran, did: dict[str, int], runs: Runs, provider: FakeProvider) -> None:
    assert did["LoopDetected"] == 2
    assert any("repeating the same action" in str(m.text) for m in ran.messages)
    assert "without progress" in ran.text
    assert len(provider.requests) < 9


def _nudged_once(ran: Ran, did: dict[str, int], runs: Runs, provider: FakeProvider) -> None:
    assert did == {"LoopDetected": 1}
    assert "repeating the same action" in str(provider.requests[-1].body["messages"][-1])


def _asked_about_loop(ran: Ran, did: dict[str, int], runs: Runs, provider: FakeProvider) -> None:
    assert ran.interrupts[0]["type"] == "costguard.loop"
    assert "try the library" in str(provider.requests[-1].body["messages"])


def _steps(ran: Ran, did: dict[str, int], runs: Runs, provider: FakeProvider) -> None:
    assert did["LastAnswer"] >= 1
    assert ran.text.startswith(("that is all I have", "I could not finish within 6 steps; here is what I have:"))


def _ended(ran: Ran, did: dict[str, int], runs: Runs, provider: FakeProvider) -> None:
    assert did["EndedEarly"] == 1
    assert "budget" in ran.text
    assert "of $0.00" in ran.text
    assert "more would be needed" in ran.text


def _granted(ran: Ran, did: dict[str, int], runs: Runs, provider: FakeProvider) -> None:
    assert ran.interrupts[0]["type"] == "costguard.budget"
    assert did["Granted"] == 1
    assert ran.text == "that is all I have"
    # Nothing that was paid is paid again: every request asked for something new.
    lengths = [len(request.body["messages"]) for request in provider.requests]
    assert lengths == sorted(set(lengths))


def _declined(ran: Ran, did: dict[str, int], runs: Runs, provider: FakeProvider) -> None:
    assert did["Interrupted"] == 1
    assert did["EndedEarly"] == 1


def _last_cent(ran: Ran, did: dict[str, int], runs: Runs, provider: FakeProvider) -> None:
    assert did == {"LastAnswer": 1}
    assert ran.text == "that is all I have"
    assert not provider.requests[-1].tools


def _last_words(ran: Ran, did: dict[str, int], runs: Runs, provider: FakeProvider) -> None:
    """A node's tools are its own: what it calls with its last cent is dropped, and what there is, is said."""
    assert did["LastAnswer"] == 1
    assert ran.text.startswith(("I have to stop here", "I could not finish"))
    assert "nothing new about" in ran.text


def _last_cent_of_a_chain(ran: Ran, did: dict[str, int], runs: Runs, provider: FakeProvider) -> None:
    assert did == {"LastAnswer": 1}
    assert ran.text == "that is all I have"
    assert "Answer now with what you have" in str(provider.requests[-1].body["messages"][-1])


def _throttled(ran: Ran, did: dict[str, int], runs: Runs, provider: FakeProvider) -> None:
    assert did["Throttled"] >= 1
    assert ran.text == "that is all I have"


def _approved(ran: Ran, did: dict[str, int], runs: Runs, provider: FakeProvider) -> None:
    assert ran.interrupts[0]["tool"] == "send_email"
    assert runs.mail == 1
    assert did["Approved"] == 1


def _rejected(ran: Ran, did: dict[str, int], runs: Runs, provider: FakeProvider) -> None:
    assert runs.mail == 0
    assert did["Rejected"] == 1
    assert "not on a Sunday" in ran.tools()[0]


def _no_more_calls(ran: Ran, did: dict[str, int], runs: Runs, provider: FakeProvider) -> None:
    assert runs.search == 2
    assert ran.text == "that is all I have"


def _model_left_alone(ran: Ran, did: dict[str, int], runs: Runs, provider: FakeProvider) -> None:
    assert did["CircuitOpened"] == 1


def _new(n: int) -> dict[str, Any]:
    return {"query": f"question {n} about subject {n * n}"}


CASES = [
    Case("circuit", lambda: calls("broken", _new, 7), {**NO_LOOPS}, _circuit, seams=AGENTS),
    Case(
        "retry",
        in_order(Reply(status=429, retry_after=0.01), Reply(status=503), Reply("done after all")),
        {"retry": QUICK},
        _retried,
    ),
    Case("repair", in_order(Reply("not json"), Reply('{"a": 1}')), {"guardrails": [valid_json()]}, _repaired),
    Case("guardrail stops", in_order(Reply("not json")), {"guardrails": [valid_json()]}, _stopped),
    Case(
        "few calls at once",
        in_order(
            Reply(tool_calls=[("search", {"query": "a"}), ("search", {"query": "b"})]),
            Reply(tool_calls=[("search", {"query": "a"})]),
            Reply("done"),
        ),
        {"guardrails": [max_tool_calls(1)]},
        _few_calls,
        seams=AGENTS,
    ),
    Case("loop", lambda: calls("search", lambda n: {"query": "x"}), {}, _nudged, seams=AGENTS),
    Case("loop in a history", in_order(Reply("I see")), {}, _nudged_once, messages=repeated(5), seams=("chain",)),
    Case(
        "loop, asked",
        lambda: calls("search", lambda n: {"query": "x"}, 5),
        {"on_loop": ("interrupt",)},
        _asked_about_loop,
        answers=({"approve": True, "message": "try the library"},) * 3,
        seams=AGENTS,
    ),
    Case("steps", lambda: calls("search", _new), NO_LOOPS, _steps, (Budget(steps=6),), seams=AGENTS),
    Case("end", lambda: calls("search", _new), NO_LOOPS, _ended, (Budget(usd="0.006"),), seams=AGENTS),
    Case("end of a chain", in_order(Reply("never")), {}, _ended, (Budget(usd="0.0000001"),), seams=("chain",)),
    Case(
        "grant",
        lambda: calls("search", _new, 12),
        {**NO_LOOPS, "on_exceeded": "interrupt"},
        _granted,
        (Budget(usd="0.0045"),),
        ({"approve": True, "add_usd": "1.00"},),
        seams=AGENTS,
    ),
    Case(
        "no grant",
        lambda: calls("search", _new, 12),
        {**NO_LOOPS, "on_exceeded": "interrupt"},
        _declined,
        (Budget(usd="0.0045"),),
        ({"approve": False},),
        seams=AGENTS,
    ),
    Case(
        "reserve",
        lambda: calls("search", _new),
        NO_LOOPS,
        _last_cent,
        (Budget(usd="0.010", reserve="0.005"),),
        seams=("create_agent",),
    ),
    Case(
        "reserve of a graph",
        lambda: calls("search", _new),
        NO_LOOPS,
        _last_words,
        (Budget(usd="0.010", reserve="0.005"),),
        seams=("graph",),
    ),
    Case(
        "reserve of a chain",
        in_order(Reply("that is all I have")),
        {},
        _last_cent_of_a_chain,
        (Budget(usd="0.0020", reserve="0.0019"),),
        seams=("chain",),
    ),
    Case(
        "tool calls of a graph",
        lambda: calls("search", _new),
        NO_LOOPS,
        _last_words,
        (Budget(tool_calls=2),),
        seams=("graph",),
    ),
    Case(
        "throttle",
        lambda: calls("search", _new, 1),
        {**NO_LOOPS, "throttle_at": 0.0001},
        _throttled,
        (Budget(usd="0.10"),),
        seams=AGENTS,
    ),
    Case(
        "approve",
        lambda: calls("send_email", lambda n: {"to": "bob"}, 1),
        {"approve_tools": {"send_*"}},
        _approved,
        answers=({"approve": True},),
        seams=AGENTS,
    ),
    Case(
        "reject",
        lambda: calls("send_email", lambda n: {"to": "bob"}, 1),
        {"approve_tools": {"send_email"}},
        _rejected,
        answers=({"approve": False, "message": "not on a Sunday"},),
        seams=AGENTS,
    ),
    Case(
        "tool calls",
        lambda: calls("search", _new),
        NO_LOOPS,
        _no_more_calls,
        (Budget(tool_calls=2),),
        seams=("create_agent",),
    ),
]


def checkpointers(case: Case, seam: str, verb: str) -> tuple[str, ...]:
    """Both, where a checkpoint is gone back to; else each with two of the four ways to run."""
    if seam == "chain":
        return ("none",)
    return CHECKPOINTERS if case.answers else ("memory",) if verb in ("invoke", "astream") else ("sqlite",)


TABLE = [
    pytest.param(case, seam, verb, checkpointer, id=f"{case.name}-{seam}-{verb}-{checkpointer}")
    for case in CASES
    for seam in case.seams
    for verb in VERBS
    for checkpointer in checkpointers(case, seam, verb)
]


@pytest.mark.parametrize(("case", "seam", "verb", "checkpointer"), TABLE)
def test_a_policy_does_its_work(case: Case, seam: str, verb: str, checkpointer: str, tmp_path: Path) -> None:
    runs = Runs()
    with FakeProvider(case.script()) as provider:
        guard = CostGuard(*case.budgets, prices=PRICES)
        model = provider.openai(max_tokens=20, max_retries=0, stream_usage=True)
        given = tools(runs) if seam != "chain" else []
        ran = run(
            seam,
            verb,
            guard,
            model,
            given,
            messages=case.messages,
            answers=case.answers,
            checkpointer=checkpointer,
            folder=tmp_path,
            **case.policies,
        )
        did = {row["action"]: row["times"] for row in guard.report().actions.by().to_dicts()}
        case.check(ran, did, runs, provider)
        assert valid(ran.messages)
        served = provider.usage()
        assert guard.report().total.spent == served.input_tokens * 2_500 + served.output_tokens * 10_000


def test_steer_chooses_as_its_policies_do_by_themselves() -> None:
    theirs = dict(signature(Steering).parameters)
    ours = dict(signature(steer).parameters)
    assert {name: each.default for name, each in ours.items()} == {name: each.default for name, each in theirs.items()}
